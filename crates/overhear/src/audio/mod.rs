//! Audio of any common format as a re-openable stream of 16 kHz mono `f32` samples in [-1, 1].
//!
//! ```
//! use overhear::Audio;
//!
//! # fn wav() -> Vec<u8> {
//! #     let mut wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3E\0\0\0\x7D\0\0\x02\0\x10\0data".to_vec();
//! #     wav.extend(4_u32.to_le_bytes());
//! #     wav.extend([0, 0x40, 0, 0xC0]);
//! #     wav
//! # }
//! // `Audio::open("speech.mp3")` for a file, `Audio::from_reader(std::io::stdin(), "stdin")` for a pipe.
//! let audio = Audio::from_bytes(wav(), "two samples")?;
//!
//! // Any number of passes, each with little memory, however long the audio is:
//! let mut reader = audio.reader()?;
//! let mut buffer = [0.0; 4096];
//! let mut n_samples = 0;
//! loop {
//!     match reader.read(&mut buffer)? {
//!         0 => break,
//!         n => n_samples += n,
//!     }
//! }
//! assert_eq!(n_samples, 2);
//! assert!(reader.warnings().is_empty());
//!
//! // Or, if it is short, all at once:
//! assert_eq!(audio.samples()?, [0.5, -0.5]);
//! # Ok::<(), overhear::Error>(())
//! ```
//!
//! One stage a file: `source` opens the bytes, `sniff` recognises the format. Decoders: `wav`, `au`, `aiff`, `caf` and
//! `sphere` (over `pcm` and `adpcm`), `mp4` and `mkv` (over `coding`, `packets` and `codec`), `frames` (MP3 and ADTS,
//! over `mpeg`), `ogg`, `flac`, `symphonia`, and `ffmpeg` for formats that are not built in, if the caller allows it.
//! `reader` mixes to mono (`downmix`), replaces non-finite samples and drives `resample`; `spool` keeps input that
//! cannot be read twice. Declared sizes and counts are checked against the content and never decide how much memory is
//! allocated.

mod adpcm;
mod aiff;
mod au;
mod caf;
mod codec;
mod coding;
mod core_audio;
mod decode;
mod downmix;
mod ffmpeg;
mod flac;
mod frames;
mod mkv;
mod mp4;
mod mpeg;
mod ogg;
mod ogg_pages;
mod opus;
mod packets;
mod pcm;
mod reader;
mod resample;
mod sbr;
mod sniff;
mod source;
mod sphere;
mod spool;
mod symphonia;
mod wav;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use decode::{Attempt, Block, Decode, Failure};
pub use ffmpeg::Ffmpeg;
pub use reader::AudioReader;
use reader::{Decoded, Samples, guarded};
use sniff::Format;
use source::{Input, Source};
use spool::{Spool, SpoolWriter};

use crate::{Error, Result};

/// Samples per second of everything after decoding.
pub const SAMPLE_RATE: u32 = 16_000;

/// Options of opening audio.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AudioOptions {
    /// Audio track to decode, counted from 1. `None`: the track marked as the default; among several, the one with the
    /// most channels; among equals, the first.
    pub track: Option<usize>,
    /// Decoder of formats and codings that are not built in.
    pub ffmpeg: Ffmpeg,
    /// Time without output after which ffmpeg is stopped.
    pub ffmpeg_stall_limit: Duration,
}

impl Default for AudioOptions {
    fn default() -> Self {
        Self {
            track: None,
            ffmpeg: Ffmpeg::Off,
            ffmpeg_stall_limit: Duration::from_secs(60),
        }
    }
}

/// One audio input, opened and recognised. Cheap to clone; every [`Audio::reader`] starts at the beginning.
#[derive(Clone)]
pub struct Audio {
    name: Arc<str>,
    source: Source,
    track: Option<usize>,
    /// Set if ffmpeg decodes the source.
    job: Option<ffmpeg::Job>,
    /// Result of a full pass, if it is kept: short audio in memory, a stream's in a temporary file.
    decoded: Arc<OnceLock<Decoded>>,
}

