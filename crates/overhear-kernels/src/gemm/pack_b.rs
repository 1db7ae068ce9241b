//! Weights in the layout that dot products of words want.
//!
//! A *word* is a group along K: two bfloat16, or four bytes. A *panel* is 32 outputs. For register blocks it lies as
//! `[groups of K, 32]`, so that a block takes two vectors per step, one behind the other in memory, whatever the number of
//! rows; for tiles as `[2, groups of K, 16]`, so that a tile is a kilobyte in one piece. In both, `[32 / step, words of K,
//! step]`, where the *step* is 32 or 16. Outputs beyond the last are zeros.
//!
//! Bytes are signed, `weight / scale` rounded, one scale per output: its largest magnitude / 127. Activations come as
//! `q + 128`, unsigned; the sum is put right by starting from `-128 * (sum of the output's weights)`. And `q` is relative to
//! the middle of the row's range, see [`crate::activations::Range`], which the sum of the weights puts right too.

use half::bf16;

use super::aligned::{AlignedBuffer, as_bytes, as_bytes_mut, as_u16, as_u16_mut, f32_as_u32_mut};
use super::layout::{LANES, MAX_INT8_COLS, NR, Packing, group_offset};
use super::panel_reader::{Outs, read_panels};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::math::quantize::{max_abs, quantize, scale_and_inverse};
use crate::math::round_bf16;
use crate::matrix::{Dtype, Matrix, copy_rows};
use crate::parallel::{Disjoint, Pool};
use crate::simd::{Element, Simd, Vectorized, widen};

/// Words of K that are widened at a time.
const BLOCK_GROUPS: usize = 64;

/// A weight matrix `[n_out, n_in]`, packed.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    packing: Packing,
    /// Of the panels.
    panel_width: usize,
    n_out: usize,
    n_in: usize,
    groups: AlignedBuffer,
    /// Bytes only: per output of all panels.
    scales: Vec<f32>,
    /// Bytes only: what sums start from, per output of all panels.
    compensation: Vec<i32>,
    /// Bytes only: the sum of the output's, likewise; exact.
    column_sums: Vec<f32>,
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
        let n_panels = n_out.div_ceil(NR);
        let n_scales = match packing {
            Packing::Bf16 => 0,
            Packing::Int8 => n_panels * NR,
        };
        let mut packed = Self {
            packing,
            panel_width: arch.blocking().panel_width,
            n_out,
            n_in,
            groups: AlignedBuffer::new(n_panels * NR * n_in.div_ceil(packing.group_size())),
            scales: vec![0.0; n_scales],
            compensation: vec![0; n_scales],
            column_sums: Vec::new(),
        };
        let (panel_width, panel_groups) = (packed.panel_width, packed.panel_groups());
        let groups = Disjoint::new(packed.groups.as_mut_slice());
        let scales = Disjoint::new(&mut packed.scales);
        let compensation = Disjoint::new(&mut packed.compensation);
        let block = BLOCK_GROUPS * packing.group_size();
        let n_spare = block + NR * BLOCK_GROUPS;
        read_panels(pool, (n_out, n_in), dtype, n_spare, read, |task| {
            let of_panel = if n_scales == 0 { 0 } else { NR };
            // SAFETY: the tasks' panels are disjoint.
            let (groups, scales, compensation) = unsafe {
                (
                    groups.take(task.panel * panel_groups, panel_groups),
                    scales.take(task.panel * of_panel, of_panel),
                    compensation.take(task.panel * of_panel, of_panel),
                )
            };
            let (widened, converted) = task.spare.split_at_mut(block);
            let panel = Panel {
                packing,
                panel_width,
                n_in,
                groups,
                scales,
                compensation,
                widened,
                converted: f32_as_u32_mut(converted),
            };
            match task.outs {
                Outs::F32(outs) => panel.pack(arch, outs),
                Outs::F16(outs) => panel.pack(arch, outs),
                Outs::Bf16(outs) => panel.pack(arch, outs),
            }
        })?;
        packed.column_sums = packed
            .compensation
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
        4 * self.groups.as_slice().len() + 12 * self.scales.len()
    }

    /// Of the panels.
    pub(crate) fn panel_width(&self) -> usize {
        self.panel_width
    }

    /// Words of K.
    pub(crate) fn k_groups(&self) -> usize {
        self.n_in.div_ceil(self.packing.group_size())
    }

    /// Words of a panel.
    pub(crate) fn panel_groups(&self) -> usize {
        NR * self.k_groups()
    }

    pub(crate) fn groups(&self) -> &[u32] {
        self.groups.as_slice()
    }

    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(crate) fn compensation(&self) -> &[i32] {
        &self.compensation
    }

    pub(crate) fn column_sums(&self) -> &[f32] {
        &self.column_sums
    }

    /// Writes the weights of output `out`, as they are multiplied, to `to` (`[n_in]`): the embedding lookup.
    ///
    /// # Panics
    /// If `out` is out of range or `to` is not `n_in` long.
    pub fn copy_row(&self, out: usize, to: &mut [f32]) {
        assert!(out < self.n_out && to.len() == self.n_in);
        let panel = &self.groups()[out / NR * self.panel_groups()..][..self.panel_groups()];
        for (k, to) in to.iter_mut().enumerate() {
            let group_size = self.packing.group_size();
            let group = group_offset(self.panel_width, self.k_groups(), k / group_size, out % NR);
            let element = group * group_size + k % group_size;
            *to = match self.packing {
                Packing::Bf16 => bf16::from_bits(as_u16(panel)[element]).to_f32(),
                Packing::Int8 => f32::from(as_bytes(panel)[element] as i8) * self.scales[out],
            };
        }
    }
}

