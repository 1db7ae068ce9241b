//! Several files at the same time: outputs and display equal those of one file after another, but long files come first.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::common::{EN, ES, Run, Sandbox, clip};

/// Transcribes the files in `input/`, one of which is not audio, `batch_size` at the same time.
fn run(sandbox: &Sandbox, batch_size: &str, more: &[&str]) -> Run {
    let mut arguments: Vec<OsString> = vec!["input".into(), "--beam_size=2".into()];
    arguments.push(format!("--batch_size={batch_size}").into());
    arguments.extend(more.iter().map(OsString::from));
    sandbox.nano(&arguments)
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("input")).unwrap();
    for (name, from) in [
        ("a.flac", EN),
        ("b.flac", ES),
        ("d.flac", "jfk.flac"),
        ("e.flac", EN),
        ("f.flac", ES),
    ] {
        fs::copy(clip(from), sandbox.path("input").join(name)).unwrap();
    }
    fs::write(sandbox.path("input/c.wav"), "no audio").unwrap();
    sandbox.write_mute("input/g.wav");
    sandbox
}

/// Returns the content of every file in a folder.
fn contents(sandbox: &Sandbox, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let bytes = fs::read(sandbox.path(folder).join(&name)).unwrap();
        (name, bytes)
    };
    sandbox.names(folder).into_iter().map(read).collect()
}

/// Returns the standard error of a run without the line about the whole run, which has times.
fn without_summary(run: &Run) -> Vec<&str> {
    let lines = run.stderr.lines();
    let (summaries, rest): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("x real time"));
    let audio = "overhear: 6 of 7 files done, 00:00:";
    assert!(
        matches!(summaries[..], [line] if line.starts_with(audio)),
        "{summaries:?}"
    );
    rest
}

/// Returns what is shown of each file, sorted by name.
fn by_name(run: &Run) -> Vec<&str> {
    let mut files: Vec<_> = run.stdout.split("==> ").collect();
    files.sort_unstable();
    files
}

#[test]
fn files_at_the_same_time_give_the_same_as_one_after_another() {
    let sandbox = sandbox();
    let alone = run(&sandbox, "1", &["-o", "alone", "--word_timestamps=True"]);
    alone.assert(1);
    assert!(alone.stderr.contains("c.wav: "), "{}", alone.stderr);
    assert!(
        alone.stderr.contains("g.wav: shorter than 10 ms"),
        "{}",
        alone.stderr
    );
    let expected = contents(&sandbox, "alone");
    assert_eq!(expected.len(), 6 * 5);
    for batch_size in ["2", "3", "100", "auto"] {
        let folder = format!("of-{batch_size}");
        let together = run(
            &sandbox,
            batch_size,
            &["-o", &folder, "--word_timestamps=True"],
        );
        together.assert(1);
        assert_eq!(by_name(&together), by_name(&alone), "{batch_size}");
        let mut said = [without_summary(&together), without_summary(&alone)];
        said.iter_mut().for_each(|lines| lines.sort_unstable());
        assert_eq!(said[0], said[1], "{batch_size}");
        let headers = together
            .stdout
            .lines()
            .filter(|line| line.starts_with("==> "));
        let names: String = headers.map(|line| &line[10..11]).collect();
        assert_eq!(names, "daebfg", "{batch_size}: long files first");
        assert!(contents(&sandbox, &folder) == expected, "{batch_size}");
    }
}

#[test]
fn the_last_line_counts_the_inputs_that_are_missing_or_were_done_before() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("a.wav");
    let arguments = ["a.wav", "gone.wav"].map(OsString::from);
    let run = sandbox.nano(&arguments);
    run.assert(1);
    assert!(
        run.stderr.contains(": 1 of 2 files done, "),
        "{}",
        run.stderr
    );
    sandbox.write_mute("b.wav");
    let arguments = ["a.wav", "b.wav", "gone.wav", "--skip_existing"].map(OsString::from);
    let run = sandbox.nano(&arguments);
    run.assert(1);
    assert!(
        run.stderr.contains(": 2 of 3 files done, "),
        "{}",
        run.stderr
    );
}

#[test]
fn standard_output_has_the_order_of_the_inputs() {
    let sandbox = sandbox();
    let to_stdout = ["-o", "-", "-f", "json"];
    let alone = run(&sandbox, "1", &to_stdout);
    let together = run(&sandbox, "4", &to_stdout);
    together.assert(1);
    assert_eq!(together.stdout.lines().count(), 6);
    assert_eq!(together.stdout, alone.stdout);
}

#[test]
fn a_batch_size_is_auto_or_a_number() {
    for wrong in ["0", "-1", "many"] {
        let sandbox = Sandbox::new();
        let arguments = [clip(EN), format!("--batch_size={wrong}").into()];
        sandbox
            .nano(&arguments)
            .assert_one_line(2, "expected auto, or a number above 0");
    }
}

#[test]
fn pieces_of_a_file_at_the_same_time_give_the_same_as_one_after_another() {
    let sandbox = Sandbox::new();
    let long = Path::new(env!("CARGO_MANIFEST_DIR"));
    let long = long.join("../overhear/tests/fixtures/audio/long-90s.flac");
    let run = |batch_size: &str| {
        let batch_size = format!("--batch_size={batch_size}");
        let arguments = [long.clone().into_os_string(), clip(ES)];
        let options = ["--batched=True", "--temperature=0", &batch_size, "-o=out"];
        let options = options.map(OsString::from);
        let run = sandbox.nano(&[&arguments[..], &options[..]].concat());
        run.assert(0);
        (run.stdout, contents(&sandbox, "out"))
    };
    let alone = run("1");
    assert_eq!(alone.1.len(), 2 * 5);
    // As many as memory has room for.
    for batch_size in ["3", "auto", "1000000000"] {
        assert!(run(batch_size) == alone, "{batch_size}");
    }
}
