//! `--ffmpeg`: decoding of formats that are not built in, by a script in place of ffmpeg.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use crate::common;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{EN, EN_TEXT, Run, Sandbox, clip, nano};

/// Creates a file that begins like AC-3, and an "ffmpeg" that outputs the samples of the clip.
fn sandbox(body: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("film.ac3"), b"\x0B\x77 not really").unwrap();
    let samples = overhear::Audio::open(clip(EN)).unwrap().samples().unwrap();
    let bytes = samples
        .iter()
        .flat_map(|x| ((x * 32_768.0) as i16).to_le_bytes());
    fs::write(sandbox.path("samples"), bytes.collect::<Vec<u8>>()).unwrap();
    let folder = sandbox.path("tools");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("ffmpeg");
    let samples = sandbox.path("samples").display().to_string();
    let script = format!("#!/bin/sh\n{}\n", body.replace("SAMPLES", &samples));
    fs::write(folder.join("script"), script).unwrap();
    // Copied by another process: a file written by this one may be open in a child that another test is forking, and
    // executing it would fail ("text file busy").
    let copied = Command::new("cp")
        .arg(folder.join("script"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox
}

fn run(sandbox: &Sandbox, arguments: &[&str], path: &Path, stdin: Option<PathBuf>) -> Run {
    let all: Vec<_> = ["-f", "txt", "--language", "en"]
        .iter()
        .chain(arguments)
        .map(Into::into)
        .collect();
    let mut command = sandbox.command(nano(&all));
    command.env("PATH", path);
    if let Some(file) = stdin {
        command.stdin(File::open(file).unwrap());
    }
    common::run(command)
}

#[test]
fn formats_that_are_not_built_in_are_decoded_by_ffmpeg_with_a_note() {
    let sandbox = sandbox("/bin/cat SAMPLES");
    let path = sandbox.path("tools");
    run(&sandbox, &["film.ac3"], &path, None)
        .assert_one_line(0, "film.ac3: decoded by ffmpeg (AC-3 is not built in)");
    assert_eq!(sandbox.read("film.txt").trim_end(), EN_TEXT);
    run(&sandbox, &["-"], &path, Some(sandbox.path("film.ac3"))).assert(0);
    assert_eq!(sandbox.read("stdin.txt").trim_end(), EN_TEXT);
    let program = path.join("ffmpeg").display().to_string();
    let named = run(
        &sandbox,
        &["--ffmpeg", &program, "film.ac3"],
        Path::new(""),
        None,
    );
    named.assert(0);
}

#[test]
fn without_ffmpeg_or_with_it_off_the_error_has_advice() {
    let sandbox = sandbox("/bin/cat SAMPLES");
    run(&sandbox, &["film.ac3"], Path::new("/nowhere"), None).assert_one_line(
        4,
        "film.ac3: AC-3 is not built in; convert it first, or install ffmpeg",
    );
    run(
        &sandbox,
        &["--ffmpeg", "off", "film.ac3"],
        &sandbox.path("tools"),
        None,
    )
    .assert_one_line(
        4,
        "film.ac3: AC-3 is not built in; convert it first, e.g. with ffmpeg",
    );
}

#[test]
fn an_ffmpeg_that_fails_is_the_files_failure_in_a_line() {
    let sandbox = sandbox("echo 'Invalid data found' >&2; exit 1");
    let failed = run(&sandbox, &["film.ac3"], &sandbox.path("tools"), None);
    failed.assert(4);
    assert!(
        failed
            .stderr
            .contains("film.ac3: ffmpeg could not decode it: Invalid data found"),
        "{}",
        failed.stderr
    );
    assert!(!sandbox.path("film.txt").exists());
}

#[test]
fn an_input_that_fails_as_a_signal_arrives_is_a_failure() {
    let sandbox = sandbox("kill -TERM $PPID; exit 1");
    let failed = run(&sandbox, &["film.ac3"], &sandbox.path("tools"), None);
    failed.assert(4);
    let expected = "film.ac3: ffmpeg could not decode it";
    assert!(failed.stderr.contains(expected), "{}", failed.stderr);
    assert!(!failed.stderr.contains("stopped"), "{}", failed.stderr);
}
