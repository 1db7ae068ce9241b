//! AVX-512 BF16 (`vdpbf16ps`) and VNNI (`vpdpbusd`).

use std::arch::x86_64::*;
use std::mem::transmute;

use super::registers::{MAX_ROWS, blocks_in_registers};
use super::{Dot, DotTask, Unit};
use crate::simd::Avx512;

/// Proof that the machine has AVX-512 F, BW, VL, DQ and BF16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    pub(crate) fn new(simd: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self(simd))
    }
}

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
        self.0
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

/// Proof that the machine has AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Int8(Avx512);

impl Avx512Int8 {
    pub(crate) fn new(simd: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512vnni").then_some(Self(simd))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn vectorize_int8<T: DotTask>(dot: Avx512Int8, task: T) {
    task.run(dot)
}

// SAFETY: `Avx512Int8(_)` is built by `new` alone.
unsafe impl Unit for Avx512Int8 {
    type Simd = Avx512;

    const ROWS: usize = MAX_ROWS;
    const SCALED: bool = true;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_int8(self, task) }
    }
}

impl Dot for Avx512Int8 {
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
