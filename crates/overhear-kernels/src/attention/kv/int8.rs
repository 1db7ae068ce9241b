//! Keys and values in int8, quantised and packed for [`attention_int8`](crate::Kernels::attention_int8).
//!
//! Both are B, in panels of 32 outputs (`crate::gemm::layout`): of the keys, outputs are keys and K groups run along
//! the head; of the values, outputs are the head's elements and K groups run along the keys.
//!
//! Quantisation is per channel: every element of a head has a scale and an offset over all rows, `x = scale * byte +
//! offset`. Keys have elements that are large in every row (KIVI, <https://arxiv.org/abs/2402.02750>), which would
//! use up the steps of a range per row. Scales and offsets per element cost nothing while bytes are read: the scales
//! of the keys are multiplied into the queries; their offsets add the same to all scores of a query, which the
//! softmax cancels; scales and offsets of the values are applied to the output, as probabilities sum to one.

use half::bf16;
use half::slice::HalfBitsSliceExt;

use crate::arch::{Arch, TILE};
use crate::attention::shape::MAX_HEAD_DIM;
use crate::gemm::aligned::{AlignedBuffer, as_bytes, as_bytes_mut, as_u16};
use crate::gemm::layout::{LANES, MAX_INT8_COLS, NR, Packing, group_offset};
use crate::gemm::pack_a::{PackedRows, assert_bf16};
use crate::kernels::Kernels;
use crate::math::quantize::{quantize, scale_and_inverse};
use crate::parallel::{Disjoint, Pool};
use crate::simd::{Element, Simd, Vectorized};

/// Quantisation steps between the lowest and the highest value of an element.
const STEPS: f32 = 254.0;
/// Vectors of a head whose scales are computed at a time.
const VECTORS: usize = 4;
/// Bytes of a K group.
pub(crate) const GROUP_SIZE: usize = Packing::Int8.group_size();
/// Granularity of keys: whole steps of tiles.
const PADDING: usize = TILE * GROUP_SIZE;
/// K groups of the longest head.
const MAX_HEAD_GROUPS: usize = MAX_HEAD_DIM / GROUP_SIZE;

/// Quantised keys and values of all heads.
#[derive(Clone, Debug)]
pub struct QuantizedKv {
    n_head: usize,
    head_dim: usize,
    n_key: usize,
    /// Panel width, see `crate::gemm::layout`; 0 before anything is packed.
    panel_width: usize,
    keys: QuantizedOperand,
    values: QuantizedOperand,
}

/// Quantised keys, or values.
#[derive(Clone, Debug)]
struct QuantizedOperand {
    /// Panels, head by head.
    groups: AlignedBuffer,
    /// Compensation, `-128 * sum` per output of all panels of each head (`crate::gemm::pack_b`).
    compensation: Vec<i32>,
    /// Scales, `[n_head, head_dim]`.
    scales: Vec<f32>,
    /// Offsets, `[n_head, head_dim]`.
    offsets: Vec<f32>,
}

impl QuantizedKv {
    /// Room for `n_key` keys and values of `n_head` heads of `head_dim` elements.
    ///
    /// # Panics
    /// If `head_dim` is odd or more than 256, or there are more than 65536 keys, whose sums would not fit 32 bits.
    #[must_use]
    pub fn new(n_head: usize, head_dim: usize, n_key: usize) -> Self {
        assert!(
            head_dim.is_multiple_of(2) && head_dim <= MAX_HEAD_DIM,
            "a head of {head_dim} elements"
        );
        assert!(n_key <= MAX_INT8_COLS, "{n_key} keys");
        let part = QuantizedOperand {
            groups: AlignedBuffer::default(),
            compensation: Vec::new(),
            scales: vec![0.0; n_head * head_dim],
            offsets: vec![0.0; n_head * head_dim],
        };
        let mut this = Self {
            n_head,
            head_dim,
            n_key,
            panel_width: 0,
            keys: part.clone(),
            values: part,
        };
        this.keys.groups = AlignedBuffer::new(n_head * this.keys_groups());
        this.values.groups = AlignedBuffer::new(n_head * this.values_groups());
        this.keys.compensation = vec![0; n_head * this.padded()];
        this.values.compensation = vec![0; n_head * this.padded_dim()];
        this
    }

