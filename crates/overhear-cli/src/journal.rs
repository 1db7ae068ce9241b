//! Journal of a run: the inputs that were begun, are done, or failed, so that the same command goes on after a kill. Those in
//! progress have a file each ([`crate::progress`]).
//!
//! A journal is a folder of files of JSON lines, one file per shard: [`Header`], then an [`Entry`] per event. A line is
//! appended in one write, after the outputs that it names are on the disk; lines that are not whole are ignored. An input
//! counts as done only while its outputs are what the journal says.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use overhear::transcribe::Progress;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::hexadecimal::hexadecimal;
use crate::inputs::Input;
use crate::manifest::Overrides;
use crate::progress::{self, ProgressFile};
use crate::shard::Shard;

/// Number of runs that ended while an input was being transcribed, and before a window of it was done, from which on the input
/// is transcribed after all others and alone: it may have ended them.
const SUSPECT: u32 = 3;
/// Number of such runs after which the input counts as failed: so many that kills from outside do not add up to it, unless no
/// run lasts long enough for a window of the input.
const GIVEN_UP: u32 = 50;

/// Maximum number of bytes of a header, which boosts make long.
const MAX_HEADER: u64 = 1 << 24;

/// First line of a file: what the outputs depend on beside the inputs.
#[derive(Deserialize, PartialEq, Serialize)]
struct Header {
    overhear: String,
    options: String,
}

/// Identity of an input's content, as it was when the run began: a file that changes while it is transcribed is another one in
/// the next run.
#[derive(Clone, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub(crate) struct Identity {
    input: String,
    bytes: u64,
    /// Time of the last change, in nanoseconds since 1970.
    modified_ns: u64,
    /// Name of the outputs, if the manifest states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<PathBuf>,
    #[serde(flatten)]
    overrides: Overrides,
}

impl Identity {
    /// Returns the identity of `input`; `None` if it is not a file, but standard input or a pipe, whose content may
    /// be another each time.
    pub(crate) fn of(input: &Input) -> Option<Self> {
        let metadata = fs::metadata(input.path.as_ref()?).ok();
        let metadata = metadata.filter(fs::Metadata::is_file)?;
        let modified = metadata.modified().ok();
        let since_1970 = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Some(Self {
            input: input.display(),
            bytes: metadata.len(),
            modified_ns: since_1970.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0)),
            output: input.output.clone(),
            overrides: input.overrides.clone(),
        })
    }

    /// Returns the name of the input's progress: a digest of this identity.
    fn name(&self) -> String {
        let json = serde_json::to_vec(self).expect("text and numbers");
        let digest = ring::digest::digest(&ring::digest::SHA256, &json);
        hexadecimal(&digest.as_ref()[..16])
    }
}

/// One event of an input.
#[derive(Deserialize, Serialize)]
struct Entry {
    #[serde(flatten)]
    identity: Identity,
    #[serde(flatten)]
    event: Event,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Event {
    Started {
        /// Number of windows that were done.
        #[serde(default)]
        n_windows: usize,
    },
    /// Stopped by a signal.
    Stopped,
    Done {
        outputs: Vec<Output>,
    },
    Failed {
        reason: String,
    },
}

/// Output file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Output {
    path: String,
    bytes: u64,
    sha256: String,
}

/// Events of an input so far.
#[derive(Default)]
struct History {
    /// Number of starts without an end at the same window.
    n_starts: u32,
    /// Number of windows that were done at the last start.
    n_windows: usize,
    outputs: Option<Vec<Output>>,
    failure: Option<String>,
}

/// What is to be done for an input.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is transcribed.
    Transcribe,
    /// It is transcribed after all others, and alone.
    TranscribeAlone,
    /// Its outputs are complete.
    Done,
    /// It failed in an earlier run, for this reason.
    Failed(String),
}

/// Open journal, locked against other runs of the same shard.
pub(crate) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    histories: HashMap<Identity, History>,
}

