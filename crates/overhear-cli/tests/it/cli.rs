//! The real binary: flags, exit codes, names, outputs. Odd inputs and names: `odd_inputs.rs`; signals and closed
//! streams: `endings.rs`.
#![allow(clippy::unwrap_used)]

use crate::common;
use std::ffi::OsString;
use std::fs;

use crate::common::{EN, EN_TEXT, ES, Sandbox, clip, model};

#[test]
fn a_clip_becomes_all_five_files_and_live_segments() {
    let sandbox = Sandbox::new();
    let run = sandbox.nano(&[clip(EN), "-o".into(), "out".into()]);
    run.assert(0);
    assert_eq!(sandbox.read("out/synth-en-05.txt").trim_end(), EN_TEXT);
    assert_eq!(
        sandbox.names("out").len(),
        5,
        "nothing else, no temporary file: {:?}",
        sandbox.names("out")
    );
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.read("out/synth-en-05.json")).unwrap();
    assert_eq!(json["language"], "en");
    assert!(
        sandbox
            .read("out/synth-en-05.srt")
            .starts_with("1\n00:00:0")
    );
    assert!(
        sandbox
            .read("out/synth-en-05.vtt")
            .starts_with("WEBVTT\n\n00:0")
    );
    assert!(
        sandbox
            .read("out/synth-en-05.tsv")
            .starts_with("start\tend\ttext\n")
    );
    let line = run.stdout.lines().next().unwrap();
    assert!(
        line.starts_with("[00:00.") && line.ends_with(&format!("]  {EN_TEXT}")),
        "{line}"
    );
}

#[test]
fn the_verb_may_be_left_out_and_one_format_chosen() {
    let sandbox = Sandbox::new();
    sandbox
        .nano(&[clip(ES), "-f".into(), "srt".into(), "-o".into(), "a".into()])
        .assert(0);
    let verb = [
        "transcribe",
        "--model",
        "nano",
        "--output_format=srt",
        "--output_dir",
        "b",
    ];
    sandbox
        .run(verb.iter().map(Into::into).chain([clip(ES)]))
        .assert(0);
    assert_eq!(sandbox.names("a"), ["synth-es-00.srt"]);
    assert_eq!(
        sandbox.read("a/synth-es-00.srt"),
        sandbox.read("b/synth-es-00.srt")
    );
}

#[test]
fn outputs_go_to_the_current_directory_by_default() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("mute.wav");
    sandbox.nano(&["mute.wav".into()]).assert(0);
    let expected =
        ["json", "srt", "tsv", "txt", "vtt", "wav"].map(|format| format!("mute.{format}"));
    assert_eq!(sandbox.names("."), expected);
    assert_eq!(sandbox.read("mute.vtt"), "WEBVTT\n\n");
}

#[test]
fn one_format_can_go_to_standard_output() {
    let sandbox = Sandbox::new();
    let run = sandbox.nano(&[clip(EN), "-o".into(), "-".into(), "-f".into(), "txt".into()]);
    run.assert(0);
    assert_eq!(run.stdout, format!("{EN_TEXT}\n"));
    assert!(sandbox.names(".").is_empty());
    sandbox
        .nano(&[clip(EN), "-o".into(), "-".into()])
        .assert_one_line(2, "takes one format");
}

#[test]
fn invalid_options_are_exit_2_in_one_line() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("weights.txt"), "tram\t3\nbus\t1e9\n").unwrap();
    for (flags, part) in [
        (&["--modle", "nano"][..], "--modle"),
        (&["--temperature", "warm"], "warm"),
        (&["--output_format", "docx"], "docx"),
        (&["--language", "klingon"], "known: en"),
        (&["--quiet=maybe"], "True or False"),
        (
            &["--word_timestamps", "flase"],
            "`flase` is neither True nor False",
        ),
        (
            &["--max_l", "3"],
            "--max_l may be any of --max-line-width, --max-line-count",
        ),
        (&["--beam_size", "0"], "must be 1 or more"),
        (&["--boost_file", "missing.txt"], "cannot read missing.txt"),
        (
            &["--boost_file", "weights.txt"],
            "weights.txt line 2: `1e9` is not a weight above 0 and up to",
        ),
        (&["--highlight-words", "True"], "requires --word-timestamps"),
        (&["--device", "cuda"], "not yet supported"),
        (
            &["--compute_type", "int4"],
            "known: auto, f32, f16, bf16, int8",
        ),
    ] {
        let run = sandbox.nano(
            &flags
                .iter()
                .map(Into::into)
                .chain([clip(EN)])
                .collect::<Vec<_>>(),
        );
        run.assert_one_line(2, part);
    }
    assert_eq!(sandbox.names("."), ["weights.txt"]);
}

