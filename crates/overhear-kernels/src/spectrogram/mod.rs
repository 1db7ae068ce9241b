//! Log spectrograms: many short overlapping frames of a signal, each windowed, transformed, filtered.
//!
//! A vector lane holds a frame of its own, so the FFT is plain arithmetic without shuffles, and a frame's result does
//! not depend on its neighbours. The real FFT of n samples is a complex one of n / 2 (even samples real, odd ones
//! imaginary) in Stockham's order, radix 5, 4 and 2, with a table of twiddles per pass. The filterbank's weights come
//! from the caller ([`Filter`]).

mod plan;
mod transform;

pub use plan::{Filter, Spectrogram};
