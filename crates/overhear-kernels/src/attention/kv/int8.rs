//! Keys and values in bytes, packed as products of bytes take them: both as outputs, in panels as in [`crate::packed`],
//! keys with words along the head, values with words along the keys. What multiplies them is [`crate::byte_attention`].
//!
//! Every element of a head has a range of its own over all rows: byte `b` stands for `scale * b + offset`. Keys have
//! elements that are large in every row (KIVI, <https://arxiv.org/abs/2402.02750>), on which a range per row would spend
//! its steps. And ranges per element cost nothing where the bytes are read: the scales of the keys go into the queries,
//! their centres add the same to all scores of a query, which the softmax drops, and the ranges of the values go into the
//! output, as weights add up to one.

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

/// Steps of a range: as many on either side of its centre.
const STEPS: f32 = 254.0;
/// Vectors of a head at a time whose ranges are found.
const VECTORS: usize = 4;
/// Bytes of a word.
pub(crate) const GROUP_SIZE: usize = Packing::Int8.group_size();
/// Keys are padded to whole steps of tiles.
const PADDING: usize = TILE * GROUP_SIZE;
/// Words of the longest head.
const MAX_HEAD_GROUPS: usize = MAX_HEAD_DIM / GROUP_SIZE;

/// Keys and values of all heads, in bytes.
#[derive(Clone, Debug)]
pub struct QuantizedKv {
    n_head: usize,
    head_dim: usize,
    n_key: usize,
    /// Of the panels; 0 before anything is packed.
    panel_width: usize,
    keys: QuantizedOperand,
    values: QuantizedOperand,
}

/// The keys, or the values.
#[derive(Clone, Debug)]
struct QuantizedOperand {
    /// Per head.
    groups: AlignedBuffer,
    /// What sums start from, as [`crate::packed`] has it: per output of all panels of each head.
    compensation: Vec<i32>,
    /// `[n_head, head_dim]`.
    scales: Vec<f32>,
    /// `[n_head, head_dim]`.
    offsets: Vec<f32>,
}

impl QuantizedKv {
    /// Room for `n_key` keys and values of `n_head` heads of `head_dim` elements.
    ///
    /// # Panics
    /// If `head_dim` is odd or more than 256, or there are more than 65536 keys: sums have 32 bits.
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

    /// Writes the keys of `head`, as the bytes stand for them, to `to`: `[n_key, head_dim]`.
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

    /// The same for the values.
    ///
    /// # Panics
    /// As there.
    pub fn copy_values(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let (k_groups, values) = (self.padded() / GROUP_SIZE, self.values(head));
        for (i, to) in to.iter_mut().enumerate() {
            let (key, element) = (i / self.head_dim, i % self.head_dim);
            let byte = self.byte(values, k_groups, element, key);
            *to = self.values.dequantize(head * self.head_dim + element, byte);
        }
    }

    /// Byte `k` of output `out` of a head's panels, whose outputs have `k_groups`.
    fn byte(&self, panels: &[u32], k_groups: usize, out: usize, k: usize) -> i8 {
        let group = group_offset(self.panel_width, k_groups, k / GROUP_SIZE, out % NR);
        let at = out / NR * NR * k_groups + group;
        as_bytes(panels)[at * GROUP_SIZE + k % GROUP_SIZE] as i8
    }

    /// Heads.
    #[must_use]
    pub fn n_head(&self) -> usize {
        self.n_head
    }

    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Keys.
    #[must_use]
    pub fn n_key(&self) -> usize {
        self.n_key
    }

    /// Keys that there is room for; those beyond the last are zeros.
    pub(crate) fn padded(&self) -> usize {
        self.n_key.next_multiple_of(PADDING)
    }

