//! Weights in the layout that dot products of words want.
//!
//! A *word* is a group along K: two bfloat16, or four bytes. A *panel* is 32 outputs. For register blocks it lies as
//! `[words of K, 32]`, so that a block takes two vectors per step, one behind the other in memory, whatever the number of
//! rows; for tiles as `[2, words of K, 16]`, so that a tile is a kilobyte in one piece. In both, `[32 / step, words of K,
//! step]`, where the *step* is 32 or 16. Outputs beyond the last are zeros.
//!
//! Bytes are signed, `weight / scale` rounded, one scale per output: its largest magnitude / 127. Activations come as
//! `q + 128`, unsigned; the sum is put right by starting from `-128 * (sum of the output's weights)`. And `q` is relative to
//! the middle of the row's range, see [`crate::activations::Range`], which the sum of the weights puts right too.

use half::bf16;

use super::aligned::{Words, bytes, bytes_mut, halves, halves_mut, words_of};
use super::layout::{LANES, MAX_INT8_COLS, PANEL, Packing, place};
use super::panel_reader::{Outs, read_panels};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::math::quantize::{max_magnitude, quantised, step_and_inverse};
use crate::math::round_bf16;
use crate::matrix::{Dtype, Matrix, copy_rows};
use crate::parallel::{Pool, Split};
use crate::simd::{Element, Simd, Vectorized, widen};

/// Words of K that are widened at a time.
const BLOCK_WORDS: usize = 64;

/// A weight matrix `[n_out, n_in]`, packed.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    packing: Packing,
    /// Of the panels.
    step: usize,
    n_out: usize,
    n_in: usize,
    words: Words,
    /// Bytes only: per output of all panels.
    scales: Vec<f32>,
    /// Bytes only: what sums start from, per output of all panels.
    starts: Vec<i32>,
    /// Bytes only: the sum of the output's, likewise; exact.
    totals: Vec<f32>,
}

impl PackedMatrix {
    /// See [`crate::Kernels::pack_weights_from`].
    pub(crate) fn read<E: Send>(
        arch: Arch,
        pool: &Pool,
        (n_out, n_in): (usize, usize),
        dtype: Dtype,
        packing: Packing,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        assert!(
            packing == Packing::Bf16 || n_in <= MAX_INT8_COLS,
            "{n_in} bytes"
        );
        let n_panels = n_out.div_ceil(PANEL);
        let n_scales = match packing {
            Packing::Bf16 => 0,
            Packing::Int8 => n_panels * PANEL,
        };
        let mut packed = Self {
            packing,
            step: arch.blocking().step,
            n_out,
            n_in,
            words: Words::new(n_panels * PANEL * n_in.div_ceil(packing.per_word())),
            scales: vec![0.0; n_scales],
            starts: vec![0; n_scales],
            totals: Vec::new(),
        };
        let (step, panel_words) = (packed.step, packed.panel_words());
        let words = Split::new(packed.words.as_mut_slice());
        let scales = Split::new(&mut packed.scales);
        let starts = Split::new(&mut packed.starts);
        let block = BLOCK_WORDS * packing.per_word();
        let n_spare = block + PANEL * BLOCK_WORDS;
        read_panels(pool, (n_out, n_in), dtype, n_spare, read, |task| {
            let of_panel = if n_scales == 0 { 0 } else { PANEL };
            // SAFETY: the tasks' panels are disjoint.
            let (words, scales, starts) = unsafe {
                (
                    words.take(task.panel * panel_words, panel_words),
                    scales.take(task.panel * of_panel, of_panel),
                    starts.take(task.panel * of_panel, of_panel),
                )
            };
            let (widened, narrow) = task.spare.split_at_mut(block);
            let panel = Panel {
                packing,
                step,
                n_in,
                words,
                scales,
                starts,
                widened,
                narrow: words_of(narrow),
            };
            match task.outs {
                Outs::F32(outs) => panel.pack(arch, outs),
                Outs::F16(outs) => panel.pack(arch, outs),
                Outs::Bf16(outs) => panel.pack(arch, outs),
            }
        })?;
        packed.totals = packed
            .starts
            .iter()
            .map(|start| (start / -128) as f32)
            .collect();
        Ok(packed)
    }

