//! Journals, shards and manifests: runs that are killed lose nothing, and several processes share the inputs.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use crate::common;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{EN, EN_TEXT, ES, Run, Sandbox, clip, nano};

const OPTIONS: [&str; 4] = ["input", "--beam_size=2", "-f=txt,json", "--verbose=None"];

/// Arguments of a run with a journal, with outputs into `out`.
fn arguments(out: &str, more: &[&str]) -> Vec<OsString> {
    let journal = format!("--journal={out}/journal");
    let all = OPTIONS.iter().chain(more);
    let mut arguments: Vec<OsString> = all.map(OsString::from).collect();
    arguments.extend(["-o".into(), out.into(), journal.into()]);
    arguments
}

/// A folder `input` of `n` files, the third of which is not audio.
fn sandbox(n: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("input")).unwrap();
    for i in 0..n {
        let path = sandbox.path("input").join(format!("{i:03}.flac"));
        match i {
            2 => fs::write(path, "no audio").unwrap(),
            _ => {
                fs::copy(clip([EN, ES][i % 2]), path).unwrap();
            }
        }
    }
    sandbox
}

/// Returns the content of every output in a folder, without its journal.
fn outputs(sandbox: &Sandbox, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut names = sandbox.names(folder);
    names.retain(|name| name != "journal");
    let read = |name: String| {
        let bytes = fs::read(sandbox.path(folder).join(&name)).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Kills a run at random moments until it ends. `just kills` sets the numbers of files and kills.
#[test]
fn a_run_that_is_killed_goes_on_and_loses_nothing() {
    let n_files = number("OVERHEAR_FILES", 24);
    let n_kills = number("OVERHEAR_KILLS", 25);
    let sandbox = sandbox(n_files);
    let whole = sandbox.nano(&arguments("whole", &[]));
    whole.assert(1);
    let expected = outputs(&sandbox, "whole");
    assert_eq!(expected.len(), 2 * (n_files - 1));

    let assert_whole = |run: &Run| {
        run.assert(1);
        let found = outputs(&sandbox, "killed");
        let differ = |name: &&String| found.get(*name) != expected.get(*name);
        let differing: Vec<_> = expected.keys().chain(found.keys()).filter(differ).collect();
        assert!(differing.is_empty(), "{differing:?} after {run:?}");
    };
    // A linear congruential generator.
    let mut random = 1_u64;
    let mut n_killed = 0;
    while n_killed < n_kills {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let run = sandbox.start(nano(&arguments("killed", &["--quiet"])), &[]);
        sleep(Duration::from_millis((random >> 33) % 300));
        run.signal("KILL");
        let run = run.end();
        match run.code {
            None => n_killed += 1,
            // Nothing is left: begin again, so that every kill hits a run at work.
            Some(_) => {
                assert_whole(&run);
                fs::remove_dir_all(sandbox.path("killed")).unwrap();
            }
        }
    }
    assert_whole(&sandbox.nano(&arguments("killed", &[])));

    let again = sandbox.nano(&arguments("killed", &["--verbose=False"]));
    again.assert(1);
    let done = format!("{} of {n_files} inputs are done", n_files - 1);
    assert!(again.stderr.contains(&done), "{}", again.stderr);
    let failed = "input/002.flac: ";
    assert!(again.stderr.contains(failed), "{}", again.stderr);
    assert_eq!(again.stdout, "");
}

/// Kills a run in the middle of a long file again and again: each run goes on where the one before it was killed.
#[test]
fn a_long_file_goes_on_in_the_middle() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("input")).unwrap();
    let part = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../overhear/tests/fixtures/audio/long-90s.flac");
    let samples = overhear::Audio::open(part).unwrap().samples().unwrap();
    let samples: Vec<i16> = samples.iter().map(|s| (s * 32_767.0) as i16).collect();
    fs::write(
        sandbox.path("input/long.wav"),
        common::wav(&samples.repeat(4)),
    )
    .unwrap();
    for more in [
        ["--word_timestamps=True", "--vad_filter=False"],
        ["--batched=True", "--batch_size=2"],
        ["--vad_filter=True", "--n_best=2"],
    ] {
        let whole = sandbox.nano(&arguments("whole", &more));
        whole.assert(0);
        let expected = outputs(&sandbox, "whole");
        let progress = || {
            let names = sandbox.names("killed/journal");
            let name = names.iter().find(|name| name.starts_with("progress-"))?;
            fs::read_to_string(sandbox.path("killed/journal").join(name)).ok()
        };
        let n_lines = || match sandbox.path("killed/journal").exists() {
            true => progress().map_or(0, |text| text.lines().count()),
            false => 0,
        };
        for n_killed in 0..4 {
            let before = n_lines();
            let run = sandbox.start(nano(&arguments("killed", &more)), &[]);
            let started = Instant::now();
            while n_lines() < before + 2 {
                assert!(started.elapsed() < Duration::from_secs(60), "no progress");
                sleep(Duration::from_millis(2));
            }
            sleep(Duration::from_millis(7 * n_killed));
            run.signal("KILL");
            assert_eq!(run.end().code, None, "{more:?}");
        }
        let end = sandbox.nano(&arguments(
            "killed",
            &[&more[..], &["--verbose=False"]].concat(),
        ));
        end.assert(0);
        assert!(outputs(&sandbox, "killed") == expected, "{more:?}");

        let journal = sandbox.read("killed/journal/journal.jsonl");
        let started = journal.lines().filter(|line| line.contains("started"));
        let n_windows: Vec<usize> = started
            .map(|line| {
                let number = line.split_once("\"n_windows\":").unwrap().1;
                number.trim_end_matches('}').parse().unwrap()
            })
            .collect();
        assert!(
            n_windows.len() == 5 && n_windows.is_sorted_by(|a, b| a < b) && n_windows[0] == 0,
            "{more:?}: {n_windows:?}"
        );
        let note = format!("goes on after {} windows", n_windows[4]);
        assert!(end.stderr.contains(&note), "{}", end.stderr);
        assert_eq!(sandbox.names("killed/journal"), ["journal.jsonl"]);
        for folder in ["whole", "killed"] {
            fs::remove_dir_all(sandbox.path(folder)).unwrap();
        }
    }
}

