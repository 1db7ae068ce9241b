//! Attention in bf16 on tiles, for the encoder and for cross-attention of any number of queries.
//!
//! Everything is transposed: scores, numerators and accumulators have a column per query. Keys, and values with a row
//! per element, are tiles of A; the queries, and then their numerators, are the panel of B. So the softmax runs down
//! columns, 16 queries per vector, without a reduction across lanes, and its results are already in the order that
//! the second product takes. A task is 32 queries of one head, or up to 16 with half of the panel. It alternates:
//! scores of 64 keys, and at once their numerators, which stay in L1; after 256 keys, the product with the values,
//! and with a tile of ones for the sums of numerators.
//!
//! Numerators are relative to a power of two at a query's largest score among the first keys. This changes no bit of
//! the result (the online softmax of Milakov and Gimelshein). They may be up to 2^65 times as large; if one is
//! larger, the task starts again relative to the largest of all scores. (A score more than 5e7 above those, which no
//! trained network has, does not fit 32 bits and is lost.)

use super::kv::bf16::TILE_GROUPS;
use super::queries::QueryBlock;
use crate::arch::{Arch, TILE};
use crate::gemm::aligned::f32_as_u32_mut;
use crate::gemm::epilogue::write_bf16;
use crate::gemm::layout::NR;
use crate::gemm::microkernels::{TileOperands, multiply_tiles};
use crate::gemm::tile_kernel::{TileKernel, TileTask};
use crate::parallel::scratch;
use crate::simd::Simd;

/// Keys whose scores are computed at a time; whole panels.
const SCORE_KEYS: usize = 64;
/// Keys whose numerators are multiplied at a time; a multiple of [`SCORE_KEYS`]. With fewer, accumulators would go
/// through memory more often; with more, numerators would not stay in L1.
const VALUE_KEYS: usize = 256;
/// Exponent of the largest numerator of the first keys: halfway between the smallest and 2.
const MAX_EXPONENT: f32 = 63.0;

/// Tile of bf16 ones.
#[repr(C, align(64))]
struct Ones([u32; TILE_GROUPS]);

static ONES: Ones = Ones([0x3f80_3f80; TILE_GROUPS]);

/// Runs one task of up to 32 queries.
pub(crate) fn attention_tiles(arch: Arch, queries: QueryBlock<'_>) {
    let kv = queries.kv;
    let n_panel = NR * kv.key_steps() * TILE;
    let n_scores = SCORE_KEYS * NR;
    let n_weights = VALUE_KEYS / 2 * NR;
    let n_sums = (kv.head_dim().next_multiple_of(NR) + NR) * NR;
    scratch::with(n_panel + n_scores + n_weights + n_sums, |scratch| {
        let (panel, scratch) = scratch.split_at_mut(n_panel);
        let (scores, scratch) = scratch.split_at_mut(n_scores);
        let (probabilities, acc) = scratch.split_at_mut(n_weights);
        arch.run_tiles(TiledTask {
            queries,
            panel: f32_as_u32_mut(panel),
            scores,
            probabilities: f32_as_u32_mut(probabilities),
            acc,
            offsets: None,
        });
    });
}

/// Task on tiles, with its scratch memory.
struct TiledTask<'a> {
    queries: QueryBlock<'a>,
    /// Queries as a panel of B, `[2, k_groups, 16]`, K groups along the head.
    panel: &'a mut [u32],
    /// Scores, `[64, 32]`: a row per key.
    scores: &'a mut [f32],
    /// Softmax numerators as a panel of B, `[2, 128, 16]`, K groups being pairs of keys.
    probabilities: &'a mut [u32],
    /// Accumulators of PV, `[head_dim, 32]` in whole panels, and behind them `[32, 32]` of which each row of the
    /// first half is the sums of numerators.
    acc: &'a mut [f32],
    /// Offsets that are added to the exponents of each query; `None` before there are scores.
    offsets: Option<[f32; NR]>,
}

