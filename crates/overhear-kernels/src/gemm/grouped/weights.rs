//! Packed B of group-quantised weights: quantisation and packing while a matrix is read.

use bytemuck::cast_slice;
use half::f16;

use super::layout::{GROUP, GroupFormat};
use crate::arch::Arch;
use crate::gemm::aligned::{AlignedBuffer, as_bytes, as_bytes_mut};
use crate::gemm::layout::NR;
use crate::gemm::panel_reader::{Outs, read_panels, sampled_squares};
use crate::kernels::Kernels;
use crate::math::quantize::ROUND_MAGIC;
use crate::matrix::{Dtype, Matrix, copy_rows};
use crate::parallel::{Disjoint, Pool};
use crate::simd::{Element, Simd, Vectorized, widen};

/// Scales that are tried for a group, in tenths of a level by which its largest element misses the lowest level: ggml's
/// choice (`make_qx_quants`), the one without an offset first.
const CANDIDATES: [i32; 19] = [
    0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9,
];
/// Factor by which a candidate must be better than those before it: more than rounding.
const BETTER: f32 = 1.0 + 1e-5;

/// Ratio of the largest input's root mean square weight to the median's from which inputs are sorted. Of published layers
/// only embeddings have more (6 in base), whose large inputs would leave the others of their groups a few levels.
const UNEVEN: f64 = 4.0;

/// Packed weight matrix `[n_out, n_in]` (one row per output, as in PyTorch) of 4 or 5 bits with a scale per 32 inputs.
#[derive(Clone, Debug)]
pub struct GroupedMatrix {
    format: GroupFormat,
    n_out: usize,
    n_in: usize,
    /// Inputs in the order of their groups, `[n_in]`; empty if it is their own.
    order: Vec<u32>,
    /// `[panels, groups of K]` blocks, see [`super::layout`].
    blocks: AlignedBuffer,
}

impl GroupedMatrix {
    /// Reads, quantises and packs a matrix, see [`Kernels::quantize_weights_from`].
    fn read<E: Send>(
        arch: Arch,
        pool: &Pool,
        (n_out, n_in): (usize, usize),
        dtype: Dtype,
        format: GroupFormat,
        from_blocks: bool,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let order = match from_blocks {
            true => Vec::new(),
            false => by_size(&sampled_squares((n_out, n_in), dtype, &read)?),
        };
        let n_groups = n_in.div_ceil(GROUP);
        let panel_len = n_groups * format.block_bytes() / 4;
        let mut blocks = AlignedBuffer::new(n_out.div_ceil(NR) * panel_len);
        let panels = Disjoint::new(blocks.as_mut_slice());
        // Scratch: the outputs in f32, interleaved: `[n_groups * 32, 32]`.
        let n_spare = n_groups * GROUP * NR + n_in;
        read_panels(pool, (n_out, n_in), dtype, n_spare, read, |task| {
            // SAFETY: the tasks' panels are disjoint.
            let panel = unsafe { panels.take(task.panel * panel_len, panel_len) };
            let (spare, row) = task.spare.split_at_mut(n_groups * GROUP * NR);
            let target = Target {
                format,
                from_blocks,
                panel: as_bytes_mut(panel),
                order: &order,
                spare,
                row,
            };
            match task.outs {
                Outs::F32(outs) => arch.run_any(QuantizePanel { target, outs }),
                Outs::F16(outs) => arch.run_any(QuantizePanel { target, outs }),
                Outs::Bf16(outs) => arch.run_any(QuantizePanel { target, outs }),
            }
        })?;
        Ok(Self {
            format,
            n_out,
            n_in,
            order,
            blocks,
        })
    }

    /// Format of the weights.
    #[must_use]
    pub fn format(&self) -> GroupFormat {
        self.format
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
        4 * self.blocks.as_slice().len()
    }

