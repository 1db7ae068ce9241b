//! AVX-512 BF16 microkernel: `vdpbf16ps`.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::avx512_vector::exp2_panels;
use super::registers::{MR, register_blocks};
use crate::arch::{Avx512, Avx512Bf16};
use crate::gemm::microkernel::{GemmTask, MicroKernel, RegisterKernel};
use crate::gemm::vector_ops::VectorOps;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
#[inline(never)]
fn vectorize_bf16<T: GemmTask>(dot: Avx512Bf16, task: T) {
    task.run(dot)
}

// In what follows the proof is `self`: it exists only where `new` found every feature that is named there.
//
// SAFETY: `Avx512Bf16(_)` is built by `new` alone.
unsafe impl MicroKernel for Avx512Bf16 {
    const MR: usize = MR;
    const IS_INT8: bool = false;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_bf16(self, task) }
    }
}

impl VectorOps for Avx512Bf16 {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.avx512()
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
    unsafe fn store_bf16_pair(self, to: *mut u16, [v, next]: [__m512; 2]) {
        // SAFETY: as above; both types are 64 bytes.
        unsafe {
            let rounded = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(next, v));
            _mm512_storeu_si512(to.cast(), rounded);
        }
    }

    /// Softmax numerators in 16-bit arithmetic.
    #[inline(always)]
    unsafe fn exp2_panels(
        self,
        scores: *const f32,
        ld_acc: usize,
        n_panels: usize,
        terms: (f32, f32),
        to: *mut u16,
        acc: __m512,
    ) -> __m512 {
        // SAFETY: `self` proves the features; both types are 64 bytes of plain data.
        let add = |acc: __m512, bits: __m512i| unsafe {
            let bits = transmute::<__m512i, __m512bh>(bits);
            let ones = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(0x3f80_3f80));
            _mm512_dpbf16_ps(acc, bits, ones)
        };
        // SAFETY: as above; the caller vouches for the elements.
        unsafe { exp2_panels(scores, ld_acc, n_panels, terms, to, acc, add) }
    }
}

impl RegisterKernel for Avx512Bf16 {
    type Acc = __m512;
    type Groups = __m512i;

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> __m512 {
        // SAFETY: `self` proves avx512f.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the K groups.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the K group.
        unsafe { _mm512_set1_epi32(*from as i32) }
    }

    #[inline(always)]
    fn dot(self, acc: __m512, x: __m512i, w: __m512i) -> __m512 {
        // SAFETY: `self` proves avx512bf16; both types are 64 bytes of plain data.
        unsafe {
            let (x, w) = (
                transmute::<__m512i, __m512bh>(x),
                transmute::<__m512i, __m512bh>(w),
            );
            _mm512_dpbf16_ps(acc, x, w)
        }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, acc) }
    }
}
