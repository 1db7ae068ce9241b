//! Packed B: weights in bf16 or int8, in micro-panels of K groups ([`super::layout`]).
//!
//! int8 weights are s8, `round(weight / scale)`, with one scale per output: its largest magnitude / 127. Two
//! corrections come with each output:
//!
//! - *compensation*, `-128 * sum(w)`: A is stored as u8, `q + 128`, because `vpdpbusd` and `tdpbusd` multiply u8 by
//!   s8. Accumulators start from it;
//! - *column sum*, `sum(w)`: `q` is relative to the row's zero point
//!   ([`QuantParams`](crate::math::quantize::QuantParams)), which the epilogue corrects for.

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

/// K groups of an output that are converted at a time.
const BLOCK_GROUPS: usize = 64;

/// Packed weight matrix `[n_out, n_in]`.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    packing: Packing,
    /// Panel width, see [`super::layout`].
    panel_width: usize,
    n_out: usize,
    n_in: usize,
    groups: AlignedBuffer,
    /// Scales, one per output of all panels; int8 only.
    scales: Vec<f32>,
    /// Compensation, `-128 * sum(w)` per output of all panels; int8 only.
    compensation: Vec<i32>,
    /// Column sums, `sum(w)` per output of all panels, exact; int8 only.
    column_sums: Vec<f32>,
}

impl PackedMatrix {
    /// Reads and packs a matrix, see [`crate::Kernels::pack_weights_from`].
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

    /// Element type.
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

    /// Panel width, see [`super::layout`].
    pub(crate) fn panel_width(&self) -> usize {
        self.panel_width
    }

    /// K groups of an output.
    pub(crate) fn k_groups(&self) -> usize {
        self.n_in.div_ceil(self.packing.group_size())
    }

    /// K groups of a panel.
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

    /// Writes the weights of output `out`, dequantised, to `to` (`[n_in]`): the embedding lookup.
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

/// Destination of one panel, and scratch memory.
struct Panel<'a> {
    packing: Packing,
    panel_width: usize,
    n_in: usize,
    groups: &'a mut [u32],
    scales: &'a mut [f32],
    compensation: &'a mut [i32],
    /// Scratch: a block of K of one output, in f32.
    widened: &'a mut [f32],
    /// Scratch: a block of K of all outputs, converted: `[32, BLOCK_GROUPS]`.
    converted: &'a mut [u32],
}

impl<'a> Panel<'a> {
    /// Packs outputs `[up to 32, n_in]`.
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
                // `max` drops NaN.
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
    /// Packs `w` for [`Kernels::linear_packed`], rounded to bf16 or quantised, see [`Kernels::pack_weights_from`].
    #[must_use]
    pub fn pack_weights(&self, pool: &Pool, w: &Matrix, packing: Packing) -> PackedMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(packed) = self.pack_weights_from(pool, shape, w.dtype(), packing, read);
        packed
    }

    /// Packs a matrix `[n_out, n_in]` of `dtype` for [`Kernels::linear_packed`], rounded to bf16 or quantised, while
    /// it is read.
    ///
    /// `read(first_row, buf)` must fill `buf` with consecutive rows starting at `first_row`. It is called from
    /// several threads, 32 rows at a time.
    ///
    /// # Errors
    /// The error of `read`; if several calls fail, any of theirs.
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