/// Irregularity of the input that did not prevent decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AudioWarning {
    /// The file ends early or is damaged in places; the samples that could be decoded are used.
    Truncated,
    /// NaN samples were replaced by silence, infinite ones by full scale.
    NotFinite,
    /// Samples at least one decibel beyond full scale were clamped to it.
    Overdriven,
}

impl Audio {
    /// Opens a file and recognises its format by content. `-` has no special meaning here.
    ///
    /// An input that is not a regular file (a named pipe) is decoded to its end at once, as by [`Audio::from_reader`].
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Audio`]; [`Error::Spool`] for a pipe.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &AudioOptions::default())
    }

    /// As [`Audio::open`], with options.
    ///
    /// # Errors
    /// As [`Audio::open`]; if the requested track does not exist, the message lists the tracks.
    pub fn open_with(path: impl AsRef<Path>, options: &AudioOptions) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let read = |source| Error::Read {
            name: name.clone(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let kind = file.metadata().map_err(read)?.file_type();
        if kind.is_file() || kind.is_dir() {
            Self::recognised(&name, Source::File(path.to_owned()), options)
        } else {
            Self::from_reader_with(file, &name, options)
        }
    }

    /// Decodes a source that cannot be re-opened (standard input) to the end, keeping the 16 kHz samples in an
    /// unlinked temporary file. `name` is used in messages.
    ///
    /// # Errors
    /// As [`Audio::open`], and [`Error::Spool`].
    pub fn from_reader(reader: impl Read + Send + Sync + 'static, name: &str) -> Result<Self> {
        Self::from_reader_with(reader, name, &AudioOptions::default())
    }

    /// As [`Audio::from_reader`], with options.
    ///
    /// # Errors
    /// As [`Audio::from_reader`], and as [`Audio::open_with`].
    pub fn from_reader_with(
        reader: impl Read + Send + Sync + 'static,
        name: &str,
        options: &AudioOptions,
    ) -> Result<Self> {
        let mut input = Input::stream(reader);
        let is_off = options.ffmpeg == Ffmpeg::Off;
        let format = match sniff::sniff(&mut input) {
            Err(Failure::NotBuiltIn(_)) if !is_off => None,
            other => Some(other.map_err(|failure| failure.named(name))?),
        };
        let is_kept =
            |format: &Format| format.needs_seeking() || (!is_off && format.may_hold_other());
        let Some(format) = format.filter(|format| !is_kept(format)) else {
            let copied =
                Spool::copy(&mut input).map_err(|error| Failure::Read(error).named(name))?;
            let spool = copied.map_err(Error::Spool)?;
            return Self::recognised(name, Source::Spooled(spool), options);
        };
        let decoder = guarded(|| decode::open_as(format, input, options.track))
            .map_err(|failure| failure.named(name))?;
        let decoded = Arc::new(OnceLock::new());
        let mut reader = AudioReader::decoding(name.into(), decoder, Arc::clone(&decoded));
        let mut writer = SpoolWriter::new().map_err(Error::Spool)?;
        let mut buffer = vec![0.0; 1 << 14];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => writer.write_samples(&buffer[..n]).map_err(Error::Spool)?,
            }
        }
        // If short audio is in memory by now, `samples` is dropped, which removes the temporary file.
        let samples = Samples::Spooled(writer.finish().map_err(Error::Spool)?);
        decoded.get_or_init(|| Decoded {
            samples,
            warnings: reader.warnings().to_vec(),
        });
        Ok(Self {
            name: name.into(),
            source: Source::Bytes([].into()),
            track: None,
            job: None,
            decoded,
        })
    }

    /// Creates an audio input of an encoded file in memory. `name` is used in messages.
    ///
    /// # Errors
    /// [`Error::Audio`].
    pub fn from_bytes(bytes: Vec<u8>, name: &str) -> Result<Self> {
        Self::from_bytes_with(bytes, name, &AudioOptions::default())
    }

    /// As [`Audio::from_bytes`], with options.
    ///
    /// # Errors
    /// As [`Audio::from_bytes`], and as [`Audio::open_with`].
    pub fn from_bytes_with(bytes: Vec<u8>, name: &str, options: &AudioOptions) -> Result<Self> {
        Self::recognised(name, Source::Bytes(bytes.into()), options)
    }

    /// Creates an audio input of mono samples at `sample_rate`, resampled if that is not 16 kHz.
    ///
    /// # Errors
    /// [`Error::Audio`] if the rate is outside 1 kHz to 768 kHz.
    pub fn from_samples(samples: Vec<f32>, sample_rate: u32) -> Result<Self> {
        Self::recognised(
            "samples",
            Source::Samples {
                samples: samples.into(),
                rate: sample_rate,
            },
            &AudioOptions::default(),
        )
    }

    /// Returns the name used in messages: the path, `stdin`, ...
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a pass over the samples.
    ///
    /// # Errors
    /// As [`Audio::open`]: the file may have changed.
    pub fn reader(&self) -> Result<AudioReader> {
        let name = Arc::clone(&self.name);
        if let Some(decoded) = self.decoded.get() {
            return Ok(AudioReader::from_decoded(name, decoded.clone()));
        }
        let decoder = self.decoder().map_err(|failure| failure.named(&name))?;
        Ok(AudioReader::decoding(
            name,
            decoder,
            Arc::clone(&self.decoded),
        ))
    }

    /// Decodes everything into memory. Intended for short audio and tests; transcription streams.
    ///
    /// # Errors
    /// As [`AudioReader::read`].
    pub fn samples(&self) -> Result<Vec<f32>> {
        let mut reader = self.reader()?;
        let (mut samples, mut buffer) = (Vec::new(), vec![0.0; 1 << 14]);
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(samples),
                n => samples.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// Returns the format or coding that is not built in and that ffmpeg decodes: `AC-3`, ...
    #[must_use]
    pub fn decoded_by_ffmpeg(&self) -> Option<&str> {
        self.job.as_ref().map(|job| job.what.as_str())
    }

    /// Creates an audio input whose source can be decoded as far as its headers show; if ffmpeg is available, as far as
    /// its first samples show.
    fn recognised(name: &str, source: Source, options: &AudioOptions) -> Result<Self> {
        let mut audio = Self {
            name: name.into(),
            source,
            track: options.track,
            job: None,
            decoded: Arc::default(),
        };
        let opened = audio.decoder().and_then(|mut decoder| {
            if options.ffmpeg == Ffmpeg::Off {
                return Ok(());
            }
            first_samples(&mut *decoder)?;
            match decoder.left_out() {
                Some(what) if options.ffmpeg.program().is_some() => {
                    Err(Failure::NotBuiltIn(what.to_owned()))
                }
                _ => Ok(()),
            }
        });
        match opened {
            Err(Failure::NotBuiltIn(what)) => {
                let job = ffmpeg::Job::new(options, audio.source.clone(), what)
                    .map_err(|failure| failure.named(name))?;
                audio.job = Some(job);
            }
            opened => opened.map_err(|failure| failure.named(name))?,
        }
        Ok(audio)
    }

    fn decoder(&self) -> Attempt<Box<dyn Decode>> {
        if let Some(job) = &self.job {
            return job.start();
        }
        if let Source::Samples { samples, rate } = &self.source {
            return pcm::SamplesDecoder::open(Arc::clone(samples), *rate);
        }
        let input = self.source.open()?;
        guarded(|| decode::open(input, self.track))
    }
}

/// Decodes a few blocks to find out whether a coding is not built in.
fn first_samples(decoder: &mut dyn Decode) -> Attempt<()> {
    /// Enough frames to detect HE-AAC.
    const N_BLOCKS: usize = 20;
    let mut block = Block::default();
    for _ in 0..N_BLOCKS {
        match guarded(|| decoder.next(&mut block)) {
            Ok(true) => {}
            Err(Failure::NotBuiltIn(what)) => return Err(Failure::NotBuiltIn(what)),
            // Other errors are reported by the pass that reads the samples.
            Ok(false) | Err(_) => break,
        }
    }
    Ok(())
}

impl fmt::Debug for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audio")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
