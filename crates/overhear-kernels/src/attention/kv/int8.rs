//! Keys and values in bytes, packed as products of bytes take them: both as outputs, in panels as in [`crate::packed`],
//! keys with words along the head, values with words along the keys. What multiplies them is [`crate::byte_attention`].
//!
//! Every element of a head has a range of its own over all rows: byte `b` stands for `scale * b + centre`. Keys have
//! elements that are large in every row (KIVI, <https://arxiv.org/abs/2402.02750>), on which a range per row would spend
//! its steps. And ranges per element cost nothing where the bytes are read: the scales of the keys go into the queries,
//! their centres add the same to all scores of a query, which the softmax drops, and the ranges of the values go into the
//! output, as weights add up to one.

use half::bf16;
use half::slice::HalfBitsSliceExt;

use crate::arch::{Arch, TILE};
use crate::attention::shape::MAX_HEAD_DIM;
use crate::gemm::aligned::{Words, bytes, bytes_mut, halves};
use crate::gemm::layout::{LANES, MAX_INT8_COLS, PANEL, Packing, place};
use crate::gemm::pack_a::{PackedRows, assert_bf16};
use crate::kernels::Kernels;
use crate::math::quantize::{quantised, step_and_inverse};
use crate::parallel::{Pool, Split};
use crate::simd::{Element, Simd, Vectorized};

/// Steps of a range: as many on either side of its centre.
const STEPS: f32 = 254.0;
/// Vectors of a head at a time whose ranges are found.
const VECTORS: usize = 4;
/// Bytes of a word.
pub(crate) const PER_WORD: usize = Packing::Int8.per_word();
/// Keys are padded to whole steps of tiles.
const PADDING: usize = TILE * PER_WORD;
/// Words of the longest head.
const MAX_WORDS: usize = MAX_HEAD_DIM / PER_WORD;

/// Keys and values of all heads, in bytes.
#[derive(Clone, Debug)]
pub struct ByteKeysValues {
    n_head: usize,
    head_dim: usize,
    n_key: usize,
    /// Of the panels; 0 before anything is packed.
    step: usize,
    keys: Part,
    values: Part,
}

/// The keys, or the values.
#[derive(Clone, Debug)]
struct Part {
    /// Per head.
    words: Words,
    /// What sums start from, as [`crate::packed`] has it: per output of all panels of each head.
    starts: Vec<i32>,
    /// `[n_head, head_dim]`.
    scales: Vec<f32>,
    /// `[n_head, head_dim]`.
    centres: Vec<f32>,
}