    /// Inputs in the order of their groups, `[n_in]`; empty if it is their own.
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// Bytes of the blocks of a panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        self.n_in.div_ceil(GROUP) * self.format.block_bytes()
    }

    /// Blocks of all panels.
    pub(crate) fn blocks(&self) -> &[u8] {
        as_bytes(self.blocks.as_slice())
    }

    /// Writes the weights of output `out` to `to` (`[n_in]`): the embedding lookup.
    ///
    /// # Panics
    /// If `out` is out of range or `to` is not `n_in` long.
    pub fn copy_row(&self, out: usize, to: &mut [f32]) {
        assert!(out < self.n_out && to.len() == self.n_in);
        let panel = &self.blocks()[out / NR * self.panel_bytes()..];
        let blocks = panel.chunks_exact(self.format.block_bytes());
        for (group, block) in blocks.take(self.n_in.div_ceil(GROUP)).enumerate() {
            let scale = self.format.scale(block, out % NR).to_f32();
            for k in 0..GROUP.min(self.n_in - group * GROUP) {
                let level = i32::from(self.format.level(block, out % NR, k));
                let at = group * GROUP + k;
                let input = self.order.get(at).map_or(at, |&input| input as usize);
                to[input] = scale * (level - self.format.zero_point()) as f32;
            }
        }
    }
}

/// Inputs sorted by the sums of their squared weights, if these are uneven, else nothing.
fn by_size(squares: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..squares.len() as u32).collect();
    order.sort_by(|&a, &b| squares[a as usize].total_cmp(&squares[b as usize]));
    let square = |at: usize| order.get(at).map_or(0.0, |&input| squares[input as usize]);
    let (median, largest) = (square(order.len() / 2), square(order.len().wrapping_sub(1)));
    match largest > UNEVEN * UNEVEN * median && median > 0.0 {
        true => order,
        false => Vec::new(),
    }
}

/// Panel that is written, and scratch memory.
struct Target<'a> {
    format: GroupFormat,
    from_blocks: bool,
    panel: &'a mut [u8],
    /// Inputs in the order of their groups; empty if it is their own.
    order: &'a [u32],
    /// Scratch for the outputs in f32, interleaved and padded: `[n_groups * 32, 32]`.
    spare: &'a mut [f32],
    /// Scratch for one output, `[n_in]`.
    row: &'a mut [f32],
}

/// Task that quantises and packs a panel.
struct QuantizePanel<'a, E> {
    target: Target<'a>,
    /// `[up to 32, n_in]`.
    outs: &'a [E],
}

impl<E: Element> Vectorized for QuantizePanel<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { target, outs } = self;
        let Target {
            format,
            from_blocks,
            panel,
            order,
            spare,
            row,
        } = target;
        spare.fill(0.0);
        for (out, from) in outs.chunks_exact(row.len().max(1)).enumerate() {
            widen(s, row, from);
            let column = spare[out..].iter_mut().step_by(NR);
            if order.is_empty() {
                column.zip(&*row).for_each(|(to, x)| *to = *x);
            } else {
                column
                    .zip(order)
                    .for_each(|(to, &input)| *to = row[input as usize]);
            }
        }
        let groups: &[[f32; NR]] = cast_slice(spare);
        let blocks = panel.chunks_exact_mut(format.block_bytes());
        for (block, group) in blocks.zip(groups.chunks_exact(GROUP)) {
            quantize_block(format, from_blocks, block, group);
        }
    }
}

/// Quantises a group of K of 32 outputs, `[32, 32]`, to a block of zeros. Outputs that were blocks before, if
/// `from_blocks`, come back exactly.
#[inline(always)]
fn quantize_block(format: GroupFormat, from_blocks: bool, block: &mut [u8], group: &[[f32; NR]]) {
    let mut extremes = [0.0f32; NR];
    for x in group {
        for out in 0..NR {
            let is_larger = x[out].abs() > extremes[out].abs();
            extremes[out] = if is_larger { x[out] } else { extremes[out] };
        }
    }
    let known = match from_blocks {
        true => exact_scales(format, group, &extremes),
        false => [None; NR],
    };
    let scales = match known.iter().all(Option::is_some) {
        true => [f16::ZERO; NR],
        false => best_scales(format, group, &extremes),
    };
    let scales: [f16; NR] = std::array::from_fn(|out| known[out].unwrap_or(scales[out]));
    let inverses = scales.map(|x| match x.to_f32() {
        0.0 => 0.0,
        x => x.recip(),
    });
    for (out, scale) in scales.into_iter().enumerate() {
        format.set_scale(block, out, scale);
    }
    for (k, x) in group.iter().enumerate() {
        for out in 0..NR {
            let level = nearest(format, x[out] * inverses[out]) + format.zero_point() as f32;
            format.set_level(block, out, k, level as u8);
        }
    }
}

