//! The real binary: `overhear vad`, and `--vad_filter`.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;

use crate::common::{EN, EN_TEXT, Run, Sandbox, clip, wav};
use overhear::Audio;
use serde_json::Value;

/// Writes `name`: 5 s of silence, a clip, 5 s of silence.
fn write_amid_silence(sandbox: &Sandbox, name: &str, clip: OsString) {
    let silence = vec![0_i16; 5 * 16_000];
    let samples = Audio::open(clip).unwrap().samples().unwrap();
    let speech = samples.iter().map(|sample| (sample * 32_767.0) as i16);
    let all: Vec<i16> = silence
        .iter()
        .copied()
        .chain(speech)
        .chain(silence.iter().copied())
        .collect();
    fs::write(sandbox.path(name), wav(&all)).unwrap();
}

fn vad(sandbox: &Sandbox, arguments: &[&str]) -> Run {
    sandbox.run(["vad"].iter().chain(arguments))
}

/// Returns start and end of the only region of a JSON.
fn only_region(json: &Value) -> (f64, f64) {
    let regions = json["regions"].as_array().unwrap();
    assert_eq!(regions.len(), 1, "{json}");
    let time = |name: &str| regions[0][name].as_f64().unwrap();
    (time("start"), time("end"))
}

#[test]
fn vad_prints_regions_in_every_format() {
    let sandbox = Sandbox::new();
    write_amid_silence(&sandbox, "a.wav", clip(EN));
    let json = vad(&sandbox, &["a.wav", "--format", "json"]);
    json.assert(0);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&json["file"], &json["model"]),
        (&"a.wav".into(), &"silero-6.2".into())
    );
    assert_eq!(json["options"]["max_speech_duration_s"], Value::Null);
    assert_eq!(json.get("probabilities"), None);
    let (start, end) = only_region(&json);
    assert!(
        (4.5..6.0).contains(&start)
            && end > start + 4.0
            && end < json["duration"].as_f64().unwrap()
    );

    let csv = vad(&sandbox, &["a.wav", "-f", "csv"]);
    csv.assert(0);
    assert_eq!(csv.stdout, format!("file,start,end\na.wav,{start},{end}\n"));
    let labels = vad(&sandbox, &["a.wav", "-f", "audacity"]);
    labels.assert(0);
    assert_eq!(labels.stdout, format!("{start:.6}\t{end:.6}\tspeech\n"));
    let text = vad(&sandbox, &["a.wav"]);
    text.assert(0);
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert!(lines[0].starts_with("a.wav: ") && lines[0].ends_with(" s are speech (silero-6.2)"));
    assert!(
        lines[1].starts_with("[00:0") && lines.len() == 2,
        "{}",
        text.stdout
    );
}

#[test]
fn energy_is_the_light_choice() {
    let sandbox = Sandbox::new();
    write_amid_silence(&sandbox, "a.wav", clip(EN));
    let json = vad(&sandbox, &["a.wav", "-f", "json", "--vad_method", "energy"]);
    json.assert(0);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["model"], "energy");
    let (start, end) = only_region(&json);
    assert!(
        (4.0..6.0).contains(&start) && end > start + 4.0,
        "{start} {end}"
    );
    let flags = ["a.wav", "--vad_filter", "--vad_method=energy", "-f=txt"];
    sandbox.nano(&flags.map(Into::into)).assert(0);
    assert_eq!(sandbox.read("a.txt").trim_end(), EN_TEXT);
    vad(&sandbox, &["a.wav", "--vad_method", "loud"]).assert_one_line(2, "loud");
}

#[test]
fn vad_exports_probabilities_of_every_frame() {
    let sandbox = Sandbox::new();
    let name = "of, two.wav";
    fs::write(sandbox.path(name), wav(&[0; 1_000])).unwrap();
    let csv = vad(&sandbox, &[name, name, "-f", "csv", "--probabilities"]);
    csv.assert(0);
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "file,start,probability"));
    assert!(
        lines[1].starts_with("\"of, two.wav\",0.0,0.0"),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with("\"of, two.wav\",0.032,0.0"),
        "{}",
        lines[2]
    );
    let json = vad(&sandbox, &[name, "-f", "json", "--probabilities"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["regions"], Value::Array(vec![]));
    assert_eq!(json["probabilities"]["frame_duration"], 0.032);
    assert_eq!(json["probabilities"]["speech"].as_array().unwrap().len(), 2);
    vad(&sandbox, &[name, "--probabilities"])
        .assert_one_line(2, "needs --output-format csv or json");
}