impl ByteKeysValues {
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
        let part = Part {
            words: Words::default(),
            starts: Vec::new(),
            scales: vec![0.0; n_head * head_dim],
            centres: vec![0.0; n_head * head_dim],
        };
        let mut this = Self {
            n_head,
            head_dim,
            n_key,
            step: 0,
            keys: part.clone(),
            values: part,
        };
        this.keys.words = Words::new(n_head * this.keys_words());
        this.values.words = Words::new(n_head * this.values_words());
        this.keys.starts = vec![0; n_head * this.padded()];
        this.values.starts = vec![0; n_head * this.padded_dim()];
        this
    }

    /// Bytes that attention of one query reads.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let starts = self.padded() + self.padded_dim();
        4 * self.n_head * (self.keys_words() + self.values_words() + starts)
    }

    /// Writes the keys of `head`, as the bytes stand for them, to `to`: `[n_key, head_dim]`.
    ///
    /// # Panics
    /// If there is no such head, or `to` is not that long.
    pub fn copy_keys(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let (n_words, keys) = (self.head_words(), self.keys(head));
        for (i, to) in to.iter_mut().enumerate() {
            let (key, element) = (i / self.head_dim, i % self.head_dim);
            let byte = self.byte(keys, n_words, key, element);
            *to = self.keys.number(head * self.head_dim + element, byte);
        }
    }

    /// The same for the values.
    ///
    /// # Panics
    /// As there.
    pub fn copy_values(&self, head: usize, to: &mut [f32]) {
        assert_eq!(to.len(), self.n_key * self.head_dim);
        let (n_words, values) = (self.padded() / PER_WORD, self.values(head));
        for (i, to) in to.iter_mut().enumerate() {
            let (key, element) = (i / self.head_dim, i % self.head_dim);
            let byte = self.byte(values, n_words, element, key);
            *to = self.values.number(head * self.head_dim + element, byte);
        }
    }

    /// Byte `k` of output `out` of a head's panels, whose outputs have `n_words`.
    fn byte(&self, panels: &[u32], n_words: usize, out: usize, k: usize) -> i8 {
        let word = place(self.step, n_words, k / PER_WORD, out % PANEL);
        let at = out / PANEL * PANEL * n_words + word;
        bytes(panels)[at * PER_WORD + k % PER_WORD] as i8
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
        self.head_dim.next_multiple_of(PANEL)
    }

    /// Words along a head.
    pub(crate) fn head_words(&self) -> usize {
        self.head_dim.div_ceil(PER_WORD)
    }

    /// The keys of a head.
    pub(crate) fn keys(&self, head: usize) -> &[u32] {
        &self.keys.words.as_slice()[head * self.keys_words()..][..self.keys_words()]
    }

    /// The values of a head.
    pub(crate) fn values(&self, head: usize) -> &[u32] {
        &self.values.words.as_slice()[head * self.values_words()..][..self.values_words()]
    }

    /// What sums over a head's elements start from, for each key.
    pub(crate) fn key_starts(&self, head: usize) -> &[i32] {
        &self.keys.starts[head * self.padded()..][..self.padded()]
    }

    /// What sums over a head's keys start from, for each element of all panels.
    pub(crate) fn value_starts(&self, head: usize) -> &[i32] {
        &self.values.starts[head * self.padded_dim()..][..self.padded_dim()]
    }

    /// Of a head's keys.
    pub(crate) fn key_scales(&self, head: usize) -> &[f32] {
        &self.keys.scales[head * self.head_dim..][..self.head_dim]
    }

    /// Of a head's values: scales and centres.
    pub(crate) fn value_ranges(&self, head: usize) -> (&[f32], &[f32]) {
        let elements = head * self.head_dim..(head + 1) * self.head_dim;
        let Part {
            scales, centres, ..
        } = &self.values;
        (&scales[elements.clone()], &centres[elements])
    }

    /// Whether they are packed for `arch`.
    pub(crate) fn are_for(&self, arch: Arch) -> bool {
        self.step == arch.blocking().step
    }

    /// Words of a head's keys.
    fn keys_words(&self) -> usize {
        self.padded() * self.head_words()
    }

    /// Words of a head's values.
    fn values_words(&self) -> usize {
        self.padded_dim() * self.padded() / PER_WORD
    }

    /// See [`crate::Kernels::pack_byte_keys_values`]; shapes have been checked.
    pub(crate) fn pack(&mut self, arch: Arch, pool: &Pool, k: PackedRows<'_>, v: PackedRows<'_>) {
        let (n_head, head_dim, n_key, padded) =
            (self.n_head, self.head_dim, self.n_key, self.padded());
        let of_keys = (self.keys_words(), padded);
        let of_values = (self.values_words(), self.padded_dim());
        self.step = arch.blocking().step;
        let step = self.step;
        let (keys, values) = (self.keys.split(), self.values.split());
        // Two tasks a head.
        pool.run(2 * n_head, &|task| {
            let (head, is_values) = (task / 2, task % 2 == 1);
            let ((words, starts, scales, centres), from, (n_words, n_outs)) = match is_values {
                false => (keys, k, of_keys),
                true => (values, v, of_values),
            };
            // SAFETY: no other task has this head of them.
            let (words, starts, scales, centres) = unsafe {
                (
                    words.take(head * n_words, n_words),
                    starts.take(head * n_outs, n_outs),
                    scales.take(head * head_dim, head_dim),
                    centres.take(head * head_dim, head_dim),
                )
            };
            arch.run_any(PackHead {
                is_values,
                from,
                first: head * head_dim,
                step,
                n_key,
                padded,
                words,
                starts,
                scales,
                centres,
            });
        });
    }
}

impl Part {
    /// Words, starts, scales and centres, to be dealt out to tasks.
    fn split(&mut self) -> (Split<'_, u32>, Split<'_, i32>, Split<'_>, Split<'_>) {
        (
            Split::new(self.words.as_mut_slice()),
            Split::new(&mut self.starts),
            Split::new(&mut self.scales),
            Split::new(&mut self.centres),
        )
    }

    /// What `byte` stands for as element `at` of the heads.
    fn number(&self, at: usize, byte: i8) -> f32 {
        self.scales[at] * f32::from(byte) + self.centres[at]
    }
}

/// One head of the keys or the values, to be packed.
struct PackHead<'a> {
    is_values: bool,
    from: PackedRows<'a>,
    /// The head's first element in a row.
    first: usize,
    step: usize,
    n_key: usize,
    padded: usize,
    words: &'a mut [u32],
    starts: &'a mut [i32],
    scales: &'a mut [f32],
    centres: &'a mut [f32],
}

