//! AMX microkernels: `tdpbf16ps` for bf16, `tdpbusd` for u8 x s8.
//!
//! The loops are in [`super::tiles`], the assembly in [`super::amx_asm`], the vector work beside the tiles in
//! [`super::amx_vector`]. A task loads the tile configuration at its start and releases it at its end. All tiles are
//! 16 rows of 64 bytes, except for the last step of a K that is no multiple of 16 K groups
//! ([`TileKernel::set_k_groups`]).

use std::arch::asm;
use std::arch::x86_64::*;

use super::amx_asm::{
    add, add_and_store, begin_2x2, load, step_2x2, step_and_store, store, walk, with_pair, zero,
};
use super::{amx_vector, tiles};
use crate::arch::{Amx, Avx512, TileConfig, WHOLE_TILES, release_tiles};
use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{Blocking, Epilogue, GemmTask, MicroKernel, Operands};
use crate::gemm::tile_kernel::{AccPair, PairSteps, Step2x2, TileKernel, TileTask};
use crate::gemm::vector_ops::VectorOps;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn vectorize<K: MicroKernel, T: GemmTask>(kernel: K, task: T) {
    // SAFETY: `kernel` proves tiles.
    unsafe { WHOLE_TILES.load() };
    task.run(kernel);
    // SAFETY: as above.
    unsafe { release_tiles() };
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,avx512vbmi,avx2,fma,f16c"
)]
#[inline(never)]
fn vectorize_tiles<K: TileKernel, T: TileTask>(kernel: K, task: T) {
    // SAFETY: `kernel` proves tiles.
    unsafe { WHOLE_TILES.load() };
    task.run(kernel);
    // SAFETY: as above.
    unsafe { release_tiles() };
}

/// AMX tile kernel for bf16, or for int8 (`INT8`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmxTiles<const INT8: bool>(pub(crate) Amx);

// SAFETY: `Amx(_)` is built by `new` alone.
unsafe impl<const INT8: bool> MicroKernel for AmxTiles<INT8> {
    const MR: usize = tiles::MR;
    const IS_INT8: bool = INT8;
    const BLOCKING: Blocking = tiles::BLOCKING;

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize(self, task) }
    }

    #[inline(always)]
    unsafe fn multiply<F: Epilogue<Self>>(
        self,
        n: usize,
        n_panels: usize,
        _: bool,
        operands: &Operands,
        to: *mut f32,
        epilogue: &F,
    ) {
        // SAFETY: the caller's.
        unsafe { tiles::multiply(self, n, n_panels, operands, to, epilogue) }
    }

    #[inline(always)]
    unsafe fn acc_to_f32(self, acc: __m512, compensation: *const i32) -> __m512 {
        if !INT8 {
            return acc;
        }
        // SAFETY: `self` proves avx512f; the caller vouches for the numbers.
        unsafe {
            let compensation = _mm512_loadu_si512(compensation.cast());
            _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_castps_si512(acc), compensation))
        }
    }
}

impl<const INT8: bool> VectorOps for AmxTiles<INT8> {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0.avx512()
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        // SAFETY: the caller's.
        unsafe { self.0.avx512_bf16().store_bf16(to, v) }
    }

    #[inline(always)]
    unsafe fn store_bf16_pair(self, to: *mut u16, v: [__m512; 2]) {
        // SAFETY: the caller's.
        unsafe { self.0.avx512_bf16().store_bf16_pair(to, v) }
    }

    #[inline(always)]
    fn gelu(self, x: __m512) -> __m512 {
        amx_vector::gelu(self.0, x)
    }
}

impl<const INT8: bool> TileKernel for AmxTiles<INT8> {
    type Acc = ();

