//! Implementations of the microkernels, one file per instruction set.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_asm;
#[cfg(target_arch = "x86_64")]
mod amx_vector;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_block;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod emulated;
#[cfg(test)]
mod emulated_amx;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod registers;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "only AMX has tiles; elsewhere the emulated ones of the tests alone"
    )
)]
pub(crate) mod tiles;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "only AMX has tiles; elsewhere the emulated ones of the tests alone"
    )
)]
mod tiles_transposed;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::AmxTiles;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2Bf16, Avx2Int8};
pub(crate) use emulated::{EmulatedBf16, EmulatedInt8};
#[cfg(test)]
pub(crate) use emulated_amx::EmulatedAmx;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::NeonWide;
pub(crate) use tiles_transposed::{TileOperands, multiply_tiles};