impl Journal {
    /// Opens the journal in `folder`, which is created if it does not exist. `options` describes all that outputs depend on.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the journal is of a run with other options, [`Failure::Output`] if it cannot be written or
    /// another run uses it.
    pub(crate) fn open(
        folder: &Path,
        shard: Option<Shard>,
        options: &str,
    ) -> Result<Self, Failure> {
        let name = match shard {
            Some(shard) => format!("journal-{shard}.jsonl").replace('/', "-of-"),
            None => "journal.jsonl".to_owned(),
        };
        let path = folder.join(name);
        let cannot_open = |error: &io::Error| cannot_write(&path, error);
        fs::create_dir_all(folder).map_err(|error| cannot_open(&error))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path);
        let file = file.map_err(|error| cannot_open(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Output(format!(
                    "{} is in use by another run; wait for its end, or choose another --journal",
                    path.display()
                )));
            }
            // Some file systems have no locks.
            Err(TryLockError::Error(_)) => {}
        }
        let header = Header {
            overhear: env!("CARGO_PKG_VERSION").to_owned(),
            options: options.to_owned(),
        };
        let mut journal = Self {
            histories: histories(folder, &header)?,
            folder: folder.to_owned(),
            path,
            file,
        };
        journal
            .begin(&header)
            .map_err(|error| cannot_write(&journal.path, &error))?;
        Ok(journal)
    }

    /// Completes a line that a kill left unfinished, and writes the header to a new file.
    fn begin(&mut self, header: &Header) -> io::Result<()> {
        let mut start = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        Read::by_ref(&mut self.file)
            .take(MAX_HEADER)
            .read_to_end(&mut start)?;
        if start.is_empty() || is_torn_header(&start) {
            self.file.set_len(0)?;
            return self.append(header);
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        match last {
            [b'\n'] => Ok(()),
            _ => self.file.write_all(b"\n"),
        }
    }

    /// Returns what is to be done for the input of this identity, whose outputs are at `paths`. With `retry_failed`, earlier
    /// failures do not count.
    pub(crate) fn verdict(
        &self,
        input: Option<&Identity>,
        paths: &[PathBuf],
        retry_failed: bool,
    ) -> Verdict {
        let history = input.and_then(|input| Some((input, self.histories.get(input)?)));
        let Some((input, history)) = history else {
            return Verdict::Transcribe;
        };
        if let Some(outputs) = &history.outputs
            && paths
                .iter()
                .map(|path| digest(path).ok())
                .eq(outputs.iter().cloned().map(Some))
        {
            return Verdict::Done;
        }
        match (&history.failure, history.n_starts) {
            (Some(reason), _) if !retry_failed => Verdict::Failed(reason.clone()),
            (_, GIVEN_UP..) if !retry_failed => Verdict::Failed(format!(
                "{GIVEN_UP} runs ended while {} was being transcribed",
                input.input
            )),
            (_, SUSPECT..) => Verdict::TranscribeAlone,
            _ => Verdict::Transcribe,
        }
    }

    /// Records that `input` is begun, and opens its progress. `None` if it is not a file, or another run is at work on it.
    pub(crate) fn started(
        &mut self,
        input: Option<&Identity>,
    ) -> Result<Option<(ProgressFile, Progress)>, Failure> {
        let Some(identity) = input else {
            return Ok(None);
        };
        let opened = ProgressFile::open(&self.folder, &identity.name());
        let opened = opened.map_err(|error| cannot_write(&self.folder, &error))?;
        let n_windows = opened.as_ref().map_or(0, |(_, done)| done.n_windows());
        self.record(input, Event::Started { n_windows })?;
        Ok(opened)
    }

    /// Adds to the progress of an input.
    pub(crate) fn progressed(
        &self,
        file: &mut ProgressFile,
        done: &Progress,
    ) -> Result<(), Failure> {
        file.add(done)
            .map_err(|error| cannot_write(&self.folder, &error))
    }

    /// Removes the progress of an input that is done or has failed.
    pub(crate) fn remove_progress(&self, input: Option<&Identity>) {
        if let Some(identity) = input {
            progress::remove(&self.folder, &identity.name());
        }
    }

    /// Records that a signal stopped `input`.
    pub(crate) fn stopped(&mut self, input: Option<&Identity>) -> Result<(), Failure> {
        self.record(input, Event::Stopped)
    }

    /// Records that `input` failed.
    pub(crate) fn failed(&mut self, input: Option<&Identity>, reason: &str) -> Result<(), Failure> {
        let reason = reason.to_owned();
        self.record(input, Event::Failed { reason })?;
        self.remove_progress(input);
        Ok(())
    }

    /// Records that the outputs of `input` at `paths` are complete.
    pub(crate) fn done(
        &mut self,
        input: Option<&Identity>,
        paths: &[PathBuf],
    ) -> Result<(), Failure> {
        let outputs: io::Result<_> = paths.iter().map(|path| digest(path)).collect();
        let outputs = outputs.map_err(|error| cannot_write(&self.path, &error))?;
        self.record(input, Event::Done { outputs })?;
        self.remove_progress(input);
        Ok(())
    }

    fn record(&mut self, input: Option<&Identity>, event: Event) -> Result<(), Failure> {
        let Some(identity) = input.cloned() else {
            return Ok(());
        };
        self.append(&Entry { identity, event })
            .map_err(|error| cannot_write(&self.path, &error))
    }

    /// Appends a line in one write, and waits until it is on the disk.
    fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

/// Reads all files of the journal in `folder`.
///
/// # Errors
/// [`Failure::Usage`] if a file has another header, [`Failure::Output`] if a file cannot be read.
fn histories(folder: &Path, header: &Header) -> Result<HashMap<Identity, History>, Failure> {
    let mut histories: HashMap<Identity, History> = HashMap::new();
    let entries = fs::read_dir(folder).map_err(|error| cannot_write(folder, &error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("journal") || !name.ends_with(".jsonl") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| cannot_write(&path, &error))?;
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        match lines.next().map(serde_json::from_slice::<Header>) {
            // Nothing, or a header that a loss of power left unfinished.
            None => continue,
            Some(Err(_)) if is_torn_header(&bytes) => continue,
            Some(Err(_)) => {
                return Err(Failure::Usage(format!(
                    "{} is not a journal of overhear; choose another --journal",
                    path.display()
                )));
            }
            Some(Ok(other)) if other == *header => {}
            Some(Ok(_)) => {
                return Err(Failure::Usage(format!(
                    "{} is of a run with other options, another model or another version of overhear; choose another \
                     --journal",
                    path.display()
                )));
            }
        }
        for line in lines {
            if let Ok(Entry { identity, event }) = serde_json::from_slice(line) {
                histories.entry(identity).or_default().add(event);
            }
        }
    }
    Ok(histories)
}

/// Returns whether a file holds the beginning of a header, and nothing else.
fn is_torn_header(bytes: &[u8]) -> bool {
    bytes.starts_with(b"{\"overhear\":") && !bytes.contains(&b'\n')
}

impl History {
    fn add(&mut self, event: Event) {
        match event {
            Event::Started { n_windows } if n_windows > self.n_windows => {
                (self.n_starts, self.n_windows) = (1, n_windows);
            }
            Event::Started { .. } => self.n_starts += 1,
            Event::Stopped => self.n_starts = self.n_starts.saturating_sub(1),
            Event::Done { outputs } => {
                *self = Self {
                    outputs: Some(outputs),
                    ..Self::default()
                };
            }
            Event::Failed { reason } => {
                *self = Self {
                    failure: Some(reason),
                    ..Self::default()
                };
            }
        }
    }
}

/// Reads an output file, and returns its size and checksum.
fn digest(path: &Path) -> io::Result<Output> {
    let bytes = fs::read(path)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    Ok(Output {
        path: path.display().to_string(),
        bytes: bytes.len() as u64,
        sha256: hexadecimal(digest.as_ref()),
    })
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Output(format!(
        "cannot write {}: {error}; choose another --journal",
        path.display()
    ))
}
