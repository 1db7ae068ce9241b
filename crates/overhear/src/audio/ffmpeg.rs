//! Decodes formats and codings that are not built in with the program `ffmpeg`, where the caller allows it.
//!
//! ffmpeg runs as a child process without a shell. Its protocol and format allow-lists admit only the given file (or
//! standard input, for piped input), and no playlists or scripts, which could name other files. Samples come through a
//! pipe in the form that openai/whisper requests (`whisper/audio.py::load_audio`): 16-bit mono at 16 kHz. Two threads
//! drain standard output and standard error, so that neither can block the other; the child is killed when its decoder
//! is dropped.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::decode::{Attempt, Block, Decode, Failure};
use super::source::Source;
use super::spool::Spool;
use super::{AudioOptions, SAMPLE_RATE};

/// Demuxers of single files with sound, by ffmpeg's names.
const FORMATS: &str = "aac,aax,ac3,ac4,adx,aiff,amr,amrnb,amrwb,ape,asf,au,avi,bit,caf,codec2,dff,dsf,dts,dtshd,dv,\
    eac3,flac,flv,gsm,iff,ilbc,latm,loas,matroska,webm,mov,mp4,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mxf,nistsphere,\
    nut,ogg,oma,qcp,rm,shn,sln,sox,tak,truehd,tta,voc,vqf,w64,wav,wtv,wv,xwma";
/// Number of bytes read from a pipe at a time, and number of such blocks in the queue.
const BLOCK_LEN: usize = 1 << 15;
const N_WAITING: usize = 4;
/// Maximum number of bytes kept of ffmpeg's messages.
const MAX_MESSAGE: usize = 300;
/// Time limit for ffmpeg to exit after it has closed its output.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Maximum number of samples per input byte: speech codecs have at least 300 bit/s. More, beyond an hour of audio, is
/// taken for invented samples.
const MAX_SAMPLES_PER_BYTE: u64 = 8 * SAMPLE_RATE as u64 / 300;
const FREE_SAMPLES: u64 = 3600 * SAMPLE_RATE as u64;

/// The `ffmpeg` program that decodes what is not built in. By default none: the library starts no process unless asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Ffmpeg {
    /// None.
    #[default]
    Off,
    /// The one on the `PATH`, if any.
    Auto,
    /// This program.
    Program(PathBuf),
}

impl Ffmpeg {
    /// Returns the path of the program to start, if there is one.
    pub(super) fn program(&self) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::Program(path) => Some(path.clone()),
            Self::Auto => {
                let name = format!("ffmpeg{}", std::env::consts::EXE_SUFFIX);
                let folders = std::env::var_os("PATH")?;
                // A relative entry may mean the current folder, which may hold files of unknown origin: such entries
                // are skipped.
                std::env::split_paths(&folders)
                    .filter(|folder| folder.is_absolute())
                    .map(|folder| folder.join(&name))
                    .find(|path| path.is_file())
            }
        }
    }
}

/// Decoding job for ffmpeg.
#[derive(Clone)]
pub(super) struct Job {
    program: PathBuf,
    source: Source,
    /// Audio track to decode, counted from 1; `None`: ffmpeg's choice.
    track: Option<usize>,
    /// Format or coding that is not built in.
    pub(super) what: String,
    stall_limit: Duration,
}

impl Job {
    /// Creates a job for `source`, in which `what` is not built in; the corresponding error if no ffmpeg is available.
    pub(super) fn new(options: &AudioOptions, source: Source, what: String) -> Attempt<Self> {
        match options.ffmpeg.program() {
            Some(program) => Ok(Self {
                program,
                source,
                track: options.track,
                what,
                stall_limit: options.ffmpeg_stall_limit,
            }),
            None if options.ffmpeg == Ffmpeg::Off => Err(Failure::NotBuiltIn(what)),
            None => Err(Failure::Audio(format!(
                "{what} is not built in; convert it first, or install ffmpeg"
            ))),
        }
    }

    /// Starts ffmpeg.
    pub(super) fn start(&self) -> Attempt<Box<dyn Decode>> {
        let (stdin, input, n_bytes) = match &self.source {
            Source::File(path) => {
                // The `file:` prefix prevents a path from being parsed as another protocol or as an option.
                let mut input = OsString::from("file:");
                input.push(path);
                (Stdio::null(), input, std::fs::metadata(path)?.len())
            }
            Source::Spooled(spool) => {
                let input = if cfg!(unix) {
                    "file:/dev/stdin"
                } else {
                    "pipe:0"
                };
                (spool.file()?.into(), input.into(), spool.len())
            }
            Source::Bytes(bytes) => {
                let spool = Spool::copy(&mut &bytes[..])??;
                let job = Self {
                    source: Source::Spooled(spool),
                    ..self.clone()
                };
                return job.start();
            }
            Source::Samples { .. } => return Err(Failure::audio("samples need no decoder")),
        };
        let child = self.command(&input).stdin(stdin).spawn().map_err(|error| {
            let program = self.program.display();
            Failure::Audio(format!(
                "{} needs ffmpeg: cannot start {program}: {error}",
                self.what
            ))
        })?;
        Ok(Box::new(FfmpegDecoder::new(
            child,
            n_bytes,
            self.stall_limit,
        )?))
    }

