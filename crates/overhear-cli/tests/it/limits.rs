//! Resources that the system refuses: memory, threads, file sizes, standard output, a home folder.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use crate::common;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{EN, ES, Run, Sandbox, clip, nano};

/// Runs overhear with `exec` from a shell, after the shell commands `first`.
fn after(sandbox: &Sandbox, first: &str, arguments: &[OsString]) -> Run {
    let binary = env!("CARGO_BIN_EXE_overhear");
    let script = format!("{first} exec \"$0\" \"$@\"");
    let words = ["-c".into(), script.into(), binary.into()];
    let mut command = sandbox.command_of(
        Path::new("/bin/sh"),
        words.into_iter().chain(nano(arguments)),
        &[],
    );
    command.stdin(Stdio::null());
    common::run(command)
}

fn to_stdout() -> Vec<OsString> {
    ["-q", "--language=en", "-f", "txt", "-o", "-"]
        .map(Into::into)
        .into_iter()
        .chain([clip(EN)])
        .collect()
}

#[test]
fn a_limit_of_file_sizes_is_exit_74_in_one_line_and_nothing_is_left_over() {
    let sandbox = Sandbox::new();
    let arguments = ["-q".into(), "-o".into(), "out".into(), clip(EN)];
    let run = after(&sandbox, "ulimit -f 0;", &arguments);
    run.assert_one_line(74, "File too large");
    assert_eq!(sandbox.names("out"), [""; 0]);
}

#[test]
fn exhausted_memory_is_exit_71_in_one_line() {
    let sandbox = Sandbox::new();
    let mut codes = Vec::new();
    // From the memory that the executable itself needs to enough for a run.
    for kilobytes in (140_000..480_000).step_by(20_000) {
        let limit = format!("ulimit -c 0; ulimit -v {kilobytes};");
        let run = after(&sandbox, &limit, &to_stdout());
        // glibc ends a process itself where it has no memory to register a thread's first destructor.
        if run
            .stderr
            .starts_with("Fatal glibc error: failed to register TLS destructor")
        {
            continue;
        }
        // 127: the executable could not be loaded.
        if !matches!(run.code, Some(0 | 127)) {
            run.assert_one_line(71, "");
        }
        codes.push(run.code);
    }
    assert!(codes.contains(&Some(71)), "{codes:?}");
    assert_eq!(codes.last(), Some(&Some(0)), "{codes:?}");
}

#[test]
fn exhausted_threads_are_exit_71_in_one_line() {
    let sandbox = Sandbox::new();
    let limited = "prlimit --nproc=1 ";
    let as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups ";
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    // The limit does not apply to root.
    let before = match is_root {
        true => format!("exec {as_nobody}{limited} \"$0\" \"$@\";"),
        false => format!("exec {limited} \"$0\" \"$@\";"),
    };
    let run = after(&sandbox, &before, &to_stdout());
    if matches!(run.code, Some(126 | 127)) || run.stderr.contains("setpriv") {
        eprintln!(
            "skipped: no prlimit or setpriv, or no right: {}",
            run.stderr
        );
        return;
    }
    run.assert_one_line(71, "cannot start a thread");
}

#[test]
fn a_closed_standard_output_is_exit_74_before_any_work_and_dev_null_is_not_closed() {
    let sandbox = Sandbox::new();
    let closed = "exec \"$0\" \"$@\" >&-;";
    after(&sandbox, closed, &to_stdout()).assert_one_line(74, "standard output is closed");
    let read_only = "exec \"$0\" \"$@\" 1< /dev/null;";
    after(&sandbox, read_only, &to_stdout()).assert_one_line(74, "closed or not writable");
    let files = ["-q".into(), "-f".into(), "txt".into(), clip(ES)];
    after(&sandbox, closed, &files).assert(0);
    assert!(!sandbox.read("synth-es-00.txt").is_empty());

    after(&sandbox, "exec \"$0\" \"$@\" > /dev/null;", &to_stdout()).assert(0);
    // As Python opens it.
    let null = File::options().read(true).write(true).open("/dev/null");
    let mut command = sandbox.command(nano(&to_stdout()));
    command.stdout(null.unwrap());
    common::run(command).assert(0);
}