#[test]
fn words_reach_every_format_that_shows_them() {
    let sandbox = Sandbox::new();
    let flags = [
        "--word_timestamps=True",
        "--max_words_per_line=2",
        "--language=en",
        "-f",
        "srt,ass,lrc,csv,json",
    ];
    let run = sandbox.nano(&[&flags.map(Into::into)[..], &[clip(EN)]].concat());
    run.assert(0);
    assert_eq!(
        sandbox.names("."),
        ["ass", "csv", "json", "lrc", "srt"].map(|format| format!("synth-en-05.{format}"))
    );
    let read = |format: &str| sandbox.read(&format!("synth-en-05.{format}"));
    assert!(read("srt").starts_with("1\n00:00:00,000 --> 00:00:01,160\nEvery cloud\n"));
    assert!(read("ass").contains(",,{\\k70}Every {\\k46}cloud\n"));
    assert!(read("lrc").starts_with("[00:00.00]<00:00.00>Every <00:00.70>cloud<00:01.16>\n"));
    let json: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
    assert_eq!(json["segments"][0]["words"][1]["word"], " cloud");

    // Options without effect give a warning and are ignored.
    let flags = [
        "--max_line_count=2",
        "--word_timestamps",
        "--verbose=False",
        "-f",
        "srt",
    ];
    let run = sandbox.nano(&[&flags.map(Into::into)[..], &[clip(EN)]].concat());
    run.assert(0);
    let warning = "warning: --max-line-count has no effect without --max-line-width";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}

#[test]
fn no_arguments_show_help() {
    let run = Sandbox::new().run([""; 0]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("Usage: overhear"), "{}", run.stderr);
}

#[test]
fn a_model_that_is_not_there_or_no_model_is_exit_3() {
    let sandbox = Sandbox::new();
    let turbo = sandbox.run([clip(EN)]);
    turbo.assert_one_line(3, "--model tiny.en");
    assert!(
        turbo
            .stderr
            .contains(model().parent().unwrap().to_str().unwrap()),
        "{}",
        turbo.stderr
    );
    fs::create_dir(sandbox.path("empty")).unwrap();
    sandbox
        .run(["--model".into(), "empty".into(), clip(EN)])
        .assert_one_line(3, "empty");
    fs::write(sandbox.path("empty/config.json"), "{").unwrap();
    sandbox
        .run(["info", "--model", "empty"])
        .assert_one_line(3, "config.json");
}

#[test]
fn some_failed_inputs_are_exit_1_and_all_are_exit_4() {
    let sandbox = Sandbox::new();
    fs::write(
        sandbox.path("text.wav"),
        "this is no audio, whatever its name says\n".repeat(99),
    )
    .unwrap();
    fs::write(sandbox.path("empty.mp3"), "").unwrap();
    let bad = ["text.wav", "empty.mp3", "missing.flac"].map(Into::into);
    let all = sandbox.nano(&bad);
    all.assert(4);
    assert_eq!(all.stderr.lines().count(), 3, "{}", all.stderr);
    for line in all.stderr.lines() {
        assert!(line.starts_with("overhear: "), "{line}");
    }
    let some = sandbox.nano(&[&bad[..], &[clip(EN)]].concat());
    some.assert(1);
    assert_eq!(sandbox.read("synth-en-05.txt").trim_end(), EN_TEXT);
}

#[test]
fn several_inputs_are_headed_by_their_names() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("mute.wav");
    let run = sandbox.nano(&["mute.wav".into(), clip(ES)]);
    run.assert(0);
    let headers: Vec<_> = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("==> "))
        .collect();
    // The longer one comes first.
    assert_eq!(headers.len(), 2, "{}", run.stdout);
    assert!(headers[0].ends_with("synth-es-00.flac <=="), "{headers:?}");
    assert_eq!(headers[1], "==> mute.wav <==");
}

