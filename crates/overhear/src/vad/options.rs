//! Options of voice activity detection: `faster_whisper/vad.py::VadOptions` (1.2.1).

use std::str::FromStr;

use super::regions::samples;
use crate::names::{by_name, display_name};
use crate::{Error, Result};

/// Options of the regions of speech. Names and defaults are those of faster-whisper 1.2.1.
///
/// ```
/// use overhear::vad::VadOptions;
///
/// let mut options = VadOptions::default();
/// options.threshold = 0.35;
/// options.max_speech_duration_s = 30.0;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct VadOptions {
    /// What gives the probabilities. Default: Silero VAD.
    pub method: VadMethod,
    /// Probability from which a frame begins or continues speech. Default: 0.5.
    pub threshold: f64,
    /// Probability below which a frame is silence; between the two thresholds a frame continues what it follows. `None`, the
    /// default: 0.15 below `threshold`, but at least 0.01.
    pub neg_threshold: Option<f64>,
    /// Minimum duration of a region in milliseconds; shorter ones are dropped. Default: 0.
    pub min_speech_duration_ms: u32,
    /// Maximum duration of a region in seconds, `speech_pad_ms` included. A longer one is cut at its last silence of more than
    /// 98 ms, or without one at the maximum. Default: infinity.
    pub max_speech_duration_s: f64,
    /// Minimum duration of the silence that ends a region, in milliseconds. Default: 2000.
    pub min_silence_duration_ms: u32,
    /// Duration by which regions are extended at both sides, in milliseconds; of a shorter gap each side gets half. Default:
    /// 400.
    pub speech_pad_ms: u32,
}

/// What gives a frame's probability of speech.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VadMethod {
    /// Silero VAD, a network: tells speech from other sounds.
    #[default]
    Silero,
    /// Level above the noise floor, for clean recordings: any sound is speech that is louder than the noise around it, music too.
    Energy,
}

impl VadMethod {
    /// All methods.
    pub const ALL: [Self; 2] = [Self::Silero, Self::Energy];

    /// Returns the name: `silero`, `energy`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Silero => "silero",
            Self::Energy => "energy",
        }
    }
}

display_name!(VadMethod);

/// Methods parse from their names.
impl FromStr for VadMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("vad_method", "method", name, Self::ALL, Self::name)
    }
}

impl Default for VadOptions {
    fn default() -> Self {
        Self {
            method: VadMethod::Silero,
            threshold: 0.5,
            neg_threshold: None,
            min_speech_duration_ms: 0,
            max_speech_duration_s: f64::INFINITY,
            min_silence_duration_ms: 2000,
            speech_pad_ms: 400,
        }
    }
}

impl VadOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Option`] if an option is invalid.
    pub fn verify(&self) -> Result<()> {
        let refuse = |name, reason: String| Err(Error::Option { name, reason });
        let thresholds = [
            ("threshold", Some(self.threshold)),
            ("neg_threshold", self.neg_threshold),
        ];
        for (name, threshold) in thresholds {
            if let Some(p) = threshold.filter(|p| !(0.0..=1.0).contains(p)) {
                return refuse(name, format!("{p} is not a probability from 0 to 1"));
            }
        }
        let max_s = self.max_speech_duration_s;
        if max_s.is_nan() || max_s <= 0.0 {
            let reason = format!("{max_s} is not a number of seconds above 0");
            return refuse("max_speech_duration_s", reason);
        }
        Ok(())
    }

    /// Returns the probability below which a frame is silence.
    pub(super) fn silence_threshold(&self) -> f64 {
        self.neg_threshold
            .unwrap_or_else(|| (self.threshold - 0.15).max(0.01))
    }

    /// Returns the samples by which a region is extended at either end, at most.
    pub(crate) fn speech_pad_samples(&self) -> usize {
        samples(self.speech_pad_ms)
    }
}