#[test]
fn temporary_files_of_killed_runs_are_removed_and_those_in_use_are_not() {
    let sandbox = Sandbox::new();
    sandbox.write_mute("mute.wav");
    for name in ["dead", "living", "sub/dead"] {
        let path = sandbox.path("out").join(format!("{name}.tmp"));
        let path = path.with_file_name(format!(
            ".overhear-{}",
            path.file_name().unwrap().to_string_lossy()
        ));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "half").unwrap();
    }
    let living = File::open(sandbox.path("out/.overhear-living.tmp")).unwrap();
    living.lock().unwrap();
    fs::write(sandbox.path("out/overhear-mine.tmp"), "").unwrap();
    fs::create_dir(sandbox.path("out/.overhear-folder.tmp")).unwrap();
    symlink("overhear-mine.tmp", sandbox.path("out/.overhear-link.tmp")).unwrap();
    sandbox.write_mute("in/sub/b.wav");
    let arguments = ["-q", "-f", "txt", "-o", "out", "-r", "in", "mute.wav"];
    sandbox.nano(&arguments.map(Into::into)).assert(0);
    let expected = [
        ".overhear-folder.tmp",
        ".overhear-link.tmp",
        ".overhear-living.tmp",
        "mute.txt",
        "overhear-mine.tmp",
        "sub",
    ];
    assert_eq!(sandbox.names("out"), expected);
    assert_eq!(sandbox.names("out/sub"), ["b.txt"]);
    drop(living);
    sandbox.nano(&arguments.map(Into::into)).assert(0);
    assert!(!sandbox.path("out/.overhear-living.tmp").exists());
}

#[test]
fn the_next_run_removes_the_remains_of_a_killed_one() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("out")).unwrap();
    let arguments = [
        "-q".into(),
        "--language=en".into(),
        "-o".into(),
        "out".into(),
        clip(ES),
    ];
    let is_temporary = |name: &String| name.ends_with(".tmp");
    for _ in 0..20 {
        let mut running = sandbox.start(nano(&arguments), &[]);
        let has_ended = loop {
            if sandbox.names("out").iter().any(is_temporary) {
                running.0.kill().unwrap();
            }
            if running.0.try_wait().unwrap().is_some() {
                break true;
            }
        };
        assert!(has_ended);
        if sandbox.names("out").iter().any(is_temporary) {
            sandbox.nano(&arguments).assert(0);
            assert_eq!(sandbox.names("out").len(), 5, "{:?}", sandbox.names("out"));
            return;
        }
    }
    eprintln!("skipped: no kill fell between the making of a file and its renaming");
}

#[cfg(feature = "bundled-model")]
#[test]
fn the_bundled_model_needs_no_home_that_can_be_written_to() {
    let sandbox = Sandbox::new();
    let installed = sandbox.path("bin/overhear");
    fs::create_dir(sandbox.path("bin")).unwrap();
    fs::create_dir(sandbox.path("tmp")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_overhear"), &installed).unwrap();
    let mut arguments = to_stdout();
    arguments.pop();
    arguments.extend([
        clip("jfk.flac"),
        "--model=tiny.en".into(),
        "--threads=1".into(),
    ]);
    let temporary = sandbox.path("tmp");
    let variables = [
        ("HOME", "/dev/null/nobody"),
        ("TMPDIR", temporary.to_str().unwrap()),
    ];
    let mut command = sandbox.command_of(&installed, &arguments, &variables);
    command.env_remove("OVERHEAR_MODELS");
    let run = common::run(command);
    run.assert(0);
    assert!(run.stdout.starts_with("And so"), "{}", run.stdout);
    assert_eq!(sandbox.names("tmp"), [""; 0], "the folder is gone");
    fs::remove_dir(&temporary).unwrap();
    let mut command = sandbox.command_of(&installed, &arguments, &variables);
    command.env_remove("OVERHEAR_MODELS");
    common::run(command).assert_one_line(3, "cannot write the model `tiny.en` to");
}
