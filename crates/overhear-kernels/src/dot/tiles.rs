//! Products by tiles: 16 rows by 16 outputs by 16 words of K at a time, as AMX has them.
//!
//! Packed rows and half panels are tiles as they lie: 16 words of 16 rows, and 16 words of K of 16 outputs. Sums are
//! made four tiles at a time, a square of 32 rows by both halves of a panel: each tile of an operand is loaded once for
//! two products. A store right behind a tile's last step would wait for it, and all tiles behind with it, so a square is
//! stored within the next one's first step, a tile just before its first product, when three more have been made. Up to
//! 16 rows have pairs of tiles instead, and two such pairs in turns. Rows are read in sixteens, those beyond the last for
//! nothing, so a buffer of rows ends with [`SLACK_ROWS`] more than it has.
//!
//! Attention has them the other way around, with many tiles of rows and one panel: [`multiply_tiles`].

use super::{Blocking, Finish, LANES, Operands, Unit};
use crate::panels::PANEL;

/// Rows of a tile; as a tile of K, words.
pub(crate) const TILE: usize = 16;
/// Rows of the largest block.
pub(super) const ROWS: usize = 2 * TILE;
/// See [`Blocking`]: 32 KiB of a block of rows stay in the first-level cache while panels are loaded past it. 80 KiB of a panel and
/// as much of a block of rows, ten panels and the sums of 384 rows by them leave a quarter of a second-level cache of
/// 2 MiB, which every machine with tiles has.
pub(super) const BLOCKING: Blocking = Blocking {
    step: LANES,
    rows: ROWS,
    block_words: 256,
    k_words: 640,
    group_bytes: 800 << 10,
    waiting_rows: 384,
    place: ROWS * PANEL + LANES,
};
/// Rows that may be read beyond the last.
pub(crate) const SLACK_ROWS: usize = TILE - 1;

/// Steps of K that a pair of tiles of sums takes.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    /// Row 0, words from row to row, and from a step's to the next's, of which it takes 16.
    pub(super) x: *const u32,
    pub(super) x_stride: usize,
    pub(super) x_step: usize,
    /// Half a panel; a step takes 16 x 16 words.
    pub(super) w: *const u32,
    /// Of the pair's second tile: its row 0, if they are two of rows, or its half of the panel.
    pub(super) second: *const u32,
    pub(super) n: usize,
}

