//! Traits of the tile microkernels: no implementation is imported here.

use super::layout::LANES;
use super::microkernel::Unit;
use crate::arch::TILE;

/// Steps of K that a pair of tiles of sums takes.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
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

impl Steps {
    /// All but the first `n` steps.
    #[inline(always)]
    pub(crate) fn skip<const OF_ROWS: bool>(&self, n: usize) -> Self {
        let of_second = if OF_ROWS { self.x_step } else { TILE * LANES };
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
pub(crate) struct Square {
    /// Row 0, words from row to row, and row 16.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    pub(crate) x_below: *const u32,
    /// The first half of a panel, 16 x 16 words, and its second half.
    pub(crate) w: *const u32,
    pub(crate) w_beside: *const u32,
}

impl Square {
    /// The step that comes `n` later, of which rows take `x_step` words each.
    #[inline(always)]
    pub(crate) fn skip(&self, n: usize, x_step: usize) -> Self {
        Self {
            x: self.x.wrapping_add(n * x_step),
            x_below: self.x_below.wrapping_add(n * x_step),
            w: self.w.wrapping_add(n * TILE * LANES),
            w_beside: self.w_beside.wrapping_add(n * TILE * LANES),
            ..*self
        }
    }
}

/// Where a pair of tiles of sums goes, [`PANEL`] elements from row to row.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) first: *mut i32,
    pub(crate) second: *mut i32,
}

/// A kernel call with its arguments, to be compiled for tiles of bfloat16.
pub(crate) trait TileTask {
    /// Runs the kernel; `#[inline(always)]` in every implementation.
    fn run<U: TileUnit>(self, unit: U);
}

/// A unit that multiplies tiles, with four tiles of sums: a square, `[32, 32]` with [`PANEL`] elements from row to row; or
/// two pairs, 0 and 1.
pub(crate) trait TileUnit: Unit {
    /// The sums, where they are not registers.
    type Sums: Default;

    /// Compiles `task` for this unit and runs it.
    fn vectorize_tiles<T: TileTask>(self, task: T);

    /// Steps take `words <= 16` words of K from now on; the sums are lost.
    ///
    /// # Safety
    /// Only within [`Unit::vectorize`].
    unsafe fn set_words(self, sums: &mut Self::Sums, words: usize);

    /// Begins a square with what is at `from`, or zeros, and takes its first step; on the way writes the square before to
    /// `last`, a tile before each product. Rows (`ROWS_PASS`) or the panel are not used again soon.
    ///
    /// # Safety
    /// `from` must be readable, `last` writable, rows and panel readable; and as [`Self::set_words`].
    unsafe fn begin_square<const ROWS_PASS: bool>(
        self,
        sums: &mut Self::Sums,
        step: &Square,
        from: Option<*const i32>,
        last: Option<*mut i32>,
    );

    /// Takes a step more of a square.
    ///
    /// # Safety
    /// Rows and panel must be readable; and as [`Self::set_words`].
    unsafe fn add_square<const ROWS_PASS: bool>(self, sums: &mut Self::Sums, step: &Square);

    /// Writes a square.
    ///
    /// # Safety
    /// `to` must be writable; and as [`Self::set_words`].
    unsafe fn store_square(self, sums: &mut Self::Sums, to: *mut i32);

    /// Begins a pair with what is at `from`, or zeros.
    ///
    /// # Safety
    /// It must be readable; and as [`Self::set_words`].
    unsafe fn start<const PAIR: usize>(self, sums: &mut Self::Sums, from: Option<Place>);

    /// Takes `steps.n > 0` steps: two tiles of rows, if `OF_ROWS`, by half a panel, or one by both halves.
    ///
    /// # Safety
    /// Their rows and panels must be readable; and as [`Self::set_words`].
    unsafe fn add<const PAIR: usize, const OF_ROWS: bool>(
        self,
        sums: &mut Self::Sums,
        steps: &Steps,
    );

    /// Takes one step, and writes the other pair on the way: a tile before each of the step's products, so that neither
    /// waits for its sums.
    ///
    /// # Safety
    /// As [`Self::add`] and [`Self::store`].
    unsafe fn add_and_store<const PAIR: usize, const OF_ROWS: bool>(
        self,
        sums: &mut Self::Sums,
        step: &Steps,
        to: Place,
    );

    /// Writes a pair.
    ///
    /// # Safety
    /// The place must be writable; and as [`Self::set_words`].
    unsafe fn store<const PAIR: usize>(self, sums: &mut Self::Sums, to: Place);

    /// Writes the transpose of 16 rows of 16 words, `from_stride` words apart, to `to`, `to_stride` apart.
    ///
    /// # Safety
    /// They must be readable and writable.
    unsafe fn transpose(self, from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize);

    /// The weights of `n_pairs` pairs of keys, for 16 queries: `2^(scale * score + offset - 127)`, by
    /// [`tile_weight`](super::tile_weight). A key's scores are a row of [`PANEL`], a pair's weights 16 words, its first key
    /// in their low halves. With each pair two lines of what is `ahead` are fetched. Bit `i` says whether a weight of query
    /// `i` is 2 or more; from 2 on they are not right.
    ///
    /// # Safety
    /// Scores must be readable, weights writable, and 16 of the offsets readable.
    unsafe fn weigh_pairs(
        self,
        scores: *const f32,
        n_pairs: usize,
        scale: f32,
        offsets: *const f32,
        ahead: *const u32,
        to: *mut u32,
    ) -> u16;
}
