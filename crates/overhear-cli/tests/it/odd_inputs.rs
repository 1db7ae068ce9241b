//! Odd inputs and names.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use crate::common;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{EN, EN_TEXT, Sandbox, clip, nano};

fn txt(arguments: &[OsString]) -> Vec<OsString> {
    [&["-f".into(), "txt".into()], arguments].concat()
}

#[test]
fn standard_input_is_called_stdin() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(nano(&txt(&["-".into()])));
    command.stdin(File::open(clip(EN)).unwrap());
    common::run(command).assert(0);
    assert_eq!(sandbox.read("stdin.txt").trim_end(), EN_TEXT);
}

#[test]
fn audio_without_samples_is_a_warning_and_an_empty_transcript() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("mute.wav");
    let run = sandbox.nano(&txt(&["--language=en".into(), "mute.wav".into()]));
    run.assert_one_line(0, "warning: mute.wav: shorter");
    assert_eq!(sandbox.read("mute.txt"), "");
}

#[test]
fn a_fifo_is_read_to_its_end() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.path("talk.flac");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::write(fifo, fs::read(clip(EN)).unwrap())
    });
    sandbox.nano(&txt(&["talk.flac".into()])).assert(0);
    writer.join().unwrap().unwrap();
    assert_eq!(sandbox.read("talk.txt").trim_end(), EN_TEXT);
}

#[test]
fn a_track_is_chosen_by_its_number_and_else_by_the_files_default() {
    let sandbox = Sandbox::new();
    let transcript = |track: &[&str]| {
        let mut arguments = txt(&[clip("../crates/overhear/tests/fixtures/odd/two_tracks.mkv")]);
        arguments.extend(track.iter().map(OsString::from));
        sandbox.nano(&arguments)
    };
    for (track, text) in [
        (&[][..], "Nora smiled beside the road."),
        (&["--audio_track=1"], "The cookie is warm."),
        (&["--audio-track", "2"], "Nora smiled beside the road."),
    ] {
        transcript(track).assert(0);
        assert_eq!(sandbox.read("two_tracks.txt").trim_end(), text, "{track:?}");
    }
    for number in [0, 3] {
        let reason =
            format!("no audio track {number}; the file has 1: AAC mono, 2: AAC mono (default)");
        transcript(&[&format!("--audio_track={number}")]).assert_one_line(4, &reason);
    }
}

#[test]
fn files_without_audio_fail_in_one_line_and_never_hang() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("folder")).unwrap();
    symlink("nowhere", sandbox.path("dangling.wav")).unwrap();
    symlink("loop.wav", sandbox.path("loop.wav")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.path("socket.wav")).unwrap();
    for name in [
        "/dev/zero",
        "/dev/null",
        "folder",
        "dangling.wav",
        "loop.wav",
        "socket.wav",
        "no*match",
    ] {
        sandbox.nano(&[name.into()]).assert_one_line(4, name);
    }
    assert!(
        sandbox.names(".").iter().all(|name| !name.contains(".txt")),
        "{:?}",
        sandbox.names(".")
    );
}

