//! One 30-second window to tokens: `whisper/decoding.py`.

mod beam;
mod boost;
mod filters;
mod greedy;
mod language;
mod loops;
mod options;
mod rank;
mod result;
mod row;
mod sampler;
mod suppress;
mod task;
#[cfg(test)]
mod tests;
mod window;

use std::io::Write as _;
use std::str::FromStr;

use flate2::Compression;
use flate2::write::ZlibEncoder;

pub use boost::BoostPhrase;
pub(crate) use boost::BoostTrie;
pub(crate) use language::{Heard, detect_language, hear, likeliest};
pub use options::DecodingOptions;
pub use result::{DecodingResult, Hypothesis, TokenProbability};
pub(crate) use row::Next;
pub use suppress::Suppress;
pub(crate) use task::DecodingTask;
pub(crate) use window::Window;

use crate::names::{by_name, display_name};
use crate::{Error, Language, Result};

/// What to write down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// The words as spoken.
    #[default]
    Transcribe,
    /// Their English translation.
    Translate,
}

impl Task {
    /// All tasks.
    pub const ALL: &'static [Self] = &[Self::Transcribe, Self::Translate];

    /// Name: `transcribe` or `translate`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Transcribe => "transcribe",
            Self::Translate => "translate",
        }
    }
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("task", "task", name, Self::ALL.iter().copied(), Self::name)
    }
}

display_name!(Task);

/// A language and how likely it is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LanguageProbability {
    /// The language.
    pub language: Language,
    /// Its probability among all languages, 0 to 1.
    pub probability: f32,
}

/// `whisper/utils.py::compression_ratio`: bytes of the text over bytes of its zlib compression.
///
/// Stock zlib is linked for this: the threshold is tested against its exact byte count.
pub(crate) fn compression_ratio(text: &str) -> f64 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder
        .write_all(text.as_bytes())
        .expect("writing to memory");
    let compressed = encoder.finish().expect("writing to memory");
    text.len() as f64 / compressed.len() as f64
}
