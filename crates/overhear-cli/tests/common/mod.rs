//! Runs of the real binary in a folder of its own, without home folder and caches, with the repository's models.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An English clip, and openai/whisper's transcript of it with nano.
pub(crate) const EN: &str = "synth-en-05.flac";
pub(crate) const EN_TEXT: &str =
    "Every cloud quietly hurried, and his hat closed the long library.";
/// A short Spanish clip.
pub(crate) const ES: &str = "synth-es-00.flac";

/// Timeout of a run, so that a hang is a failure.
const DEADLINE: Duration = Duration::from_secs(120);

/// Result of a finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn assert(&self, code: i32) {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    /// Asserts the exit code, and one line on standard error that contains `part`.
    #[track_caller]
    pub(crate) fn assert_one_line(&self, code: i32, part: &str) {
        self.assert(code);
        assert!(
            self.stderr.starts_with("overhear: ") && self.stderr.contains(part),
            "{}",
            self.stderr
        );
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
    }
}

/// A temporary folder, removed when dropped.
pub(crate) struct Sandbox(tempfile::TempDir);

impl Sandbox {
    pub(crate) fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        for folder in ["home", "work"] {
            fs::create_dir(sandbox.0.path().join(folder)).unwrap();
        }
        sandbox
    }

    /// Returns a path in the working directory, which is beside `bin/` and `home/`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let folder = if name.starts_with("bin") || name.starts_with("home") {
            ""
        } else {
            "work"
        };
        self.0.path().join(folder).join(name)
    }

    /// Writes a WAV without samples, whose transcript is empty.
    pub(crate) fn write_mute(&self, name: impl AsRef<Path>) {
        let path = self.path("").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, wav_header(0)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Returns the sorted names in a folder.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn command_of<S: AsRef<OsStr>>(
        &self,
        binary: &Path,
        arguments: impl IntoIterator<Item = S>,
        variables: &[(&str, &str)],
    ) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.path(""));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = [
                "XDG_",
                "HF_",
                "HUGGINGFACE_",
                "CLICOLOR",
                "NO_COLOR",
                "RUST_BACKTRACE",
            ];
            if ours.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", self.path("home"))
            .env("HF_HUB_OFFLINE", "1")
            .env("OVERHEAR_MODELS", model().parent().unwrap())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_overhear")), arguments, &[])
    }

    pub(crate) fn start<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        variables: &[(&str, &str)],
    ) -> Running {
        let binary = Path::new(env!("CARGO_BIN_EXE_overhear"));
        Running(
            self.command_of(binary, arguments, variables)
                .spawn()
                .unwrap(),
        )
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Run {
        run(self.command(arguments))
    }

    /// Runs with `--model nano` before the arguments.
    pub(crate) fn nano(&self, arguments: &[OsString]) -> Run {
        self.run(nano(arguments))
    }
}

/// Returns `arguments` after `--model nano`.
pub(crate) fn nano(arguments: &[OsString]) -> Vec<OsString> {
    [&["--model".into(), "nano".into()], arguments].concat()
}

pub(crate) fn run(mut command: Command) -> Run {
    Running(command.spawn().unwrap()).end()
}

/// A running process.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.0.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end, and collects the remaining output.
    pub(crate) fn end(mut self) -> Run {
        let collect = |stream: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut stream) = stream {
                    stream.read_to_end(&mut bytes).unwrap();
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = collect(self.0.stdout.take().map(|stream| Box::new(stream) as _));
        let stderr = collect(self.0.stderr.take().map(|stream| Box::new(stream) as _));
        let started = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > DEADLINE => {
                    self.0.kill().unwrap();
                    panic!("still running after {DEADLINE:?}");
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Run {
            code: status.code(),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Returns the header of a 16 kHz mono s16 WAV with `n_bytes` of samples.
pub(crate) fn wav_header(n_bytes: u32) -> Vec<u8> {
    let format = [1_u16, 1, 16_000, 0, 32_000, 0, 2, 16]
        .map(u16::to_le_bytes)
        .concat();
    let whole = (n_bytes + 36).to_le_bytes();
    let chunk = n_bytes.to_le_bytes();
    [
        b"RIFF",
        &whole[..],
        b"WAVEfmt ",
        &16_u32.to_le_bytes(),
        &format,
        b"data",
        &chunk,
    ]
    .concat()
}

/// Returns the folder of the bundled model.
pub(crate) fn model() -> PathBuf {
    repository().join("models/nano")
}

/// Returns a clip of the repository.
pub(crate) fn clip(name: &str) -> OsString {
    repository().join("clips").join(name).into()
}

/// Returns 16 kHz mono s16 WAV bytes of `samples`.
pub(crate) fn wav(samples: &[i16]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    [wav_header(data.len() as u32), data].concat()
}
