//! Implementations of the microkernels, one file per instruction set.
//!
//! | file | instructions | loops |
//! |---|---|---|
//! | `avx512_bf16`, `avx512_vnni` | `vdpbf16ps`, `vpdpbusd` | `registers` |
//! | `avx512_wide` | `vfmadd`, `vpmaddwd` on widened elements, without AVX-512 BF16 and VNNI | `registers` |
//! | `avx2` | `vfmadd`, `vpmaddwd`, AVX-VNNI | `avx2_block` |
//! | `neon` | `bfmlalt`/`bfmlalb`, `sdot` | `registers` |
//! | `amx` | `tdpbf16ps`, `tdpbusd` | `tiles`, for attention `tiles_transposed` |
//! | `grouped_avx512`, `grouped_avx2`, `grouped_emulated` | `vpdpbusd`, `vpmaddubsw`, plain Rust; weights of 4 and 5 bits | their own |
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
mod avx512_vector;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx512_wide;
mod emulated;
#[cfg(any(test, feature = "testing"))]
mod emulated_amx;
#[cfg(target_arch = "x86_64")]
mod grouped_avx2;
#[cfg(target_arch = "x86_64")]
mod grouped_avx512;
mod grouped_emulated;
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
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512_wide::{Avx512WideBf16, Avx512WideInt8};
pub(crate) use emulated::{EmulatedBf16, EmulatedInt8};
#[cfg(any(test, feature = "testing"))]
pub(crate) use emulated_amx::EmulatedAmx;
pub(crate) use grouped_emulated::EmulatedGrouped;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::NeonWide;
pub(crate) use tiles_transposed::{TileOperands, multiply_tiles};
