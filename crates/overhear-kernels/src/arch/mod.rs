//! Instruction sets: names ([`Isa`]), detection, and *proof tokens*.
//!
//! A token is a zero-sized value that can only be made on a machine that has the instructions ([`Arch::new`] and the
//! `new` of each token), so code that holds one may use them. This folder imports nothing from the rest of the crate but
//! the thread pool of the [`probe`]: vectors (`crate::simd`) and microkernels (`crate::gemm::microkernels`) are
//! implemented *for* the tokens, and `crate::dispatch` matches on [`Arch`].

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod emulated;
mod isa;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod probe;
mod token;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::{Amx, TileConfig, WHOLE_TILES, release_tiles};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, Avx2Vnni};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16, Avx512Vnni};
pub(crate) use emulated::Emulated;
pub use isa::{ISA_VARIABLE, Isa, IsaError};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Neon, NeonBf16, NeonDotProd};
pub(crate) use token::Arch;

/// Rows of an AMX tile, and 32-bit columns of one: 16 rows of 64 bytes (palette 1).
pub(crate) const TILE: usize = 16;
