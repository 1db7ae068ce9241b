//! The tiles of AMX in plain Rust: the twin that packing, blocks, tails and attention are tested on where there are none.

use super::plain::With;
use super::tiles::{self, TILE, TileUnit, Tiles};
use super::{DotTask, Operands, Unit};
use crate::packed::PANEL;
use crate::simd::Simd;
use crate::simd::plain::Plain;

/// bfloat16 by tiles, or bytes (`INT8`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainTiles<const INT8: bool>;

// SAFETY: no instructions to prove.
unsafe impl<const INT8: bool> Unit for PlainTiles<INT8> {
    type Simd = Plain;

    const ROWS: usize = tiles::ROWS;
    const SCALED: bool = INT8;

    fn panels_of(n: usize) -> usize {
        tiles::panels_of(n)
    }

    fn simd(self) -> Plain {
        Plain
    }

    fn vectorize<T: DotTask>(self, task: T) {
        Plain.vectorize(With(self, task));
    }

    unsafe fn block(self, n: usize, n_panels: usize, _: bool, operands: &Operands, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { tiles::block(self, n, n_panels, operands, to) }
    }

    unsafe fn float(self, sums: [f32; 4], starts: *const i32) -> [f32; 4] {
        if !INT8 {
            return sums;
        }
        // SAFETY: the caller's.
        std::array::from_fn(|i| (sums[i].to_bits() as i32 + unsafe { *starts.add(i) }) as f32)
    }
}

impl<const INT8: bool> TileUnit for PlainTiles<INT8> {
    unsafe fn multiply(self, t: &Tiles) {
        for row in 0..t.n_row_tiles * TILE {
            for out in 0..t.n_panels * PANEL {
                // SAFETY: the caller's: these are within rows, panels and sums.
                unsafe {
                    let mut sum = match t.from.is_null() {
                        true => 0,
                        false => *t.from.add(row * t.from_stride + out),
                    };
                    let x = t.x.add(row * t.x_stride);
                    let w = t.w.add(out / PANEL * t.w_stride + out % PANEL);
                    for step in 0..t.n_steps {
                        let words = (0..t.step_words).map(|i| {
                            let word = step * TILE + i;
                            (*x.add(word), *w.add(word * PANEL))
                        });
                        sum = if INT8 {
                            sum + words.map(dot_bytes).sum::<i32>()
                        } else {
                            dot_halves(f32::from_bits(sum as u32), words).to_bits() as i32
                        };
                    }
                    *t.to.add(row * t.to_stride + out) = sum;
                }
            }
        }
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
