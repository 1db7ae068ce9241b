//! AMX: `tdpbf16ps` and `tdpbusd`.
//!
//! Its intrinsics are not stable, so they are `asm!`. What shape the tiles have is set at the start of a task and released
//! at its end; within it, all are 16 rows of 64 bytes but at the end of a K that is no multiple of 16 words. Sums stay in
//! their tiles from one `asm!` to the next, as the shape does: no instruction of a compiler's touches tiles unless a
//! function is compiled for `amx-tile`, which none is here.

use std::arch::asm;
use std::arch::x86_64::*;

use super::tiles;
use crate::arch::{Amx, Avx512, TILE, TileConfig, WHOLE_TILES, release_tiles};
use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{Blocking, Epilogue, GemmTask, MicroKernel, Operands};
use crate::gemm::tile_kernel::{AccPair, PairSteps, Step2x2, TileKernel, TileTask};
use crate::math::quantize::ROUND_MAGIC;
use crate::math::{exp2_lut, gelu_lut};

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

/// `$body` with the names of the tiles of sums of `$pair`.
macro_rules! with_pair {
    ($pair:ident, $body:ident $(, $argument:expr)*) => {
        if $pair == 0 {
            $body!("tmm0", "tmm1" $(, $argument)*)
        } else {
            $body!("tmm2", "tmm3" $(, $argument)*)
        }
    };
}

macro_rules! zero {
    ($first:literal, $second:literal) => {
        asm!(
            concat!("tilezero ", $first),
            concat!("tilezero ", $second),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem)
        )
    };
}

macro_rules! load {
    ($first:literal, $second:literal, $from:expr) => {
        asm!(
            concat!("tileloadd ", $first, ", [{first} + {stride}]"),
            concat!("tileloadd ", $second, ", [{second} + {stride}]"),
            first = in(reg) $from.first,
            second = in(reg) $from.second,
            stride = in(reg) 4 * NR,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, readonly)
        )
    };
}

macro_rules! store {
    ($first:literal, $second:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{first} + {stride}], ", $first),
            concat!("tilestored [{second} + {stride}], ", $second),
            first = in(reg) $to.first,
            second = in(reg) $to.second,
            stride = in(reg) 4 * NR,
            options(nostack)
        )
    };
}

/// `$steps.n` steps of `$line`s, of which each takes the second tile's operand further by `$of_second`.
macro_rules! walk {
    ($steps:expr, $of_second:literal, $($line:expr),+) => {
        asm!(
            "2:",
            $($line,)+
            "add {x}, {x_step}",
            "add {w}, 1024",
            concat!("add {second}, ", $of_second),
            "dec {n}",
            "jnz 2b",
            x = inout(reg) $steps.x => _,
            w = inout(reg) $steps.w => _,
            second = inout(reg) $steps.second => _,
            x_stride = in(reg) 4 * $steps.x_stride,
            x_step = in(reg) 4 * $steps.x_step,
            line = in(reg) 4 * LANES,
            n = inout(reg) $steps.n => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly)
        )
    };
}

/// Steps by the dot product of tiles `$dot`: two tiles of rows by one of outputs, or one by two.
macro_rules! add {
    ($first:literal, $second:literal, $dot:literal, $steps:expr) => {
        if IS_2X1 {
            walk!(
                $steps,
                "{x_step}",
                "tileloadd tmm6, [{w} + {line}]",
                "tileloadd tmm4, [{x} + {x_stride}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm5, [{second} + {x_stride}]",
                concat!($dot, " ", $second, ", tmm5, tmm6")
            )
        } else {
            walk!(
                $steps,
                "1024",
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {line}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm7, [{second} + {line}]",
                concat!($dot, " ", $second, ", tmm4, tmm7")
            )
        }
    };
}