    /// Bytes that attention of one query reads.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let compensation = self.padded() + self.padded_dim();
        4 * self.n_head * (self.keys_groups() + self.values_groups() + compensation)
    }

    /// Writes the keys of `head`, dequantised, to `to`: `[n_key, head_dim]`.
    ///
    /// # Panics
    /// If there is no such head, or `to` is not that long.
    pub fn copy_keys(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let (k_groups, keys) = (self.head_groups(), self.keys(head));
        for (i, to) in to.iter_mut().enumerate() {
            let (key, element) = (i / self.head_dim, i % self.head_dim);
            let byte = self.byte(keys, k_groups, key, element);
            *to = self.keys.dequantize(head * self.head_dim + element, byte);
        }
    }

    /// Writes the values of `head`, dequantised, to `to`: `[n_key, head_dim]`.
    ///
    /// # Panics
    /// If there is no such head, or `to` is not that long.
    pub fn copy_values(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let (k_groups, values) = (self.padded() / GROUP_SIZE, self.values(head));
        for (i, to) in to.iter_mut().enumerate() {
            let (key, element) = (i / self.head_dim, i % self.head_dim);
            let byte = self.byte(values, k_groups, element, key);
            *to = self.values.dequantize(head * self.head_dim + element, byte);
        }
    }

    /// Byte `k` of output `out` in a head's panels of `k_groups`.
    fn byte(&self, panels: &[u32], k_groups: usize, out: usize, k: usize) -> i8 {
        let group = group_offset(self.panel_width, k_groups, k / GROUP_SIZE, out % NR);
        let at = out / NR * NR * k_groups + group;
        as_bytes(panels)[at * GROUP_SIZE + k % GROUP_SIZE] as i8
    }

    /// Number of heads.
    #[must_use]
    pub fn n_head(&self) -> usize {
        self.n_head
    }

    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Number of keys.
    #[must_use]
    pub fn n_key(&self) -> usize {
        self.n_key
    }

    /// Number of keys with padding to [`PADDING`]; keys beyond the last are zeros.
    pub(crate) fn padded(&self) -> usize {
        self.n_key.next_multiple_of(PADDING)
    }

    /// Elements of a head with padding to whole panels.
    fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(NR)
    }

    /// K groups along a head.
    pub(crate) fn head_groups(&self) -> usize {
        self.head_dim.div_ceil(GROUP_SIZE)
    }

    /// Packed keys of a head.
    pub(crate) fn keys(&self, head: usize) -> &[u32] {
        &self.keys.groups.as_slice()[head * self.keys_groups()..][..self.keys_groups()]
    }

    /// Packed values of a head.
    pub(crate) fn values(&self, head: usize) -> &[u32] {
        &self.values.groups.as_slice()[head * self.values_groups()..][..self.values_groups()]
    }

    /// Compensation of QK^T for a head, one per key.
    pub(crate) fn key_compensation(&self, head: usize) -> &[i32] {
        &self.keys.compensation[head * self.padded()..][..self.padded()]
    }

    /// Compensation of PV for a head, one per element of all panels.
    pub(crate) fn value_compensation(&self, head: usize) -> &[i32] {
        &self.values.compensation[head * self.padded_dim()..][..self.padded_dim()]
    }

    /// Scales of a head's keys.
    pub(crate) fn key_scales(&self, head: usize) -> &[f32] {
        &self.keys.scales[head * self.head_dim..][..self.head_dim]
    }

    /// Scales and offsets of a head's values.
    pub(crate) fn value_scales_and_offsets(&self, head: usize) -> (&[f32], &[f32]) {
        let elements = head * self.head_dim..(head + 1) * self.head_dim;
        let QuantizedOperand {
            scales, offsets, ..
        } = &self.values;
        (&scales[elements.clone()], &offsets[elements])
    }

    /// Whether the contents are packed for `arch`.
    pub(crate) fn is_packed_for(&self, arch: Arch) -> bool {
        self.panel_width == arch.blocking().panel_width
    }

    /// K groups of a head's keys.
    fn keys_groups(&self) -> usize {
        self.padded() * self.head_groups()
    }

    /// K groups of a head's values.
    fn values_groups(&self) -> usize {
        self.padded_dim() * self.padded() / GROUP_SIZE
    }

    /// Quantises and packs keys and values; shapes have been checked.
    pub(crate) fn pack(&mut self, arch: Arch, pool: &Pool, k: PackedRows<'_>, v: PackedRows<'_>) {
        let (n_head, head_dim, n_key, padded) =
            (self.n_head, self.head_dim, self.n_key, self.padded());
        let of_keys = (self.keys_groups(), padded);
        let of_values = (self.values_groups(), self.padded_dim());
        self.panel_width = arch.blocking().panel_width;
        let panel_width = self.panel_width;
        let (keys, values) = (self.keys.split(), self.values.split());
        // Two tasks per head.
        pool.run(2 * n_head, &|task| {
            let (head, is_values) = (task / 2, task % 2 == 1);
            let ((groups, compensation, scales, offsets), from, (k_groups, n_outs)) =
                match is_values {
                    false => (keys, k, of_keys),
                    true => (values, v, of_values),
                };
            // SAFETY: no other task has this head of them.
            let (groups, compensation, scales, offsets) = unsafe {
                (
                    groups.take(head * k_groups, k_groups),
                    compensation.take(head * n_outs, n_outs),
                    scales.take(head * head_dim, head_dim),
                    offsets.take(head * head_dim, head_dim),
                )
            };
            arch.run_any(PackHead {
                is_values,
                from,
                first: head * head_dim,
                panel_width,
                n_key,
                padded,
                groups,
                compensation,
                scales,
                offsets,
            });
        });
    }
}

