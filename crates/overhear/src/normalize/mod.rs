//! Texts made comparable before errors are counted: `whisper/normalizers`, result for result.
//!
//! Two transcripts of one recording may differ in case, punctuation, spelling, contractions and the way that
//! numbers are written, and none of that is an error of recognition. [`EnglishTextNormalizer`] irons it out for
//! English, [`BasicTextNormalizer`] does what can be done for any language. Both keep the reference's quirks
//! (`1.5` becomes `one.5`), so that error rates can be compared with published ones.
//!
//! The reference writes its rules as regular expressions of Python, whose word characters and white space are
//! not those of Rust's regex crates; here they are functions over `rewrite`.

mod basic;
mod english;
mod numbers;
mod rewrite;
mod value;

pub use basic::BasicTextNormalizer;
pub use english::EnglishTextNormalizer;

use std::sync::LazyLock;

use crate::Language;

/// The comparable form of `text` in `language`: [`EnglishTextNormalizer`]'s of English, [`BasicTextNormalizer`]'s of others.
#[must_use]
pub fn comparable(text: &str, language: Option<Language>) -> String {
    static ENGLISH: LazyLock<EnglishTextNormalizer> = LazyLock::new(EnglishTextNormalizer::new);
    match language {
        Some(Language::ENGLISH) => ENGLISH.normalize(text),
        _ => BasicTextNormalizer::for_language(language).normalize(text),
    }
}
