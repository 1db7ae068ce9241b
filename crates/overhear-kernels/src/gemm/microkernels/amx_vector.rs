//! AVX-512 work beside AMX tiles: GELU and 2^x by table, transposition of a tile.
//!
//! Tile instructions leave vectors one of two ports for multiply-adds. Table look-ups (`vpermt2ps`, `vpermt2b`) use
//! the other one.

use std::arch::x86_64::*;

use crate::arch::{Amx, TILE};
use crate::gemm::layout::{LANES, NR};
use crate::math::quantize::ROUND_MAGIC;
use crate::math::{exp2_lut, gelu_lut};

/// GELU by table; [`gelu_lut`] is the emulated twin.
#[inline(always)]
pub(super) fn gelu(_: Amx, x: __m512) -> __m512 {
    use gelu_lut::{COEFFICIENTS, END, SEGMENTS_PER_UNIT};
    // SAFETY: the token proves avx512f; the tables are whole vectors.
    unsafe {
        // `vminps` returns the second operand if the first is NaN.
        let z = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(END));
        let at = _mm512_fmadd_ps(
            z,
            _mm512_set1_ps(SEGMENTS_PER_UNIT),
            _mm512_set1_ps(ROUND_MAGIC),
        );
        let at = _mm512_castps_si512(at);
        // A loop and not a closure, which might not be inlined.
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

/// Transposes 16 x 16 elements, see [`TileKernel::transpose`](crate::gemm::tile_kernel::TileKernel::transpose).
///
/// # Safety
/// 16 rows of 16 elements must be readable and as many writable.
#[inline(always)]
pub(super) unsafe fn transpose(
    _: Amx,
    from: *const u32,
    from_stride: usize,
    to: *mut u32,
    to_stride: usize,
) {
    // SAFETY: the token proves avx512f; the caller vouches for the K groups.
    unsafe {
        let mut rows = [_mm512_setzero_si512(); TILE];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm512_loadu_si512(from.add(i * from_stride).cast());
        }
        // Unpacking works within 128-bit quarters: elements of two rows ..
        let mut of_two = rows;
        for i in (0..TILE).step_by(2) {
            of_two[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            of_two[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        // .. of four rows: quarter `q` of vector `4 i + c` is column `4 q + c` of rows `4 i` to `4 i + 3`.
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

/// Softmax numerators by table, see [`TileKernel::exp2_pairs`](crate::gemm::tile_kernel::TileKernel::exp2_pairs);
/// [`exp2_lut`] is the emulated twin.
///
/// # Safety
/// Scores must be readable, numerators writable, and 16 of the offsets readable.
#[inline(always)]
pub(super) unsafe fn exp2_pairs(
    _: Amx,
    scores: *const f32,
    n_pairs: usize,
    scale: f32,
    offsets: *const f32,
    prefetch_from: *const u32,
    to: *mut u32,
) -> u16 {
    const IN_BOTH: i32 = (exp2_lut::OVERFLOW as i32) << 16 | exp2_lut::OVERFLOW as i32;
    // SAFETY: the token proves the features; the caller vouches for scores, numerators and offsets.
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
        // `vpackusdw` works within 128-bit quarters: four queries of one key, the same queries of the other key.
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
            // The upper 7 bits of each low byte index the table; high bytes get zero.
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
