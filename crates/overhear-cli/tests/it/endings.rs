//! Runs that end early: full disks, closed pipes, signals.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use crate::common;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{EN, EN_TEXT, ES, Running, Sandbox, clip, nano};

/// Maximum time from the signal to the end of the process.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn an_existing_output_is_replaced_not_written_into() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("elsewhere"), "old").unwrap();
    symlink("elsewhere", sandbox.path("mute.txt")).unwrap();
    sandbox.write_mute("mute.wav");
    sandbox
        .nano(&["-f".into(), "txt".into(), "mute.wav".into()])
        .assert(0);
    assert_eq!(sandbox.read("elsewhere"), "old");
    assert_eq!(sandbox.read("mute.txt"), "");
    assert_eq!(sandbox.names("."), ["elsewhere", "mute.txt", "mute.wav"]);
}

#[test]
fn an_output_directory_that_cannot_be_is_exit_74_before_any_work() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "").unwrap();
    let run = sandbox.nano(&["-o".into(), "file/out".into(), clip(EN)]);
    run.assert_one_line(74, "file/out");
    assert_eq!(run.stdout, "");
    fs::create_dir(sandbox.path("mute.txt")).unwrap();
    sandbox.write_mute("mute.wav");
    let blocked = ["-q", "-f", "txt", "mute.wav"].map(Into::into);
    sandbox.nano(&blocked).assert_one_line(74, "mute.txt");
}

#[test]
fn a_full_disk_is_exit_74_and_leaves_the_old_outputs() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("small")).unwrap();
    let Some(_disk) = SmallDisk::mount(sandbox.path("small")) else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    fs::write(sandbox.path("small/synth-en-05.json"), "old").unwrap();
    let filler = vec![0; 1 << 20];
    let _ = File::create(sandbox.path("small/filler"))
        .unwrap()
        .write_all(&filler);
    let run = sandbox.nano(&["-q".into(), "-o".into(), "small".into(), clip(EN)]);
    run.assert_one_line(74, "No space left");
    assert_eq!(sandbox.read("small/synth-en-05.json"), "old");
    assert_eq!(sandbox.names("small"), ["filler", "synth-en-05.json"]);
}

/// A tmpfs of 64 KiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(&path)
            .stderr(Stdio::null());
        command.status().ok()?.success().then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_standard_output_is_exit_74() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: this system has no /dev/full");
        return;
    }
    let sandbox = Sandbox::new();
    let to_full = |arguments: &[std::ffi::OsString]| {
        let mut command = sandbox.command(nano(arguments));
        command.stdout(File::create("/dev/full").unwrap());
        common::run(command)
    };
    to_full(&[
        "-q".into(),
        "-o".into(),
        "-".into(),
        "-f".into(),
        "txt".into(),
        clip(ES),
    ])
    .assert_one_line(74, "standard output");
    to_full(&["-f".into(), "txt".into(), clip(EN)]).assert(74);
    assert_eq!(
        sandbox.read("synth-en-05.txt").trim_end(),
        EN_TEXT,
        "the files are whole all the same"
    );
}

#[test]
fn a_closed_standard_output_is_a_quiet_141_with_whole_files() {
    let sandbox = Sandbox::new();
    // Closed before the program starts, since a pipe would buffer the output.
    let closed = |arguments: &[std::ffi::OsString]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sandbox.command(arguments);
        Running(command.stdout(writer).spawn().unwrap()).end()
    };
    let live = closed(&nano(&["-f".into(), "txt".into(), clip(EN), clip(ES)]));
    live.assert(141);
    assert!(
        !live.stderr.contains("pipe") && !live.stderr.contains("output"),
        "{}",
        live.stderr
    );
    assert_eq!(sandbox.read("synth-en-05.txt").trim_end(), EN_TEXT);
    assert!(!sandbox.read("synth-es-00.txt").is_empty());
    let to_stdout = ["-o".into(), "-".into(), "-f".into(), "txt".into(), clip(EN)];
    closed(&nano(&to_stdout)).assert(141);
    closed(&["man".into()]).assert(141);
}

