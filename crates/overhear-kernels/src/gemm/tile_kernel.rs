//! Traits of the tile microkernels: no implementation is imported here.

use super::layout::LANES;
use super::microkernel::MicroKernel;
use crate::arch::TILE;

/// Steps of K that a pair of tiles of sums takes.
#[derive(Clone, Copy)]
pub(crate) struct PairSteps {
    /// Row 0, words from row to row, and from a step's to the next's, of which it takes 16.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    pub(crate) x_step: usize,
    /// Half a panel; a step takes 16 x 16 words.
    pub(crate) w: *const u32,
    /// Of the pair's second tile: its row 0, if they are two of rows, or its half of the panel.
    pub(crate) second: *const u32,
    pub(crate) n: usize,
}

impl PairSteps {
    /// All but the first `n` steps.
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

/// A step of a square of tiles of sums.
#[derive(Clone, Copy)]
pub(crate) struct Step2x2 {
    /// Row 0, words from row to row, and row 16.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    pub(crate) x_lower: *const u32,
    /// The first half of a panel, 16 x 16 words, and its second half.
    pub(crate) w: *const u32,
    pub(crate) w_right: *const u32,
}

impl Step2x2 {
    /// The step that comes `n` later, of which rows take `x_step` words each.
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

/// Where a pair of tiles of sums goes, [`NR`] elements from row to row.
#[derive(Clone, Copy)]
pub(crate) struct AccPair {
    pub(crate) first: *mut i32,
    pub(crate) second: *mut i32,
}

/// A kernel call with its arguments, to be compiled for tiles of bfloat16.
pub(crate) trait TileTask {
    /// Runs the kernel; `#[inline(always)]` in every implementation.
    fn run<K: TileKernel>(self, kernel: K);
}

/// A unit that multiplies tiles, with four tiles of sums: a square, `[32, 32]` with [`NR`] elements from row to row; or
/// two pairs, 0 and 1.
pub(crate) trait TileKernel: MicroKernel {
    /// The sums, where they are not registers.
    type Acc: Default;

    /// Compiles `task` for this unit and runs it.
    fn vectorize_tiles<T: TileTask>(self, task: T);

    /// Steps take `groups <= 16` words of K from now on; the sums are lost.
    ///
    /// # Safety
    /// Only within [`MicroKernel::vectorize`].
    unsafe fn set_k_groups(self, acc: &mut Self::Acc, k_groups: usize);

    /// Begins a square with what is at `from`, or zeros, and takes its first step; on the way writes the square before to
    /// `last`, a tile before each product. Rows (`STREAM_A`) or the panel are not used again soon.
    ///
    /// # Safety
    /// `from` must be readable, `last` writable, rows and panel readable; and as [`Self::set_k_groups`].
    unsafe fn begin_2x2<const STREAM_A: bool>(
        self,
        acc: &mut Self::Acc,
        step: &Step2x2,
        from: Option<*const i32>,
        last: Option<*mut i32>,
    );

    /// Takes a step more of a square.
    ///
    /// # Safety
    /// Rows and panel must be readable; and as [`Self::set_k_groups`].
    unsafe fn accumulate_2x2<const STREAM_A: bool>(self, acc: &mut Self::Acc, step: &Step2x2);

    /// Writes a square.
    ///
    /// # Safety
    /// `to` must be writable; and as [`Self::set_k_groups`].
    unsafe fn store_2x2(self, acc: &mut Self::Acc, to: *mut i32);

    /// Begins a pair with what is at `from`, or zeros.
    ///
    /// # Safety
    /// It must be readable; and as [`Self::set_k_groups`].
    unsafe fn begin_pair<const PAIR: usize>(self, acc: &mut Self::Acc, from: Option<AccPair>);

    /// Takes `steps.n > 0` steps: two tiles of rows, if `IS_2X1`, by half a panel, or one by both halves.
    ///
    /// # Safety
    /// Their rows and panels must be readable; and as [`Self::set_k_groups`].
    unsafe fn accumulate_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        acc: &mut Self::Acc,
        steps: &PairSteps,
    );

    /// Takes one step, and writes the other pair on the way: a tile before each of the step's products, so that neither
    /// waits for its sums.
    ///
    /// # Safety
    /// As [`Self::accumulate_pair`] and [`Self::store_pair`].
    unsafe fn accumulate_and_store_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        acc: &mut Self::Acc,
        step: &PairSteps,
        to: AccPair,
    );

    /// Writes a pair.
    ///
    /// # Safety
    /// The place must be writable; and as [`Self::set_k_groups`].
    unsafe fn store_pair<const PAIR: usize>(self, acc: &mut Self::Acc, to: AccPair);

    /// Writes the transpose of 16 rows of 16 words, `from_stride` words apart, to `to`, `to_stride` apart.
    ///
    /// # Safety
    /// They must be readable and writable.
    unsafe fn transpose(self, from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize);

    /// The weights of `n_pairs` pairs of keys, for 16 queries: `2^(scale * score + offset - 127)`, by
    /// [`exp2_lut`](super::tile_weight). A key's scores are a row of [`NR`], a pair's weights 16 words, its first key
    /// in their low halves. With each pair two lines of what is `prefetch_from` are fetched. Bit `i` says whether a weight of query
    /// `i` is 2 or more; from 2 on they are not right.
    ///
    /// # Safety
    /// Scores must be readable, weights writable, and 16 of the offsets readable.
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
