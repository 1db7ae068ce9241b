//! The dot products in plain Rust: the twin of the instructions, and what machines without them run, compiled for
//! the vectors that they have.

use super::registers::blocks_in_registers;
use crate::gemm::layout::LANES;
use crate::gemm::microkernel::{Dot, DotTask, Unit};
use crate::simd::{Simd, Vectorized};

/// bfloat16 beside the vectors of `S`. A product of two bfloat16 is exact in f32, so adding it is one rounding, as in
/// the instruction. That flushes numbers below 1e-38 to 0; here they stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedBf16<S>(pub(crate) S);

/// Bytes beside the vectors of `S`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedInt8<S>(pub(crate) S);

/// A task with its unit, for [`Simd::vectorize`].
pub(super) struct With<U, T>(pub(super) U, pub(super) T);

impl<U: Unit, T: DotTask> Vectorized for With<U, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.1.run(self.0)
    }
}

// SAFETY: no instructions to prove but those of `S`, which is a proof itself.
unsafe impl<S: Simd> Unit for EmulatedBf16<S> {
    type Simd = S;

    const ROWS: usize = 1;
    const SCALED: bool = false;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl<S: Simd> Dot for EmulatedBf16<S> {
    type Sums = [f32; LANES];
    type Words = [u32; LANES];

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        [unsafe { *from }; LANES]
    }

    #[inline(always)]
    fn dot(self, mut sums: [f32; LANES], x: [u32; LANES], w: [u32; LANES]) -> [f32; LANES] {
        let high = |word: u32| f32::from_bits(word & 0xffff_0000);
        let low = |word: u32| f32::from_bits(word << 16);
        for i in 0..LANES {
            sums[i] += high(x[i]) * high(w[i]);
            sums[i] += low(x[i]) * low(w[i]);
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: [f32; LANES]) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(sums) }
    }
}

// SAFETY: as above.
unsafe impl<S: Simd> Unit for EmulatedInt8<S> {
    type Simd = S;

    const ROWS: usize = 1;
    const SCALED: bool = true;

    blocks_in_registers!();

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl<S: Simd> Dot for EmulatedInt8<S> {
    type Sums = [i32; LANES];
    type Words = [u32; LANES];

    #[inline(always)]
    unsafe fn start(self, from: *const i32) -> [i32; LANES] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[i32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        [unsafe { *from }; LANES]
    }

    #[inline(always)]
    fn dot(self, mut sums: [i32; LANES], x: [u32; LANES], w: [u32; LANES]) -> [i32; LANES] {
        for i in 0..LANES {
            for shift in [0, 8, 16, 24] {
                let x = (x[i] >> shift & 0xff) as i32;
                let w = i32::from((w[i] >> shift) as u8 as i8);
                sums[i] += x * w;
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: [i32; LANES]) {
        // SAFETY: the caller's.
        unsafe {
            to.cast::<[f32; LANES]>()
                .write_unaligned(sums.map(|sum| sum as f32))
        }
    }
}
