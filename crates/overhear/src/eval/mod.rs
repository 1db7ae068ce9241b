//! Comparison of transcripts: text normalisers, edit distance and error rates, and differences of these.

pub mod compare;
pub mod normalize;
pub mod score;