    /// Elements of a head that there is room for, whole panels.
    fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(NR)
    }

    /// Words along a head.
    pub(crate) fn head_groups(&self) -> usize {
        self.head_dim.div_ceil(GROUP_SIZE)
    }

    /// The keys of a head.
    pub(crate) fn keys(&self, head: usize) -> &[u32] {
        &self.keys.groups.as_slice()[head * self.keys_groups()..][..self.keys_groups()]
    }

    /// The values of a head.
    pub(crate) fn values(&self, head: usize) -> &[u32] {
        &self.values.groups.as_slice()[head * self.values_groups()..][..self.values_groups()]
    }

    /// What sums over a head's elements start from, for each key.
    pub(crate) fn key_compensation(&self, head: usize) -> &[i32] {
        &self.keys.compensation[head * self.padded()..][..self.padded()]
    }

    /// What sums over a head's keys start from, for each element of all panels.
    pub(crate) fn value_compensation(&self, head: usize) -> &[i32] {
        &self.values.compensation[head * self.padded_dim()..][..self.padded_dim()]
    }

    /// Of a head's keys.
    pub(crate) fn key_scales(&self, head: usize) -> &[f32] {
        &self.keys.scales[head * self.head_dim..][..self.head_dim]
    }

    /// Of a head's values: scales and centres.
    pub(crate) fn value_scales_and_offsets(&self, head: usize) -> (&[f32], &[f32]) {
        let elements = head * self.head_dim..(head + 1) * self.head_dim;
        let QuantizedOperand {
            scales, offsets, ..
        } = &self.values;
        (&scales[elements.clone()], &offsets[elements])
    }

    /// Whether they are packed for `arch`.
    pub(crate) fn is_packed_for(&self, arch: Arch) -> bool {
        self.panel_width == arch.blocking().panel_width
    }

    /// Words of a head's keys.
    fn keys_groups(&self) -> usize {
        self.padded() * self.head_groups()
    }

    /// Words of a head's values.
    fn values_groups(&self) -> usize {
        self.padded_dim() * self.padded() / GROUP_SIZE
    }

    /// See [`crate::Kernels::quantize_kv`]; shapes have been checked.
    pub(crate) fn pack(&mut self, arch: Arch, pool: &Pool, k: PackedRows<'_>, v: PackedRows<'_>) {
        let (n_head, head_dim, n_key, padded) =
            (self.n_head, self.head_dim, self.n_key, self.padded());
        let of_keys = (self.keys_groups(), padded);
        let of_values = (self.values_groups(), self.padded_dim());
        self.panel_width = arch.blocking().panel_width;
        let panel_width = self.panel_width;
        let (keys, values) = (self.keys.split(), self.values.split());
        // Two tasks a head.
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
    /// Words, starts, scales and centres, to be dealt out to tasks.
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

    /// What `byte` stands for as element `at` of the heads.
    fn dequantize(&self, at: usize, byte: i8) -> f32 {
        self.scales[at] * f32::from(byte) + self.offsets[at]
    }
}

/// One head of the keys or the values, to be packed.
struct PackHead<'a> {
    is_values: bool,
    from: PackedRows<'a>,
    /// The head's first element in a row.
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
    /// The head of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> &[bf16] {
        let row: &[bf16] = as_u16(&self.from.groups[row * self.from.stride..]).reinterpret_cast();
        &row[self.first..][..self.scales.len()]
    }

    /// The range of every element; what to multiply it by for a byte.
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
            // Without NaN, which the difference of two infinities is.
            let width = (highest - lowest).max(0.0);
            (self.scales[i], inverses[i]) = scale_and_inverse(width, STEPS);
        }
        inverses
    }

    /// The bytes of a row, those of rows beyond the last being zeros.
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

    /// Keys are outputs, words of them elements that follow each other.
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

    /// Elements are outputs, words of them keys that follow each other.
    #[inline(always)]
    fn pack_values(&mut self, inverses: &[f32; MAX_HEAD_DIM]) {
        let (head_dim, panel_width) = (self.scales.len(), self.panel_width);
        let k_groups = self.padded / GROUP_SIZE;
        self.compensation.fill(0);
        // Elements beyond the last stay zeros.
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
    /// Rounds keys and values, bfloat16 rows of which head `h` is the `head_dim` elements from `h * head_dim`, to bytes
    /// for [`Kernels::attention_int8`]. Every element of a head has a range of its own over all rows. Allocates nothing.
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
