//! CPU kernels of overhear.
//!
//! The crate knows nothing of Whisper: it has a few coarse, fused kernels over `f32` activations and weights in the
//! checkpoint's dtype, a thread pool, and a choice of instruction set made once at start. All CPU `unsafe` of the
//! project is in here. [`mod@reference`] has every kernel in its plainest form: the oracle that each faster one is
//! tested against, and the kernels of the scalar set.
//!
//! Results never depend on the number of threads: work is split over outputs, never over a sum.
//!
//! From the bottom up:
//!
//! - `arch`: instruction sets, detection, proof tokens; [`probe`] measures the machine's limits.
//! - `simd`: f32 vectors, one vocabulary for all instruction sets; `math`: exponentials, GELU, rounding,
//!   quantisation.
//! - `gemm`: packing, loop nests, microkernels, epilogue; f32 and packed bf16 and int8.
//! - `attention`: in f32, bf16 and int8; the packed formats of keys and values.
//! - `elementwise`, `spectrogram`: layer normalisation, reductions of logits; log spectrograms.
//! - `dispatch`: what each instruction set runs. `kernels`: the type [`Kernels`], whose methods are beside their
//!   code.
//! - `parallel`: the thread pool.

#![deny(unsafe_op_in_unsafe_fn)]
#![allow(
    clippy::needless_range_loop,
    clippy::too_many_arguments,
    reason = "register blocks are index arithmetic"
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arch;
mod attention;
mod dispatch;
mod elementwise;
mod gemm;
mod kernels;
mod math;
mod matrix;
mod parallel;
mod process;
pub mod reference;
mod simd;
mod spectrogram;
#[cfg(any(test, feature = "testing"))]
mod testing;
#[cfg(test)]
mod tests;

pub use arch::{ISA_VARIABLE, Isa, IsaError, probe};
pub use attention::{AttentionShape, KvRows, PackedKv, QuantizedKv, Sequence};
pub use elementwise::Maxima;
pub use gemm::{
    GroupFormat, GroupedActivations, GroupedMatrix, Output, PackedActivations, PackedMatrix,
    PackedRows, Packing, PostOp, Source, Storage, StoredMatrix,
};
pub use kernels::Kernels;
pub use matrix::{Dtype, Matrix, MatrixData, Rows};
pub use parallel::Pool;
pub use process::{ExitWithoutMemory, stdout_was_closed};
pub use spectrogram::{Filter, Spectrogram};
