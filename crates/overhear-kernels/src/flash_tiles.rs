//! Attention in bfloat16 over packed keys and values, by tiles: encoder, and cross-attention of any number of queries.
//!
//! Scores, weights and sums have a column per query: keys, and values with a row per element, are the tiles of rows;
//! queries, and then their weights, are the panel. So the softmax goes down columns, of 16 queries a vector, without a
//! reduction, and weights come out in the order in which the second product takes them. A task takes 32 queries of one
//! head, or up to 16 with half of the panel. It computes the scores of 64 keys and at once their weights, which stay in
//! the first-level cache; after 256 keys the sums of values by them, and, as a row of ones were values, of the weights.
//!
//! Weights are relative to a power of two at a query's largest score among the first keys, which changes no bit of the
//! result (the online softmax of Milakov and Gimelshein). They may be up to 2^65 times as large; should one be larger, the
//! task does its work again relative to the largest of all.

use crate::activations::PackedRows;
use crate::dot::{TILE, TileOperands, TileTask, TileUnit, multiply_tiles};
use crate::keys_values::{KeysValues, TILE_WORDS};
use crate::packed::PANEL;
use crate::product::write_bf16;
use crate::simd::{Set, Simd};
use crate::split::Split;
use crate::words::words_of;
use crate::{Pool, scratch};

/// Keys whose scores are made at a time; whole panels.
const SCORED: usize = 64;
/// Keys whose weights are multiplied at a time: a multiple of that. Fewer would carry sums through memory more often,
/// more weights would not stay in the first-level cache.
const WEIGHED: usize = 256;
/// The exponent of the largest weight of the first keys: halfway between the smallest and 2.
const LARGEST: f32 = 63.0;

/// A tile of ones, bfloat16.
#[repr(C, align(64))]
struct Ones([u32; TILE_WORDS]);

static ONES: Ones = Ones([0x3f80_3f80; TILE_WORDS]);

/// See [`crate::Kernels::flash_attention`]; shapes have been checked.
pub(crate) fn flash_tiles(
    set: Set,
    pool: &Pool,
    (out, out_stride): (Split<'_, u16>, usize),
    (q, n_query): (PackedRows<'_>, usize),
    keys_values: &KeysValues,
) {
    let n_strips = n_query.div_ceil(PANEL);
    let rows = n_query.div_ceil(n_strips.max(1));
    let n_queries = PANEL * keys_values.key_steps() * TILE;
    let n_scores = SCORED * PANEL;
    let n_weights = WEIGHED / 2 * PANEL;
    let n_sums = (keys_values.head_dim().next_multiple_of(PANEL) + PANEL) * PANEL;
    // Heads outermost: threads at work share a head's keys and values.
    pool.run(keys_values.n_head() * n_strips, &|task| {
        let (head, first) = (task / n_strips, task % n_strips * rows);
        scratch::with(n_queries + n_scores + n_weights + n_sums, |scratch| {
            let (queries, scratch) = scratch.split_at_mut(n_queries);
            let (scores, scratch) = scratch.split_at_mut(n_scores);
            let (weights, sums) = scratch.split_at_mut(n_weights);
            set.run_tiles(Strip {
                keys_values,
                q,
                out,
                out_stride,
                head,
                first,
                n: rows.min(n_query.saturating_sub(first)),
                queries: words_of(queries),
                scores,
                weights: words_of(weights),
                sums,
                offsets: None,
            });
        });
    });
}

/// Up to 32 queries of one head.
struct Strip<'a> {
    keys_values: &'a KeysValues,
    q: PackedRows<'a>,
    out: Split<'a, u16>,
    /// Elements from row to row.
    out_stride: usize,
    head: usize,
    first: usize,
    n: usize,
    /// `[2, words, 16]`: a panel of queries, with words along the head.
    queries: &'a mut [u32],
    /// `[64, 32]`: a row per key.
    scores: &'a mut [f32],
    /// `[2, 128, 16]`: a panel of queries, with pairs of keys as words.
    weights: &'a mut [u32],
    /// `[head_dim, 32]`, whole panels, and `[32, 32]` of which each row of the first half is the sums of the weights.
    sums: &'a mut [f32],
    /// What is added to exponents, of every query; `None` before there are scores.
    offsets: Option<[f32; PANEL]>,
}

impl TileTask for Strip<'_> {
    #[inline(always)]
    fn run<U: TileUnit>(self, unit: U) {
        if self.n > TILE {
            self.attend::<U, false>(unit);
        } else {
            self.attend::<U, true>(unit);
        }
    }
}

