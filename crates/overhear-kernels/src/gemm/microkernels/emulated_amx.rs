//! The tiles of AMX in plain Rust: the twin that packing, blocks, tails and attention are tested on where there are none.

use super::emulated::With;
use super::tiles;
use crate::arch::{Emulated, TILE};
use crate::gemm::layout::{LANES, PANEL};
use crate::gemm::microkernel::{Blocking, DotTask, Finish, Operands, Unit};
use crate::gemm::tile_kernel::{Place, Square, Steps, TileTask, TileUnit};
use crate::math::{exp2_lut as tile_weight, gelu_lut as tile_gelu};
use crate::simd::Simd;

/// bfloat16 by tiles, or bytes (`INT8`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedAmx<const INT8: bool>;

// SAFETY: no instructions to prove.
unsafe impl<const INT8: bool> Unit for EmulatedAmx<INT8> {
    type Simd = Emulated;

    const ROWS: usize = tiles::ROWS;
    const SCALED: bool = INT8;
    const BLOCKING: Blocking = tiles::BLOCKING;

    fn simd(self) -> Emulated {
        Emulated
    }

    fn vectorize<T: DotTask>(self, task: T) {
        Emulated.vectorize(With(self, task));
    }

    unsafe fn multiply<F: Finish<Self>>(
        self,
        n: usize,
        n_panels: usize,
        _: bool,
        operands: &Operands,
        to: *mut f32,
        finish: &F,
    ) {
        // SAFETY: the caller's.
        unsafe { tiles::multiply(self, n, n_panels, operands, to, finish) }
    }

    unsafe fn float(self, sums: [f32; 4], starts: *const i32) -> [f32; 4] {
        if !INT8 {
            return sums;
        }
        // SAFETY: the caller's.
        std::array::from_fn(|i| (sums[i].to_bits() as i32 + unsafe { *starts.add(i) }) as f32)
    }

    fn gelu(self, x: [f32; 4]) -> [f32; 4] {
        x.map(tile_gelu::gelu)
    }
}

/// What the registers hold: two pairs of tiles of sums, and the words of a step.
pub(crate) struct Registers {
    sums: [[[[i32; TILE]; TILE]; 2]; 2],
    words: usize,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            sums: [[[[0; TILE]; TILE]; 2]; 2],
            words: TILE,
        }
    }
}

/// Where a square's tiles lie: of either half of a panel, rows from 0 and from 16 on.
fn halves(square: *mut i32) -> [Place; 2] {
    [0, LANES].map(|half| Place {
        first: square.wrapping_add(half),
        second: square.wrapping_add(half + TILE * PANEL),
    })
}

/// Rows and columns of a tile.
fn elements() -> impl Iterator<Item = (usize, usize)> {
    (0..TILE * TILE).map(|i| (i / TILE, i % TILE))
}

impl<const INT8: bool> TileUnit for EmulatedAmx<INT8> {
    type Sums = Registers;

    fn vectorize_tiles<T: TileTask>(self, task: T) {
        task.run(self);
    }

    unsafe fn set_words(self, registers: &mut Registers, words: usize) {
        *registers = Registers {
            words,
            ..Registers::default()
        };
    }

    unsafe fn begin_square<const ROWS_PASS: bool>(
        self,
        registers: &mut Registers,
        step: &Square,
        from: Option<*const i32>,
        last: Option<*mut i32>,
    ) {
        // SAFETY: the caller's: the same as two pairs, one for each half of the panel.
        unsafe {
            if let Some(last) = last {
                self.store_square(registers, last);
            }
            let from = from.map(|from| halves(from.cast_mut()));
            self.start::<0>(registers, from.map(|from| from[0]));
            self.start::<1>(registers, from.map(|from| from[1]));
            self.add_square::<ROWS_PASS>(registers, step);
        }
    }

    unsafe fn add_square<const ROWS_PASS: bool>(self, registers: &mut Registers, step: &Square) {
        let steps = |w| Steps {
            x: step.x,
            x_stride: step.x_stride,
            x_step: 0,
            w,
            second: step.x_below,
            n: 1,
        };
        // SAFETY: the caller's.
        unsafe {
            self.add::<0, true>(registers, &steps(step.w));
            self.add::<1, true>(registers, &steps(step.w_beside));
        }
    }

    unsafe fn store_square(self, registers: &mut Registers, to: *mut i32) {
        let [first, second] = halves(to);
        // SAFETY: the caller's.
        unsafe {
            self.store::<0>(registers, first);
            self.store::<1>(registers, second);
        }
    }