impl Vectorized for PackHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let inverses = self.find_ranges(s);
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
        let row: &[bf16] = halves(&self.from.words[row * self.from.stride..]).reinterpret_cast();
        &row[self.first..][..self.scales.len()]
    }

    /// The range of every element; what to multiply it by for a byte.
    #[inline(always)]
    fn find_ranges<S: Simd>(&mut self, s: S) -> [f32; MAX_HEAD_DIM] {
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
                s.write(&mut self.centres[at..first + n], lowest[i]);
                s.write(&mut self.scales[at..first + n], highest[i]);
            }
        }
        for i in 0..head_dim {
            let (lowest, highest) = (self.centres[i], self.scales[i]);
            self.centres[i] = 0.5 * lowest + 0.5 * highest;
            // Without NaN, which the difference of two infinities is.
            let width = (highest - lowest).max(0.0);
            (self.scales[i], inverses[i]) = step_and_inverse(width, STEPS);
        }
        inverses
    }

    /// The bytes of a row, those of rows beyond the last being zeros.
    #[inline(always)]
    fn quantise(&self, row: usize, inverses: &[f32; MAX_HEAD_DIM], to: &mut [u8]) {
        if row >= self.n_key {
            return to.fill(0);
        }
        let ranges = self.centres.iter().zip(inverses);
        for ((to, x), (centre, inverse)) in to.iter_mut().zip(self.row(row)).zip(ranges) {
            let x = f32::from_bits(u32::from(x.to_bits()) << 16);
            *to = quantised(x - centre, *inverse);
        }
    }

    /// Keys are outputs, words of them elements that follow each other.
    #[inline(always)]
    fn pack_keys(&mut self, inverses: &[f32; MAX_HEAD_DIM]) {
        let (head_dim, step) = (self.scales.len(), self.step);
        let n_words = head_dim.div_ceil(PER_WORD);
        let mut rows = [[0; MAX_WORDS]; LANES];
        for first in (0..self.padded).step_by(LANES) {
            for (i, row) in rows.iter_mut().enumerate() {
                let row = &mut bytes_mut(row)[..head_dim];
                self.quantise(first + i, inverses, row);
                let sum: i32 = row.iter().map(|&b| i32::from(b as i8)).sum();
                self.starts[first + i] = -128 * sum;
            }
            let panel = &mut self.words[first / PANEL * PANEL * n_words..];
            for word in 0..n_words {
                let to = &mut panel[place(step, n_words, word, first % PANEL)..][..LANES];
                for (to, row) in to.iter_mut().zip(&rows) {
                    *to = row[word];
                }
            }
        }
    }

    /// Elements are outputs, words of them keys that follow each other.
    #[inline(always)]
    fn pack_values(&mut self, inverses: &[f32; MAX_HEAD_DIM]) {
        let (head_dim, step) = (self.scales.len(), self.step);
        let n_words = self.padded / PER_WORD;
        self.starts.fill(0);
        // Elements beyond the last stay zeros.
        let mut rows = [[0; MAX_HEAD_DIM]; PER_WORD]; // four keys
        for word in 0..n_words {
            for (i, row) in rows.iter_mut().enumerate() {
                let row = &mut row[..head_dim];
                self.quantise(word * PER_WORD + i, inverses, row);
                for (start, b) in self.starts.iter_mut().zip(row) {
                    *start -= 128 * i32::from(*b as i8);
                }
            }
            for first in (0..head_dim).step_by(LANES) {
                let panel = first / PANEL * PANEL * n_words;
                let at = panel + place(step, n_words, word, first % PANEL);
                let to = &mut self.words[at..][..LANES];
                for (i, to) in to.iter_mut().enumerate() {
                    let at = first + i;
                    let keys = [rows[0][at], rows[1][at], rows[2][at], rows[3][at]];
                    *to = u32::from_le_bytes(keys);
                }
            }
        }
    }
}

const _: () = assert!(PADDING.is_multiple_of(PANEL) && PANEL.is_multiple_of(LANES));

impl Kernels {
    /// Rounds keys and values, bfloat16 rows of which head `h` is the `head_dim` elements from `h * head_dim`, to bytes
    /// for [`Kernels::attention_int8`]. Every element of a head has a range of its own over all rows. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn pack_byte_keys_values(
        &self,
        pool: &Pool,
        to: &mut ByteKeysValues,
        k: PackedRows<'_>,
        v: PackedRows<'_>,
    ) {
        for rows in [k, v] {
            assert_bf16(rows, to.n_key(), to.n_head() * to.head_dim());
        }
        to.pack(self.arch, pool, k, v);
    }
}