impl Steps {
    /// All but the first `n` steps.
    #[inline(always)]
    fn skip<const OF_ROWS: bool>(&self, n: usize) -> Self {
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
    pub(super) x: *const u32,
    pub(super) x_stride: usize,
    pub(super) x_below: *const u32,
    /// The first half of a panel, 16 x 16 words, and its second half.
    pub(super) w: *const u32,
    pub(super) w_beside: *const u32,
}

impl Square {
    /// The step that comes `n` later, of which rows take `x_step` words each.
    #[inline(always)]
    fn skip(&self, n: usize, x_step: usize) -> Self {
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
    pub(super) first: *mut i32,
    pub(super) second: *mut i32,
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

/// Rows in tiles, and a panel that they are multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct TileOperands {
    /// The first tile of rows, words from one to the next, and in each from the tile of a step to that of the next.
    pub(crate) x: *const u32,
    pub(crate) x_tile: usize,
    pub(crate) x_step: usize,
    pub(crate) n_tiles: usize,
    /// The panel, and words to its second half.
    pub(crate) w: *const u32,
    pub(crate) w_half: usize,
    pub(crate) n_steps: usize,
    /// Whether sums start from what is there instead of zero.
    pub(crate) carry: bool,
}

/// Writes the sums, `[16 * n_tiles, 32]`, to `to`; if `OF_ROWS`, of the first half of the panel alone, and what is behind
/// an odd number of tiles is written too.
///
/// # Safety
/// There must be steps, and the operands be readable and the sums writable.
#[inline(always)]
pub(crate) unsafe fn multiply_tiles<U: TileUnit, const OF_ROWS: bool>(
    unit: U,
    operands: &TileOperands,
    to: *mut f32,
) {
    let TileOperands {
        x,
        x_tile,
        x_step,
        n_tiles,
        w,
        w_half,
        n_steps,
        carry,
    } = *operands;
    let mut sums = U::Sums::default();
    let place = |tile: usize| to.cast::<i32>().wrapping_add(tile * TILE * PANEL);
    // Squares of two tiles and both halves of the panel; what they leave, in pairs.
    let in_squares = if OF_ROWS { 0 } else { n_tiles / 2 * 2 };
    let mut last = None;
    for tile in (0..in_squares).step_by(2) {
        let x = x.wrapping_add(tile * x_tile);
        let square = Square {
            x,
            x_stride: TILE,
            x_below: x.wrapping_add(x_tile),
            w,
            w_beside: w.wrapping_add(w_half),
        };
        let from = carry.then_some(place(tile).cast_const());
        // SAFETY: the caller's.
        unsafe {
            unit.begin_square::<true>(&mut sums, &square, from, last);
            for step in 1..n_steps {
                unit.add_square::<true>(&mut sums, &square.skip(step, x_step));
            }
        }
        last = Some(place(tile));
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { unit.store_square(&mut sums, last) };
    }
    let of_pair = if OF_ROWS { 2 } else { 1 };
    let n_pairs = (n_tiles - in_squares).div_ceil(of_pair);
    let mut last = None;
    for i in 0..n_pairs {
        let tile = in_squares + i * of_pair;
        let x = x.wrapping_add(tile * x_tile);
        let (second, beside) = match OF_ROWS {
            false => (w.wrapping_add(w_half), LANES),
            true if tile + 1 < n_tiles => (x.wrapping_add(x_tile), TILE * PANEL),
            true => (x, TILE * PANEL),
        };
        let steps = Steps {
            x,
            x_stride: TILE,
            x_step,
            w,
            second,
            n: n_steps,
        };
        let first = place(tile);
        let place = Place {
            first,
            second: first.wrapping_add(beside),
        };
        // SAFETY: the caller's.
        unsafe {
            if i % 2 == 0 {
                pair::<U, OF_ROWS, 0, 1>(unit, &mut sums, &steps, carry, place, last);
            } else {
                pair::<U, OF_ROWS, 1, 0>(unit, &mut sums, &steps, carry, place, last);
            }
        }
        last = Some(place);
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe { store_last(unit, &mut sums, n_pairs, last) };
    }
}

/// See [`Unit::multiply`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn multiply<U: TileUnit>(
    unit: U,
    n: usize,
    n_panels: usize,
    operands: &Operands,
    to: *mut f32,
    finish: &impl Finish<U>,
) {
    // SAFETY: the caller's.
    unsafe {
        if operands.n_words == 0 {
            for panel in 0..n_panels {
                to.add(panel * U::BLOCKING.place).write_bytes(0, n * PANEL);
            }
            for panel in 0..n_panels {
                let outs = panel * PANEL..(panel + 1) * PANEL;
                finish.outputs(unit, 0..n, outs, to.add(panel * U::BLOCKING.place));
            }
        } else if n > TILE {
            rows::<U, true>(unit, n, n_panels, operands, to, finish);
        } else {
            rows::<U, false>(unit, n, n_panels, operands, to, finish);
        }
    }
}

/// The same for up to 32 rows (`IS_SQUARE`) or 16, and some words.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn rows<U: TileUnit, const IS_SQUARE: bool>(
    unit: U,
    n: usize,
    n_panels: usize,
    operands: &Operands,
    to: *mut f32,
    finish: &impl Finish<U>,
) {
    let (n_steps, rest) = (operands.n_words / TILE, operands.n_words % TILE);
    let shape = (n, n_panels);
    let mut sums = U::Sums::default();
    // SAFETY: the caller's: the whole steps, and the rest of one, make up all of K.
    unsafe {
        if n_steps > 0 && rest == 0 {
            steps::<U, _, IS_SQUARE>(unit, &mut sums, shape, n_steps, operands, to, finish);
        } else if n_steps > 0 {
            steps::<U, _, IS_SQUARE>(unit, &mut sums, shape, n_steps, operands, to, &());
        }
        if rest > 0 {
            let operands = Operands {
                x: operands.x.wrapping_add(n_steps * TILE),
                w: operands.w.wrapping_add(n_steps * TILE * LANES),
                carry: operands.carry || n_steps > 0,
                ..*operands
            };
            unit.set_words(&mut sums, rest);
            steps::<U, _, IS_SQUARE>(unit, &mut sums, shape, 1, &operands, to, finish);
            unit.set_words(&mut sums, TILE);
        }
    }
}

/// The same for `n_steps > 0` steps. Sums that need not wait are all made in one place, which stays in the first-level
/// cache, and finished while the next are made.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn steps<U: TileUnit, F: Finish<U>, const IS_SQUARE: bool>(
    unit: U,
    sums: &mut U::Sums,
    shape: (usize, usize),
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
    finish: &F,
) {
    // SAFETY: the caller's.
    unsafe {
        if IS_SQUARE {
            squares(unit, sums, shape, n_steps, operands, to, finish);
        } else {
            pairs(unit, sums, shape, n_steps, operands, to, finish);
        }
    }
}

