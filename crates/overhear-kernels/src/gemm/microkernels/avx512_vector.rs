//! Vector work of the AVX-512 microkernels beside their products.

use std::arch::x86_64::*;

use crate::gemm::layout::{LANES, NR};
use crate::math::exp2_i16;

/// Stores 16 elements to `to`, rounded to the nearest bf16, with the bits of [`crate::math::round_bf16`], without AVX-512 BF16.
///
/// # Safety
/// They must be writable; the machine must have AVX-512 F.
#[inline(always)]
pub(super) unsafe fn store_bf16(to: *mut u16, v: __m512) {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let rounded = _mm512_mask_blend_epi32(is_nan, rounded, _mm512_set1_epi32(0x7fc0));
        _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(rounded));
    }
}

/// Softmax numerators in 16-bit arithmetic, of which [`exp2_i16`] is the emulated twin: half the instructions of f32, on twice as many
/// keys each. `add` adds the elements of a vector of bf16 to the sums. The returned sum is that of the rounded numerators.
///
/// # Safety
/// As `VectorOps::exp2_panels`; the machine must have AVX-512 F and BW.
#[inline(always)]
pub(super) unsafe fn exp2_panels(
    scores: *const f32,
    ld_acc: usize,
    n_panels: usize,
    (scale, offset): (f32, f32),
    to: *mut u16,
    mut acc: __m512,
    add: impl Fn(__m512, __m512i) -> __m512,
) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let scale = _mm512_set1_ps(scale * exp2_i16::ONE);
        let offset = _mm512_set1_ps(offset.mul_add(exp2_i16::ONE, 0.5 * exp2_i16::ONE));
        let fixed = |at: *const f32| {
            _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_loadu_ps(at), scale, offset))
        };
        // `vpackssdw` works within 128-bit quarters: this permutation restores the order of keys.
        let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        for panel in 0..n_panels {
            let scores = scores.add(panel * ld_acc);
            let packed = _mm512_packs_epi32(fixed(scores), fixed(scores.add(LANES)));
            let x = _mm512_permutexvar_epi64(order, packed);
            let g = _mm512_slli_epi16::<6>(x);
            let square = _mm512_mulhrs_epi16(g, g);
            let parabola = _mm512_sub_epi16(_mm512_set1_epi16(i16::MAX), square);
            let slope = _mm512_mulhrs_epi16(g, _mm512_set1_epi16(exp2_i16::SLOPE));
            let depth = _mm512_add_epi16(slope, _mm512_set1_epi16(exp2_i16::DEPTH));
            let x = _mm512_adds_epi16(x, _mm512_mulhrs_epi16(depth, parabola));
            let rounded = _mm512_mulhrs_epi16(x, _mm512_set1_epi16(exp2_i16::TO_BF16));
            let bits = _mm512_add_epi16(rounded, _mm512_set1_epi16(exp2_i16::BIAS));
            _mm512_storeu_si512(to.add(panel * NR).cast(), bits);
            acc = add(acc, bits);
        }
        acc
    }
}
