//! Traits of the tile microkernels. No implementation is imported here.
//!
//! A tile is 16 rows of 16 32-bit elements. There are four accumulator tiles: a *2x2 block* of 32 rows by both halves
//! of a panel, or two *pairs*, 0 and 1, each 1x2 (16 rows by a panel) or 2x1 (32 rows by half a panel). Accumulators
//! in memory have rows [`NR`](super::layout::NR) elements apart.

use super::layout::LANES;
use super::microkernel::MicroKernel;
use crate::arch::TILE;

/// Operands of a pair of accumulator tiles over consecutive steps of K, 16 K groups each.
#[derive(Clone, Copy)]
pub(crate) struct PairSteps {
    /// A: row 0; `x_stride` K groups from row to row, `x_step` from step to step.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    pub(crate) x_step: usize,
    /// B: half a panel; a step takes 16 x 16 K groups.
    pub(crate) w: *const u32,
    /// Operand of the second tile: row 0 of its A (2x1), or its half of the panel (1x2).
    pub(crate) second: *const u32,
    pub(crate) n: usize,
}

impl PairSteps {
    /// The steps from step `n` on.
    #[inline(always)]
    pub(crate) fn skip<const IS_2X1: bool>(&self, n: usize) -> Self {
        let of_second = if IS_2X1 { self.x_step } else { TILE * LANES };
        Self {
            x: self.x.wrapping_add(n * self.x_step),
            w: self.w.wrapping_add(n * TILE * LANES),
            second: self.second.wrapping_add(n * of_second),
            n: self.n - n,
            ..*self
        }
    }
}

/// Operands of one step of a 2x2 block.
#[derive(Clone, Copy)]
pub(crate) struct Step2x2 {
    /// A: row 0; rows are `x_stride` K groups apart, and `x_lower` is row 16.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    pub(crate) x_lower: *const u32,
    /// B: the first half of the panel, 16 x 16 K groups; `w_right` is the second half.
    pub(crate) w: *const u32,
    pub(crate) w_right: *const u32,
}

impl Step2x2 {
    /// The step `n` steps later, where A advances by `x_step` K groups per step.
    #[inline(always)]
    pub(crate) fn skip(&self, n: usize, x_step: usize) -> Self {
        Self {
            x: self.x.wrapping_add(n * x_step),
            x_lower: self.x_lower.wrapping_add(n * x_step),
            w: self.w.wrapping_add(n * TILE * LANES),
            w_right: self.w_right.wrapping_add(n * TILE * LANES),
            ..*self
        }
    }
}

/// Destination of a pair of accumulator tiles, rows [`NR`](super::layout::NR) elements apart.
#[derive(Clone, Copy)]
pub(crate) struct AccPair {
    pub(crate) first: *mut i32,
    pub(crate) second: *mut i32,
}

/// Task of a kernel call, compiled for every bf16 tile kernel.
pub(crate) trait TileTask {
    /// Runs the task; `#[inline(always)]` in every implementation.
    fn run<K: TileKernel>(self, kernel: K);
}

/// Microkernel whose accumulators are tiles: a 2x2 block or two pairs.
pub(crate) trait TileKernel: MicroKernel {
    /// The accumulators, where they are not registers.
    type Acc: Default;

    /// Compiles `task` for this microkernel's instructions and runs it.
    fn vectorize_tiles<T: TileTask>(self, task: T);

    /// Configures the tiles for steps of `k_groups <= 16` K groups. The accumulators are lost.
    ///
    /// # Safety
    /// Only within [`MicroKernel::vectorize`].
    unsafe fn set_k_groups(self, acc: &mut Self::Acc, k_groups: usize);

    /// Starts a 2x2 block from the contents of `from`, or from zeros, and multiplies its first step. Meanwhile stores
    /// the previous block to `last`, one tile before each product. `STREAM_A` says which operand is not reused soon:
    /// A, or else B.
    ///
    /// # Safety
    /// `from` must be readable, `last` writable, A and B readable; and as [`Self::set_k_groups`].
    unsafe fn begin_2x2<const STREAM_A: bool>(
        self,
        acc: &mut Self::Acc,
        step: &Step2x2,
        from: Option<*const i32>,
        last: Option<*mut i32>,
    );

    /// Multiplies one more step of a 2x2 block.
    ///
    /// # Safety
    /// A and B must be readable; and as [`Self::set_k_groups`].
    unsafe fn accumulate_2x2<const STREAM_A: bool>(self, acc: &mut Self::Acc, step: &Step2x2);

    /// Stores a 2x2 block.
    ///
    /// # Safety
    /// `to` must be writable; and as [`Self::set_k_groups`].
    unsafe fn store_2x2(self, acc: &mut Self::Acc, to: *mut i32);

    /// Starts a pair from the contents of `from`, or from zeros.
    ///
    /// # Safety
    /// `from` must be readable; and as [`Self::set_k_groups`].
    unsafe fn begin_pair<const PAIR: usize>(self, acc: &mut Self::Acc, from: Option<AccPair>);

    /// Multiplies `steps.n > 0` steps of a pair: two tiles of A by half a panel if `IS_2X1`, else one tile of A by
    /// both halves.
    ///
    /// # Safety
    /// A and B must be readable; and as [`Self::set_k_groups`].
    unsafe fn accumulate_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        acc: &mut Self::Acc,
        steps: &PairSteps,
    );

    /// Multiplies one step of a pair and stores the other pair meanwhile: one tile before each product, so that no
    /// instruction waits for accumulators.
    ///
    /// # Safety
    /// As [`Self::accumulate_pair`] and [`Self::store_pair`].
    unsafe fn accumulate_and_store_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        acc: &mut Self::Acc,
        step: &PairSteps,
        to: AccPair,
    );

    /// Stores a pair.
    ///
    /// # Safety
    /// `to` must be writable; and as [`Self::set_k_groups`].
    unsafe fn store_pair<const PAIR: usize>(self, acc: &mut Self::Acc, to: AccPair);

    /// Transposes 16 x 16 32-bit elements: rows `from_stride` elements apart to rows `to_stride` elements apart.
    ///
    /// # Safety
    /// `from` must be readable and `to` writable.
    unsafe fn transpose(self, from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize);

    /// Softmax numerators of 16 queries and `n_pairs` pairs of keys, in bf16: `2^(scale * score + offset - 127)`, by
    /// [`exp2_lut`](crate::math::exp2_lut).
    ///
    /// A key's scores are a row of [`NR`](super::layout::NR) f32; a pair of keys becomes 16 K groups, the first key
    /// in their low halves. For each pair two cache lines from `prefetch_from` on are prefetched. Returns a mask of
    /// the queries that have a result of 2 or more; such results are wrong.
    ///
    /// # Safety
    /// Scores must be readable, numerators writable, and 16 of the offsets readable.
    unsafe fn exp2_pairs(
        self,
        scores: *const f32,
        n_pairs: usize,
        scale: f32,
        offsets: *const f32,
        prefetch_from: *const u32,
        to: *mut u32,
    ) -> u16;
}
