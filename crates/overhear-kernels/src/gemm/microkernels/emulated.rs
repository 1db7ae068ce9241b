//! Emulated register kernels, in plain Rust: the twins of the instructions, and the fallback of machines without
//! them, compiled for the vectors that they have.

use super::registers::register_blocks;
use crate::gemm::layout::LANES;
use crate::gemm::microkernel::{GemmTask, MicroKernel, RegisterKernel};
use crate::gemm::vector_ops::VectorOps;
use crate::simd::{Simd, Vectorized};

/// bf16 dot products beside the vectors of `S`. A product of two bf16 is exact in f32, so adding it is one rounding,
/// as in `vdpbf16ps`. The instruction flushes subnormal numbers (below 1e-38) to 0; the emulation keeps them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedBf16<S>(pub(crate) S);

/// int8 dot products beside the vectors of `S`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedInt8<S>(pub(crate) S);

/// Task with its microkernel, to be compiled by [`Simd::vectorize`].
pub(super) struct With<K, T>(pub(super) K, pub(super) T);

impl<K: MicroKernel, T: GemmTask> Vectorized for With<K, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.1.run(self.0)
    }
}

// SAFETY: no instructions to prove but those of `S`, which is a proof itself.
unsafe impl<S: Simd> MicroKernel for EmulatedBf16<S> {
    const MR: usize = 1;
    const IS_INT8: bool = false;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl<S: Simd> VectorOps for EmulatedBf16<S> {
    type Simd = S;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }
}

impl<S: Simd> RegisterKernel for EmulatedBf16<S> {
    type Acc = [f32; LANES];
    type Groups = [u32; LANES];

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> [f32; LANES] {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        [unsafe { *from }; LANES]
    }

    #[inline(always)]
    fn dot(self, mut acc: [f32; LANES], x: [u32; LANES], w: [u32; LANES]) -> [f32; LANES] {
        let high = |group: u32| f32::from_bits(group & 0xffff_0000);
        let low = |group: u32| f32::from_bits(group << 16);
        for i in 0..LANES {
            acc[i] += high(x[i]) * high(w[i]);
            acc[i] += low(x[i]) * low(w[i]);
        }
        acc
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: [f32; LANES]) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(acc) }
    }
}

// SAFETY: as above.
unsafe impl<S: Simd> MicroKernel for EmulatedInt8<S> {
    const MR: usize = 1;
    const IS_INT8: bool = true;

    register_blocks!();

    #[inline]
    fn vectorize<T: GemmTask>(self, task: T) {
        self.0.vectorize(With(self, task));
    }
}

impl<S: Simd> VectorOps for EmulatedInt8<S> {
    type Simd = S;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }
}

impl<S: Simd> RegisterKernel for EmulatedInt8<S> {
    type Acc = [i32; LANES];
    type Groups = [u32; LANES];

    #[inline(always)]
    unsafe fn init_acc(self, from: *const i32) -> [i32; LANES] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[i32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_b(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn broadcast_a(self, from: *const u32) -> [u32; LANES] {
        // SAFETY: the caller's.
        [unsafe { *from }; LANES]
    }

    #[inline(always)]
    fn dot(self, mut acc: [i32; LANES], x: [u32; LANES], w: [u32; LANES]) -> [i32; LANES] {
        for i in 0..LANES {
            for shift in [0, 8, 16, 24] {
                let x = (x[i] >> shift & 0xff) as i32;
                let w = i32::from((w[i] >> shift) as u8 as i8);
                acc[i] += x * w;
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: [i32; LANES]) {
        // SAFETY: the caller's.
        unsafe {
            to.cast::<[f32; LANES]>()
                .write_unaligned(acc.map(|sum| sum as f32))
        }
    }
}
