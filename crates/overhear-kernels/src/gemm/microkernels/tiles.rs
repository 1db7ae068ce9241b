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

use crate::arch::TILE;
use crate::gemm::layout::{LANES, PANEL};
use crate::gemm::microkernel::{Blocking, Finish, Operands};
use crate::gemm::tile_kernel::{Place, Square, Steps, TileUnit};

/// Rows of the largest block.
pub(crate) const ROWS: usize = 2 * TILE;
/// See [`Blocking`]: 32 KiB of a block of rows stay in the first-level cache while panels are loaded past it. 80 KiB of a panel and
/// as much of a block of rows, ten panels and the sums of 384 rows by them leave a quarter of a second-level cache of
/// 2 MiB, which every machine with tiles has.
pub(crate) const BLOCKING: Blocking = Blocking {
    step: LANES,
    rows: ROWS,
    block_words: 256,
    k_words: 640,
    group_bytes: 800 << 10,
    waiting_rows: 384,
    place: ROWS * PANEL + LANES,
};
/// See [`MicroKernel::multiply`](crate::gemm::microkernel::Unit::multiply).
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
pub(super) unsafe fn store_last<U: TileUnit>(
    unit: U,
    sums: &mut U::Sums,
    n_pairs: usize,
    last: Place,
) {
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
pub(super) unsafe fn pair<
    U: TileUnit,
    const OF_ROWS: bool,
    const OWN: usize,
    const OTHER: usize,
>(
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
