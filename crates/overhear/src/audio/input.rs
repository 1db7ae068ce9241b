//! One audio input: opened, recognised, and decoded as often as it is asked for.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::decode::{Attempt, Block, Decode, Failure};
use super::reader::{Decoded, Samples, guarded};
use super::regions::RegionFilter;
use super::sniff::Format;
use super::source::{Input, Source};
use super::spool::{Spool, SpoolWriter};
use super::{AudioOptions, AudioReader, Ffmpeg, decode, ffmpeg, pcm, sniff};
use crate::{Error, Result};

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
    /// Set if passes read only these ranges of samples.
    regions: Option<Arc<[Range<usize>]>>,
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
            regions: None,
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
        let reader = self.whole_reader()?;
        Ok(match &self.regions {
            Some(regions) => reader.only(RegionFilter::new(Arc::clone(regions))),
            None => reader,
        })
    }

    /// Returns the audio of some regions only, ranges of samples at 16 kHz in order and without overlap. What is outside of
    /// them is decoded and dropped.
    pub(crate) fn only(&self, regions: Arc<[Range<usize>]>) -> Self {
        Self {
            regions: Some(regions),
            ..self.clone()
        }
    }

    /// Starts a pass over all samples.
    fn whole_reader(&self) -> Result<AudioReader> {
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
            regions: None,
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