#[test]
fn drafts_change_nothing_and_say_how_many_were_right() {
    let sandbox = Sandbox::new();
    let run = |draft: &str, more: &[&str]| {
        let mut arguments = vec![
            clip(EN),
            clip("jfk.flac"),
            format!("--draft={draft}").into(),
        ];
        arguments.extend(["--language=en", "-f=json", "-o=-"].map(Into::into));
        arguments.extend(more.iter().map(OsString::from));
        sandbox.nano(&arguments)
    };
    let greedy = "--beam_size=None";
    let without = run("off", &[greedy]);
    without.assert(0);
    assert!(!without.stderr.contains("drafts"), "{}", without.stderr);
    for draft in ["lookup", "self", "auto", "nano"] {
        let with = run(draft, &[greedy]);
        with.assert(0);
        assert_eq!(with.stdout, without.stdout, "{draft}");
        let says = with.stderr.contains("tokens right");
        // Whether lookup finds anything depends on the text, and auto on the machine.
        let may_be_off = ["lookup", "auto"].contains(&draft);
        assert!(says || may_be_off, "{draft}: {}", with.stderr);
    }
    let sampled = ["--temperature=0.6", "--best_of=None"];
    let with = run("self", &sampled);
    assert_eq!(with.stdout, run("off", &sampled).stdout);
    assert!(with.stderr.contains("tokens right"), "{}", with.stderr);
    let other = run("tiny.en", &[greedy, "-q"]);
    other.assert_one_line(2, "51864 tokens");
    let beams = run("nano", &[]);
    beams.assert(0);
    assert!(
        beams.stderr.contains("--draft has no effect"),
        "{}",
        beams.stderr
    );
    run("nosuch", &[greedy, "-q"])
        .assert_one_line(3, "--draft is off, auto, self, lookup or a model");
}

#[test]
fn quiet_prints_nothing_and_verbose_false_no_segments() {
    let sandbox = Sandbox::new();
    let quiet = sandbox.nano(&[clip(ES), "--quiet".into()]);
    quiet.assert(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let silent = sandbox.nano(&["--verbose".into(), "False".into(), clip(ES)]);
    silent.assert(0);
    assert_eq!(silent.stdout, "");
}

#[test]
fn progress_is_for_terminals_only() {
    let run = Sandbox::new().nano(&[clip(ES)]);
    run.assert(0);
    assert!(!run.stderr.contains(['\r', '\u{1b}']), "{:?}", run.stderr);
}

#[test]
fn colours_are_shown_where_wanted_and_never_with_no_color() {
    let sandbox = Sandbox::new();
    let coloured = |variables: &[(&str, &str)]| {
        let run = sandbox.start(
            [
                "--model".into(),
                "nano".into(),
                "--print-colors".into(),
                clip(EN),
            ],
            variables,
        );
        let run = run.end();
        run.assert(0);
        run.stdout.contains("\u{1b}[")
    };
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[]), "standard output is no terminal here");
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn skip_existing_keeps_outputs_and_adds_missing_ones() {
    let sandbox = Sandbox::new();
    for name in ["done.wav", "missing.wav"] {
        sandbox.write_mute(name);
    }
    fs::write(sandbox.path("done.txt"), "old").unwrap();
    let run = |flags: &[&str]| {
        let run = sandbox.nano(&flags.iter().map(Into::into).collect::<Vec<_>>());
        run.assert(0);
    };
    run(&["-f", "txt", "--skip-existing", "done.wav", "missing.wav"]);
    assert_eq!(sandbox.read("done.txt"), "old");
    assert_eq!(sandbox.read("missing.txt"), "");
    run(&["-f", "txt,srt", "--skip-existing", "done.wav"]);
    assert_eq!(sandbox.read("done.txt"), "", "a format was missing");
    fs::write(sandbox.path("done.txt"), "old").unwrap();
    run(&["-f", "txt", "done.wav"]);
    assert_eq!(
        sandbox.read("done.txt"),
        "",
        "without the flag it is replaced"
    );
    let nothing_to_do = [
        "--model",
        "no-such-model",
        "-f",
        "txt",
        "--skip-existing",
        "done.wav",
    ];
    sandbox.run(nothing_to_do).assert(0);
}

