//! Progress of an input in the journal's folder, so that a run goes on in the middle of a long file.
//!
//! A file of JSON lines for each input in progress: what each window added. A line is appended in one write, when its window
//! is done; what follows the last whole line is cut off. So a kill loses the windows being decoded, and a long recording costs no
//! more per window than a short one. The file is removed when the input is done or has failed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use overhear::transcribe::Progress;

/// Progress of one input, locked against other runs.
pub(crate) struct ProgressFile(File);

impl ProgressFile {
    /// Opens the file for the input with this name in the journal, and returns what it holds. `None` if another run is at work
    /// on the input.
    pub(crate) fn open(folder: &Path, name: &str) -> io::Result<Option<(Self, Progress)>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(path(folder, name))?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (progress, n_whole) = read(&bytes);
        file.set_len(n_whole as u64)?;
        Ok(Some((Self(file), progress)))
    }

    /// Appends what was done since the last call.
    pub(crate) fn add(&mut self, done: &Progress) -> io::Result<()> {
        let mut line = serde_json::to_vec(done)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// Removes the file of the input with this name, if there is one.
pub(crate) fn remove(folder: &Path, name: &str) {
    let _ = fs::remove_file(path(folder, name));
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("progress-{name}.jsonl"))
}

/// Returns the sum of the whole lines, and their length in bytes.
fn read(bytes: &[u8]) -> (Progress, usize) {
    let mut progress = Progress::default();
    let mut n_whole = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(done) if line.ends_with(b"\n") => progress.add(done),
            _ => break,
        }
        n_whole += line.len();
    }
    (progress, n_whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_follows_the_last_whole_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let window = br#"{"n_windows":1,"position":{"stretch":0,"seek":5,"prompt_reset_since":0,"last_speech_s":0.5,"is_after_loop":false},"segments":[],"n_best":[]}"#;
        let line = [&window[..], b"\n"].concat();
        for rest in [&b""[..], b"{\"n_win", b"\0\0\0", window, b"{}\n", b"\n"] {
            let path = path(folder.path(), "a");
            fs::write(&path, [&line[..], &line, rest].concat()).unwrap();
            let (mut file, progress) = ProgressFile::open(folder.path(), "a").unwrap().unwrap();
            assert_eq!(progress.n_windows(), 2, "{rest:?}");
            file.add(&serde_json::from_slice(window).unwrap()).unwrap();
            assert!(ProgressFile::open(folder.path(), "a").unwrap().is_none());
            drop(file);
            assert_eq!(fs::read(&path).unwrap(), line.repeat(3), "{rest:?}");
            remove(folder.path(), "a");
            assert!(!path.exists());
        }
    }
}