#[test]
fn vad_writes_files_beside_transcripts_and_one_head_for_all_inputs() {
    let sandbox = Sandbox::new();
    write_amid_silence(&sandbox, "a.wav", clip(EN));
    sandbox.write_mute("b.wav");
    let run = vad(&sandbox, &["a.wav", "b.wav", "-f", "txt", "-o", "out"]);
    run.assert(0);
    let several = ["-f", "json,csv,audacity,csv", "-o", "out"];
    vad(&sandbox, &[&["a.wav", "b.wav"], &several[..]].concat()).assert(0);
    vad(&sandbox, &["a.wav", "-f", "csv,json"]).assert_one_line(2, "takes one format");
    let names = ["labels.txt", "vad.csv", "vad.json", "vad.txt"];
    let expected: Vec<String> = ["a", "b"]
        .iter()
        .flat_map(|stem| names.map(|name| format!("{stem}.{name}")))
        .collect();
    assert_eq!(sandbox.names("out"), expected);
    assert_eq!(sandbox.read("out/b.vad.csv"), "file,start,end\n");
    assert_eq!(sandbox.read("out/b.labels.txt"), "");
    let both = vad(&sandbox, &["b.wav", "a.wav", "-f", "csv"]);
    assert_eq!(both.stdout, sandbox.read("out/a.vad.csv"));
}

#[test]
fn inputs_that_fail_and_values_that_are_wrong_have_the_usual_exit_codes() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("mute.wav");
    fs::write(sandbox.path("text.wav"), "no audio").unwrap();
    vad(&sandbox, &["missing.wav"]).assert_one_line(4, "cannot read missing.wav");
    let some = vad(&sandbox, &["text.wav", "mute.wav", "-f", "csv"]);
    some.assert_one_line(1, "text.wav");
    assert_eq!(some.stdout, "file,start,end\n");
    for (flags, part) in [
        (
            &["--vad_threshold", "1.5"][..],
            "--vad-threshold: 1.5 is not a probability",
        ),
        (&["--vad_threshold", "loud"], "loud"),
        (
            &["--vad_max_speech_duration_s", "0"],
            "--vad-max-speech-duration-s: 0 is not",
        ),
        (&["--vad_speech_pad_ms", "-1"], "-1"),
        (&["--format", "docx"], "docx"),
    ] {
        vad(&sandbox, &[&["mute.wav"], flags].concat()).assert_one_line(2, part);
    }
    for flags in [
        &["--vad_filter", "True", "--vad_threshold", "nan"][..],
        &["--vad_filter", "True", "--clip_timestamps", "1,2"],
    ] {
        let flags: Vec<OsString> = flags.iter().map(Into::into).collect();
        let run = sandbox.nano(&[&["mute.wav".into()], &flags[..]].concat());
        run.assert_one_line(2, "--vad-");
    }
}

#[test]
fn a_filtered_transcript_has_the_times_of_the_file() {
    let sandbox = Sandbox::new();
    write_amid_silence(&sandbox, "a.wav", clip(EN));
    let (start, end) = {
        let run = vad(&sandbox, &["a.wav", "-f", "json"]);
        only_region(&serde_json::from_str(&run.stdout).unwrap())
    };
    for batched in ["False", "True"] {
        let flags = [
            "a.wav",
            "--vad_filter",
            "True",
            "--batched",
            batched,
            "-f",
            "txt,json",
            "-o",
            batched,
        ];
        let run = sandbox.nano(&flags.map(Into::into));
        run.assert(0);
        assert_eq!(
            sandbox.read(&format!("{batched}/a.txt")).trim_end(),
            EN_TEXT
        );
        let json: Value =
            serde_json::from_str(&sandbox.read(&format!("{batched}/a.json"))).unwrap();
        let segment = &json["segments"][0];
        assert_eq!(segment["seek"].as_f64().unwrap(), (start * 100.0).floor());
        let time = |name: &str| segment[name].as_f64().unwrap();
        assert!(start <= time("start") && time("end") <= end, "{segment}");
        assert!(run.stdout.starts_with("[00:0"), "{}", run.stdout);
    }
}

#[test]
fn a_file_without_speech_has_an_empty_transcript() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("still.wav"), wav(&vec![0; 160_000])).unwrap();
    let flags = [
        "still.wav",
        "--vad_filter",
        "-f",
        "txt,json",
        "--language",
        "de",
    ];
    sandbox.nano(&flags.map(Into::into)).assert(0);
    assert_eq!(sandbox.read("still.txt"), "");
    let json: Value = serde_json::from_str(&sandbox.read("still.json")).unwrap();
    assert_eq!(
        (&json["text"], &json["language"]),
        (&"".into(), &"de".into())
    );
    assert_eq!(json["segments"], Value::Array(vec![]));
    // Options without the filter do nothing, and this is said.
    let run = sandbox.nano(&["still.wav", "--vad_threshold", "0.3"].map(Into::into));
    run.assert(0);
    assert!(
        run.stderr.contains("no effect without --vad-filter"),
        "{}",
        run.stderr
    );
}