#[test]
fn info_describes_the_model() {
    let run = Sandbox::new().run(["info", "--model", "nano", "--threads", "2"]);
    run.assert(0);
    for line in [
        "mel bins: 80",
        "vocabulary: 51865",
        "audio layers: 4",
        "dtype: f16",
        "threads: 2",
    ] {
        assert!(
            run.stdout.lines().any(|printed| printed == line),
            "{line}: {}",
            run.stdout
        );
    }
    assert!(run.stdout.contains("kernels: "), "{}", run.stdout);
}

#[test]
fn detect_prints_languages() {
    let sandbox = Sandbox::new();
    let run = sandbox.run([
        "detect".into(),
        "--model".into(),
        "nano".into(),
        clip(EN),
        clip(ES),
    ]);
    run.assert(0);
    let codes: Vec<_> = run
        .stdout
        .lines()
        .map(|line| line.split('\t').nth(1).unwrap())
        .collect();
    assert_eq!(codes, ["en", "es"]);
}

#[test]
fn detect_takes_the_options_of_detection() {
    let sandbox = Sandbox::new();
    let detect = |flags: &[&str]| {
        let command = ["detect", "--model", "nano"].iter().chain(flags);
        let words: Vec<OsString> = command.map(Into::into).chain([clip(ES)]).collect();
        sandbox.run(words)
    };
    let among_two = detect(&["--languages", "en,de"]);
    among_two.assert(0);
    assert!(!among_two.stdout.contains("\tes\t"), "{}", among_two.stdout);
    let many = ["--language_detection_segments=3"];
    let never_sure = ["--language_detection_threshold", "None"];
    let run = detect(&[&many[..], &never_sure].concat());
    run.assert(0);
    assert_eq!(run.stdout, detect(&[]).stdout, "one window is all there is");
    detect(&["--languages", "klingon"]).assert(2);
    detect(&["--language_detection_segments", "0"]).assert(2);
}

#[test]
fn completions_and_manual_come_from_the_flags() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = sandbox.run(["completions", shell]);
        run.assert(0);
        assert!(run.stdout.contains("skip-existing"), "{shell}");
    }
    let manual = sandbox.run(["man"]);
    manual.assert(0);
    assert!(
        manual.stdout.contains(".TH overhear 1"),
        "{}",
        manual.stdout
    );
    assert!(
        !manual.stdout.contains("kernels: "),
        "the page says nothing of this machine"
    );
    assert!(manual.stdout.contains("skip\\-existing"));
}

#[test]
fn every_command_has_a_manual_page_of_its_own() {
    let sandbox = Sandbox::new();
    for (name, part) in [
        ("transcribe", "word\\-timestamps"),
        ("detect", "languages"),
        ("vad", "probabilities"),
        ("eval", "manifest"),
        ("info", "model"),
        ("bench", "repeats"),
        ("completions", "shell"),
        ("man", "command"),
    ] {
        let page = sandbox.run(["man", name]);
        page.assert(0);
        let title = format!(".TH overhear-{name} 1");
        assert!(page.stdout.contains(&title), "{}", page.stdout);
        assert!(
            page.stdout.to_lowercase().contains(part),
            "{name}: {}",
            page.stdout
        );
    }
    sandbox
        .run(["man", "nosuch"])
        .assert_one_line(2, "unknown command `nosuch`; known: transcribe, detect");
}

#[test]
fn brief_help_fits_on_a_screen_and_help_has_all_options() {
    let sandbox = Sandbox::new();
    let help = |words: &[&str]| {
        let run = sandbox.run(words);
        run.assert(0);
        run.stdout
    };
    for words in [
        &["-h"][..],
        &["transcribe", "-h"],
        &["detect", "-h"],
        &["eval", "-h"],
    ] {
        let brief = help(words);
        assert!(brief.lines().count() <= 40, "{words:?}: {brief}");
        assert!(
            brief.contains("--model") && brief.contains("overhear --help"),
            "{brief}"
        );
    }
    let (brief, all) = (help(&["-h"]), help(&["--help"]));
    for option in [
        "--output-format",
        "--language",
        "--word-timestamps",
        "detect",
    ] {
        assert!(brief.contains(option), "{option}: {brief}");
        assert!(all.contains(option), "{option}: {all}");
    }
    assert!(!brief.contains("--patience") && all.contains("--patience"));
    for code in ["71", "74", "129", "130", "141", "143"] {
        assert!(all.contains(code), "{code}: {all}");
    }
}

