//! Vector work beside the products of a microkernel. No implementation is imported here.

use super::layout::{LANES, NR};
use crate::math::{exp2, gelu_bf16, round_bf16};
use crate::simd::Simd;

/// Vector work of a microkernel: bf16 stores, GELU and softmax numerators in the accuracy of its products.
pub(crate) trait VectorOps: Copy + Send + Sync + 'static {
    /// Vectors of the f32 work beside the products.
    type Simd: Simd;

    /// Token of the f32 vectors.
    fn simd(self) -> Self::Simd;

    /// Stores a vector, rounded to bf16, to `to`.
    ///
    /// # Safety
    /// `LANES` bf16 elements must be writable.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: <Self::Simd as Simd>::V) {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: no vector is longer than 16.
        unsafe { self.simd().store(lanes.as_mut_ptr(), v) };
        for i in 0..<Self::Simd as Simd>::LANES {
            // SAFETY: the caller's.
            unsafe { *to.add(i) = round_bf16(lanes[i]) };
        }
    }

    /// Stores two consecutive vectors, rounded to bf16, to `to`.
    ///
    /// # Safety
    /// `2 * LANES` bf16 elements must be writable.
    #[inline(always)]
    unsafe fn store_bf16_pair(self, to: *mut u16, [v, next]: [<Self::Simd as Simd>::V; 2]) {
        // SAFETY: the caller's.
        unsafe {
            self.store_bf16(to, v);
            self.store_bf16(to.add(<Self::Simd as Simd>::LANES), next);
        }
    }

    /// GELU with an absolute error below 6e-5.
    #[inline(always)]
    fn gelu(self, x: <Self::Simd as Simd>::V) -> <Self::Simd as Simd>::V {
        gelu_bf16(self.simd(), x)
    }

    /// Softmax numerators of one row: writes `2^(scale * score + offset)`, rounded to bf16, to `to`, contiguous, and
    /// returns `acc` plus their sum.
    ///
    /// The scores are in `n_panels` panels of keys, `ld_acc` elements apart. Results up to 2^31 are supported; those
    /// below 2^-32 may be raised to 2^-32.
    ///
    /// # Safety
    /// `n_panels * 32` scores must be readable and as many bf16 elements writable.
    #[inline(always)]
    unsafe fn exp2_panels(
        self,
        scores: *const f32,
        ld_acc: usize,
        n_panels: usize,
        (scale, offset): (f32, f32),
        to: *mut u16,
        mut acc: <Self::Simd as Simd>::V,
    ) -> <Self::Simd as Simd>::V {
        let s = self.simd();
        let (scale, offset) = (s.splat(scale), s.splat(offset));
        for panel in 0..n_panels {
            for i in (0..NR).step_by(<Self::Simd as Simd>::LANES) {
                // SAFETY: the caller's.
                unsafe {
                    let scores = s.load(scores.add(panel * ld_acc + i));
                    let v = exp2(s, s.fma(scores, scale, offset));
                    acc = s.add(acc, v);
                    self.store_bf16(to.add(panel * NR + i), v);
                }
            }
        }
        acc
    }
}