    unsafe fn start<const PAIR: usize>(self, registers: &mut Registers, from: Option<Place>) {
        registers.sums[PAIR] = [[[0; TILE]; TILE]; 2];
        if let Some(from) = from {
            for (tile, from) in registers.sums[PAIR]
                .iter_mut()
                .zip([from.first, from.second])
            {
                for (row, out) in elements() {
                    // SAFETY: the caller's.
                    tile[row][out] = unsafe { *from.add(row * PANEL + out) };
                }
            }
        }
    }

    unsafe fn add<const PAIR: usize, const OF_ROWS: bool>(
        self,
        registers: &mut Registers,
        steps: &Steps,
    ) {
        let operands = match OF_ROWS {
            true => [(steps.x, steps.w), (steps.second, steps.w)],
            false => [(steps.x, steps.w), (steps.x, steps.second)],
        };
        for (tile, (x, w)) in registers.sums[PAIR].iter_mut().zip(operands) {
            for (row, out) in elements() {
                let sum = &mut tile[row][out];
                for step in 0..steps.n {
                    let words = (0..registers.words).map(|i| {
                        let word = step * TILE + i;
                        // SAFETY: the caller's: these are within rows and panels.
                        unsafe {
                            (
                                *x.add(step * steps.x_step + row * steps.x_stride + i),
                                *w.add(word * LANES + out),
                            )
                        }
                    });
                    *sum = if INT8 {
                        *sum + words.map(dot_bytes).sum::<i32>()
                    } else {
                        dot_halves(f32::from_bits(*sum as u32), words).to_bits() as i32
                    };
                }
            }
        }
    }

    unsafe fn add_and_store<const PAIR: usize, const OF_ROWS: bool>(
        self,
        registers: &mut Registers,
        step: &Steps,
        to: Place,
    ) {
        // SAFETY: the caller's.
        unsafe {
            if PAIR == 0 {
                self.store::<1>(registers, to);
            } else {
                self.store::<0>(registers, to);
            }
            self.add::<PAIR, OF_ROWS>(registers, &Steps { n: 1, ..*step });
        }
    }

    unsafe fn store<const PAIR: usize>(self, registers: &mut Registers, to: Place) {
        for (tile, to) in registers.sums[PAIR].iter().zip([to.first, to.second]) {
            for (row, out) in elements() {
                // SAFETY: the caller's.
                unsafe { *to.add(row * PANEL + out) = tile[row][out] };
            }
        }
    }

    unsafe fn transpose(
        self,
        from: *const u32,
        from_stride: usize,
        to: *mut u32,
        to_stride: usize,
    ) {
        for (row, column) in elements() {
            // SAFETY: the caller's.
            unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
        }
    }

    unsafe fn weigh_pairs(
        self,
        scores: *const f32,
        n_pairs: usize,
        scale: f32,
        offsets: *const f32,
        _: *const u32,
        to: *mut u32,
    ) -> u16 {
        let mut above = 0;
        for (pair, query) in (0..n_pairs * TILE).map(|i| (i / TILE, i % TILE)) {
            // SAFETY: the caller's.
            unsafe {
                let [first, second] = [0, 1].map(|key| {
                    let score = *scores.add((2 * pair + key) * PANEL + query);
                    tile_weight::weight(score, scale, *offsets.add(query))
                });
                *to.add(pair * TILE + query) = u32::from(first) | u32::from(second) << 16;
                let is_above = (first | second) & tile_weight::ABOVE > 0;
                above |= u16::from(is_above) << query;
            }
        }
        above
    }
}

/// The products of four bytes, unsigned by signed.
fn dot_bytes((x, w): (u32, u32)) -> i32 {
    let products = x.to_le_bytes().into_iter().zip(w.to_le_bytes());
    products
        .map(|(x, w)| i32::from(x) * i32::from(w as i8))
        .sum()
}

/// The low halves' products are added up, and the high halves', fused and from zero; then those two, then `sum`.
fn dot_halves(sum: f32, words: impl Iterator<Item = (u32, u32)>) -> f32 {
    let (mut low, mut high) = (0.0f32, 0.0f32);
    for (x, w) in words {
        low = f32::from_bits(x << 16).mul_add(f32::from_bits(w << 16), low);
        let top = |word: u32| f32::from_bits(word & 0xffff_0000);
        high = top(x).mul_add(top(w), high);
    }
    sum + (low + high)
}
