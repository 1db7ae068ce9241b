//! Normalisation of texts before errors are counted: `whisper/normalizers`, with identical results.
//!
//! Two transcripts of one recording may differ in case, punctuation, spelling, contractions and the notation of
//! numbers, none of which is a recognition error. [`EnglishTextNormalizer`] removes these differences for English,
//! [`BasicTextNormalizer`] those that can be removed for any language. Both keep the reference's quirks (`1.5` becomes
//! `one.5`), so that error rates are comparable with published ones.
//!
//! The reference defines its rules as regular expressions of Python, whose word characters and white space differ from
//! those of Rust's regex crates; here they are functions over `rewrite`.

mod basic;
mod english;
mod numbers;
mod rewrite;
mod value;

pub use basic::BasicTextNormalizer;
pub use english::EnglishTextNormalizer;

use std::sync::LazyLock;

use crate::Language;

/// Normalises `text` in `language` for comparison: with [`EnglishTextNormalizer`] if that is English, else with
/// [`BasicTextNormalizer`].
#[must_use]
pub fn comparable(text: &str, language: Option<Language>) -> String {
    static ENGLISH: LazyLock<EnglishTextNormalizer> = LazyLock::new(EnglishTextNormalizer::new);
    match language {
        Some(Language::ENGLISH) => ENGLISH.normalize(text),
        _ => BasicTextNormalizer::for_language(language).normalize(text),
    }
}
