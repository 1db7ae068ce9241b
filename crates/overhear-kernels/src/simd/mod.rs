//! f32 vectors: the small vocabulary that the kernels are written in, once for all instruction sets.
//!
//! The [`Simd`] trait is implemented by the proof tokens of `crate::arch`: a value of `Avx512` exists only on a machine
//! that has AVX-512, so every operation on it may use the instructions. The operations are `#[inline(always)]` and so are
//! the kernels; the one function that is compiled *for* the set (`target_feature`) is the entry, [`Simd::vectorize`],
//! into which all of it is inlined. A kernel must therefore be reached through `Arch::run` (`crate::dispatch`), or it would
//! be slow (not wrong).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod element;
mod emulated;
#[cfg(target_arch = "aarch64")]
mod neon;
mod vector;

pub(crate) use element::{Element, widen};
pub(crate) use vector::{MAX_LANES, Simd, Vectorized};
