//! Decoding of one 30-second window, from audio features to tokens: `whisper/decoding.py`.

mod beam;
mod boost;
mod draft;
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
pub(crate) use draft::MAX_DRAFT;
pub(crate) use language::{LanguageEvidence, detect_language, language_evidence, most_probable};
pub use options::{DecodingOptions, DecodingRules};
pub use result::{DecodingResult, Hypothesis, TokenProbability};
pub(crate) use row::Next;
pub use session::Session;
pub use suppress::Suppress;
pub(crate) use task::DecodingTask;
pub(crate) use window::Window;

use crate::Language;
pub use crate::mel::{LogMel, log_mel_spectrogram};

/// A language and its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LanguageProbability {
    /// The language.
    pub language: Language,
    /// Probability of the language among all languages of the model, 0 to 1.
    pub probability: f32,
}

/// Returns the compression ratio of `text`: its bytes divided by the bytes of its zlib compression, as
/// `whisper/utils.py::compression_ratio`.
///
/// Links stock zlib, since the threshold on the ratio was tuned to its exact byte count.
pub(crate) fn compression_ratio(text: &str) -> f64 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder
        .write_all(text.as_bytes())
        .expect("writing to memory cannot fail");
    let compressed = encoder.finish().expect("writing to memory cannot fail");
    text.len() as f64 / compressed.len() as f64
}
