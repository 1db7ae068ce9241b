//! AVX-512 BF16: `vdpbf16ps`.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::registers::{MAX_ROWS, blocks_in_registers};
use crate::arch::{Avx512, Avx512Bf16};
use crate::gemm::layout::{LANES, PANEL};
use crate::gemm::microkernel::{Dot, DotTask, Unit};
use crate::math::exp2_i16 as weight;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
#[inline(never)]
fn vectorize_bf16<T: DotTask>(dot: Avx512Bf16, task: T) {
    task.run(dot)
}

// In what follows the proof is `self`: it exists only where `new` found every feature that is named there.
//
// SAFETY: `Avx512Bf16(_)` is built by `new` alone.
unsafe impl Unit for Avx512Bf16 {
    type Simd = Avx512;

    const ROWS: usize = MAX_ROWS;
    const SCALED: bool = false;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.avx512()
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_bf16(self, task) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        // SAFETY: `self` proves avx512bf16; the caller vouches for the elements; both types are 32 bytes.
        unsafe {
            let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_pair(self, to: *mut u16, [v, behind]: [__m512; 2]) {
        // SAFETY: as above; both types are 64 bytes.
        unsafe {
            let rounded = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(behind, v));
            _mm512_storeu_si512(to.cast(), rounded);
        }
    }

    /// In numbers of 16 bits, see [`exp2_i16`](crate::math::exp2_i16), its twin: half the steps that f32 takes, twice as many keys
    /// in each. The sum is that of the rounded weights.
    #[inline(always)]
    unsafe fn weigh(
        self,
        scores: *const f32,
        place: usize,
        n_panels: usize,
        (scale, offset): (f32, f32),
        to: *mut u16,
        mut sums: __m512,
    ) -> __m512 {
        // SAFETY: `self` proves the features; the caller vouches for the elements; both types are 64 bytes of plain data.
        unsafe {
            let scale = _mm512_set1_ps(scale * weight::ONE);
            let offset = _mm512_set1_ps(offset.mul_add(weight::ONE, 0.5 * weight::ONE));
            let fixed = |at: *const f32| {
                _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_loadu_ps(at), scale, offset))
            };
            // Packing goes by quarters: the first of both, the second of both..
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            for panel in 0..n_panels {
                let scores = scores.add(panel * place);
                let packed = _mm512_packs_epi32(fixed(scores), fixed(scores.add(LANES)));
                let x = _mm512_permutexvar_epi64(order, packed);
                let g = _mm512_slli_epi16::<6>(x);
                let square = _mm512_mulhrs_epi16(g, g);
                let bow = _mm512_sub_epi16(_mm512_set1_epi16(i16::MAX), square);
                let slope = _mm512_mulhrs_epi16(g, _mm512_set1_epi16(weight::SLOPE));
                let depth = _mm512_add_epi16(slope, _mm512_set1_epi16(weight::DEPTH));
                let x = _mm512_adds_epi16(x, _mm512_mulhrs_epi16(depth, bow));
                let rounded = _mm512_mulhrs_epi16(x, _mm512_set1_epi16(weight::TO_BF16));
                let bits = _mm512_add_epi16(rounded, _mm512_set1_epi16(weight::BIAS));
                _mm512_storeu_si512(to.add(panel * PANEL).cast(), bits);
                let bits = transmute::<__m512i, __m512bh>(bits);
                let ones = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(0x3f80_3f80));
                sums = _mm512_dpbf16_ps(sums, bits, ones);
            }
            sums
        }
    }
}

impl Dot for Avx512Bf16 {
    type Sums = __m512;
    type Words = __m512i;

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the words.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(self, from: *const u32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the word.
        unsafe { _mm512_set1_epi32(*from as i32) }
    }

    #[inline(always)]
    fn dot(self, sums: __m512, x: __m512i, w: __m512i) -> __m512 {
        // SAFETY: `self` proves avx512bf16; both types are 64 bytes of plain data.
        unsafe {
            let (x, w) = (
                transmute::<__m512i, __m512bh>(x),
                transmute::<__m512i, __m512bh>(w),
            );
            _mm512_dpbf16_ps(sums, x, w)
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, sums) }
    }
}
