//! AVX-512 microkernels of machines without AVX-512 BF16 or VNNI: multiply-adds after widening.
//!
//! A product of two bf16 is exact in f32, so adding it is one rounding, as in `vdpbf16ps`. Sums of int8 products are exact.
//! A is widened 16 K groups of a row at a time to L1, from where a K group takes no more than two loads: vector
//! instructions share their two ports with the multiply-adds.

use std::arch::x86_64::*;

use super::avx512_vector::{exp2_panels, store_bf16};
use super::emulated::With;
use super::registers::{MR, register_blocks};
use crate::arch::Avx512;
use crate::gemm::layout::LANES;
use crate::gemm::microkernel::{GemmTask, MicroKernel, RegisterKernel};
use crate::gemm::vector_ops::VectorOps;
use crate::simd::Simd;

/// bf16 by f32 multiply-adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512WideBf16(pub(crate) Avx512);

/// int8 by 16-bit multiply-adds (`vpmaddwd`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512WideInt8(pub(crate) Avx512);

// SAFETY: no instructions to prove but those of `Avx512`, which is a proof itself.
unsafe impl MicroKernel for Avx512WideBf16 {
    const MR: usize = MR;
    const IS_INT8: bool = false;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

// In what follows the proof is `self`: it exists only where `Avx512::new` found every feature that is named there.
impl VectorOps for Avx512WideBf16 {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { store_bf16(to, v) }
    }

    /// Softmax numerators in 16-bit arithmetic, as on AVX-512 BF16.
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
        let add = |acc: __m512, bits: __m512i| {
            let [high, low] = widen(bits);
            self.0.add(self.0.add(acc, high), low)
        };
        // SAFETY: `self` proves avx512bw; the caller vouches for the elements.
        unsafe { exp2_panels(scores, ld_acc, n_panels, terms, to, acc, add) }
    }
}

/// The high halves, and the low halves, of 16 pairs of bf16 as f32.
#[inline(always)]
fn widen(pairs: __m512i) -> [__m512; 2] {
    // SAFETY: called only where an `Avx512` is at hand, which proves avx512f.
    unsafe {
        let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        let low = _mm512_slli_epi32::<16>(pairs);
        [_mm512_castsi512_ps(high), _mm512_castsi512_ps(low)]
    }
}

/// `n <= 16` K groups, and zeros.
///
/// # Safety
/// They must be readable, on a machine with avx512f.
#[inline(always)]
unsafe fn load_groups(from: *const u32, n: usize) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_maskz_loadu_epi32((0xffff_u32 >> (LANES - n)) as u16, from.cast()) }
}

impl RegisterKernel for Avx512WideBf16 {
    type Acc = __m512;
    /// The high halves, and the low halves, as f32.
    type Groups = [__m512; 2];

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> __m512 {
        self.0.splat(0.0)
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> [__m512; 2] {
        // SAFETY: `self` proves avx512f; the caller vouches for the K groups.
        widen(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    const WIDENS_A: bool = true;

    /// The high halves, then the low halves, as f32.
    #[inline(always)]
    unsafe fn widen_a(self, from: *const u32, n: usize, to: &mut [u32; 2 * LANES]) {
        // SAFETY: `self` proves avx512f; the caller vouches for the K groups.
        unsafe {
            let [high, low] = widen(load_groups(from, n));
            _mm512_storeu_ps(to.as_mut_ptr().cast(), high);
            _mm512_storeu_ps(to.as_mut_ptr().add(LANES).cast(), low);
        }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> [__m512; 2] {
        // SAFETY: `self` proves avx512f; the caller vouches for the widened K group.
        unsafe {
            let (high, low) = (from.cast::<f32>(), from.add(LANES).cast::<f32>());
            [_mm512_set1_ps(*high), _mm512_set1_ps(*low)]
        }
    }

    #[inline(always)]
    fn dot(self, acc: __m512, x: [__m512; 2], w: [__m512; 2]) -> __m512 {
        self.0.fma(x[1], w[1], self.0.fma(x[0], w[0], acc))
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, acc) }
    }
}

// SAFETY: as above.
unsafe impl MicroKernel for Avx512WideInt8 {
    const MR: usize = MR;
    const IS_INT8: bool = true;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl VectorOps for Avx512WideInt8 {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { store_bf16(to, v) }
    }
}

impl RegisterKernel for Avx512WideInt8 {
    type Acc = __m512i;
    /// The even bytes, and the odd bytes, as 16-bit integers.
    type Groups = [__m512i; 2];

    #[inline(always)]
    unsafe fn init_acc(self, from: *const i32) -> __m512i {
        // SAFETY: `self` proves avx512f; the caller vouches for the numbers.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> [__m512i; 2] {
        // SAFETY: `self` proves avx512bw; the caller vouches for the K groups.
        unsafe {
            let groups = _mm512_loadu_si512(from.cast());
            let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(groups));
            [even, _mm512_srai_epi16::<8>(groups)]
        }
    }

    const WIDENS_A: bool = true;

    /// The even bytes, then the odd bytes, as 16-bit integers.
    #[inline(always)]
    unsafe fn widen_a(self, from: *const u32, n: usize, to: &mut [u32; 2 * LANES]) {
        // SAFETY: `self` proves avx512bw; the caller vouches for the K groups.
        unsafe {
            let groups = load_groups(from, n);
            let even = _mm512_and_si512(groups, _mm512_set1_epi16(0xff));
            let odd = _mm512_srli_epi16::<8>(groups);
            _mm512_storeu_si512(to.as_mut_ptr().cast(), even);
            _mm512_storeu_si512(to.as_mut_ptr().add(LANES).cast(), odd);
        }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> [__m512i; 2] {
        // SAFETY: `self` proves avx512f; the caller vouches for the widened K group.
        unsafe {
            let (even, odd) = (*from as i32, *from.add(LANES) as i32);
            [_mm512_set1_epi32(even), _mm512_set1_epi32(odd)]
        }
    }

    #[inline(always)]
    fn dot(self, acc: __m512i, x: [__m512i; 2], w: [__m512i; 2]) -> __m512i {
        // SAFETY: `self` proves avx512bw.
        unsafe {
            let even = _mm512_madd_epi16(x[0], w[0]);
            let odd = _mm512_madd_epi16(x[1], w[1]);
            _mm512_add_epi32(_mm512_add_epi32(acc, even), odd)
        }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: __m512i) {
        // SAFETY: `self` proves avx512f; the caller vouches for the elements.
        unsafe { _mm512_storeu_ps(to, _mm512_cvtepi32_ps(acc)) }
    }
}
