//! AVX-512: 16 lanes, 32 registers, masked tails.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::vector::{Simd, Vectorized};
use crate::arch::Avx512;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
#[inline(never)]
fn vectorize<T: Vectorized>(simd: Avx512, task: T) -> T::Output {
    task.run(simd)
}

/// Mask of the lowest `n <= 16` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

// In what follows the proof is `self`: it exists only where `Avx512::new` found every feature that is named there.
//
// SAFETY: `Avx512(())` is built by `new` alone.
unsafe impl Simd for Avx512 {
    type V = __m512;

    const LANES: usize = 16;
    const ROWS: usize = 6;

    #[inline]
    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        // SAFETY: `self` proves the features.
        unsafe { vectorize(self, task) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> __m512 {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements under the mask.
        unsafe { _mm512_maskz_loadu_ps(first(n), from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: __m512, n: usize) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements under the mask.
        unsafe { _mm512_mask_storeu_ps(to, first(n), v) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m512 {
        // SAFETY: `self` proves avx512f; the caller vouches for 32 bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        // SAFETY: `self` proves avx512f; the caller vouches for 32 bytes. A bfloat16 is the top half of an f32.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512 {
        // SAFETY: `self` proves avx512f; the caller vouches for 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16, v: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for 32 bytes.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        // SAFETY: a hint, which never faults; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn zero_if_below(self, a: __m512, x: __m512, limit: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), a) }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn scale_by_power(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn sum4(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: `self` proves avx512f and avx512vl. Quarters of 4 lanes: two steps add halves of whole vectors and
        // leave one quarter of each of a, b, c, d in one register; two more add within the quarters.
        unsafe {
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
            let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
            let ab = _mm512_add_ps(low, high); // a: i with i + 8, then b
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d);
            let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d);
            let cd = _mm512_add_ps(low, high);
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
            let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd);
            let quarters = _mm512_add_ps(low, high); // a b c d: i with i + 4
            let pairs = _mm512_add_ps(quarters, _mm512_permute_ps::<0b01_00_11_10>(quarters));
            let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0b10_11_00_01>(pairs));
            let packed = _mm512_maskz_compress_ps(0b0001_0001_0001_0001, sums);
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(packed));
            out
        }
    }
}