/// Rounds to the nearest level, less the zero point.
#[inline(always)]
fn nearest(format: GroupFormat, x: f32) -> f32 {
    let zero_point = format.zero_point() as f32;
    (x + ROUND_MAGIC - ROUND_MAGIC).clamp(-zero_point, zero_point - 1.0)
}

/// Scale of each output of which all its elements are levels, by whatever level the largest one is.
#[inline(always)]
fn exact_scales(
    format: GroupFormat,
    group: &[[f32; NR]],
    extremes: &[f32; NR],
) -> [Option<f16>; NR] {
    let mut found = extremes.map(|x| (x == 0.0).then_some(f16::ZERO));
    // The lowest level first, which ggml gives to the largest element.
    for level in (1..=format.zero_point())
        .rev()
        .flat_map(|level| [-level, level])
    {
        if found.iter().all(Option::is_some) {
            break;
        }
        let scales = extremes.map(|x| f16::from_f32(x / level as f32));
        let wide = scales.map(f16::to_f32);
        let inverses = wide.map(|x| if x == 0.0 { 0.0 } else { x.recip() });
        let mut is_exact = [true; NR];
        for x in group {
            for out in 0..NR {
                let q = nearest(format, x[out] * inverses[out]);
                is_exact[out] &= q * wide[out] == x[out];
            }
        }
        for out in 0..NR {
            if is_exact[out] && found[out].is_none() {
                found[out] = Some(scales[out]);
            }
        }
    }
    found
}

/// Scale of each output that has, of the candidates, the least squared error after its own least-squares correction
/// (ggml's `make_qx_quants`).
#[inline(always)]
fn best_scales(format: GroupFormat, group: &[[f32; NR]], extremes: &[f32; NR]) -> [f16; NR] {
    let zero_point = format.zero_point() as f32;
    // Beneath the reach of f16 scales, and of reciprocals.
    let inverses = extremes.map(|x: f32| if x.abs() < 1e-30 { 0.0 } else { x.recip() });
    let (mut best, mut scales) = ([0.0f32; NR], [0.0f32; NR]);
    for offset in CANDIDATES {
        let steps = -(zero_point + 0.1 * offset as f32);
        let inverses = inverses.map(|x| steps * x);
        let (mut products, mut squares) = ([0.0f32; NR], [0.0f32; NR]);
        for x in group {
            for out in 0..NR {
                let q = nearest(format, x[out] * inverses[out]);
                products[out] += x[out] * q;
                squares[out] += q * q;
            }
        }
        for out in 0..NR {
            let gain = products[out] * products[out];
            if gain > best[out] * squares[out] * BETTER {
                best[out] = gain / squares[out];
                scales[out] = products[out] / squares[out];
            }
        }
    }
    let largest = f16::MAX.to_f32();
    scales.map(|x| f16::from_f32(x.clamp(-largest, largest)))
}

impl Kernels {
    /// Packs `w` for [`Kernels::linear_grouped`], see [`Kernels::quantize_weights_from`].
    #[must_use]
    pub fn quantize_weights(&self, pool: &Pool, w: &Matrix, format: GroupFormat) -> GroupedMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(grouped) = self.quantize_weights_from(pool, shape, w.dtype(), format, false, read);
        grouped
    }

    /// Whether [`Kernels::linear_grouped`] uses instructions made for it. Otherwise it is emulated, which is correct and slow.
    #[must_use]
    pub fn has_grouped(&self) -> bool {
        self.arch.has_grouped()
    }

    /// Quantises and packs a matrix `[n_out, n_in]` of `dtype` for [`Kernels::linear_grouped`] while it is read.
    ///
    /// Where the weights of some inputs are much larger than those of others, inputs are sorted by size before they are
    /// grouped; not if the weights are `from_blocks` of quantised elements: those of the same format stay as they are.
    ///
    /// `read(first_row, buf)` must fill `buf` with consecutive rows starting at `first_row`. It is called from
    /// several threads, 32 rows at a time, and to sort once more before, for some rows. The matrix is never in memory
    /// twice.
    ///
    /// # Errors
    /// The error of `read`; if several calls fail, any of theirs.
    pub fn quantize_weights_from<E: Send>(
        &self,
        pool: &Pool,
        shape: (usize, usize),
        dtype: Dtype,
        format: GroupFormat,
        from_blocks: bool,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<GroupedMatrix, E> {
        GroupedMatrix::read(self.arch, pool, shape, dtype, format, from_blocks, read)
    }
}