impl TileTask for TiledTask<'_> {
    #[inline(always)]
    fn run<K: TileKernel>(self, kernel: K) {
        if self.queries.n > TILE {
            self.attend::<K, false>(kernel);
        } else {
            self.attend::<K, true>(kernel);
        }
    }
}

impl TiledTask<'_> {
    /// Runs the task; with `IS_HALF` for up to 16 queries.
    #[inline(always)]
    fn attend<K: TileKernel, const IS_HALF: bool>(mut self, kernel: K) {
        self.pack_queries::<K, IS_HALF>(kernel);
        let overflow = self.run_over_keys::<K, IS_HALF>(kernel);
        if overflow != 0 {
            self.raise_offsets::<K, IS_HALF>(kernel, overflow);
            self.run_over_keys::<K, IS_HALF>(kernel);
        }
        self.write_outputs(kernel);
    }

    /// Writes the panel of queries. Columns without a query are unspecified.
    #[inline(always)]
    fn pack_queries<K: TileKernel, const IS_HALF: bool>(&mut self, kernel: K) {
        let QueryBlock { q, head, first, .. } = self.queries;
        let k_groups = self.queries.kv.head_dim() / 2;
        let n_steps = self.queries.kv.key_steps();
        for half in 0..panel_halves(IS_HALF) {
            for step in 0..n_steps {
                let row = (first + half * TILE) * q.stride;
                let from = &q.groups[row + head * k_groups + step * TILE..];
                let to = &mut self.panel[(half * n_steps + step) * TILE_GROUPS..][..TILE_GROUPS];
                let in_step = TILE.min(k_groups - step * TILE);
                if in_step == TILE {
                    assert!(from.len() >= (TILE - 1) * q.stride + TILE);
                    // SAFETY: as many K groups were sliced.
                    unsafe {
                        kernel.transpose(from.as_ptr(), q.stride, to.as_mut_ptr(), TILE);
                    }
                } else {
                    // Zeros beyond the head, as the keys have them.
                    to.fill(0);
                    for (query, from) in from.chunks(q.stride).take(TILE).enumerate() {
                        for (group, from) in from.iter().take(in_step).enumerate() {
                            to[group * TILE + query] = *from;
                        }
                    }
                }
            }
        }
    }

    /// Runs over all keys. Returns a mask of the queries with a numerator that is too large.
    #[inline(always)]
    fn run_over_keys<K: TileKernel, const IS_HALF: bool>(&mut self, kernel: K) -> u32 {
        let padded = self.queries.kv.padded();
        let mut overflow = 0;
        for first in (0..padded).step_by(VALUE_KEYS) {
            let end = padded.min(first + VALUE_KEYS);
            for key in (first..end).step_by(SCORE_KEYS) {
                let n = SCORE_KEYS.min(end - key);
                self.multiply_keys::<K, IS_HALF>(kernel, key, n);
                overflow |= self.softmax::<K, IS_HALF>(kernel, key, key - first, n);
            }
            self.multiply_values::<K, IS_HALF>(kernel, first, end - first);
        }
        overflow & (u32::MAX >> (NR - self.queries.n))
    }

    /// QK^T: scores of `n` keys from `key` on, not yet scaled. Keys beyond the last get negative infinity.
    #[inline(always)]
    fn multiply_keys<K: TileKernel, const IS_HALF: bool>(
        &mut self,
        kernel: K,
        key: usize,
        n: usize,
    ) {
        let n_steps = self.queries.kv.key_steps();
        let tiles = &self.queries.kv.keys(self.queries.head)[key * n_steps * TILE..];
        let operands = TileOperands {
            x: tiles[..n * n_steps * TILE].as_ptr(),
            x_tile: n_steps * TILE_GROUPS,
            x_step: TILE_GROUPS,
            n_tiles: n / TILE,
            w: self.panel.as_ptr(),
            w_half: n_steps * TILE_GROUPS,
            n_steps,
            accumulate: false,
        };
        let scores = &mut self.scores[..n * NR];
        // SAFETY: the tiles were sliced, and the scores; the panel has as many steps.
        unsafe { multiply_tiles::<K, IS_HALF>(kernel, &operands, scores.as_mut_ptr()) };
        let n_key = self.queries.kv.n_key();
        if key + n > n_key {
            scores[(n_key - key) * NR..].fill(f32::NEG_INFINITY);
        }
    }

    /// Softmax numerators of `n` keys from `key` on, written from position `first_key` of the panel on; prefetches
    /// the next keys. Returns a mask of the queries with a numerator that is too large.
    #[inline(always)]
    fn softmax<K: TileKernel, const IS_HALF: bool>(
        &mut self,
        kernel: K,
        key: usize,
        first_key: usize,
        n: usize,
    ) -> u32 {
        let scale = self.queries.scale();
        let scores = &self.scores[..n * NR];
        // No closures, which would not be compiled for the microkernel's instructions.
        let offsets = match self.offsets {
            Some(offsets) => offsets,
            None => {
                // SAFETY: whole rows.
                let mut offsets = unsafe { max_scores(kernel.simd(), scores) };
                for to in &mut offsets {
                    *to = offset(*to * scale);
                }
                self.offsets = Some(offsets);
                offsets
            }
        };
        let of_key = self.queries.kv.key_steps() * TILE;
        let next = self.queries.kv.keys(self.queries.head).as_ptr();
        let next = next.wrapping_add((key + n) * of_key);
        let mut overflow = 0;
        for half in 0..panel_halves(IS_HALF) {
            let to =
                &mut self.probabilities[half * (VALUE_KEYS / 2 * TILE) + first_key / 2 * TILE..];
            let (scores, offsets) = (&scores[half * TILE..], &offsets[half * TILE..]);
            let to = to[..n / 2 * TILE].as_mut_ptr();
            let ahead = next.wrapping_add(half * n * TILE);
            // SAFETY: `n` rows of scores, half as many of numerators, 16 offsets.
            let bits = unsafe {
                kernel.exp2_pairs(scores.as_ptr(), n / 2, scale, offsets.as_ptr(), ahead, to)
            };
            overflow |= u32::from(bits) << (half * TILE);
        }
        overflow
    }

    /// PV: accumulates the products of `n` values from `key` on with their numerators, and the sums of numerators.
    #[inline(always)]
    fn multiply_values<K: TileKernel, const IS_HALF: bool>(
        &mut self,
        kernel: K,
        key: usize,
        n: usize,
    ) {
        let values = self.queries.kv.values(self.queries.head);
        let (head_dim, of_tile) = (
            self.queries.kv.head_dim(),
            self.queries.kv.value_steps() * TILE_GROUPS,
        );
        let first = key / NR * TILE_GROUPS;
        let n_tiles = head_dim.div_ceil(TILE);
        let of_values = TileOperands {
            x: values[first..][..(n_tiles - 1) * of_tile + n / NR * TILE_GROUPS].as_ptr(),
            x_tile: of_tile,
            x_step: TILE_GROUPS,
            n_tiles,
            w: self.probabilities.as_ptr(),
            w_half: VALUE_KEYS / 2 * TILE,
            n_steps: n / NR,
            accumulate: key > 0,
        };
        let of_ones = TileOperands {
            x: ONES.0.as_ptr(),
            x_step: 0,
            n_tiles: 1,
            ..of_values
        };
        let (acc, prob_sums) = self.acc.split_at_mut(head_dim.next_multiple_of(NR) * NR);
        assert!(prob_sums.len() >= NR * NR);
        // SAFETY: the tiles were sliced; the panel of numerators has as many steps; there is room for an even number
        // of tiles.
        unsafe {
            multiply_tiles::<K, IS_HALF>(kernel, &of_values, acc.as_mut_ptr());
            multiply_tiles::<K, IS_HALF>(kernel, &of_ones, prob_sums.as_mut_ptr());
        }
    }

    /// Sets the offsets of the queries in `overflow` by the largest of all scores.
    #[cold]
    fn raise_offsets<K: TileKernel, const IS_HALF: bool>(&mut self, kernel: K, overflow: u32) {
        let padded = self.queries.kv.padded();
        let mut all = [f32::NEG_INFINITY; NR];
        for key in (0..padded).step_by(SCORE_KEYS) {
            let n = SCORE_KEYS.min(padded - key);
            self.multiply_keys::<K, IS_HALF>(kernel, key, n);
            for scores in self.scores[..n * NR].chunks_exact(NR) {
                all.iter_mut()
                    .zip(scores)
                    .for_each(|(all, score)| *all = all.max(*score));
            }
        }
        let scale = self.queries.scale();
        let offsets = self.offsets.iter_mut().flatten();
        for (query, (to, score)) in offsets.zip(all).enumerate() {
            if overflow >> query & 1 == 1 {
                *to = offset(score * scale);
            }
        }
    }

    /// Divides the accumulators by the sums of numerators, transposes and stores them.
    #[inline(always)]
    fn write_outputs<K: TileKernel>(&mut self, kernel: K) {
        let (s, lanes) = (kernel.simd(), <K::Simd as Simd>::LANES);
        let QueryBlock { kv, n, .. } = self.queries;
        let head_dim = kv.head_dim();
        let prob_sums = self.acc.len() - NR * NR;
        for prob_sum in &mut self.acc[prob_sums..][..NR] {
            *prob_sum = 1.0 / *prob_sum;
        }
        let (acc, scales) = self.acc.split_at(prob_sums);
        let mut tile = Tile([0; TILE_GROUPS]); // [16 queries, 16 elements]
        for half in 0..n.div_ceil(TILE) {
            for element in (0..head_dim).step_by(TILE) {
                let acc = &acc[element * NR + half * TILE..];
                assert!(acc.len() >= (TILE - 1) * NR + TILE);
                // SAFETY: 16 rows of sums, asserted just now.
                unsafe { kernel.transpose(acc.as_ptr().cast(), NR, tile.0.as_mut_ptr(), TILE) };
                for query in half * TILE..n.min((half + 1) * TILE) {
                    let n = TILE.min(head_dim - element);
                    // SAFETY: no other task has this head of this query.
                    let out = unsafe { self.queries.output(query, element, n) };
                    let scale = s.splat(scales[query]);
                    let row = &tile.0[query % TILE * TILE..][..TILE];
                    for (out, row) in out.chunks_mut(lanes).zip(row.chunks_exact(lanes)) {
                        // SAFETY: a vector of f32.
                        let acc = unsafe { s.load(row.as_ptr().cast()) };
                        write_bf16(kernel, out, s.mul(acc, scale));
                    }
                }
            }
        }
    }
}

/// K groups of a tile.
#[repr(C, align(64))]
struct Tile([u32; TILE_GROUPS]);

/// Halves of a panel that hold queries.
#[inline(always)]
fn panel_halves(is_half: bool) -> usize {
    if is_half { 1 } else { 2 }
}

/// Offset that takes a query's largest exponent to [`MAX_EXPONENT`], by whole powers of two.
#[inline(always)]
fn offset(largest: f32) -> f32 {
    MAX_EXPONENT - largest.ceil()
}

/// Largest score of each of 32 columns.
///
/// # Safety
/// `scores` must be whole rows of 32.
#[inline(always)]
unsafe fn max_scores<S: Simd>(s: S, scores: &[f32]) -> [f32; NR] {
    let mut all = [f32::NEG_INFINITY; NR];
    for first in (0..NR).step_by(S::LANES) {
        let mut max = s.splat(f32::NEG_INFINITY);
        for row in 0..scores.len() / NR {
            // SAFETY: the caller's.
            max = s.max(
                unsafe { s.load(scores.as_ptr().add(row * NR + first)) },
                max,
            );
        }
        // SAFETY: 32 are whole vectors.
        unsafe { s.store(all.as_mut_ptr().add(first), max) };
    }
    all
}