    /// How it is packed.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Outputs.
    #[must_use]
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Inputs.
    #[must_use]
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Bytes that a product reads.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        4 * self.words.as_slice().len() + 12 * self.scales.len()
    }

    /// Of the panels.
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    /// Words of K.
    pub(crate) fn n_words(&self) -> usize {
        self.n_in.div_ceil(self.packing.per_word())
    }

    /// Words of a panel.
    pub(crate) fn panel_words(&self) -> usize {
        PANEL * self.n_words()
    }

    pub(crate) fn words(&self) -> &[u32] {
        self.words.as_slice()
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(crate) fn starts(&self) -> &[i32] {
        &self.starts
    }

    pub(crate) fn totals(&self) -> &[f32] {
        &self.totals
    }

    /// Writes the weights of output `out`, as they are multiplied, to `to` (`[n_in]`): the embedding lookup.
    ///
    /// # Panics
    /// If `out` is out of range or `to` is not `n_in` long.
    pub fn copy_row(&self, out: usize, to: &mut [f32]) {
        assert!(out < self.n_out && to.len() == self.n_in);
        let panel = &self.words()[out / PANEL * self.panel_words()..][..self.panel_words()];
        for (k, to) in to.iter_mut().enumerate() {
            let per_word = self.packing.per_word();
            let word = place(self.step, self.n_words(), k / per_word, out % PANEL);
            let element = word * per_word + k % per_word;
            *to = match self.packing {
                Packing::Bf16 => bf16::from_bits(halves(panel)[element]).to_f32(),
                Packing::Int8 => f32::from(bytes(panel)[element] as i8) * self.scales[out],
            };
        }
    }
}

/// Where one panel is packed.
struct Panel<'a> {
    packing: Packing,
    step: usize,
    n_in: usize,
    words: &'a mut [u32],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
    /// Room for a block of K of one output.
    widened: &'a mut [f32],
    /// Room for a block of K of all outputs: `[32, BLOCK_WORDS]`.
    narrow: &'a mut [u32],
}

impl<'a> Panel<'a> {
    /// Packs `outs`, `[up to 32, n_in]`.
    fn pack<E: Element>(self, arch: Arch, outs: &'a [E]) {
        arch.run_any(PackPanel { panel: self, outs });
    }
}

struct PackPanel<'a, E> {
    panel: Panel<'a>,
    outs: &'a [E],
}

impl<E: Element> Vectorized for PackPanel<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { panel, outs } = self;
        let Panel {
            packing,
            step,
            n_in,
            words,
            scales,
            starts,
            widened,
            narrow,
        } = panel;
        let per_word = packing.per_word();
        let block = BLOCK_WORDS * per_word;
        let n_outs = outs.len().checked_div(n_in).unwrap_or(0);
        let n_words = n_in.div_ceil(per_word);
        let mut inverse = [0.0; PANEL];
        if packing == Packing::Int8 {
            for out in 0..n_outs {
                let mut largest = 0.0f32;
                for k in (0..n_in).step_by(block) {
                    let row = &mut widened[..block.min(n_in - k)];
                    widen(s, row, &outs[out * n_in + k..][..row.len()]);
                    largest = largest.max(max_magnitude(row));
                }
                // Without NaN.
                (scales[out], inverse[out]) = step_and_inverse(largest.max(0.0), 127.0);
            }
        }
        narrow.fill(0);
        for k in (0..n_in).step_by(block) {
            let len = block.min(n_in - k);
            for (out, narrow) in narrow
                .chunks_exact_mut(BLOCK_WORDS)
                .enumerate()
                .take(n_outs)
            {
                let row = &mut widened[..len];
                widen(s, row, &outs[out * n_in + k..][..len]);
                match packing {
                    Packing::Bf16 => {
                        let to = halves_mut(narrow);
                        to[len..].fill(0);
                        to.iter_mut()
                            .zip(row)
                            .for_each(|(to, x)| *to = round_bf16(*x));
                    }
                    Packing::Int8 => {
                        let to = bytes_mut(narrow);
                        to[len..].fill(0);
                        to.iter_mut()
                            .zip(row)
                            .for_each(|(to, x)| *to = quantised(*x, inverse[out]));
                        let sum: i32 = to.iter().map(|&q| i32::from(q as i8)).sum();
                        starts[out] -= 128 * sum;
                    }
                }
            }
            for first in (0..PANEL).step_by(LANES) {
                let to = &mut words[place(step, n_words, k / per_word, first)..];
                let from = &narrow[first * BLOCK_WORDS..][..LANES * BLOCK_WORDS];
                for (word, to) in to.chunks_mut(step).enumerate().take(len.div_ceil(per_word)) {
                    for (i, to) in to[..LANES].iter_mut().enumerate() {
                        *to = from[i * BLOCK_WORDS + word];
                    }
                }
            }
        }
    }
}

impl Kernels {
    /// `w` as [`Kernels::product`] takes it, rounded or quantised, see [`Kernels::pack_weights_from`].
    #[must_use]
    pub fn pack_weights(&self, pool: &Pool, w: &Matrix, packing: Packing) -> PackedMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(packed) = self.pack_weights_from(pool, shape, w.dtype(), packing, read);
        packed
    }

    /// The same as [`Kernels::product`] takes it, rounded or quantised.
    ///
    /// # Errors
    /// What `read` answers; of several errors, any.
    pub fn pack_weights_from<E: Send>(
        &self,
        pool: &Pool,
        shape: (usize, usize),
        dtype: Dtype,
        packing: Packing,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<PackedMatrix, E> {
        PackedMatrix::read(self.arch, pool, shape, dtype, packing, read)
    }
}
