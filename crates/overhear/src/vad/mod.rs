//! Voice activity detection (VAD): where a recording has speech.
//!
//! Silero VAD 6.2 gives a probability of speech for each frame of 32 ms ([`SpeechProbabilities`]), from which faster-whisper's
//! rules derive the regions of speech ([`speech_regions`]). The light choice is [`VadMethod::Energy`], the level above the noise.
//!
//! ```no_run
//! use overhear::Audio;
//! use overhear::vad::{Vad, VadOptions};
//!
//! let mut options = VadOptions::default();
//! options.min_silence_duration_ms = 500;
//! let found = Vad::new(None)?.probabilities(&Audio::open("speech.flac")?)?;
//! for region in found.regions(&options)? {
//!     println!("{} to {} s", region.start_s(), region.end_s());
//! }
//! # Ok::<(), overhear::Error>(())
//! ```
//!
//! The network is `silero`, with weights (`weights`) that are part of the library, and `energy` does without; `stream` cuts audio
//! of any length into frames, `regions` has the rules, and `time_map` maps times in the audio of the regions to times in the recording.

mod energy;
mod options;
mod regions;
mod silero;
mod stream;
mod time_map;
mod weights;

use std::num::NonZeroUsize;
use std::sync::Arc;

use overhear_kernels::{ISA_VARIABLE, Kernels, Pool};

pub use options::{VadMethod, VadOptions};
pub use regions::{Region, speech_regions};
pub use stream::VadStream;
pub(crate) use time_map::SpeechTimestampsMap;

use crate::audio::{AudioWarning, SAMPLE_RATE};
use crate::host::Host;
use crate::{Audio, Error, Result};
use silero::Silero;

/// Name of the network and its version.
const MODEL: &str = "silero-6.2";

/// Number of samples at 16 kHz that a probability belongs to: 32 ms.
pub const FRAME_SAMPLES: usize = 512;

/// Number of samples read at a time: 4 s, enough frames for efficient matrix products.
const BLOCK: usize = 128 * FRAME_SAMPLES;

/// Voice activity detector. Cheap to clone, and usable from several threads at the same time.
#[derive(Clone)]
pub struct Vad {
    detector: Detector,
}

/// What gives a frame's probability of speech.
#[derive(Clone)]
enum Detector {
    Silero(Arc<Silero>),
    Energy,
}

/// Probabilities of speech in a recording.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpeechProbabilities {
    /// Probability of speech in each frame of [`FRAME_SAMPLES`] samples; the last frame is completed with zeros, and is all
    /// zeros if the number of samples is a multiple of the frame's.
    pub probabilities: Vec<f32>,
    /// Number of samples of the recording at 16 kHz.
    pub n_samples: usize,
    /// Irregularities of the audio.
    pub warnings: Vec<AudioWarning>,
}

impl Vad {
    /// Creates a detector by [`VadMethod::Silero`] that uses `n_threads` threads. `None`: the number of processors that the machine and the cgroup
    /// quota allow.
    ///
    /// # Errors
    /// [`Error::Option`] if `OVERHEAR_ISA` names an instruction set that this machine lacks.
    pub fn new(n_threads: Option<NonZeroUsize>) -> Result<Self> {
        let kernels = Kernels::from_env().map_err(|error| Error::Option {
            name: ISA_VARIABLE,
            reason: error.to_string(),
        })?;
        let n_threads = n_threads.map_or_else(Pool::default_threads, NonZeroUsize::get);
        let pool = Arc::new(Pool::new(n_threads));
        Ok(Self::with_host(&Host { kernels, pool }))
    }

    /// Creates a detector by [`VadMethod::Energy`].
    #[must_use]
    pub fn energy() -> Self {
        Self {
            detector: Detector::Energy,
        }
    }

    /// Creates a detector by [`VadMethod::Silero`] that uses the kernels and threads of `host`.
    pub(crate) fn with_host(host: &Host) -> Self {
        Self {
            detector: Detector::Silero(Arc::new(Silero::new(host))),
        }
    }

    /// Returns the name of the network and its version, or `energy`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.detector {
            Detector::Silero(_) => MODEL,
            Detector::Energy => VadMethod::Energy.name(),
        }
    }

    /// Starts a stream of audio.
    #[must_use]
    pub fn stream(&self) -> VadStream {
        VadStream::new(&self.detector)
    }

    /// Computes the probabilities of speech in `audio`, of any length, in one pass. Memory grows by the probabilities only:
    /// 450 kB for an hour.
    ///
    /// # Errors
    /// [`Error::Audio`] or [`Error::Read`] if the audio cannot be decoded.
    pub fn probabilities(&self, audio: &Audio) -> Result<SpeechProbabilities> {
        self.probabilities_with(audio, &mut |_| Ok(()))
    }

    /// Computes as [`Vad::probabilities`]; calls `on_second` with the number of seconds read so far, and ends with its error.
    pub(crate) fn probabilities_with(
        &self,
        audio: &Audio,
        on_second: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<SpeechProbabilities> {
        let mut reader = audio.reader()?;
        let mut stream = self.stream();
        let mut block = vec![0.0; BLOCK];
        let (mut probabilities, mut n_samples, mut n_filled) = (Vec::new(), 0, 0);
        loop {
            let n = reader.read(&mut block[n_filled..])?;
            n_filled += n;
            n_samples += n;
            if n == 0 || n_filled == BLOCK {
                stream.push(&block[..n_filled], &mut probabilities);
                n_filled = 0;
                on_second(n_samples as f64 / f64::from(SAMPLE_RATE))?;
            }
            if n == 0 {
                break;
            }
        }
        stream.finish(&mut probabilities);
        Ok(SpeechProbabilities {
            probabilities,
            n_samples,
            warnings: reader.warnings().to_vec(),
        })
    }
}

impl SpeechProbabilities {
    /// Returns the regions of speech, see [`speech_regions`].
    ///
    /// # Errors
    /// [`Error::Option`] if an option is invalid.
    pub fn regions(&self, options: &VadOptions) -> Result<Vec<Region>> {
        speech_regions(&self.probabilities, self.n_samples, options)
    }

    /// Returns the length of the recording in seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.n_samples as f64 / f64::from(SAMPLE_RATE)
    }
}
