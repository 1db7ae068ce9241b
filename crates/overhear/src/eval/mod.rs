//! Comparison of transcripts: text normalisers, edit distance and error rates.

pub mod normalize;
pub mod score;
