//! NEON: bfloat16 by multiply-adds that widen them (BF16's `bfmlalt`, `bfmlalb`) or after widening, bytes by DotProd's
//! `sdot`. Sixteen words are four registers.
//!
//! `bfdot`, of twice the products, is left alone: it rounds to odd, twice a word, and flushes small numbers, so that its
//! sums are not those of any other set. The intrinsics are not stable yet, hence `asm!`.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::emulated::With;
use super::registers::blocks_in_registers;
use crate::arch::{Neon, NeonBf16, NeonDotProd};
use crate::gemm::layout::LANES;
use crate::gemm::microkernel::{Dot, DotTask, Unit};
use crate::simd::Simd;

/// Registers of 16 words.
const QUARTERS: usize = 4;
/// Words of a register.
const QUARTER: usize = LANES / QUARTERS;

/// bfloat16 on every machine with NEON, widened as they are loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonWide(pub(crate) Neon);

// SAFETY: no instructions to prove but those of `Neon`, which is a proof itself.
unsafe impl Unit for NeonWide {
    type Simd = Neon;

    /// Sums of a row take 8 registers, a panel 16 when it is widened.
    const ROWS: usize = 2;
    const SCALED: bool = false;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> Neon {
        self.0
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl Dot for NeonWide {
    type Sums = [float32x4_t; QUARTERS];
    /// The high halves, and the low ones.
    type Words = [[float32x4_t; QUARTERS]; 2];

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> Self::Sums {
        [self.0.splat(0.0); QUARTERS]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::Words {
        // SAFETY: the caller vouches for the words.
        let words = unsafe { load(self.0, from) };
        // SAFETY: `self` proves NEON. A bfloat16 is the top half of an f32.
        unsafe {
            [
                words.map(|w| vreinterpretq_f32_u32(vandq_u32(w, vdupq_n_u32(0xffff_0000)))),
                words.map(|w| vreinterpretq_f32_u32(vshlq_n_u32::<16>(w))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn splat(self, from: *const u32) -> Self::Words {
        // SAFETY: the caller vouches for the word.
        let word = unsafe { *from };
        [word & 0xffff_0000, word << 16].map(|x| [self.0.splat(f32::from_bits(x)); QUARTERS])
    }

    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, x: Self::Words, w: Self::Words) -> Self::Sums {
        for half in 0..2 {
            for i in 0..QUARTERS {
                sums[i] = self.0.fma(x[half][i], w[half][i], sums[i]);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: Self::Sums) {
        // SAFETY: the caller vouches for the elements.
        unsafe { store(self.0, to, sums) }
    }
}

#[target_feature(enable = "neon,bf16")]
#[inline(never)]
fn vectorize_bf16<T: DotTask>(dot: NeonBf16, task: T) {
    task.run(dot)
}

// In what follows the proof is `self`: it exists only where `new` found the feature.
//
// SAFETY: `NeonBf16(_)` is built by `new` alone.
unsafe impl Unit for NeonBf16 {
    type Simd = Neon;

    /// Sums of a row take 8 registers, a panel up to 8.
    const ROWS: usize = 3;
    const SCALED: bool = false;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> Neon {
        self.neon()
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_bf16(self, task) }
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

impl Dot for NeonBf16 {
    type Sums = [float32x4_t; QUARTERS];
    type Words = [uint32x4_t; QUARTERS];

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> Self::Sums {
        [self.neon().splat(0.0); QUARTERS]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::Words {
        // SAFETY: the caller vouches for the words.
        unsafe { load(self.neon(), from) }
    }

    #[inline(always)]
    unsafe fn splat(self, from: *const u32) -> Self::Words {
        // SAFETY: `self` proves NEON; the caller vouches for the word.
        [unsafe { vdupq_n_u32(*from) }; QUARTERS]
    }

    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, x: Self::Words, w: Self::Words) -> Self::Sums {
        for i in 0..QUARTERS {
            sums[i] = self.add_high(sums[i], x[i], w[i]);
        }
        for i in 0..QUARTERS {
            sums[i] = self.add_low(sums[i], x[i], w[i]);
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: Self::Sums) {
        // SAFETY: the caller vouches for the elements.
        unsafe { store(self.neon(), to, sums) }
    }
}

impl NeonBf16 {
    /// `sum` and the products of high halves, rounded once.
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

    /// `sum` and the products of low halves, rounded once.
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
fn vectorize_int8<T: DotTask>(dot: NeonDotProd, task: T) {
    task.run(dot)
}

// SAFETY: `NeonDotProd(_)` is built by `new` alone.
unsafe impl Unit for NeonDotProd {
    type Simd = Neon;

    /// As with bfloat16 there could be 3, but then the compiler moves more than it multiplies.
    const ROWS: usize = 2;
    const SCALED: bool = true;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> Neon {
        self.neon()
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize_int8(self, task) }
    }
}

/// `sdot` takes signed bytes alone, so the 128 that is in those of `x` is taken off again, and with it what sums start
/// from, which is there to make up for it.
impl Dot for NeonDotProd {
    type Sums = [int32x4_t; QUARTERS];
    type Words = [uint32x4_t; QUARTERS];

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> Self::Sums {
        // SAFETY: `self` proves NEON.
        [unsafe { vdupq_n_s32(0) }; QUARTERS]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> Self::Words {
        // SAFETY: the caller vouches for the words.
        unsafe { load(self.neon(), from) }
    }

    #[inline(always)]
    unsafe fn splat(self, from: *const u32) -> Self::Words {
        // SAFETY: `self` proves NEON; the caller vouches for the word.
        [unsafe { vdupq_n_u32(*from ^ 0x8080_8080) }; QUARTERS]
    }

    #[inline(always)]
    fn dot(self, mut sums: Self::Sums, x: Self::Words, w: Self::Words) -> Self::Sums {
        for i in 0..QUARTERS {
            // SAFETY: `self` proves DotProd.
            unsafe {
                asm!(
                    "sdot {sum:v}.4s, {x:v}.16b, {w:v}.16b",
                    sum = inout(vreg) sums[i],
                    x = in(vreg) x[i],
                    w = in(vreg) w[i],
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: Self::Sums) {
        // SAFETY: `self` proves NEON; the caller vouches for the elements.
        unsafe { store(self.neon(), to, sums.map(|sums| vcvtq_f32_s32(sums))) }
    }
}

/// The 16 words at `from`.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn load(_: Neon, from: *const u32) -> [uint32x4_t; QUARTERS] {
    // SAFETY: the argument proves NEON; the caller vouches for the words.
    from_fn(|i| unsafe { vld1q_u32(from.add(QUARTER * i)) })
}

/// Writes 16 sums to `to`.
///
/// # Safety
/// They must be writable.
#[inline(always)]
unsafe fn store(simd: Neon, to: *mut f32, sums: [float32x4_t; QUARTERS]) {
    for (i, sums) in sums.into_iter().enumerate() {
        // SAFETY: the caller vouches for the elements.
        unsafe { simd.store(to.add(QUARTER * i), sums) };
    }
}