    #[inline]
    fn vectorize_tiles<T: TileTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_tiles(self, task) }
    }

    #[inline(always)]
    unsafe fn set_k_groups(self, (): &mut (), groups: usize) {
        // SAFETY: `self` proves tiles.
        unsafe { TileConfig::new(groups).load() }
    }

    #[inline(always)]
    unsafe fn begin_2x2<const STREAM_A: bool>(
        self,
        (): &mut (),
        step: &Step2x2,
        from: Option<*const i32>,
        last: Option<*mut i32>,
    ) {
        // SAFETY: `self` proves tiles, `vectorize` has set their shape; the caller vouches for the memory.
        unsafe {
            match (INT8, STREAM_A) {
                (true, true) => begin_2x2!("tdpbusd", "dt1", "d", step, from, last),
                (true, false) => begin_2x2!("tdpbusd", "d", "dt1", step, from, last),
                (false, true) => begin_2x2!("tdpbf16ps", "dt1", "d", step, from, last),
                (false, false) => begin_2x2!("tdpbf16ps", "d", "dt1", step, from, last),
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate_2x2<const STREAM_A: bool>(self, (): &mut (), step: &Step2x2) {
        // SAFETY: as above.
        unsafe {
            match (INT8, STREAM_A) {
                (true, true) => step_2x2!("tdpbusd", "dt1", "d", step, ["", "", "", ""]),
                (true, false) => step_2x2!("tdpbusd", "d", "dt1", step, ["", "", "", ""]),
                (false, true) => step_2x2!("tdpbf16ps", "dt1", "d", step, ["", "", "", ""]),
                (false, false) => step_2x2!("tdpbf16ps", "d", "dt1", step, ["", "", "", ""]),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_2x2(self, (): &mut (), to: *mut i32) {
        // SAFETY: as above.
        unsafe {
            asm!(
                "tilestored [{to} + {row}], tmm0",
                "tilestored [{to} + {row} + 2048], tmm1",
                "tilestored [{to} + {row} + 64], tmm2",
                "tilestored [{to} + {row} + 2112], tmm3",
                to = in(reg) to,
                row = in(reg) 4 * NR,
                options(nostack)
            );
        }
    }

    #[inline(always)]
    unsafe fn begin_pair<const PAIR: usize>(self, (): &mut (), from: Option<AccPair>) {
        // SAFETY: as above.
        unsafe {
            match from {
                Some(from) => with_pair!(PAIR, load, from),
                None => with_pair!(PAIR, zero),
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        (): &mut (),
        steps: &PairSteps,
    ) {
        // SAFETY: as above.
        unsafe {
            if INT8 {
                with_pair!(PAIR, add, "tdpbusd", steps);
            } else {
                with_pair!(PAIR, add, "tdpbf16ps", steps);
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate_and_store_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        (): &mut (),
        step: &PairSteps,
        to: AccPair,
    ) {
        // SAFETY: as above.
        unsafe {
            match (INT8, PAIR) {
                (true, 0) => {
                    add_and_store!("tmm0", "tmm1", "tmm2", "tmm3", "tdpbusd", step, to);
                }
                (true, _) => {
                    add_and_store!("tmm2", "tmm3", "tmm0", "tmm1", "tdpbusd", step, to);
                }
                (false, 0) => {
                    add_and_store!("tmm0", "tmm1", "tmm2", "tmm3", "tdpbf16ps", step, to);
                }
                (false, _) => {
                    add_and_store!("tmm2", "tmm3", "tmm0", "tmm1", "tdpbf16ps", step, to);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pair<const PAIR: usize>(self, (): &mut (), to: AccPair) {
        // SAFETY: as above.
        unsafe { with_pair!(PAIR, store, to) }
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const u32,
        from_stride: usize,
        to: *mut u32,
        to_stride: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { amx_vector::transpose(self.0, from, from_stride, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn exp2_pairs(
        self,
        scores: *const f32,
        n_pairs: usize,
        scale: f32,
        offsets: *const f32,
        prefetch_from: *const u32,
        to: *mut u32,
    ) -> u16 {
        // SAFETY: the caller's.
        unsafe {
            amx_vector::exp2_pairs(self.0, scores, n_pairs, scale, offsets, prefetch_from, to)
        }
    }
}