/// The same of one step, with a store of each of the other tiles on the way.
macro_rules! step_and_store {
    ($steps:expr, $to:expr, $($line:expr),+) => {
        asm!(
            $($line,)+
            x = in(reg) $steps.x,
            w = in(reg) $steps.w,
            second = in(reg) $steps.second,
            x_stride = in(reg) 4 * $steps.x_stride,
            line = in(reg) 4 * LANES,
            first_to = in(reg) $to.first,
            second_to = in(reg) $to.second,
            to_stride = in(reg) 4 * NR,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

macro_rules! add_and_store {
    ($first:literal, $second:literal, $other:literal, $after:literal, $dot:literal, $steps:expr, $to:expr) => {
        if IS_2X1 {
            step_and_store!(
                $steps,
                $to,
                concat!("tilestored [{first_to} + {to_stride}], ", $other),
                "tileloadd tmm6, [{w} + {line}]",
                "tileloadd tmm4, [{x} + {x_stride}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm5, [{second} + {x_stride}]",
                concat!("tilestored [{second_to} + {to_stride}], ", $after),
                concat!($dot, " ", $second, ", tmm5, tmm6")
            )
        } else {
            step_and_store!(
                $steps,
                $to,
                concat!("tilestored [{first_to} + {to_stride}], ", $other),
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {line}]",
                concat!($dot, " ", $first, ", tmm4, tmm6"),
                "tileloadd tmm7, [{second} + {line}]",
                concat!("tilestored [{second_to} + {to_stride}], ", $after),
                concat!($dot, " ", $second, ", tmm4, tmm7")
            )
        }
    };
}

/// A step of a square by the dot product of tiles `$dot`, with what comes before each of its products. Operands are loaded
/// by `tileloadd` or, if they pass by once, `tileloaddt1`, which leaves the first-level cache to the others.
macro_rules! step_2x2 {
    (
        $dot:literal, $of_x:literal, $of_w:literal, $step:expr,
        [$before:literal, $before_lower:literal, $before_right:literal, $before_last:literal]
        $(, $name:ident = $place:expr)*
    ) => {
        asm!(
            concat!("tileload", $of_w, " tmm6, [{w} + {line}]"),
            concat!("tileload", $of_x, " tmm4, [{x} + {x_stride}]"),
            $before,
            concat!($dot, " tmm0, tmm4, tmm6"),
            concat!("tileload", $of_x, " tmm5, [{x_lower} + {x_stride}]"),
            $before_lower,
            concat!($dot, " tmm1, tmm5, tmm6"),
            concat!("tileload", $of_w, " tmm7, [{w_right} + {line}]"),
            $before_right,
            concat!($dot, " tmm2, tmm4, tmm7"),
            $before_last,
            concat!($dot, " tmm3, tmm5, tmm7"),
            x = in(reg) $step.x,
            x_lower = in(reg) $step.x_lower,
            x_stride = in(reg) 4 * $step.x_stride,
            w = in(reg) $step.w,
            w_right = in(reg) $step.w_right,
            line = in(reg) 4 * LANES,
            $($name = in(reg) $place,)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// The first step of a square, see [`TileKernel::begin_2x2`]. A row of sums takes 128 bytes, 16 rows 2048.
macro_rules! begin_2x2 {
    ($dot:literal, $of_x:literal, $of_w:literal, $step:expr, $from:expr, $last:expr) => {
        match ($from, $last) {
            (None, None) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"]
            ),
            (None, Some(last)) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                [
                    "tilestored [{last} + {row}], tmm0\n tilezero tmm0",
                    "tilestored [{last} + {row} + 2048], tmm1\n tilezero tmm1",
                    "tilestored [{last} + {row} + 64], tmm2\n tilezero tmm2",
                    "tilestored [{last} + {row} + 2112], tmm3\n tilezero tmm3"
                ],
                last = last, row = 4 * NR
            ),
            (Some(from), None) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                [
                    "tileloadd tmm0, [{from} + {row}]",
                    "tileloadd tmm1, [{from} + {row} + 2048]",
                    "tileloadd tmm2, [{from} + {row} + 64]",
                    "tileloadd tmm3, [{from} + {row} + 2112]"
                ],
                from = from, row = 4 * NR
            ),
            (Some(from), Some(last)) => step_2x2!(
                $dot, $of_x, $of_w, $step,
                [
                    "tilestored [{last} + {row}], tmm0\n tileloadd tmm0, [{from} + {row}]",
                    "tilestored [{last} + {row} + 2048], tmm1\n tileloadd tmm1, [{from} + {row} + 2048]",
                    "tilestored [{last} + {row} + 64], tmm2\n tileloadd tmm2, [{from} + {row} + 64]",
                    "tilestored [{last} + {row} + 2112], tmm3\n tileloadd tmm3, [{from} + {row} + 2112]"
                ],
                from = from, last = last, row = 4 * NR
            ),
        }
    };
}

/// bfloat16 by tiles, or bytes (`INT8`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmxTiles<const INT8: bool>(pub(crate) Amx);

// SAFETY: `Amx(_)` is built by `new` alone.
unsafe impl<const INT8: bool> MicroKernel for AmxTiles<INT8> {
    type Simd = Avx512;

    const ROWS: usize = tiles::ROWS;
    const IS_INT8: bool = INT8;
    const BLOCKING: Blocking = tiles::BLOCKING;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0.avx512()
    }

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

    /// See [`gelu_lut`], its twin.
    #[inline(always)]
    fn gelu(self, x: __m512) -> __m512 {
        use gelu_lut::{COEFFICIENTS, END, SEGMENTS_PER_UNIT};
        // SAFETY: `self` proves avx512f; the tables are whole vectors.
        unsafe {
            // Of a NaN and a number the second.
            let z = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(END));
            let at = _mm512_fmadd_ps(
                z,
                _mm512_set1_ps(SEGMENTS_PER_UNIT),
                _mm512_set1_ps(ROUND_MAGIC),
            );
            let at = _mm512_castps_si512(at);
            // Not by a closure, as that may not be inlined.
            let mut p = _mm512_setzero_ps();
            for table in &COEFFICIENTS {
                let (table, others) = (table.0.as_ptr(), table.0.as_ptr().add(LANES));
                let (table, others) = (_mm512_loadu_ps(table), _mm512_loadu_ps(others));
                p = _mm512_fmadd_ps(p, z, _mm512_permutex2var_ps(table, at, others));
            }
            let above = _mm512_max_ps(_mm512_setzero_ps(), x);
            _mm512_fmadd_ps(p, z, above)
        }
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
        // SAFETY: `self` proves avx512f; the caller vouches for the words.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); TILE];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_si512(from.add(i * from_stride).cast());
            }
            // Four words of a quarter of a vector go together: of two rows..
            let mut of_two = rows;
            for i in (0..TILE).step_by(2) {
                of_two[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
                of_two[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            // .. of four: quarter `q` of vector `4 i + c` is column `4 q + c` of rows `4 i` to `4 i + 3`.
            let mut of_four = of_two;
            for i in (0..TILE).step_by(4) {
                of_four[i] = _mm512_unpacklo_epi64(of_two[i], of_two[i + 2]);
                of_four[i + 1] = _mm512_unpackhi_epi64(of_two[i], of_two[i + 2]);
                of_four[i + 2] = _mm512_unpacklo_epi64(of_two[i + 1], of_two[i + 3]);
                of_four[i + 3] = _mm512_unpackhi_epi64(of_two[i + 1], of_two[i + 3]);
            }
            for c in 0..4 {
                let (a, b, d, e) = (of_four[c], of_four[4 + c], of_four[8 + c], of_four[12 + c]);
                let (even, below) = (
                    _mm512_shuffle_i32x4::<0x88>(a, b),
                    _mm512_shuffle_i32x4::<0x88>(d, e),
                );
                let (odd, odd_below) = (
                    _mm512_shuffle_i32x4::<0xdd>(a, b),
                    _mm512_shuffle_i32x4::<0xdd>(d, e),
                );
                let to = |q: usize| to.add((4 * q + c) * to_stride).cast();
                _mm512_storeu_si512(to(0), _mm512_shuffle_i32x4::<0x88>(even, below));
                _mm512_storeu_si512(to(1), _mm512_shuffle_i32x4::<0x88>(odd, odd_below));
                _mm512_storeu_si512(to(2), _mm512_shuffle_i32x4::<0xdd>(even, below));
                _mm512_storeu_si512(to(3), _mm512_shuffle_i32x4::<0xdd>(odd, odd_below));
            }
        }
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
        const IN_BOTH: i32 = (exp2_lut::OVERFLOW as i32) << 16 | exp2_lut::OVERFLOW as i32;
        // SAFETY: `self` proves the features; the caller vouches for scores, weights and offsets.
        unsafe {
            let scale = _mm512_set1_ps(scale * exp2_lut::ONE);
            let offset = _mm512_fmadd_ps(
                _mm512_loadu_ps(offsets),
                _mm512_set1_ps(exp2_lut::ONE),
                _mm512_set1_ps(-exp2_lut::BIAS),
            );
            let fixed = |at: *const f32| {
                _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_loadu_ps(at), scale, offset))
            };
            let table = exp2_lut::TABLE.0.as_ptr();
            let (table, others) = (
                _mm512_loadu_si512(table.cast()),
                _mm512_loadu_si512(table.add(64).cast()),
            );
            // Packing goes by quarters: four queries of one key, the same of the other.
            let interleaved = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
            let interleaved = _mm512_broadcast_i32x4(interleaved);
            let mut all = _mm512_setzero_si512();
            for pair in 0..n_pairs {
                let scores = scores.add(pair * 2 * NR);
                let prefetch_from = prefetch_from.wrapping_add(pair * 2 * LANES);
                _mm_prefetch::<_MM_HINT_T0>(prefetch_from.cast());
                _mm_prefetch::<_MM_HINT_T0>(prefetch_from.wrapping_add(LANES).cast());
                let packed = _mm512_packus_epi32(fixed(scores), fixed(scores.add(NR)));
                let x = _mm512_shuffle_epi8(packed, interleaved);
                // The low bytes' last 7 bits choose; nothing is added to high bytes.
                let fraction = _mm512_srli_epi16::<1>(x);
                let entry =
                    _mm512_maskz_permutex2var_epi8(0x5555_5555_5555_5555, table, fraction, others);
                let bits = _mm512_avg_epu16(x, entry);
                _mm512_storeu_si512(to.add(pair * TILE).cast(), bits);
                all = _mm512_or_si512(all, bits);
            }
            _mm512_test_epi32_mask(all, _mm512_set1_epi32(IN_BOTH))
        }
    }
}
