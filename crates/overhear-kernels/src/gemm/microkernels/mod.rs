//! Implementations of the microkernels, one file per instruction set.
//!
//! | file | instructions | loops |
//! |---|---|---|
//! | `avx512_bf16`, `avx512_vnni` | `vdpbf16ps`, `vpdpbusd` | `registers` |
//! | `avx2` | `vfmadd`, `vpmaddwd`, AVX-VNNI | `avx2_block` |
//! | `neon` | `bfmlalt`/`bfmlalb`, `sdot` | `registers` |
//! | `amx` | `tdpbf16ps`, `tdpbusd` | `tiles`, for attention `tiles_transposed` |
//! | `emulated`, `emulated_amx` | plain Rust | `registers`, `tiles` |

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