#[test]
fn several_jsons_on_standard_output_are_a_line_each() {
    let sandbox = Sandbox::new();
    let run = sandbox.nano(&[
        clip(EN),
        clip(ES),
        "-f".into(),
        "json".into(),
        "-o".into(),
        "-".into(),
    ]);
    run.assert(0);
    let lines: Vec<serde_json::Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["language"], &lines[1]["language"]),
        (&"en".into(), &"es".into())
    );
    assert!(run.stdout.ends_with("}\n"));
}

#[test]
fn version_names_kernels_and_features() {
    let run = Sandbox::new().run(["--version"]);
    run.assert(0);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0], concat!("overhear ", env!("CARGO_PKG_VERSION")));
    assert!(
        lines[1].starts_with("kernels: ") && lines[2].starts_with("features: "),
        "{lines:?}"
    );
}

#[cfg(feature = "bundled-model")]
#[test]
fn an_installed_binary_brings_its_own_tiny_en() {
    let sandbox = Sandbox::new();
    let installed = sandbox.path("bin/overhear");
    fs::create_dir(sandbox.path("bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_overhear"), &installed).unwrap();
    let run = |model: &str| {
        let mut command = sandbox.command_of(&installed, ["info", "--model", model], &[]);
        command.env_remove("OVERHEAR_MODELS");
        common::run(command)
    };
    run("tiny").assert_one_line(3, "not found");
    // The remains of an interrupted installation are replaced.
    let models = sandbox.path("home/.local/share/overhear/models");
    fs::create_dir_all(models.join(".tiny.en.partial/config.json")).unwrap();
    run("tiny.en").assert(0);
    let folder = models.join("tiny.en");
    let written = folder
        .join("config.json")
        .metadata()
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(
        sandbox.names("home/.local/share/overhear/models"),
        [".tiny.en.lock", "tiny.en"]
    );
    run("tiny.en").assert(0);
    assert_eq!(
        folder
            .join("config.json")
            .metadata()
            .unwrap()
            .modified()
            .unwrap(),
        written
    );
}

#[test]
fn a_multilingual_transcript_names_the_language_of_every_segment() {
    let sandbox = Sandbox::new();
    let json = [
        "-f".into(),
        "json".into(),
        "-o".into(),
        "-".into(),
        clip(ES),
    ];
    let flags = [
        "--multilingual",
        "--languages",
        "en,es",
        "--language_detection_segments=2",
    ];
    let run = sandbox.nano(&[flags.map(Into::into).as_slice(), &json].concat());
    run.assert(0);
    let multilingual: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(multilingual["segments"][0]["language"], "es");
    let plain = sandbox.nano(&json);
    plain.assert(0);
    assert_eq!(
        run.stdout.replace(", \"language\": \"es\"}]", "}]"),
        plain.stdout
    );
}

#[test]
fn the_librarys_warnings_reach_the_terminal_once_unless_it_is_to_be_quiet() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("odd");
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir(model()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let generation = folder.join("generation_config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&generation).unwrap()).unwrap();
    config["alignment_heads"] = serde_json::json!([[99, 0]]);
    fs::write(&generation, config.to_string()).unwrap();

    sandbox.write_mute("mute.wav");
    let run = |flags: &[&str]| {
        let command = ["--model", "odd", "-f", "txt", "--language", "en"];
        sandbox.run(command.iter().chain(flags).map(OsString::from))
    };
    let odd_heads = "overhear: warning: odd/generation_config.json: alignment_heads names no heads";
    let warned = run(&["mute.wav", "--word_timestamps=True"]);
    warned.assert(0);
    let lines: Vec<_> = warned.stderr.lines().collect();
    assert!(lines[0].starts_with(odd_heads), "{lines:?}");
    let mute = "overhear: warning: mute.wav: shorter than 10 ms, nothing to transcribe";
    assert_eq!(lines[1..], [mute]);
    let quiet = run(&["mute.wav", "-q"]);
    quiet.assert(0);
    assert_eq!(quiet.stderr, "");
    let detected = sandbox.run(["detect".into(), "--model".into(), "odd".into(), clip(EN)]);
    detected.assert(0);
    // Alignment heads matter for word timestamps only.
    assert!(!detected.stderr.contains("heads"), "{}", detected.stderr);
}