impl QuantizedOperand {
    /// Panels, compensation, scales and offsets, to be divided among tasks.
    fn split(
        &mut self,
    ) -> (
        Disjoint<'_, u32>,
        Disjoint<'_, i32>,
        Disjoint<'_>,
        Disjoint<'_>,
    ) {
        (
            Disjoint::new(self.groups.as_mut_slice()),
            Disjoint::new(&mut self.compensation),
            Disjoint::new(&mut self.scales),
            Disjoint::new(&mut self.offsets),
        )
    }

    /// Value of `byte` as element `at` of all heads.
    fn dequantize(&self, at: usize, byte: i8) -> f32 {
        self.scales[at] * f32::from(byte) + self.offsets[at]
    }
}

/// Task: quantises and packs one head of the keys or the values.
struct PackHead<'a> {
    is_values: bool,
    from: PackedRows<'a>,
    /// First element of the head in a row.
    first: usize,
    panel_width: usize,
    n_key: usize,
    padded: usize,
    groups: &'a mut [u32],
    compensation: &'a mut [i32],
    scales: &'a mut [f32],
    offsets: &'a mut [f32],
}

impl Vectorized for PackHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let inverses = self.find_scales(s);
        if self.is_values {
            self.pack_values(&inverses);
        } else {
            self.pack_keys(&inverses);
        }
    }
}

