//! CPU kernels of overhear.
//!
//! The crate knows nothing of Whisper: it has a few coarse, fused kernels over `f32` activations and weights
//! in the checkpoint's dtype, a thread pool, and a choice of instruction set made once at start.
//! All CPU `unsafe` of the project is in here. [`scalar`] holds every kernel in its plainest form: it is the
//! fallback and the oracle that each faster one is tested against.
//!
//! Results never depend on the number of threads: work is split over outputs, never over a sum.
//!
//! The vector kernels are written once, in `linear`, `attention`, `rows` and `math`, over the small vocabulary of
//! `simd`, which each instruction set implements; products in bfloat16 and bytes, in `product`, `flash` and
//! `flash_tiles`, over the units of `dot`: dot products and tiles.

#![deny(unsafe_op_in_unsafe_fn)]
#![allow(
    clippy::needless_range_loop,
    clippy::too_many_arguments,
    reason = "register blocks are index arithmetic"
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod activations;
mod attention;
mod byte_attention;
mod byte_keys_values;
mod dot;
mod flash;
mod flash_tiles;
mod isa;
mod kernels;
mod keys_values;
mod linear;
mod math;
mod matrix;
mod maxima;
mod narrow;
mod packed;
mod panels;
mod pool;
pub mod probe;
mod process;
mod product;
mod row_dots;
mod rows;
pub mod scalar;
mod scratch;
mod simd;
mod spectrum;
mod split;
mod stored;
#[cfg(test)]
mod tests;
mod weights;
mod words;

pub use activations::{Activations, PackedRows, Source};
pub use byte_keys_values::ByteKeysValues;
pub use isa::{ISA_VARIABLE, Isa, IsaError};
pub use kernels::{AttentionShape, Epilogue, Kernels, Rows};
pub use keys_values::KeysValues;
pub use matrix::{Dtype, Matrix, MatrixData};
pub use maxima::Maxima;
pub use packed::{PackedMatrix, Packing};
pub use pool::Pool;
pub use process::{ExitWithoutMemory, stdout_was_closed};
pub use product::Output;
pub use spectrum::{Filter, Spectrogram};
pub use stored::{Kept, StoredMatrix};
