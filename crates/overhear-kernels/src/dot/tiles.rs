//! Products by tiles: 16 rows by 16 outputs by 16 words of K at a time, as AMX has them.
//!
//! Packed rows and half panels are tiles as they lie: 16 words of 16 rows, and 16 words of K of 16 outputs. Sums are
//! made two tiles at a time, of 32 rows by half a panel or of 16 rows by both its halves. There are two such pairs, in
//! turns: a pair is stored when the other has taken its first step, as a store right behind the last step would wait
//! for it, and the tiles with it. Rows are read in sixteens, those beyond the last for nothing, so a buffer of rows ends
//! with [`SLACK_ROWS`] more than it has.

use std::ops::Range;

use super::{Blocking, LANES, Operands, Outs, Unit};
use crate::packed::PANEL;

/// Rows of a tile; as a tile of K, words.
pub(crate) const TILE: usize = 16;
/// Rows of the largest block.
pub(super) const ROWS: usize = 2 * TILE;
/// See [`Blocking`]: 24 KiB of a block of rows stay in the first-level cache while panels pass by. 80 KiB of a panel and
/// as much of a block of rows, ten panels and the sums of 384 rows by them leave a quarter of a second-level cache of
/// 2 MiB, which every machine with tiles has.
pub(super) const BLOCKING: Blocking = Blocking {
    step: LANES,
    rows: ROWS,
    block_words: 192,
    k_words: 640,
    group_bytes: 800 << 10,
    waiting_rows: 384,
    keys: 64,
    place: ROWS * PANEL + LANES,
};
/// Rows that may be read beyond the last.
pub(crate) const SLACK_ROWS: usize = TILE - 1;

/// Steps of K that a pair of tiles of sums takes.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// Row 0, and words from row to row; a step takes 16 words.
    pub(super) x: *const u32,
    pub(super) x_stride: usize,
    /// Half a panel; a step takes 16 x 16 words.
    pub(super) w: *const u32,
    /// Of the pair's second tile: its row 0, if they are two of rows, or its half of the panel.
    pub(super) second: *const u32,
    pub(super) n: usize,
}

/// Where a pair of tiles of sums goes, [`PANEL`] elements from row to row.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first: *mut i32,
    pub(super) second: *mut i32,
}

/// A unit that multiplies tiles, with two pairs of tiles of sums, 0 and 1.
pub(super) trait TileUnit: Unit {
    /// The sums, where they are not registers.
    type Sums: Default;

    /// Steps take `words <= 16` words of K from now on; the sums are lost.
    ///
    /// # Safety
    /// Only within [`Unit::vectorize`].
    unsafe fn set_words(self, sums: &mut Self::Sums, words: usize);

    /// Asks for a line that will be written.
    fn fetch(self, _line: *const u8) {}

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

    /// Writes a pair.
    ///
    /// # Safety
    /// The place must be writable; and as [`Self::set_words`].
    unsafe fn store<const PAIR: usize>(self, sums: &mut Self::Sums, to: Place);
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
) {
    // SAFETY: the caller's.
    unsafe {
        if operands.n_words == 0 {
            for panel in 0..n_panels {
                to.add(panel * U::BLOCKING.place).write_bytes(0, n * PANEL);
            }
        } else if n > TILE {
            rows::<U, true>(unit, n_panels, operands, to);
        } else {
            rows::<U, false>(unit, n_panels, operands, to);
        }
    }
}

/// The same for up to 32 rows (`OF_ROWS`) or 16, and some words.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn rows<U: TileUnit, const OF_ROWS: bool>(
    unit: U,
    n_panels: usize,
    operands: &Operands,
    to: *mut f32,
) {
    let (n_steps, rest) = (operands.n_words / TILE, operands.n_words % TILE);
    let mut sums = U::Sums::default();
    // SAFETY: the caller's: the whole steps, and the rest of one, make up all of K.
    unsafe {
        if n_steps > 0 {
            pairs::<U, OF_ROWS>(unit, &mut sums, n_panels, n_steps, operands, to);
        }
        if rest > 0 {
            let operands = Operands {
                x: operands.x.wrapping_add(n_steps * TILE),
                w: operands.w.wrapping_add(n_steps * TILE * LANES),
                carry: operands.carry || n_steps > 0,
                ..*operands
            };
            unit.set_words(&mut sums, rest);
            pairs::<U, OF_ROWS>(unit, &mut sums, n_panels, 1, &operands, to);
            unit.set_words(&mut sums, TILE);
        }
    }
}

/// The same for `n_steps > 0` steps.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn pairs<U: TileUnit, const OF_ROWS: bool>(
    unit: U,
    sums: &mut U::Sums,
    n_panels: usize,
    n_steps: usize,
    operands: &Operands,
    to: *mut f32,
) {
    let of_panel = if OF_ROWS { 2 } else { 1 };
    let to = to.cast::<i32>();
    let mut last = None;
    for i in 0..of_panel * n_panels {
        let (panel, half) = (i / of_panel, i % of_panel);
        let w = operands.w.wrapping_add(panel * operands.w_stride);
        let other_half = w.wrapping_add(operands.w_stride / 2);
        let first = to.wrapping_add(panel * U::BLOCKING.place + half * LANES);
        let below = first.wrapping_add(TILE * PANEL);
        let steps = Steps {
            x: operands.x,
            x_stride: operands.x_stride,
            w: if half == 1 { other_half } else { w },
            second: if OF_ROWS {
                operands.x.wrapping_add(TILE * operands.x_stride)
            } else {
                other_half
            },
            n: n_steps,
        };
        let place = Place {
            first,
            second: if OF_ROWS {
                below
            } else {
                first.wrapping_add(LANES)
            },
        };
        let carry = operands.carry;
        if OF_ROWS {
            fetch(unit, &operands.outs, panel, half * TILE..(half + 1) * TILE);
        }
        // SAFETY: the caller's.
        unsafe {
            if i % 2 == 0 {
                pair::<U, OF_ROWS, 0, 1>(unit, sums, &steps, carry, place, last);
            } else {
                pair::<U, OF_ROWS, 1, 0>(unit, sums, &steps, carry, place, last);
            }
        }
        last = Some(place);
    }
    // SAFETY: as above.
    unsafe {
        match last {
            Some(last) if of_panel * n_panels % 2 == 1 => unit.store::<0>(sums, last),
            Some(last) => unit.store::<1>(sums, last),
            None => {}
        }
    }
}

/// Asks for the lines that some rows' outputs of a panel will be written to.
#[inline(always)]
fn fetch<U: TileUnit>(unit: U, outs: &Outs, panel: usize, rows: Range<usize>) {
    const LINE: usize = 64;
    for row in rows {
        let of_row = outs
            .first
            .wrapping_add(row * outs.row_bytes + panel * outs.panel_bytes);
        for at in (0..outs.panel_bytes).step_by(LINE) {
            unit.fetch(of_row.wrapping_add(at));
        }
    }
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
        if let Some(last) = last {
            unit.store::<OTHER>(sums, last);
        }
        if steps.n > 1 {
            let of_second = if OF_ROWS { TILE } else { TILE * LANES };
            let others = Steps {
                x: steps.x.wrapping_add(TILE),
                w: steps.w.wrapping_add(TILE * LANES),
                second: steps.second.wrapping_add(of_second),
                n: steps.n - 1,
                ..*steps
            };
            unit.add::<OWN, OF_ROWS>(sums, &others);
        }
    }
}

const _: () = assert!(PANEL == 2 * TILE && LANES == TILE);