/// Where one panel is packed.
struct Panel<'a> {
    packing: Packing,
    panel_width: usize,
    n_in: usize,
    groups: &'a mut [u32],
    scales: &'a mut [f32],
    compensation: &'a mut [i32],
    /// Room for a block of K of one output.
    widened: &'a mut [f32],
    /// Room for a block of K of all outputs: `[32, BLOCK_GROUPS]`.
    converted: &'a mut [u32],
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
            panel_width,
            n_in,
            groups,
            scales,
            compensation,
            widened,
            converted,
        } = panel;
        let group_size = packing.group_size();
        let block = BLOCK_GROUPS * group_size;
        let n_outs = outs.len().checked_div(n_in).unwrap_or(0);
        let k_groups = n_in.div_ceil(group_size);
        let mut inverse = [0.0; NR];
        if packing == Packing::Int8 {
            for out in 0..n_outs {
                let mut largest = 0.0f32;
                for k in (0..n_in).step_by(block) {
                    let row = &mut widened[..block.min(n_in - k)];
                    widen(s, row, &outs[out * n_in + k..][..row.len()]);
                    largest = largest.max(max_abs(row));
                }
                // Without NaN.
                (scales[out], inverse[out]) = scale_and_inverse(largest.max(0.0), 127.0);
            }
        }
        converted.fill(0);
        for k in (0..n_in).step_by(block) {
            let len = block.min(n_in - k);
            for (out, converted) in converted
                .chunks_exact_mut(BLOCK_GROUPS)
                .enumerate()
                .take(n_outs)
            {
                let row = &mut widened[..len];
                widen(s, row, &outs[out * n_in + k..][..len]);
                match packing {
                    Packing::Bf16 => {
                        let to = as_u16_mut(converted);
                        to[len..].fill(0);
                        to.iter_mut()
                            .zip(row)
                            .for_each(|(to, x)| *to = round_bf16(*x));
                    }
                    Packing::Int8 => {
                        let to = as_bytes_mut(converted);
                        to[len..].fill(0);
                        to.iter_mut()
                            .zip(row)
                            .for_each(|(to, x)| *to = quantize(*x, inverse[out]));
                        let sum: i32 = to.iter().map(|&q| i32::from(q as i8)).sum();
                        compensation[out] -= 128 * sum;
                    }
                }
            }
            for first in (0..NR).step_by(LANES) {
                let to = &mut groups[group_offset(panel_width, k_groups, k / group_size, first)..];
                let from = &converted[first * BLOCK_GROUPS..][..LANES * BLOCK_GROUPS];
                for (group, to) in to
                    .chunks_mut(panel_width)
                    .enumerate()
                    .take(len.div_ceil(group_size))
                {
                    for (i, to) in to[..LANES].iter_mut().enumerate() {
                        *to = from[i * BLOCK_GROUPS + group];
                    }
                }
            }
        }
    }
}

impl Kernels {
    /// `w` as [`Kernels::linear_packed`] takes it, rounded or quantised, see [`Kernels::pack_weights_from`].
    #[must_use]
    pub fn pack_weights(&self, pool: &Pool, w: &Matrix, packing: Packing) -> PackedMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(packed) = self.pack_weights_from(pool, shape, w.dtype(), packing, read);
        packed
    }

    /// The same as [`Kernels::linear_packed`] takes it, rounded or quantised.
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