impl Strip<'_> {
    /// All of it; if `IS_HALF`, of up to 16 queries.
    #[inline(always)]
    fn attend<U: TileUnit, const IS_HALF: bool>(mut self, unit: U) {
        self.pack_queries::<U, IS_HALF>(unit);
        let above = self.run_over_keys::<U, IS_HALF>(unit);
        if above != 0 {
            self.raise_offsets::<U, IS_HALF>(unit, above);
            self.run_over_keys::<U, IS_HALF>(unit);
        }
        self.write_outputs(unit);
    }

    /// Writes the panel of queries. Columns without a query are unsaid.
    #[inline(always)]
    fn pack_queries<U: TileUnit, const IS_HALF: bool>(&mut self, unit: U) {
        let n_words = self.keys_values.head_dim() / 2;
        let n_steps = self.keys_values.key_steps();
        for half in 0..halves(IS_HALF) {
            for step in 0..n_steps {
                let row = self.first + half * TILE;
                let from = &self.q.words[row * self.q.stride + self.head * n_words + step * TILE..];
                let to = &mut self.queries[(half * n_steps + step) * TILE_WORDS..][..TILE_WORDS];
                let in_step = TILE.min(n_words - step * TILE);
                if in_step == TILE {
                    assert!(from.len() >= (TILE - 1) * self.q.stride + TILE);
                    // SAFETY: as many words were sliced.
                    unsafe {
                        unit.transpose(from.as_ptr(), self.q.stride, to.as_mut_ptr(), TILE);
                    }
                } else {
                    // Zeros beyond the head, as the keys have them.
                    to.fill(0);
                    for (query, from) in from.chunks(self.q.stride).take(TILE).enumerate() {
                        for (word, from) in from.iter().take(in_step).enumerate() {
                            to[word * TILE + query] = *from;
                        }
                    }
                }
            }
        }
    }

    /// Makes the sums; which queries have a weight that is too large.
    #[inline(always)]
    fn run_over_keys<U: TileUnit, const IS_HALF: bool>(&mut self, unit: U) -> u32 {
        let padded = self.keys_values.padded();
        let mut above = 0;
        for first in (0..padded).step_by(WEIGHED) {
            let end = padded.min(first + WEIGHED);
            for key in (first..end).step_by(SCORED) {
                let n = SCORED.min(end - key);
                self.multiply_keys::<U, IS_HALF>(unit, key, n);
                above |= self.soften::<U, IS_HALF>(unit, key, key - first, n);
            }
            self.multiply_values::<U, IS_HALF>(unit, first, end - first);
        }
        above & (u32::MAX >> (PANEL - self.n))
    }

    /// Scores of `n` keys, not yet scaled; negative infinity of those beyond the last.
    #[inline(always)]
    fn multiply_keys<U: TileUnit, const IS_HALF: bool>(&mut self, unit: U, key: usize, n: usize) {
        let n_steps = self.keys_values.key_steps();
        let tiles = &self.keys_values.keys(self.head)[key * n_steps * TILE..];
        let operands = TileOperands {
            x: tiles[..n * n_steps * TILE].as_ptr(),
            x_tile: n_steps * TILE_WORDS,
            x_step: TILE_WORDS,
            n_tiles: n / TILE,
            w: self.queries.as_ptr(),
            w_half: n_steps * TILE_WORDS,
            n_steps,
            carry: false,
        };
        let scores = &mut self.scores[..n * PANEL];
        // SAFETY: the tiles were sliced, and the scores; the panel has as many steps.
        unsafe { multiply_tiles::<U, IS_HALF>(unit, &operands, scores.as_mut_ptr()) };
        let n_key = self.keys_values.n_key();
        if key + n > n_key {
            scores[(n_key - key) * PANEL..].fill(f32::NEG_INFINITY);
        }
    }

    /// The weights of `n` keys from `key` on, the first of which goes to `place`; and fetches the next keys.
    #[inline(always)]
    fn soften<U: TileUnit, const IS_HALF: bool>(
        &mut self,
        unit: U,
        key: usize,
        place: usize,
        n: usize,
    ) -> u32 {
        let scale = self.scale();
        let scores = &self.scores[..n * PANEL];
        // Not by closures, as those are not compiled for the unit.
        let offsets = match self.offsets {
            Some(offsets) => offsets,
            None => {
                // SAFETY: whole rows.
                let mut offsets = unsafe { largest(unit.simd(), scores) };
                for to in &mut offsets {
                    *to = offset(*to * scale);
                }
                self.offsets = Some(offsets);
                offsets
            }
        };
        let of_key = self.keys_values.key_steps() * TILE;
        let next = self.keys_values.keys(self.head).as_ptr();
        let next = next.wrapping_add((key + n) * of_key);
        let mut above = 0;
        for half in 0..halves(IS_HALF) {
            let to = &mut self.weights[half * (WEIGHED / 2 * TILE) + place / 2 * TILE..];
            let (scores, offsets) = (&scores[half * TILE..], &offsets[half * TILE..]);
            let to = to[..n / 2 * TILE].as_mut_ptr();
            let ahead = next.wrapping_add(half * n * TILE);
            // SAFETY: `n` rows of scores, half as many of weights, 16 offsets.
            let bits = unsafe {
                unit.weigh_pairs(scores.as_ptr(), n / 2, scale, offsets.as_ptr(), ahead, to)
            };
            above |= u32::from(bits) << (half * TILE);
        }
        above
    }

    /// Adds the sums of `n` values from `key` on by their weights, and those of the weights.
    #[inline(always)]
    fn multiply_values<U: TileUnit, const IS_HALF: bool>(&mut self, unit: U, key: usize, n: usize) {
        let values = self.keys_values.values(self.head);
        let (head_dim, of_tile) = (
            self.keys_values.head_dim(),
            self.keys_values.value_steps() * TILE_WORDS,
        );
        let first = key / PANEL * TILE_WORDS;
        let n_tiles = head_dim.div_ceil(TILE);
        let of_values = TileOperands {
            x: values[first..][..(n_tiles - 1) * of_tile + n / PANEL * TILE_WORDS].as_ptr(),
            x_tile: of_tile,
            x_step: TILE_WORDS,
            n_tiles,
            w: self.weights.as_ptr(),
            w_half: WEIGHED / 2 * TILE,
            n_steps: n / PANEL,
            carry: key > 0,
        };
        let of_ones = TileOperands {
            x: ONES.0.as_ptr(),
            x_step: 0,
            n_tiles: 1,
            ..of_values
        };
        let (sums, totals) = self
            .sums
            .split_at_mut(head_dim.next_multiple_of(PANEL) * PANEL);
        assert!(totals.len() >= PANEL * PANEL);
        // SAFETY: the tiles were sliced; the panel of weights has as many steps; there is room for an even number of tiles.
        unsafe {
            multiply_tiles::<U, IS_HALF>(unit, &of_values, sums.as_mut_ptr());
            multiply_tiles::<U, IS_HALF>(unit, &of_ones, totals.as_mut_ptr());
        }
    }

    /// Offsets by the largest of all scores, of the queries in `above`.
    #[cold]
    fn raise_offsets<U: TileUnit, const IS_HALF: bool>(&mut self, unit: U, above: u32) {
        let padded = self.keys_values.padded();
        let mut all = [f32::NEG_INFINITY; PANEL];
        for key in (0..padded).step_by(SCORED) {
            let n = SCORED.min(padded - key);
            self.multiply_keys::<U, IS_HALF>(unit, key, n);
            for scores in self.scores[..n * PANEL].chunks_exact(PANEL) {
                all.iter_mut()
                    .zip(scores)
                    .for_each(|(all, score)| *all = all.max(*score));
            }
        }
        let scale = self.scale();
        let offsets = self.offsets.iter_mut().flatten();
        for (query, (to, score)) in offsets.zip(all).enumerate() {
            if above >> query & 1 == 1 {
                *to = offset(score * scale);
            }
        }
    }

    /// Divides the sums by those of the weights.
    #[inline(always)]
    fn write_outputs<U: TileUnit>(&mut self, unit: U) {
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let head_dim = self.keys_values.head_dim();
        let totals = &self.sums[head_dim.next_multiple_of(PANEL) * PANEL..][..PANEL];
        let mut tile = Tile([0; TILE_WORDS]); // [16 queries, 16 elements]
        for half in 0..self.n.div_ceil(TILE) {
            for element in (0..head_dim).step_by(TILE) {
                let sums = &self.sums[element * PANEL + half * TILE..];
                assert!(sums.len() >= (TILE - 1) * PANEL + TILE);
                // SAFETY: 16 rows of sums, asserted just now.
                unsafe { unit.transpose(sums.as_ptr().cast(), PANEL, tile.0.as_mut_ptr(), TILE) };
                for query in half * TILE..self.n.min((half + 1) * TILE) {
                    let at = (self.first + query) * self.out_stride + self.head * head_dim;
                    let n = TILE.min(head_dim - element);
                    // SAFETY: no other task has this head of this query.
                    let out = unsafe { self.out.take(at + element, n) };
                    let scale = s.splat(1.0 / totals[query]);
                    let row = &tile.0[query % TILE * TILE..][..TILE];
                    for (out, row) in out.chunks_mut(lanes).zip(row.chunks_exact(lanes)) {
                        // SAFETY: a vector of f32.
                        let sums = unsafe { s.load(row.as_ptr().cast()) };
                        write_bf16(unit, out, s.mul(sums, scale));
                    }
                }
            }
        }
    }

    /// Takes scores to powers of two.
    #[inline(always)]
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.keys_values.head_dim() as f32).sqrt()
    }
}

/// Words of a tile.
#[repr(C, align(64))]
struct Tile([u32; TILE_WORDS]);

/// Halves of a panel that hold queries.
#[inline(always)]
fn halves(is_half: bool) -> usize {
    if is_half { 1 } else { 2 }
}

/// What takes a query's largest exponent to [`LARGEST`], by whole powers of two.
#[inline(always)]
fn offset(largest: f32) -> f32 {
    LARGEST - largest.ceil()
}

/// The largest of each column of rows of 32 scores.
///
/// # Safety
/// They must be whole rows.
#[inline(always)]
unsafe fn largest<S: Simd>(s: S, scores: &[f32]) -> [f32; PANEL] {
    let mut all = [f32::NEG_INFINITY; PANEL];
    for first in (0..PANEL).step_by(S::LANES) {
        let mut max = s.splat(f32::NEG_INFINITY);
        for row in 0..scores.len() / PANEL {
            // SAFETY: the caller's.
            max = s.max(
                unsafe { s.load(scores.as_ptr().add(row * PANEL + first)) },
                max,
            );
        }
        // SAFETY: 32 are whole vectors.
        unsafe { s.store(all.as_mut_ptr().add(first), max) };
    }
    all
}
