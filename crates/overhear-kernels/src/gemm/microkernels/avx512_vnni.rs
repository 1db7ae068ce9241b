//! AVX-512 VNNI: `vpdpbusd`.

use std::arch::x86_64::*;

use super::registers::{MAX_ROWS, blocks_in_registers};
use crate::arch::{Avx512, Avx512Vnni};
use crate::gemm::microkernel::{Dot, DotTask, Unit};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn vectorize_int8<T: DotTask>(dot: Avx512Vnni, task: T) {
    task.run(dot)
}

// SAFETY: `Avx512Vnni(_)` is built by `new` alone.
unsafe impl Unit for Avx512Vnni {
    type Simd = Avx512;

    const ROWS: usize = MAX_ROWS;
    const SCALED: bool = true;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.avx512()
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_int8(self, task) }
    }
}

impl Dot for Avx512Vnni {
    type Sums = __m512i;
    type Words = __m512i;

    #[inline(always)]
    unsafe fn start(self, from: *const i32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the numbers.
        unsafe { _mm512_loadu_si512(from.cast()) }
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
    fn dot(self, sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: `self` proves avx512vnni.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: __m512i) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, _mm512_cvtepi32_ps(sums)) }
    }
}
