//! NEON: 4 lanes, 32 registers. Part of every aarch64, so the token needs no detection beyond the architecture.

use std::arch::aarch64::*;
use std::arch::asm;

use half::{bf16, f16};

use super::vector::{Simd, Vectorized};
use crate::arch::Neon;

#[target_feature(enable = "neon")]
#[inline(never)]
fn vectorize<T: Vectorized>(simd: Neon, task: T) -> T::Output {
    task.run(simd)
}

// In what follows the proof is `self`: it exists only where `Neon::new` found NEON.
//
// SAFETY: `Neon(())` is built by `new` alone.
unsafe impl Simd for Neon {
    type V = float32x4_t;

    const LANES: usize = 4;
    const ROWS: usize = 6;

    #[inline]
    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        // SAFETY: `self` proves NEON.
        unsafe { vectorize(self, task) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for the elements.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, n: usize) -> float32x4_t {
        let mut padded = [0.0f32; 4];
        assert!(n <= 4);
        // SAFETY: the caller vouches for `n` elements; `padded` holds as many, asserted above.
        unsafe { std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), n) };
        // SAFETY: `self` proves NEON; `padded` is 4 elements.
        unsafe { vld1q_f32(padded.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: float32x4_t) {
        // SAFETY: `self` proves NEON; the caller vouches for the elements.
        unsafe { vst1q_f32(to, v) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, v: float32x4_t, n: usize) {
        let mut lanes = [0.0f32; 4];
        assert!(n <= 4);
        // SAFETY: `self` proves NEON; `lanes` is 4 elements.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), v) };
        // SAFETY: the caller vouches for `n` elements; `lanes` holds as many, asserted above.
        unsafe { std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n) };
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> float32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for 8 bytes.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> float32x4_t {
        // SAFETY: `self` proves NEON; the caller vouches for 8 bytes. A bfloat16 is the top half of an f32.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> float32x4_t {
        // SAFETY: the caller vouches for 4 bytes.
        let bytes = unsafe { from.cast::<u32>().read_unaligned() };
        // SAFETY: `self` proves NEON.
        unsafe {
            let wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes)));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)))
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16, v: float32x4_t) {
        // SAFETY: `self` proves NEON; the caller vouches for 8 bytes.
        unsafe { vst1_u16(to.cast(), vreinterpret_u16_f16(vcvt_f16_f32(v))) }
    }

    #[inline(always)]
    fn prefetch<T>(self, at: *const T) {
        // SAFETY: a hint, which never faults and changes nothing.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags))
        }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON. A comparison with NaN is false, which selects `b`, as x86 does.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON. A comparison with NaN is false, which selects `b`, as x86 does.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn zero_if_below(self, a: float32x4_t, x: float32x4_t, limit: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), vcltq_f32(x, limit))) }
    }

    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vrndnq_f32(a) }
    }

    #[inline(always)]
    fn scale_by_power(self, a: float32x4_t, n: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON. `n` is a normal exponent by contract, so it fits the exponent's bits.
        unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn sum4(self, [a, b, c, d]: [float32x4_t; 4]) -> [f32; 4] {
        // SAFETY: `self` proves NEON. Transposed as they are added: i with i + 2, then the two that are left.
        unsafe {
            let ab = vaddq_f32(vzip1q_f32(a, b), vzip2q_f32(a, b)); // a0 b0 a1 b1
            let cd = vaddq_f32(vzip1q_f32(c, d), vzip2q_f32(c, d));
            let low = vcombine_f32(vget_low_f32(ab), vget_low_f32(cd));
            let high = vcombine_f32(vget_high_f32(ab), vget_high_f32(cd));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), vaddq_f32(low, high));
            out
        }
    }
}
