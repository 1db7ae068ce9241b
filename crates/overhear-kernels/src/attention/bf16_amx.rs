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
//! task does its work again relative to the largest of all. (Of a score 5e7 above those, which no trained network has, the
//! weight does not fit 32 bits, and is lost.)

use super::kv::bf16::TILE_WORDS;
use super::queries::Queries;
use crate::arch::{Arch, TILE};
use crate::gemm::aligned::words_of;
use crate::gemm::epilogue::write_bf16;
use crate::gemm::layout::PANEL;
use crate::gemm::microkernels::{TileOperands, multiply_tiles};
use crate::gemm::tile_kernel::{TileTask, TileUnit};
use crate::parallel::scratch;
use crate::simd::Simd;

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

/// A task of up to 32 queries, see [`crate::Kernels::flash_attention`].
pub(crate) fn flash_tiles(arch: Arch, queries: Queries<'_>) {
    let keys_values = queries.keys_values;
    let n_panel = PANEL * keys_values.key_steps() * TILE;
    let n_scores = SCORED * PANEL;
    let n_weights = WEIGHED / 2 * PANEL;
    let n_sums = (keys_values.head_dim().next_multiple_of(PANEL) + PANEL) * PANEL;
    scratch::with(n_panel + n_scores + n_weights + n_sums, |scratch| {
        let (panel, scratch) = scratch.split_at_mut(n_panel);
        let (scores, scratch) = scratch.split_at_mut(n_scores);
        let (weights, sums) = scratch.split_at_mut(n_weights);
        arch.run_tiles(Strip {
            queries,
            panel: words_of(panel),
            scores,
            weights: words_of(weights),
            sums,
            offsets: None,
        });
    });
}

/// A task and what it makes on its way.
struct Strip<'a> {
    queries: Queries<'a>,
    /// `[2, words, 16]`: the queries, with words along the head.
    panel: &'a mut [u32],
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
        if self.queries.n > TILE {
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
        let Queries { q, head, first, .. } = self.queries;
        let n_words = self.queries.keys_values.head_dim() / 2;
        let n_steps = self.queries.keys_values.key_steps();
        for half in 0..halves(IS_HALF) {
            for step in 0..n_steps {
                let row = (first + half * TILE) * q.stride;
                let from = &q.words[row + head * n_words + step * TILE..];
                let to = &mut self.panel[(half * n_steps + step) * TILE_WORDS..][..TILE_WORDS];
                let in_step = TILE.min(n_words - step * TILE);
                if in_step == TILE {
                    assert!(from.len() >= (TILE - 1) * q.stride + TILE);
                    // SAFETY: as many words were sliced.
                    unsafe {
                        unit.transpose(from.as_ptr(), q.stride, to.as_mut_ptr(), TILE);
                    }
                } else {
                    // Zeros beyond the head, as the keys have them.
                    to.fill(0);
                    for (query, from) in from.chunks(q.stride).take(TILE).enumerate() {
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
        let padded = self.queries.keys_values.padded();
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
        above & (u32::MAX >> (PANEL - self.queries.n))
    }

    /// Scores of `n` keys, not yet scaled; negative infinity of those beyond the last.
    #[inline(always)]
    fn multiply_keys<U: TileUnit, const IS_HALF: bool>(&mut self, unit: U, key: usize, n: usize) {
        let n_steps = self.queries.keys_values.key_steps();
        let tiles = &self.queries.keys_values.keys(self.queries.head)[key * n_steps * TILE..];
        let operands = TileOperands {
            x: tiles[..n * n_steps * TILE].as_ptr(),
            x_tile: n_steps * TILE_WORDS,
            x_step: TILE_WORDS,
            n_tiles: n / TILE,
            w: self.panel.as_ptr(),
            w_half: n_steps * TILE_WORDS,
            n_steps,
            carry: false,
        };
        let scores = &mut self.scores[..n * PANEL];
        // SAFETY: the tiles were sliced, and the scores; the panel has as many steps.
        unsafe { multiply_tiles::<U, IS_HALF>(unit, &operands, scores.as_mut_ptr()) };
        let n_key = self.queries.keys_values.n_key();
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
        let scale = self.queries.scale();
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
        let of_key = self.queries.keys_values.key_steps() * TILE;
        let next = self.queries.keys_values.keys(self.queries.head).as_ptr();
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
        let values = self.queries.keys_values.values(self.queries.head);
        let (head_dim, of_tile) = (
            self.queries.keys_values.head_dim(),
            self.queries.keys_values.value_steps() * TILE_WORDS,
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
        let padded = self.queries.keys_values.padded();
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
        let scale = self.queries.scale();
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
        let Queries { keys_values, n, .. } = self.queries;
        let head_dim = keys_values.head_dim();
        let totals = self.sums.len() - PANEL * PANEL;
        for total in &mut self.sums[totals..][..PANEL] {
            *total = 1.0 / *total;
        }
        let (sums, scales) = self.sums.split_at(totals);
        let mut tile = Tile([0; TILE_WORDS]); // [16 queries, 16 elements]
        for half in 0..n.div_ceil(TILE) {
            for element in (0..head_dim).step_by(TILE) {
                let sums = &sums[element * PANEL + half * TILE..];
                assert!(sums.len() >= (TILE - 1) * PANEL + TILE);
                // SAFETY: 16 rows of sums, asserted just now.
                unsafe { unit.transpose(sums.as_ptr().cast(), PANEL, tile.0.as_mut_ptr(), TILE) };
                for query in half * TILE..n.min((half + 1) * TILE) {
                    let n = TILE.min(head_dim - element);
                    // SAFETY: no other task has this head of this query.
                    let out = unsafe { self.queries.output(query, element, n) };
                    let scale = s.splat(scales[query]);
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
