//! Logarithmic spectrograms: many short overlapping frames of a signal, each windowed, transformed, filtered.
//!
//! A lane of a vector holds a frame of its own, so the transform is plain arithmetic without a shuffle, and a frame's
//! result does not depend on the frames beside it. The real transform of n samples is a complex one of n / 2 (even
//! samples real, odd ones imaginary) in Stockham's order: radix 5, 4 and 2, a table of twiddles a pass.

mod plan;
mod transform;

pub use plan::{Filter, Spectrogram};
