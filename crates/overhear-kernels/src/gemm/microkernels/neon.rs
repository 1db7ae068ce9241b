//! NEON microkernels: bf16 by widening multiply-adds (BF16's `bfmlalt`, `bfmlalb`) or by multiply-adds after
//! widening, int8 by DotProd's `sdot`. 16 K groups are four registers.
//!
//! `bfdot`, of twice the throughput, is not used: it rounds to odd, twice per K group, and flushes subnormal numbers,
//! so its results differ from every other set's. The intrinsics are not stable yet, hence `asm!`.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::emulated::With;
use super::registers::register_blocks;
use crate::arch::{Neon, NeonBf16, NeonDotProd};
use crate::gemm::layout::LANES;
use crate::gemm::microkernel::{GemmTask, MicroKernel, RegisterKernel};
use crate::gemm::vector_ops::VectorOps;
use crate::simd::Simd;

/// Registers of 16 K groups.
const QUARTERS: usize = 4;
/// K groups of a register.
const QUARTER: usize = LANES / QUARTERS;

/// bf16 on every machine with NEON, widened to f32 as it is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonWide(pub(crate) Neon);

// SAFETY: no instructions to prove but those of `Neon`, which is a proof itself.
unsafe impl MicroKernel for NeonWide {
    /// Accumulators of a row take 8 registers, a widened panel 16.
    const MR: usize = 2;
    const IS_INT8: bool = false;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl VectorOps for NeonWide {
    type Simd = Neon;

    #[inline(always)]
    fn simd(self) -> Neon {
        self.0
    }
}

impl RegisterKernel for NeonWide {
    type Acc = [float32x4_t; QUARTERS];
    /// The high halves, and the low halves, as f32.
    type Groups = [[float32x4_t; QUARTERS]; 2];

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> Self::Acc {
        [self.0.splat(0.0); QUARTERS]
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> Self::Groups {
        // SAFETY: the caller vouches for the K groups.
        let groups = unsafe { load(self.0, from) };
        // SAFETY: `self` proves NEON. A bfloat16 is the top half of an f32.
        unsafe {
            [
                groups.map(|w| vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff_0000)))),
                groups.map(|w| vreinterpretq_f32_u32(vshlq_n_u32::<16>(w))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> Self::Groups {
        // SAFETY: the caller vouches for the K group.
        let group = unsafe { *from };
        [group & 0xffff_0000, group << 16].map(|x| [self.0.splat(f32::from_bits(x)); QUARTERS])
    }

    #[inline(always)]
    fn dot(self, mut acc: Self::Acc, x: Self::Groups, w: Self::Groups) -> Self::Acc {
        for half in 0..2 {
            for i in 0..QUARTERS {
                acc[i] = self.0.fma(x[half][i], w[half][i], acc[i]);
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc) {
        // SAFETY: the caller vouches for the elements.
        unsafe { store(self.0, to, acc) }
    }
}

#[target_feature(enable = "neon,bf16")]
#[inline(never)]
fn vectorize_bf16<T: GemmTask>(dot: NeonBf16, task: T) {
    task.run(dot)
}

// In what follows the proof is `self`: it exists only where `new` found the feature.
//
// SAFETY: `NeonBf16(_)` is built by `new` alone.
unsafe impl MicroKernel for NeonBf16 {
    /// Accumulators of a row take 8 registers, a panel up to 8.
    const MR: usize = 3;
    const IS_INT8: bool = false;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_bf16(self, task) }
    }
}

impl VectorOps for NeonBf16 {
    type Simd = Neon;

    #[inline(always)]
    fn simd(self) -> Neon {
        self.neon()
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: float32x4_t) {
        // SAFETY: `self` proves BF16; the caller vouches for the elements.
        unsafe {
            let rounded: uint16x4_t;
            asm!(
                "bfcvtn {rounded:v}.4h, {v:v}.4s",
                rounded = lateout(vreg) rounded,
                v = in(vreg) v,
                options(pure, nomem, nostack, preserves_flags)
            );
            vst1_u16(to, rounded);
        }
    }
}

impl RegisterKernel for NeonBf16 {
    type Acc = [float32x4_t; QUARTERS];
    type Groups = [uint32x4_t; QUARTERS];

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> Self::Acc {
        [self.neon().splat(0.0); QUARTERS]
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> Self::Groups {
        // SAFETY: the caller vouches for the K groups.
        unsafe { load(self.neon(), from) }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> Self::Groups {
        // SAFETY: `self` proves NEON; the caller vouches for the K group.
        [unsafe { vdupq_n_u32(*from) }; QUARTERS]
    }

    #[inline(always)]
    fn dot(self, mut acc: Self::Acc, x: Self::Groups, w: Self::Groups) -> Self::Acc {
        for i in 0..QUARTERS {
            acc[i] = self.add_high(acc[i], x[i], w[i]);
        }
        for i in 0..QUARTERS {
            acc[i] = self.add_low(acc[i], x[i], w[i]);
        }
        acc
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc) {
        // SAFETY: the caller vouches for the elements.
        unsafe { store(self.neon(), to, acc) }
    }
}

impl NeonBf16 {
    /// `sum` plus the products of the high halves, rounded once.
    #[inline(always)]
    fn add_high(self, mut sum: float32x4_t, x: uint32x4_t, w: uint32x4_t) -> float32x4_t {
        // SAFETY: `self` proves BF16.
        unsafe {
            asm!(
                "bfmlalt {sum:v}.4s, {x:v}.8h, {w:v}.8h",
                sum = inout(vreg) sum,
                x = in(vreg) x,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    /// `sum` plus the products of the low halves, rounded once.
    #[inline(always)]
    fn add_low(self, mut sum: float32x4_t, x: uint32x4_t, w: uint32x4_t) -> float32x4_t {
        // SAFETY: `self` proves BF16.
        unsafe {
            asm!(
                "bfmlalb {sum:v}.4s, {x:v}.8h, {w:v}.8h",
                sum = inout(vreg) sum,
                x = in(vreg) x,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }
}

#[target_feature(enable = "neon,dotprod")]
#[inline(never)]
fn vectorize_int8<T: GemmTask>(dot: NeonDotProd, task: T) {
    task.run(dot)
}

// SAFETY: `NeonDotProd(_)` is built by `new` alone.
unsafe impl MicroKernel for NeonDotProd {
    /// Registers would suffice for 3, as with bf16, but then the compiler spills more than it gains.
    const MR: usize = 2;
    const IS_INT8: bool = true;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_int8(self, task) }
    }
}

impl VectorOps for NeonDotProd {
    type Simd = Neon;

    #[inline(always)]
    fn simd(self) -> Neon {
        self.neon()
    }
}

/// `sdot` multiplies s8 by s8, so the offset of 128 is removed from A when it is broadcast, and the compensation for
/// it is not used.
impl RegisterKernel for NeonDotProd {
    type Acc = [int32x4_t; QUARTERS];
    type Groups = [uint32x4_t; QUARTERS];

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> Self::Acc {
        // SAFETY: `self` proves NEON.
        [unsafe { vdupq_n_s32(0) }; QUARTERS]
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> Self::Groups {
        // SAFETY: the caller vouches for the K groups.
        unsafe { load(self.neon(), from) }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> Self::Groups {
        // SAFETY: `self` proves NEON; the caller vouches for the K group.
        [unsafe { vdupq_n_u32(*from ^ 0x8080_8080) }; QUARTERS]
    }

    #[inline(always)]
    fn dot(self, mut acc: Self::Acc, x: Self::Groups, w: Self::Groups) -> Self::Acc {
        for i in 0..QUARTERS {
            // SAFETY: `self` proves DotProd.
            unsafe {
                asm!(
                    "sdot {sum:v}.4s, {x:v}.16b, {w:v}.16b",
                    sum = inout(vreg) acc[i],
                    x = in(vreg) x[i],
                    w = in(vreg) w[i],
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc) {
        // SAFETY: `self` proves NEON; the caller vouches for the elements.
        unsafe { store(self.neon(), to, acc.map(|acc| vcvtq_f32_s32(acc))) }
    }
}

/// Loads 16 K groups.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn load(_: Neon, from: *const u32) -> [uint32x4_t; QUARTERS] {
    // SAFETY: the argument proves NEON; the caller vouches for the K groups.
    from_fn(|i| unsafe { vld1q_u32(from.add(QUARTER * i)) })
}

/// Stores 16 accumulators to `to`.
///
/// # Safety
/// 16 elements must be writable.
#[inline(always)]
unsafe fn store(simd: Neon, to: *mut f32, acc: [float32x4_t; QUARTERS]) {
    for (i, acc) in acc.into_iter().enumerate() {
        // SAFETY: the caller vouches for the elements.
        unsafe { simd.store(to.add(QUARTER * i), acc) };
    }
}