#[test]
fn an_unreadable_file_fails_with_the_systems_words() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("secret.wav"), "x").unwrap();
    fs::set_permissions(
        sandbox.path("secret.wav"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    if File::open(sandbox.path("secret.wav")).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    sandbox
        .nano(&["secret.wav".into()])
        .assert_one_line(4, "denied");
}

#[test]
fn odd_names_are_kept_byte_for_byte_inside_the_output_directory() {
    let sandbox = Sandbox::new();
    let long = "n".repeat(255 - 4) + ".wav";
    let stems: [&[u8]; 7] = [
        b"-rf",
        b"two\nlines",
        b"a;\"$(touch x)`'",
        b"caf\xe9",
        "\u{202e}rtl".as_bytes(),
        b"CON",
        &long.as_bytes()[..251],
    ];
    let name = |stem: &[u8], extension: &str| {
        OsString::from_vec([stem, b".", extension.as_bytes()].concat())
    };
    let mut arguments: Vec<OsString> = txt(&["-o".into(), "out".into(), "--".into()]);
    for stem in stems {
        sandbox.write_mute(name(stem, "wav"));
        arguments.push(name(stem, "wav"));
    }
    sandbox.write_mute("deep/x.wav");
    arguments.push("deep/../deep/x.wav".into());

    let run = sandbox.nano(&arguments);
    run.assert(0);
    assert_eq!(
        run.stdout
            .lines()
            .filter(|line| line.starts_with("==> "))
            .count(),
        stems.len() + 1
    );
    assert!(!run.stdout.contains('\u{202e}'));
    let mut expected: Vec<OsString> = stems.iter().map(|stem| name(stem, "txt")).collect();
    expected.push("x.txt".into());
    let out = fs::read_dir(sandbox.path("out")).unwrap();
    let mut written: Vec<OsString> = out.map(|entry| entry.unwrap().file_name()).collect();
    expected.sort();
    written.sort();
    assert_eq!(written, expected);
}

#[test]
fn a_name_that_no_output_could_have_is_shortened() {
    let sandbox = Sandbox::new();
    let name = "é".repeat(125) + "x.wav";
    assert_eq!(name.len(), 255);
    sandbox.write_mute(&name);
    sandbox
        .nano(&[
            "-f".into(),
            "json".into(),
            "-o".into(),
            "out".into(),
            name.into(),
        ])
        .assert(0);
    assert_eq!(sandbox.names("out"), ["é".repeat(125) + ".json"]);
}

#[test]
fn inputs_of_one_stem_never_share_an_output() {
    let sandbox = Sandbox::new();
    for name in ["a.wav", "d1/b.wav", "d2/b.wav"] {
        sandbox.write_mute(name);
    }
    fs::copy(clip(EN), sandbox.path("a.mp3")).unwrap();
    let inputs = ["a.mp3", "a.wav", "d1/b.wav", "d2/b.wav", "./a.wav"].map(Into::into);
    sandbox
        .nano(&txt(&[&["-o".into(), "out".into()], &inputs[..]].concat()))
        .assert(0);
    let expected = ["a.mp3.txt", "a.wav.txt", "d1-b.wav.txt", "d2-b.wav.txt"];
    assert_eq!(sandbox.names("out"), expected);
    assert_eq!(sandbox.read("out/a.mp3.txt").trim_end(), EN_TEXT);
}

#[test]
fn a_directory_is_walked_and_its_tree_mirrored() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("d/a.wav");
    sandbox.write_mute("d/sub/a.wav");
    fs::write(sandbox.path("d/notes.txt"), "notes").unwrap();
    sandbox
        .nano(&txt(&["-o".into(), "flat".into(), "d".into()]))
        .assert(0);
    assert_eq!(sandbox.names("flat"), ["a.txt"]);
    sandbox
        .nano(&txt(&["-o".into(), "tree".into(), "-r".into(), "d".into()]))
        .assert(0);
    assert_eq!(sandbox.names("tree"), ["a.txt", "sub"]);
    assert_eq!(sandbox.names("tree/sub"), ["a.txt"]);
    sandbox
        .nano(&txt(&["-o".into(), "glob".into(), "d/*.w?v".into()]))
        .assert(0);
    assert_eq!(sandbox.names("glob"), ["a.txt"]);
}

#[test]
fn an_output_never_replaces_an_input() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("a.txt");
    sandbox.nano(&txt(&["a.txt".into()])).assert(0);
    assert_eq!(sandbox.names("."), ["a.txt", "a.txt.txt"]);
    assert!(
        fs::read(sandbox.path("a.txt"))
            .unwrap()
            .starts_with(b"RIFF")
    );
}

#[test]
fn a_model_folder_may_have_a_name_that_is_not_utf_8() {
    let sandbox = Sandbox::new();
    let folder: PathBuf = sandbox.path("").join(OsStr::from_bytes(b"mod\xe8le"));
    symlink(common::model(), &folder).unwrap();
    let mut command = sandbox.command([
        OsStr::new("info"),
        OsStr::new("--model"),
        folder.as_os_str(),
    ]);
    command.stdout(Stdio::piped());
    common::run(command).assert(0);
}
