//! One 30-second window to tokens, stage by stage: `whisper/decoding.py`.

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
mod session;
mod suppress;
mod task;
#[cfg(test)]
mod tests;
mod window;

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

pub use boost::BoostPhrase;
pub(crate) use boost::BoostTrie;
pub(crate) use language::{Heard, detect_language, hear, likeliest};
pub use options::{DecodingOptions, DecodingRules};
pub use result::{DecodingResult, Hypothesis, TokenProbability};
pub(crate) use row::Next;
pub use session::Session;
pub use suppress::Suppress;
pub(crate) use task::DecodingTask;
pub(crate) use window::Window;

use crate::Language;
pub use crate::mel::{LogMel, log_mel_spectrogram};

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
