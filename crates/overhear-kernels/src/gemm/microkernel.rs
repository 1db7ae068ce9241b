//! Traits of the microkernels of packed GEMM. No implementation is imported here.
//!
//! There are two kinds: [`RegisterKernel`]s keep the accumulators in vector registers, 16 lanes of dot products of K
//! groups (`vdpbf16ps`, `vpdpbusd`, `sdot`); tile kernels ([`TileKernel`](super::tile_kernel::TileKernel)) keep them
//! in AMX tiles. AVX2 has register blocks of its own (`microkernels::avx2_block`). Each has an emulated twin in plain
//! Rust. As with [`Simd`], a value is the proof that the machine has the instructions, and everything is inlined into
//! [`MicroKernel::vectorize`].

use std::ops::Range;

use super::vector_ops::VectorOps;
use crate::arch::TILE;
use crate::gemm::layout::LANES;
use crate::simd::Simd;

/// Largest `MR` of any microkernel.
pub(crate) const MAX_MR: usize = 2 * TILE;

/// Task of a kernel call, compiled for every microkernel.
pub(crate) trait GemmTask {
    /// Runs the task; `#[inline(always)]` in every implementation.
    fn run<K: MicroKernel>(self, kernel: K);
}

/// Blocking of a GEMM, and layout of its operands and accumulators. K is counted in K groups.
#[derive(Clone, Copy)]
pub(crate) struct Blocking {
    /// Outputs that are interleaved in a panel of B: 32 or 16, see [`super::layout`].
    pub(crate) panel_width: usize,
    /// MR: most rows of a microkernel call.
    pub(crate) mr: usize,
    /// KC for L1: most K groups that a block of rows takes before the next panels.
    pub(crate) kc_l1: usize,
    /// KC: most K groups that all rows of a task take before the next K block.
    pub(crate) kc: usize,
    /// NC, as bytes of a panel group of `kc` K groups that a task keeps in L2.
    pub(crate) nc_bytes: usize,
    /// MC: most rows of a task whose accumulators are kept from one K block to the next.
    pub(crate) mc: usize,
    /// Leading dimension of accumulators: elements from one panel's accumulators to the next panel's. A block (`mr *
    /// 32`) and a cache line, so that the same row of all panels does not map to the same L1 set.
    pub(crate) ld_acc: usize,
}

/// Operands of a microkernel call.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Row 0 of A, from its first K group; rows are `x_stride` K groups apart.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    /// First panel of B.
    pub(crate) w: *const u32,
    /// Panel stride of B, in K groups.
    pub(crate) w_stride: usize,
    /// K groups to multiply.
    pub(crate) k_groups: usize,
    /// Compensation of u8 x s8 products, `-128 * sum(w)` per output: initial value of int8 accumulators. Tile kernels
    /// leave it to [`MicroKernel::acc_to_f32`].
    pub(crate) compensation: *const i32,
    /// Whether to accumulate onto the existing contents (beta = 1) instead of starting from zero. Tile kernels only.
    pub(crate) accumulate: bool,
}

/// Epilogue, called with finished accumulators while the next block is computed.
pub(crate) trait Epilogue<K: MicroKernel> {
    /// Whether the accumulators must stay where they were written.
    const KEEPS_ACC: bool;

    /// Consumes the accumulators of `rows` of the block and of `outs`, outputs of one panel counted from the first
    /// panel. They are at `acc`, rows `NR` elements apart.
    ///
    /// # Safety
    /// The accumulators must be readable.
    unsafe fn store_c(&self, kernel: K, rows: Range<usize>, outs: Range<usize>, acc: *const f32);
}

/// No epilogue: accumulators stay in scratch memory for the next K block.
impl<K: MicroKernel> Epilogue<K> for () {
    const KEEPS_ACC: bool = true;

    #[inline(always)]
    unsafe fn store_c(&self, _: K, _: Range<usize>, _: Range<usize>, _: *const f32) {}
}

/// Microkernel: multiplies a block of rows of packed A by panels of packed B.
///
/// # Safety
/// A value of the implementing type proves that the machine has its instructions.
pub(crate) unsafe trait MicroKernel: VectorOps {
    /// MR: most rows of a block.
    const MR: usize;
    /// Whether operands are int8: accumulators are `i32` and have to be dequantised.
    const IS_INT8: bool;
    /// Blocking of GEMM with this microkernel.
    const BLOCKING: Blocking;

    /// Compiles `task` for this microkernel's instructions and runs it.
    fn vectorize<T: GemmTask>(self, task: T);

    /// Computes the accumulators of `n <= MR` rows and `n_panels` panels and calls `epilogue` with them.
    ///
    /// Accumulators go to `to`, `[n, 32]` per panel, panels [`Blocking::ld_acc`] elements apart, unless the epilogue
    /// allows reusing one place ([`Epilogue::KEEPS_ACC`]). With `prefetch`, B is prefetched ahead of use.
    ///
    /// # Safety
    /// A and B must be readable and the accumulators writable for `n` rows and `n_panels` panels; tile kernels access
    /// rows in multiples of 16.
    unsafe fn multiply<F: Epilogue<Self>>(
        self,
        n: usize,
        n_panels: usize,
        prefetch: bool,
        operands: &Operands,
        to: *mut f32,
        epilogue: &F,
    );

    /// Accumulators as f32. int8 tile kernels add the compensation here; other microkernels have started from it.
    ///
    /// # Safety
    /// For int8, a vector of `compensation` must be readable.
    #[inline(always)]
    unsafe fn acc_to_f32(
        self,
        acc: <Self::Simd as Simd>::V,
        _starts: *const i32,
    ) -> <Self::Simd as Simd>::V {
        acc
    }
}

/// Microkernel whose accumulators are vector registers: 16 lanes of dot products of K groups. `2 * MR` vectors of
/// accumulators and 3 of operands must fit the registers.
pub(crate) trait RegisterKernel: MicroKernel {
    /// 16 accumulators.
    type Acc: Copy;
    /// 16 K groups.
    type Groups: Copy;

    /// Whether `broadcast_a` reads K groups that `widen_a` has written.
    const WIDENS_A: bool = false;

    /// Widens the first `n <= 16` K groups of a row of A, once for all that they are multiplied by.
    ///
    /// # Safety
    /// They must be readable.
    #[inline(always)]
    unsafe fn widen_a(self, _from: *const u32, _n: usize, _to: &mut [u32; 2 * LANES]) {}

    /// Initial accumulators: 0 for bf16, the 16 values of the compensation at `from` for int8.
    ///
    /// # Safety
    /// For int8, 16 values must be readable.
    unsafe fn init_acc(self, from: *const i32) -> Self::Acc;

    /// Loads 16 K groups of B.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_b(self, from: *const u32) -> Self::Groups;

    /// Broadcasts one K group of A to all lanes.
    ///
    /// # Safety
    /// It must be readable.
    unsafe fn broadcast_a(self, from: *const u32) -> Self::Groups;

    /// `acc + x . w` in each lane. bf16: the products of the high halves, then those of the low halves are added, one
    /// rounding each. int8: `x` is u8, `w` s8, the sum is exact.
    fn dot(self, acc: Self::Acc, x: Self::Groups, w: Self::Groups) -> Self::Acc;

    /// Stores the accumulators as 16 f32 to `to`.
    ///
    /// # Safety
    /// 16 elements must be writable.
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc);
}