/// Squares, a panel each. One is finished when the next has taken a few steps, which the tiles are at work on meanwhile.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn squares<U: TileUnit, F: Finish<U>>(
    unit: U,
    sums: &mut U::Sums,
    (n, n_panels): (usize, usize),
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
    finish: &F,
) {
    let stays = F::WAITS || operands.carry;
    let of_place = if stays { U::BLOCKING.place } else { 0 };
    let place = |panel: usize| to.cast::<i32>().wrapping_add(panel * of_place);
    let first_steps = n_steps.min(3);
    for panel in 0..n_panels {
        let w = operands.w.wrapping_add(panel * operands.w_stride);
        let square = Square {
            x: operands.x,
            x_stride: operands.x_stride,
            x_below: operands.x.wrapping_add(TILE * operands.x_stride),
            w,
            w_beside: w.wrapping_add(operands.w_stride / 2),
        };
        let from = operands.carry.then_some(place(panel).cast_const());
        let last = (panel > 0).then(|| place(panel - 1));
        // SAFETY: the caller's; the square before is stored with the first step.
        unsafe {
            unit.begin_square::<false>(sums, &square, from, last);
            for step in 1..first_steps {
                unit.add_square::<false>(sums, &square.skip(step, TILE));
            }
            if panel > 0 {
                show(unit, n, panel - 1, place(panel - 1), finish);
            }
            for step in first_steps..n_steps {
                unit.add_square::<false>(sums, &square.skip(step, TILE));
            }
        }
    }
    if n_panels > 0 {
        // SAFETY: as above.
        unsafe {
            unit.store_square(sums, place(n_panels - 1));
            show(unit, n, n_panels - 1, place(n_panels - 1), finish);
        }
    }
}

/// Pairs, of up to 16 rows and a panel each, in turns. One is finished a pair later: the tiles are at work on a pair for
/// longer than it takes to issue its steps.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn pairs<U: TileUnit, F: Finish<U>>(
    unit: U,
    sums: &mut U::Sums,
    (n, n_panels): (usize, usize),
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
    finish: &F,
) {
    let stays = F::WAITS || operands.carry;
    let of_place = if stays { U::BLOCKING.place } else { 0 };
    let mut last = None;
    for panel in 0..n_panels {
        let w = operands.w.wrapping_add(panel * operands.w_stride);
        let steps = Steps {
            x: operands.x,
            x_stride: operands.x_stride,
            x_step: TILE,
            w,
            second: w.wrapping_add(operands.w_stride / 2),
            n: n_steps,
        };
        let first = to.cast::<i32>().wrapping_add(panel * of_place);
        let place = Place {
            first,
            second: first.wrapping_add(LANES),
        };
        let carry = operands.carry;
        // SAFETY: the caller's.
        unsafe {
            if panel % 2 == 0 {
                pair::<U, false, 0, 1>(unit, sums, &steps, carry, place, last);
            } else {
                pair::<U, false, 1, 0>(unit, sums, &steps, carry, place, last);
            }
        }
        if let Some(last) = last {
            // SAFETY: stored just now.
            unsafe { show(unit, n, panel - 1, last.first, finish) };
        }
        last = Some(place);
    }
    if let Some(last) = last {
        // SAFETY: as above.
        unsafe {
            store_last(unit, sums, n_panels, last);
            show(unit, n, n_panels - 1, last.first, finish);
        }
    }
}

/// Stores the last of `n_pairs` pairs, in turns.
///
/// # Safety
/// The place must be writable.
#[inline(always)]
unsafe fn store_last<U: TileUnit>(unit: U, sums: &mut U::Sums, n_pairs: usize, last: Place) {
    // SAFETY: the caller's.
    unsafe {
        if n_pairs % 2 == 1 {
            unit.store::<0>(sums, last);
        } else {
            unit.store::<1>(sums, last);
        }
    }
}

/// Shows `finish` the sums of `n` rows by a panel, at `sums`. Not a closure, as that may not be inlined.
///
/// # Safety
/// They must have been stored.
#[inline(always)]
unsafe fn show<U: TileUnit, F: Finish<U>>(
    unit: U,
    n: usize,
    panel: usize,
    sums: *mut i32,
    finish: &F,
) {
    let outs = panel * PANEL..(panel + 1) * PANEL;
    // SAFETY: the caller's.
    unsafe { finish.outputs(unit, 0..n, outs, sums.cast_const().cast()) };
}

/// The steps of one pair, and the store of the other on the way.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn pair<U: TileUnit, const OF_ROWS: bool, const OWN: usize, const OTHER: usize>(
    unit: U,
    sums: &mut U::Sums,
    steps: &Steps,
    carry: bool,
    place: Place,
    last: Option<Place>,
) {
    // SAFETY: the caller's.
    unsafe {
        unit.start::<OWN>(sums, carry.then_some(place));
        unit.add::<OWN, OF_ROWS>(sums, &Steps { n: 1, ..*steps });
        match last {
            Some(last) if steps.n > 1 => {
                unit.add_and_store::<OWN, OF_ROWS>(sums, &steps.skip::<OF_ROWS>(1), last);
                if steps.n > 2 {
                    unit.add::<OWN, OF_ROWS>(sums, &steps.skip::<OF_ROWS>(2));
                }
            }
            Some(last) => unit.store::<OTHER>(sums, last),
            None if steps.n > 1 => unit.add::<OWN, OF_ROWS>(sums, &steps.skip::<OF_ROWS>(1)),
            None => {}
        }
    }
}

const _: () = assert!(PANEL == 2 * TILE && LANES == TILE);