impl PackHead<'_> {
    /// Head of row `row`.
    #[inline(always)]
    fn row(&self, row: usize) -> &[bf16] {
        let row: &[bf16] = as_u16(&self.from.groups[row * self.from.stride..]).reinterpret_cast();
        &row[self.first..][..self.scales.len()]
    }

    /// Computes scale and offset of every element. Returns the reciprocals of the scales.
    #[inline(always)]
    fn find_scales<S: Simd>(&mut self, s: S) -> [f32; MAX_HEAD_DIM] {
        let head_dim = self.scales.len();
        let mut inverses = [0.0; MAX_HEAD_DIM];
        for first in (0..head_dim).step_by(VECTORS * S::LANES) {
            let n = (VECTORS * S::LANES).min(head_dim - first);
            let mut lowest = [s.splat(f32::INFINITY); VECTORS];
            let mut highest = [s.splat(f32::NEG_INFINITY); VECTORS];
            for row in 0..self.n_key {
                let row = self.row(row)[first..][..n].chunks(S::LANES);
                for (i, x) in row.enumerate().take(VECTORS) {
                    let x = bf16::read(s, x);
                    (lowest[i], highest[i]) = (s.min(x, lowest[i]), s.max(x, highest[i]));
                }
            }
            for (i, at) in (first..first + n).step_by(S::LANES).enumerate() {
                s.write(&mut self.offsets[at..first + n], lowest[i]);
                s.write(&mut self.scales[at..first + n], highest[i]);
            }
        }
        for i in 0..head_dim {
            let (lowest, highest) = (self.offsets[i], self.scales[i]);
            self.offsets[i] = 0.5 * lowest + 0.5 * highest;
            // `max` drops NaN, which the difference of two infinities is.
            let width = (highest - lowest).max(0.0);
            (self.scales[i], inverses[i]) = scale_and_inverse(width, STEPS);
        }
        inverses
    }

    /// Quantises a row; rows beyond the last are zeros.
    #[inline(always)]
    fn quantize_row(&self, row: usize, inverses: &[f32; MAX_HEAD_DIM], to: &mut [u8]) {
        if row >= self.n_key {
            return to.fill(0);
        }
        let scales = self.offsets.iter().zip(inverses);
        for ((to, x), (offset, inverse)) in to.iter_mut().zip(self.row(row)).zip(scales) {
            let x = f32::from_bits(u32::from(x.to_bits()) << 16);
            *to = quantize(x - offset, *inverse);
        }
    }

    /// Packs keys: outputs are keys, K groups consecutive elements.
    #[inline(always)]
    fn pack_keys(&mut self, inverses: &[f32; MAX_HEAD_DIM]) {
        let (head_dim, panel_width) = (self.scales.len(), self.panel_width);
        let k_groups = head_dim.div_ceil(GROUP_SIZE);
        let mut rows = [[0; MAX_HEAD_GROUPS]; LANES];
        for first in (0..self.padded).step_by(LANES) {
            for (i, row) in rows.iter_mut().enumerate() {
                let row = &mut as_bytes_mut(row)[..head_dim];
                self.quantize_row(first + i, inverses, row);
                let sum: i32 = row.iter().map(|&b| i32::from(b as i8)).sum();
                self.compensation[first + i] = -128 * sum;
            }
            let panel = &mut self.groups[first / NR * NR * k_groups..];
            for group in 0..k_groups {
                let to =
                    &mut panel[group_offset(panel_width, k_groups, group, first % NR)..][..LANES];
                for (to, row) in to.iter_mut().zip(&rows) {
                    *to = row[group];
                }
            }
        }
    }

    /// Packs values: outputs are elements, K groups consecutive keys.
    #[inline(always)]
    fn pack_values(&mut self, inverses: &[f32; MAX_HEAD_DIM]) {
        let (head_dim, panel_width) = (self.scales.len(), self.panel_width);
        let k_groups = self.padded / GROUP_SIZE;
        self.compensation.fill(0);
        // Elements beyond the last stay zero.
        let mut rows = [[0; MAX_HEAD_DIM]; GROUP_SIZE]; // four keys
        for group in 0..k_groups {
            for (i, row) in rows.iter_mut().enumerate() {
                let row = &mut row[..head_dim];
                self.quantize_row(group * GROUP_SIZE + i, inverses, row);
                for (start, b) in self.compensation.iter_mut().zip(row) {
                    *start -= 128 * i32::from(*b as i8);
                }
            }
            for first in (0..head_dim).step_by(LANES) {
                let panel = first / NR * NR * k_groups;
                let at = panel + group_offset(panel_width, k_groups, group, first % NR);
                let to = &mut self.groups[at..][..LANES];
                for (i, to) in to.iter_mut().enumerate() {
                    let at = first + i;
                    let keys = [rows[0][at], rows[1][at], rows[2][at], rows[3][at]];
                    *to = u32::from_le_bytes(keys);
                }
            }
        }
    }
}

const _: () = assert!(PADDING.is_multiple_of(NR) && NR.is_multiple_of(LANES));

impl Kernels {
    /// Quantises keys and values to int8 for [`Kernels::attention_int8`], with a scale and an offset per element of a
    /// head. `k`, `v`: bf16 rows, in which head `h` is the `head_dim` elements from `h * head_dim` on. Allocates
    /// nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn quantize_kv(
        &self,
        pool: &Pool,
        to: &mut QuantizedKv,
        k: PackedRows<'_>,
        v: PackedRows<'_>,
    ) {
        for rows in [k, v] {
            assert_bf16(rows, to.n_key(), to.n_head() * to.head_dim());
        }
        to.pack(self.arch, pool, k, v);
    }
}