#[test]
fn what_is_done_is_not_done_again_unless_it_changed() {
    let sandbox = sandbox(4);
    let run = |more: &[&str]| sandbox.nano(&arguments("out", more));
    let first = run(&[]);
    first.assert(1);
    let line = |run: &Run, part: &str| {
        let lines = run.stderr.lines().filter(|line| line.contains(part));
        lines.count()
    };
    assert_eq!(line(&first, "002.flac"), 1, "{}", first.stderr);

    let changed = |name: &str| {
        fs::metadata(sandbox.path("out").join(name))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = changed("000.txt");
    let second = run(&[]);
    second.assert(1);
    assert_eq!(
        line(&second, "failed in an earlier run: input/002.flac"),
        1,
        "{}",
        second.stderr
    );
    assert_eq!(changed("000.txt"), before);

    // An output that is not what it was, one that is missing, and an input that changed.
    fs::write(sandbox.path("out/000.txt"), "half").unwrap();
    fs::remove_file(sandbox.path("out/001.json")).unwrap();
    fs::copy(clip(EN), sandbox.path("input/003.flac")).unwrap();
    let third = run(&["--retry_failed"]);
    third.assert(1);
    assert_eq!(line(&third, "earlier run"), 0, "{}", third.stderr);
    assert_eq!(line(&third, "002.flac"), 1, "{}", third.stderr);
    assert_eq!(sandbox.read("out/000.txt").trim(), EN_TEXT);
    assert_eq!(sandbox.read("out/003.txt").trim(), EN_TEXT);
    assert!(sandbox.path("out/001.json").exists());

    // The failed input is repaired.
    fs::copy(clip(EN), sandbox.path("input/002.flac")).unwrap();
    run(&[]).assert(0);
    assert_eq!(sandbox.read("out/002.txt").trim(), EN_TEXT);
}

#[test]
fn a_journal_is_of_one_command_and_of_one_run_at_a_time() {
    let sandbox = sandbox(2);
    sandbox.nano(&arguments("out", &[])).assert(0);
    sandbox
        .nano(&arguments("out", &["--temperature=0.5"]))
        .assert_one_line(2, "other options");
    let to_stdout = ["input", "-f=txt", "-o=-", "--journal=j"].map(OsString::from);
    sandbox.nano(&to_stdout).assert_one_line(2, "--output-dir");
    let retry = ["input", "--retry_failed"].map(OsString::from);
    sandbox.nano(&retry).assert_one_line(2, "--journal");

    let file = fs::File::open(sandbox.path("out/journal/journal.jsonl")).unwrap();
    file.lock().unwrap();
    sandbox
        .nano(&arguments("out", &[]))
        .assert_one_line(74, "in use by another run");
    drop(file);

    // A line that is not whole, as after a loss of power.
    let path = sandbox.path("out/journal/journal.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text.truncate(text.len() - 20);
    fs::write(&path, text).unwrap();
    sandbox.nano(&arguments("out", &[])).assert(0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n"), "{text}");
    fs::write(&path, "{\"overhear\": ").unwrap();
    fs::write(&path, text.split_at(30).0).unwrap();
    sandbox.nano(&arguments("out", &[])).assert(0);
    assert!(fs::read_to_string(&path).unwrap().ends_with("}\n"));
    for foreign in [&b"notes of mine\n"[..], &[0xff; 100]] {
        fs::write(&path, foreign).unwrap();
        let run = sandbox.nano(&arguments("out", &[]));
        run.assert_one_line(2, "is not a journal of overhear");
        assert_eq!(fs::read(&path).unwrap(), foreign);
    }
}

#[test]
fn standard_input_is_never_done_and_another_model_is_refused() {
    let sandbox = Sandbox::new();
    let script = format!(
        "for clip in {} {}; do {} --model nano -q - --journal j -o out -f txt < $clip; cat out/stdin.txt; done",
        clip(EN).display(),
        clip(ES).display(),
        env!("CARGO_BIN_EXE_overhear")
    );
    let command = sandbox.command_of("/bin/sh".as_ref(), ["-c", &script], &[]);
    let run = common::run(command);
    run.assert(0);
    let texts: Vec<_> = run.stdout.lines().collect();
    assert!(
        texts.len() == 2 && texts[0] == EN_TEXT && texts[1] != EN_TEXT,
        "{texts:?}"
    );

    let model = sandbox.path("model");
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(common::model()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let arguments = [
        "--model=model",
        "--language=en",
        "-f=txt",
        "-q",
        "--journal=j2",
        "-o=out2",
    ];
    let arguments: Vec<OsString> = arguments
        .map(Into::into)
        .into_iter()
        .chain([clip(EN)])
        .collect();
    sandbox.run(&arguments).assert(0);
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    sandbox.run(&arguments).assert_one_line(2, "another model");
}

#[test]
fn an_input_that_ends_runs_is_transcribed_last_and_at_last_counts_as_failed() {
    let sandbox = sandbox(2);
    sandbox.nano(&arguments("out", &[])).assert(0);
    let expected = outputs(&sandbox, "out");
    let path = sandbox.path("out/journal/journal.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let started = text
        .lines()
        .find(|line| line.contains("000.flac") && line.contains("started"));
    let header = text.lines().next().unwrap();
    let write = |n: usize| {
        let starts = format!("{}\n", started.unwrap()).repeat(n);
        fs::write(&path, format!("{header}\n{starts}")).unwrap();
    };
    write(49);
    let run = sandbox.nano(&[&arguments("out", &[])[..], &["--verbose=True".into()]].concat());
    run.assert(0);
    let [first, last] = ["001.flac", "000.flac"].map(|name| run.stdout.find(name).unwrap());
    assert!(first < last, "{}", run.stdout);
    assert!(outputs(&sandbox, "out") == expected);
    write(50);
    let run = sandbox.nano(&arguments("out", &[]));
    run.assert(1);
    assert!(
        run.stderr.contains("50 runs ended while input/000.flac"),
        "{}",
        run.stderr
    );
    sandbox
        .nano(&arguments("out", &["--retry_failed"]))
        .assert(0);
}

#[test]
fn a_signal_is_no_failure() {
    let sandbox = sandbox(2);
    for _ in 0..11 {
        let run = sandbox.start(nano(&arguments("out", &["--quiet"])), &[]);
        sleep(Duration::from_millis(60));
        run.signal("TERM");
        run.end();
        let _ = fs::remove_file(sandbox.path("out/000.txt"));
    }
    sandbox.nano(&arguments("out", &[])).assert(0);
}

#[test]
fn shards_share_the_inputs() {
    let sandbox = sandbox(8);
    let whole = sandbox.nano(&arguments("whole", &[]));
    whole.assert(1);
    let mut codes = Vec::new();
    for shard in ["1/3", "auto", "auto/3"] {
        let variables = match shard {
            "auto" => vec![
                ("AWS_BATCH_JOB_ARRAY_INDEX", "1"),
                ("AWS_BATCH_JOB_ARRAY_SIZE", "3"),
            ],
            "auto/3" => vec![("JOB_COMPLETION_INDEX", "2")],
            _ => vec![],
        };
        let shard = format!("--shard={shard}");
        let run = sandbox
            .start(nano(&arguments("out", &[&shard])), &variables)
            .end();
        codes.push(run.code);
    }
    assert_eq!(
        codes.iter().filter(|&&code| code != Some(0)).count(),
        1,
        "{codes:?}"
    );
    assert!(outputs(&sandbox, "out") == outputs(&sandbox, "whole"));
    let journals = sandbox.names("out/journal");
    assert_eq!(
        journals,
        [
            "journal-1-of-3.jsonl",
            "journal-2-of-3.jsonl",
            "journal-3-of-3.jsonl"
        ]
    );
    // Another division goes on from all of them.
    let run = sandbox.nano(&arguments("out", &[]));
    run.assert(1);
    assert!(run.stderr.contains("earlier run"), "{}", run.stderr);
    sandbox
        .nano(&arguments("out", &["--shard=4/3"]))
        .assert_one_line(2, "expected I/N");
    sandbox
        .nano(&arguments("out", &["--shard=auto"]))
        .assert_one_line(2, "none of");
}

#[test]
fn a_manifest_names_files_and_their_options() {
    let sandbox = sandbox(2);
    fs::write(
        sandbox.path("list.jsonl"),
        "{\"file\": \"input/000.flac\", \"lang\": \"en\", \"beams\": \"de\"}\n\
         {\"file\": \"input/001.flac\", \"lang\": \"es\", \"task\": \"transcribe\", \"initial_prompt\": \"Hola.\"}\n\
         {\"file\": \"input/000.flac\", \"locale\": \"en-GB\", \"clip_timestamps\": \"1\"}\n\
         {\"file\": \"nosuch.flac\"}\n",
    )
    .unwrap();
    fs::write(
        sandbox.path("more.csv"),
        "path,lang,output\ninput/000.flac,en,\ninput/001.flac,es,sub/zwei.x\n",
    )
    .unwrap();
    let lists = ["--manifest=list.jsonl", "--manifest", "more.csv"];
    let arguments = |more: &[&str]| -> Vec<OsString> {
        let all = lists.iter().chain(&["-f=json", "-o=out"]).chain(more);
        all.map(OsString::from).collect()
    };
    let run = sandbox.nano(&arguments(&[]));
    run.assert(1);
    assert!(run.stderr.contains("nosuch.flac"), "{}", run.stderr);
    assert!(!run.stderr.contains("detected language"), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("list.jsonl: these fields have no effect: beams"),
        "{}",
        run.stderr
    );
    assert_eq!(
        sandbox.names("out"),
        ["000-2.json", "000.json", "001.json", "sub"]
    );
    assert_eq!(sandbox.names("out/sub"), ["zwei.x.json"]);
    assert!(
        sandbox
            .read("out/001.json")
            .contains("\"language\": \"es\"")
    );
    // Broken lines end a run before anything is done.
    fs::write(
        sandbox.path("more.csv"),
        "path,output\ninput/000.flac,a\ninput/000.flac,../a\n",
    )
    .unwrap();
    sandbox
        .nano(&arguments(&["--quiet"]))
        .assert_one_line(2, "more.csv:3: output: `../a` is no name");
    fs::write(
        sandbox.path("more.csv"),
        "path,output\ninput/000.flac,a\ninput/001.flac,a\n",
    )
    .unwrap();
    sandbox
        .nano(&arguments(&["--quiet", "-o=none"]))
        .assert_one_line(
            2,
            "more.csv:2 and more.csv:3 state the same output `a`: give one of them another",
        );
    assert!(!sandbox.path("none").exists());
    sandbox
        .nano(&["--manifest=nosuch.jsonl".into()])
        .assert_one_line(2, "cannot read nosuch.jsonl");
    sandbox.run([""; 0]).assert(2);
}
