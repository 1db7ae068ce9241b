//! AVX-512 VNNI microkernel: `vpdpbusd`, u8 x s8.

use std::arch::x86_64::*;

use super::avx512_vector::store_bf16;
use super::registers::{MR, register_blocks};
use crate::arch::{Avx512, Avx512Vnni};
use crate::gemm::microkernel::{GemmTask, MicroKernel, RegisterKernel};
use crate::gemm::vector_ops::VectorOps;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn vectorize_int8<T: GemmTask>(dot: Avx512Vnni, task: T) {
    task.run(dot)
}

// SAFETY: `Avx512Vnni(_)` is built by `new` alone.
unsafe impl MicroKernel for Avx512Vnni {
    const MR: usize = MR;
    const IS_INT8: bool = true;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_int8(self, task) }
    }
}

impl VectorOps for Avx512Vnni {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.avx512()
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { store_bf16(to, v) }
    }
}

impl RegisterKernel for Avx512Vnni {
    type Acc = __m512i;
    type Groups = __m512i;

    #[inline(always)]
    unsafe fn init_acc(self, from: *const i32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the numbers.
        unsafe { _mm512_loadu_si512(from.cast()) }
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
    fn dot(self, acc: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: `self` proves avx512vnni.
        unsafe { _mm512_dpbusd_epi32(acc, x, w) }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: __m512i) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, _mm512_cvtepi32_ps(acc)) }
    }
}