    fn command(&self, input: &OsStr) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-nostdin", "-hide_banner", "-v", "error"])
            .args([
                "-protocol_whitelist",
                "file,pipe",
                "-format_whitelist",
                FORMATS,
            ])
            .arg("-i")
            .arg(input);
        if let Some(track) = self.track {
            command.args([
                "-map".to_owned(),
                format!("0:a:{}", track.saturating_sub(1)),
            ]);
        }
        command
            .args(["-vn", "-sn", "-dn", "-map_metadata", "-1"])
            .args([
                "-f",
                "s16le",
                "-acodec",
                "pcm_s16le",
                "-ac",
                "1",
                "-ar",
                "16000",
                "pipe:1",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

struct FfmpegDecoder {
    child: Child,
    output: Receiver<io::Result<Vec<u8>>>,
    message: Option<JoinHandle<String>>,
    /// First byte of a sample whose second byte has not arrived yet.
    odd: Option<u8>,
    stall_limit: Duration,
    n_samples: u64,
    max_samples: u64,
    damaged: bool,
    ended: bool,
}

impl FfmpegDecoder {
    fn new(mut child: Child, n_bytes: u64, stall_limit: Duration) -> Attempt<Self> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (sender, output) = mpsc::sync_channel(N_WAITING);
        let mut decoder = Self {
            child,
            output,
            message: None,
            odd: None,
            stall_limit,
            n_samples: 0,
            max_samples: n_bytes
                .saturating_mul(MAX_SAMPLES_PER_BYTE)
                .saturating_add(FREE_SAMPLES),
            damaged: false,
            ended: false,
        };
        if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
            let thread = || thread::Builder::new().name("ffmpeg".to_owned());
            thread().spawn(move || forward(stdout, &sender))?;
            decoder.message = Some(thread().spawn(move || first_line(stderr))?);
        }
        Ok(decoder)
    }

    /// Handles the child's closed output: evaluates its exit status and its messages.
    fn end(&mut self) -> Attempt<()> {
        self.ended = true;
        let status = self.wait()?;
        // A process that ffmpeg started, if it is a wrapper script, may keep the pipe open.
        let message = self.message.take().filter(JoinHandle::is_finished);
        let message = message
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        if status.success() {
            self.damaged |= !message.is_empty();
            if !message.is_empty() {
                tracing::warn!("ffmpeg: {message}");
            }
            return Ok(());
        }
        Err(Failure::Audio(format!(
            "ffmpeg could not decode it: {}",
            Ending { status, message }
        )))
    }

    fn wait(&mut self) -> Attempt<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                // Output written just before the exit may still be in transit.
                while self
                    .message
                    .as_ref()
                    .is_some_and(|thread| !thread.is_finished())
                    && start.elapsed() < Duration::from_secs(1)
                {
                    thread::sleep(Duration::from_millis(1));
                }
                return Ok(status);
            }
            if start.elapsed() > END_WITHIN {
                return Err(Failure::audio("ffmpeg closed its output but does not end"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Decode for FfmpegDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        (block.rate, block.n_channels) = (SAMPLE_RATE, 1);
        block.downmix = Default::default();
        if self.ended {
            return Ok(false);
        }
        let bytes = match self.output.recv_timeout(self.stall_limit) {
            Ok(bytes) => bytes?,
            Err(RecvTimeoutError::Disconnected) => {
                self.end()?;
                return Ok(false);
            }
            Err(RecvTimeoutError::Timeout) => {
                let limit = self.stall_limit;
                return Err(Failure::Audio(format!("ffmpeg gave nothing for {limit:?}")));
            }
        };
        let bytes = self.odd.take().into_iter().chain(bytes).collect::<Vec<_>>();
        let (samples, odd) = bytes.as_chunks::<2>();
        self.odd = odd.first().copied();
        let samples = samples
            .iter()
            .map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32_768.0);
        block.samples.extend(samples);
        self.n_samples += block.samples.len() as u64;
        if self.n_samples > self.max_samples {
            return Err(Failure::audio(
                "ffmpeg gives more sound than the file can hold",
            ));
        }
        Ok(true)
    }

    fn damaged(&self) -> bool {
        self.damaged
    }
}

impl Drop for FfmpegDecoder {
    fn drop(&mut self) {
        // Reaps the child, so that no zombie process remains.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Forwards ffmpeg's output until the receiver is dropped.
fn forward(mut stdout: ChildStdout, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; BLOCK_LEN];
        let read = match stdout.read(&mut block) {
            Ok(0) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(n) => {
                block.truncate(n);
                Ok(block)
            }
            Err(error) => Err(error),
        };
        let is_error = read.is_err();
        if sender.send(read).is_err() || is_error {
            return;
        }
    }
}

/// Reads all of ffmpeg's messages, and returns the start of the first line.
fn first_line(mut stderr: ChildStderr) -> String {
    let mut head = Vec::new();
    let _ = (&mut stderr).take(1 << 12).read_to_end(&mut head);
    let _ = io::copy(&mut stderr, &mut io::sink());
    let text = String::from_utf8_lossy(&head);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let printable = line.unwrap_or_default().chars().filter(|c| !c.is_control());
    printable.take(MAX_MESSAGE).collect()
}

/// Exit status of a child that failed.
struct Ending {
    status: ExitStatus,
    message: String,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "{}", self.status),
            message => write!(f, "{message}"),
        }
    }
}