#[test]
fn signals_keep_the_transcript_so_far_under_a_partial_name() {
    let sandbox = Sandbox::new();
    write_long_speech(&sandbox.path("long.wav"));
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        if is_ignored(code - 128) {
            eprintln!(
                "skipped: these tests were started to ignore SIG{signal}, and so is overhear"
            );
            continue;
        }
        sandbox.write_mute("never-begun.wav");
        let arguments = [
            "-f",
            "txt",
            "-o",
            signal,
            "--batch_size=1",
            "long.wav",
            "never-begun.wav",
        ];
        let arguments = arguments.map(Into::into);
        let mut running = Running(sandbox.command(nano(&arguments)).spawn().unwrap());
        let mut live = BufReader::new(running.0.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with('[') {
            line.clear();
            assert_ne!(
                live.read_line(&mut line).unwrap(),
                0,
                "ended before its first segment"
            );
        }
        let (_, first) = line.trim_end().split_once("]  ").unwrap();
        let signalled = Instant::now();
        running.signal(signal);
        let run = running.end();
        let took = signalled.elapsed();
        run.assert(code);
        assert!(took < STOPS_WITHIN, "{signal}: {took:?}");
        assert_eq!(sandbox.names(signal), ["long.partial.txt"]);
        let partial = sandbox.read(&format!("{signal}/long.partial.txt"));
        assert!(
            partial.starts_with(first),
            "{partial:?} begins with {first:?}"
        );
        let said = format!("overhear: stopped by SIG{signal}: the first 00:");
        let left =
            format!(" of long.wav is in {signal}/long.partial.txt; 1 more input was not started");
        let last = run.stderr.lines().last().unwrap();
        assert!(last.starts_with(&said) && last.ends_with(&left), "{last}");
    }
}

#[test]
fn a_signal_keeps_the_transcripts_so_far_of_all_files_in_flight() {
    if is_ignored(2) {
        eprintln!("skipped: these tests were started to ignore SIGINT, and so is overhear");
        return;
    }
    let sandbox = Sandbox::new();
    for name in ["a.wav", "c.wav", "d.wav"] {
        write_long_speech(&sandbox.path(name));
    }
    sandbox.write_mute("b.wav");
    let arguments = [
        "-f",
        "txt",
        "-o",
        "out",
        "--batch_size=2",
        "a.wav",
        "b.wav",
        "c.wav",
        "d.wav",
    ];
    let mut running = Running(
        sandbox
            .command(nano(&arguments.map(Into::into)))
            .spawn()
            .unwrap(),
    );
    let mut live = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    // At the second segment of the first long file, the second is in flight; the short one comes last.
    for _ in 0..2 {
        line.clear();
        while !line.starts_with('[') {
            line.clear();
            assert_ne!(live.read_line(&mut line).unwrap(), 0, "ended too early");
        }
    }
    running.signal("INT");
    let run = running.end();
    run.assert(130);
    let names = sandbox.names("out");
    assert_eq!(names[0], "a.partial.txt", "{names:?}");
    let last = run.stderr.lines().last().unwrap();
    let said = "overhear: stopped by SIGINT: the first 00:";
    assert!(
        last.starts_with(said) && last.ends_with("; 2 more inputs were not started"),
        "{last}"
    );
    assert!(
        last.contains(" of a.wav is in out/a.partial.txt; "),
        "{last}"
    );
    assert!(last.contains("c.wav"), "{last}");
}

#[test]
fn a_signal_ends_the_wait_for_standard_input() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(nano(&["-".into()]));
    let mut running = Running(command.stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = running.0.stdin.take().unwrap();
    stdin
        .write_all(&fs::read(clip(EN)).unwrap()[..50_000])
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let signalled = Instant::now();
    running.signal("TERM");
    let run = running.end();
    run.assert_one_line(143, "stopped by SIGTERM: nothing of stdin is written");
    assert!(
        signalled.elapsed() < STOPS_WITHIN,
        "{:?}",
        signalled.elapsed()
    );
    assert!(sandbox.names(".").is_empty());
}

#[test]
fn a_signal_that_is_to_be_ignored_is() {
    let sandbox = Sandbox::new();
    let binary = env!("CARGO_BIN_EXE_overhear");
    // As nohup starts programs.
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    let words = ["-c", script, binary].map(Into::into).into_iter();
    let arguments = nano(&["-f".into(), "txt".into(), "-".into()]);
    let shell = Path::new("/bin/sh");
    let mut command = sandbox.command_of(shell, words.chain(arguments), &[]);
    let mut running = Running(command.stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = running.0.stdin.take().unwrap();
    let clip = fs::read(clip(EN)).unwrap();
    stdin.write_all(&clip[..50_000]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    running.signal("HUP");
    std::thread::sleep(Duration::from_millis(200));
    stdin.write_all(&clip[50_000..]).unwrap();
    drop(stdin);
    running.end().assert(0);
    assert_eq!(sandbox.read("stdin.txt").trim_end(), EN_TEXT);
}

/// Returns whether this process, and so its children, ignore the signal (under nohup, or in the background of a
/// script).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Writes half an hour of speech as a 16 kHz mono WAV.
fn write_long_speech(path: &Path) {
    let samples = overhear::Audio::open(clip(EN)).unwrap().samples().unwrap();
    let n_repeats = 30 * 60 * 16_000 / samples.len();
    let n_bytes = u32::try_from(2 * n_repeats * samples.len()).unwrap();
    let once: Vec<u8> = samples
        .iter()
        .flat_map(|sample| ((sample * 32767.0) as i16).to_le_bytes())
        .collect();
    let mut file = File::create(path).unwrap();
    file.write_all(&common::wav_header(n_bytes)).unwrap();
    for _ in 0..n_repeats {
        file.write_all(&once).unwrap();
    }
}
