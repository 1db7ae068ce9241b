//! The loop nest of packed GEMM.

use super::epilogue::{Call, Outputs};
use super::layout::{PANEL, Packing};
use super::microkernel::{DotTask, Operands, Unit};

/// Panels that are multiplied at a time with few rows.
pub(super) const FEW_PANELS: usize = 4;
/// Words that K is cut at multiples of: a step of tiles.
pub(super) const CHUNK_WORDS: usize = 16;

/// Rows and panels from the first to before the second.
pub(super) struct Part<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) rows: (usize, usize),
    pub(super) panels: (usize, usize),
    /// Words of K that all rows take before further ones.
    pub(super) chunk: usize,
    pub(super) is_few: bool,
    /// [`Blocking::place`](crate::dot::Blocking) for every panel of every block of rows that waits.
    pub(super) sums: &'a mut [f32],
}

impl DotTask for Part<'_> {
    #[inline(always)]
    fn run<U: Unit>(mut self, unit: U) {
        let n_rows = self.rows.1 - self.rows.0;
        let n_words = self.call.w.n_words();
        // Blocks of even size: one of a few rows costs nearly as much as a full one.
        let n_blocks = n_rows.div_ceil(U::ROWS).max(1);
        let block_rows = n_rows.div_ceil(n_blocks).max(1);
        let mut word = 0;
        loop {
            let len = self.chunk.min(n_words - word);
            let mut row = self.rows.0;
            while row < self.rows.1 {
                let n = block_rows.min(self.rows.1 - row);
                // Sums wait for other words of K, in places for every block of rows; or only for the other panels; or with
                // few rows for nothing.
                let block = if len < n_words {
                    (row - self.rows.0) / block_rows
                } else {
                    0
                };
                let place = block * (self.panels.1 - self.panels.0);
                if self.is_few {
                    for panel in (self.panels.0..self.panels.1).step_by(FEW_PANELS) {
                        let panels = (panel, self.panels.1.min(panel + FEW_PANELS));
                        self.multiply(unit, (row, n), panels, (word, len), 0);
                    }
                } else {
                    self.multiply(unit, (row, n), self.panels, (word, len), place);
                }
                row += n;
            }
            word += len;
            if word == n_words {
                break;
            }
        }
    }
}

impl Part<'_> {
    /// Some words of K of some panels, for a block of rows, whose sums are from `place` on; with the last words, their
    /// outputs.
    #[inline(always)]
    fn multiply<U: Unit>(
        &mut self,
        unit: U,
        (row, n): (usize, usize),
        (panel, end): (usize, usize),
        (word, n_words): (usize, usize),
        place: usize,
    ) {
        let Call { x, w, .. } = self.call;
        let starts = match w.packing() {
            Packing::Bf16 => std::ptr::null(),
            Packing::Int8 => w.starts()[panel * PANEL..].as_ptr(),
        };
        let sums = self.sums[place * U::BLOCKING.place..][..(end - panel) * U::BLOCKING.place]
            .as_mut_ptr();
        let outputs = Outputs {
            call: self.call,
            first: (row, panel * PANEL),
        };
        // Parts of even size.
        let most = match self.is_few {
            true => usize::MAX,
            false => U::BLOCKING.block_words,
        };
        let n_parts = n_words.div_ceil(most).max(1);
        let part = n_words.div_ceil(n_parts).next_multiple_of(CHUNK_WORDS);
        let end_word = word + n_words;
        let mut word = word;
        loop {
            let n_words = part.min(end_word - word);
            let is_last = word + n_words == w.n_words();
            let operands = Operands {
                x: x.words[row * x.stride + word..].as_ptr(),
                x_stride: x.stride,
                w: w.words()[panel * w.panel_words() + word * U::BLOCKING.step..].as_ptr(),
                w_stride: w.panel_words(),
                n_words,
                starts,
                carry: word > 0,
            };
            let n_panels = end - panel;
            // SAFETY: rows (and `SLACK_ROWS` more), panels and sums are as many as are multiplied.
            unsafe {
                if is_last {
                    unit.multiply(n, n_panels, self.is_few, &operands, sums, &outputs);
                } else {
                    unit.multiply(n, n_panels, self.is_few, &operands, sums, &());
                }
            }
            word += n_words;
            if word == end_word {
                break;
            }
        }
    }
}
