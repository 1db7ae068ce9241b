//! `epilogue(x * w^T + bias)` on vectors.
//!
//! Rows of `x` and of `w` are both contiguous along K, so every output is a dot product of two contiguous runs. A
//! register block computes `ROWS` x 4 of them at once, each in its own vector of partial sums. The order of a sum
//! is fixed by K alone: lane `i` adds the elements `i`, `i + LANES`, .. of a chunk with fused steps, the lanes are
//! halved until one is left ([`Simd::sum4`]), and the chunks are added in order. Neither the number of rows, nor
//! the place in a block, nor the threads have a say, so a row's result is the same bits alone or among 1500.
//!
//! Few rows read `w` once, widening as they go: memory is the limit. Many rows work through tiles of the output and
//! widen a panel of `w` once per tile, which stays in the second-level cache while the rows pass over it.

use std::hint::black_box;

use crate::math::gelu;
use crate::simd::{Element, Set, Simd, Vectorized};
use crate::split::Split;
use crate::{Epilogue, MatrixData, Pool, Rows, scratch};

/// The longest chunk of K: six rows of `x` (18 KiB) and four of `w` (12 KiB) share a first-level cache.
const MAX_CHUNK: usize = 768;
/// Up to so many rows read `w` as it is: four blocks of six, each of which widens it again.
const FEW_ROWS: usize = 24;
/// Bytes that are to be on their way with few rows: what memory brings in the time that it takes to answer.
const FETCH_BYTES: usize = 12 << 10;
/// Outputs whose sums are kept on the stack with few rows.
const FEW_OUTS: usize = 32;
/// Bytes of `w` that are worth a task of their own: a microsecond of memory traffic.
const TASK_BYTES: usize = 32 << 10;
/// Rows of a tile with many rows: enough that widening a panel (1 step per element) is 2 % of using it.
const TILE_ROWS: usize = 192;
/// Outputs of a tile with many rows: a panel of 96 x 768 f32 is 288 KiB, a part of any second-level cache.
const TILE_OUTS: usize = 96;

/// The arguments of one call, checked.
#[derive(Clone, Copy)]
struct Call<'a, E> {
    x: Rows<'a>,
    w: &'a [E],
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
    y: Split<'a>,
    n_rows: usize,
    n_out: usize,
    n_in: usize,
}

/// Runs the call on `set`, which is not [`Set::Scalar`]; shapes have been checked against `w`'s `[n_out, n_in]`.
pub(crate) fn linear(
    set: Set,
    pool: &Pool,
    y: &mut [f32],
    x: Rows<'_>,
    (w, n_out, n_in): (&MatrixData, usize, usize),
    bias: Option<&[f32]>,
    epilogue: Epilogue,
) {
    match w {
        MatrixData::F32(w) => Call::new(y, x, w, (n_out, n_in), bias, epilogue).run(set, pool),
        MatrixData::F16(w) => Call::new(y, x, w, (n_out, n_in), bias, epilogue).run(set, pool),
        MatrixData::Bf16(w) => Call::new(y, x, w, (n_out, n_in), bias, epilogue).run(set, pool),
    }
}

impl<'a, E: Element> Call<'a, E> {
    fn new(
        y: &'a mut [f32],
        x: Rows<'a>,
        w: &'a [E],
        (n_out, n_in): (usize, usize),
        bias: Option<&'a [f32]>,
        epilogue: Epilogue,
    ) -> Self {
        let n_rows = y.len().checked_div(n_out).unwrap_or(0);
        assert!(n_rows == 0 || x.data.len() >= (n_rows - 1) * x.stride + n_in);
        assert!(
            w.len() == n_out * n_in
                && y.len() == n_rows * n_out
                && bias.is_none_or(|b| b.len() == n_out)
        );
        Self {
            x,
            w,
            bias,
            epilogue,
            y: Split::new(y),
            n_rows,
            n_out,
            n_in,
        }
    }

    /// Splits the output into tasks.
    fn run(&self, set: Set, pool: &Pool) {
        if self.n_rows <= FEW_ROWS {
            self.run_few(set, pool)
        } else {
            self.run_many(set, pool)
        }
    }

    fn run_few(&self, set: Set, pool: &Pool) {
        let threads = pool.n_threads();
        // Eight tasks per thread even out threads of unequal speed.
        let for_bytes = TASK_BYTES.div_ceil((self.n_in * size_of::<E>()).max(1));
        let outs = self
            .n_out
            .div_ceil(8 * threads)
            .max(for_bytes)
            .next_multiple_of(FEW_OUTS);
        pool.run(self.n_out.div_ceil(outs), &|task| {
            let tile = Tile {
                rows: (0, self.n_rows),
                outs: (task * outs, self.n_out.min((task + 1) * outs)),
            };
            set.run(FewRows { call: self, tile }, || {
                unreachable!("the scalar set has no vectors")
            });
        });
    }

    fn run_many(&self, set: Set, pool: &Pool) {
        let n_row_tiles = self.n_rows.div_ceil(TILE_ROWS);
        let rows = self.n_rows.div_ceil(n_row_tiles).next_multiple_of(12);
        let even = (self.n_out * n_row_tiles).div_ceil(4 * pool.n_threads());
        let outs = even.next_multiple_of(16).min(TILE_OUTS);
        let n_row_tiles = self.n_rows.div_ceil(rows);
        pool.run(n_row_tiles * self.n_out.div_ceil(outs), &|task| {
            let (row, out) = (task % n_row_tiles * rows, task / n_row_tiles * outs);
            let tile = Tile {
                rows: (row, self.n_rows.min(row + rows)),
                outs: (out, self.n_out.min(out + outs)),
            };
            scratch::with((MAX_CHUNK + rows) * outs, |scratch| {
                set.run(
                    ManyRows {
                        call: self,
                        tile,
                        scratch,
                    },
                    || unreachable!("the scalar set has no vectors"),
                );
            });
        });
    }

    /// The first element and the length of the chunks of K, a function of K alone: as few as may be, about even,
    /// all but the last a multiple of every set's lanes.
    #[inline(always)]
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<E> {
        let n_in = self.n_in;
        let chunk = n_in
            .div_ceil(n_in.div_ceil(MAX_CHUNK).max(1))
            .next_multiple_of(64)
            .max(64);
        (0..n_in)
            .step_by(chunk)
            .map(move |k| (k, chunk.min(n_in - k)))
    }

    /// Where row `row` of `x` has its element `k`.
    #[inline(always)]
    fn x_at(&self, row: usize, k: usize) -> *const f32 {
        self.x.data[row * self.x.stride + k..].as_ptr()
    }

    /// How far ahead to fetch in the chunk from `k`, when blocks of `n_outs` outputs follow one another: at the next
    /// chunk, the first of the next block after the last, or blocks further if they are small.
    #[inline(always)]
    fn ahead(&self, n_outs: usize, k: usize, len: usize) -> usize {
        if k + len < self.n_in {
            len
        } else {
            let n_blocks = if k > 0 {
                1
            } else {
                FETCH_BYTES.div_ceil(n_outs * len * size_of::<E>())
            };
            n_blocks * n_outs * self.n_in - k
        }
    }

    /// Where output `out` of `w` has its element `k`.
    #[inline(always)]
    fn weight(&self, out: usize, k: usize) -> *const E {
        self.w[out * self.n_in + k..].as_ptr()
    }

    /// Writes outputs `from..from + sums.len()` of `row`.
    ///
    /// # Safety
    /// No other task touches them.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, row: usize, from: usize, sums: &[f32]) {
        // SAFETY: the caller's.
        let y = unsafe { self.y.take(row * self.n_out + from, sums.len()) };
        let bias = self.bias.map(|bias| &bias[from..][..sums.len()]);
        for (i, (y, sums)) in y
            .chunks_mut(S::LANES)
            .zip(sums.chunks(S::LANES))
            .enumerate()
        {
            let mut v = s.read(sums);
            if let Some(bias) = bias {
                v = s.add(v, s.read(&bias[i * S::LANES..][..sums.len()]));
            }
            match self.epilogue {
                Epilogue::Store => {}
                Epilogue::Gelu => v = gelu(s, v),
                Epilogue::Add => v = s.add(s.read(y), v),
            }
            s.write(y, v);
        }
    }
}

/// Rows and outputs from the first to before the second.
#[derive(Clone, Copy)]
struct Tile {
    rows: (usize, usize),
    outs: (usize, usize),
}

/// All rows, few, over the outputs of a tile.
struct FewRows<'a, E> {
    call: &'a Call<'a, E>,
    tile: Tile,
}

impl<E: Element> Vectorized for FewRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.call.n_rows == 1 {
            // One row has sums for but four chains of dependent steps; eight keep the arithmetic units busy.
            self.blocks::<S, 2>(s, &mut [0.0; FEW_OUTS]);
        } else {
            self.blocks::<S, 1>(s, &mut [0.0; FEW_ROWS * FEW_OUTS]);
        }
    }
}

impl<E: Element> FewRows<'_, E> {
    /// `sums`: room for `[n_rows, FEW_OUTS]`.
    #[inline(always)]
    fn blocks<S: Simd, const G: usize>(&self, s: S, sums: &mut [f32]) {
        let Self { call, tile } = self;
        for first in (tile.outs.0..tile.outs.1).step_by(FEW_OUTS) {
            let n_outs = FEW_OUTS.min(tile.outs.1 - first);
            let sums = &mut sums[..call.n_rows * n_outs];
            sums.fill(0.0);
            for out in (0..n_outs).step_by(4 * G) {
                for (k, len) in call.chunks() {
                    let w = groups::<E, G>(|j| call.weight(first + (out + j).min(n_outs - 1), k));
                    let ahead = call.ahead(4 * G, k, len);
                    for row in (0..call.n_rows).step_by(S::ROWS) {
                        let n = S::ROWS.min(call.n_rows - row);
                        let operands = Operands {
                            x: call.x_at(row, k),
                            x_stride: call.x.stride,
                            w,
                            len,
                            ahead,
                        };
                        // SAFETY: `x` and `w` point into rows of `n_in` elements, `len` of them from `k`.
                        unsafe {
                            add_block::<S, E, G, true>(
                                s,
                                n,
                                &operands,
                                &mut sums[row * n_outs..],
                                n_outs,
                                out,
                            )
                        };
                    }
                }
            }
            for (i, sums) in sums.chunks_exact(n_outs).enumerate() {
                // SAFETY: the tasks' outputs are disjoint.
                unsafe { call.finish(s, i, first, sums) };
            }
        }
    }
}

/// A tile of the output, with room for a panel `[n_outs, chunk]` of `w` and for its sums.
struct ManyRows<'a, E> {
    call: &'a Call<'a, E>,
    tile: Tile,
    scratch: &'a mut [f32],
}

impl<E: Element> Vectorized for ManyRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            call,
            tile,
            scratch,
        } = self;
        let (n_rows, n_outs) = (tile.rows.1 - tile.rows.0, tile.outs.1 - tile.outs.0);
        let (sums, panel) = scratch.split_at_mut(n_rows * n_outs);
        sums.fill(0.0);
        for (k, len) in call.chunks() {
            for (out, widened) in panel.chunks_exact_mut(len).take(n_outs).enumerate() {
                widen(
                    s,
                    widened,
                    &call.w[(tile.outs.0 + out) * call.n_in + k..][..len],
                );
            }
            for row in (0..n_rows).step_by(S::ROWS) {
                let n = S::ROWS.min(n_rows - row);
                let (x, sums) = (call.x_at(tile.rows.0 + row, k), &mut sums[row * n_outs..]);
                for out in (0..n_outs).step_by(4) {
                    let w = groups::<f32, 1>(|j| {
                        panel[(out + j).min(n_outs - 1) * len..][..len].as_ptr()
                    });
                    let operands = Operands {
                        x,
                        x_stride: call.x.stride,
                        w,
                        len,
                        ahead: 0,
                    };
                    // SAFETY: `x` points into rows of `n_in` elements, `len` of them from `k`; so does `w`.
                    unsafe { add_block::<S, f32, 1, false>(s, n, &operands, sums, n_outs, out) };
                }
            }
        }
        for (i, sums) in sums.chunks_exact(n_outs).enumerate() {
            // SAFETY: the tasks' tiles are disjoint.
            unsafe { call.finish(s, tile.rows.0 + i, tile.outs.0, sums) };
        }
    }
}

/// What a register block multiplies.
#[derive(Clone, Copy)]
pub(crate) struct Operands<E, const G: usize> {
    /// Row 0 of `x`, from the chunk's first element.
    pub(crate) x: *const f32,
    pub(crate) x_stride: usize,
    /// The rows of `w`, from the chunk's first element.
    pub(crate) w: [[*const E; 4]; G],
    /// Elements of the chunk.
    pub(crate) len: usize,
    /// From an element of `w` to the one to be fetched with it.
    pub(crate) ahead: usize,
}

/// `from` as f32.
#[inline(always)]
pub(crate) fn widen<S: Simd, E: Element>(s: S, to: &mut [f32], from: &[E]) {
    assert_eq!(to.len(), from.len());
    for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        s.write(to, E::read(s, from));
    }
}

/// The rows of `w` of `4 * G` outputs.
#[inline(always)]
pub(crate) fn groups<E, const G: usize>(row: impl Fn(usize) -> *const E) -> [[*const E; 4]; G] {
    let mut rows = [[std::ptr::null(); 4]; G];
    for (g, rows) in rows.iter_mut().enumerate() {
        for (j, w) in rows.iter_mut().enumerate() {
            *w = row(4 * g + j);
        }
    }
    rows
}

/// Adds the dot products of `n <= ROWS` rows (1 if `G` is 2) with `4 * G` outputs to columns `out..` of `sums`, rows
/// of `n_outs`; outputs beyond `n_outs` are dropped.
///
/// # Safety
/// The operands must be readable for as many rows.
#[inline(always)]
unsafe fn add_block<S: Simd, E: Element, const G: usize, const FETCH: bool>(
    s: S,
    n: usize,
    operands: &Operands<E, G>,
    sums: &mut [f32],
    n_outs: usize,
    out: usize,
) {
    // SAFETY: the caller's, for each.
    unsafe {
        match n {
            1 => add(sums, n_outs, out, block::<S, E, 1, G, FETCH>(s, operands)),
            2 if G == 1 => add(sums, n_outs, out, block::<S, E, 2, G, FETCH>(s, operands)),
            3 if G == 1 => add(sums, n_outs, out, block::<S, E, 3, G, FETCH>(s, operands)),
            4 if G == 1 && S::ROWS > 3 => {
                add(sums, n_outs, out, block::<S, E, 4, G, FETCH>(s, operands))
            }
            5 if G == 1 && S::ROWS > 3 => {
                add(sums, n_outs, out, block::<S, E, 5, G, FETCH>(s, operands))
            }
            6 if G == 1 && S::ROWS > 3 => {
                add(sums, n_outs, out, block::<S, E, 6, G, FETCH>(s, operands))
            }
            _ => unreachable!("a register block of {n} rows"),
        }
    }
}

/// Adds a block to columns `out..` of `sums`, rows of `n_outs`.
#[inline(always)]
fn add<const M: usize, const G: usize>(
    sums: &mut [f32],
    n_outs: usize,
    out: usize,
    block: [[[f32; 4]; G]; M],
) {
    for (sums, block) in sums.chunks_exact_mut(n_outs).zip(&block) {
        for (sums, block) in sums[out..].chunks_mut(4).zip(block) {
            if let Ok(sums) = <&mut [f32; 4]>::try_from(&mut *sums) {
                for j in 0..4 {
                    sums[j] += block[j];
                }
            } else {
                sums.iter_mut()
                    .zip(block)
                    .for_each(|(sum, dot)| *sum += dot);
            }
        }
    }
}

/// The dot products of `M` rows of `x` with `4 * G` rows of `w`, over the chunk; with `FETCH`, what lies ahead in `w`
/// is fetched meanwhile.
///
/// # Safety
/// The operands must be readable for `M` rows.
#[inline(always)]
pub(crate) unsafe fn block<
    S: Simd,
    E: Element,
    const M: usize,
    const G: usize,
    const FETCH: bool,
>(
    s: S,
    operands: &Operands<E, G>,
) -> [[[f32; 4]; G]; M] {
    s.vectorize(Block::<E, M, G, FETCH>(*operands))
}

/// A register block, a function of its own so that its loop has the registers to itself. Its operands are readable:
/// only [`block`] makes one.
struct Block<E, const M: usize, const G: usize, const FETCH: bool>(Operands<E, G>);

impl<E: Element, const M: usize, const G: usize, const FETCH: bool> Vectorized
    for Block<E, M, G, FETCH>
{
    type Output = [[[f32; 4]; G]; M];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        // With few registers the compiler would work the addresses out again in every step, unless it cannot know
        // how: AVX2 goes from 45 % to 85 % of its peak. With AVX-512 the same costs a sixth.
        let operands = if S::LANES == 8 {
            black_box(self.0)
        } else {
            self.0
        };
        let Operands {
            x,
            x_stride,
            w,
            len,
            ahead,
        } = operands;
        let mut acc = [[[s.splat(0.0); 4]; G]; M];
        let mut x_now = [s.splat(0.0); M];
        let whole = len - len % S::LANES;
        let mut k = 0;
        while k < whole {
            for i in 0..M {
                // SAFETY: readable by the invariant, as `k + LANES <= len`.
                x_now[i] = unsafe { s.load(x.add(i * x_stride + k)) };
            }
            for g in 0..G {
                for j in 0..4 {
                    // SAFETY: readable by the invariant, as `k + LANES <= len`.
                    let w_now = unsafe { E::load(s, w[g][j].add(k)) };
                    if FETCH {
                        s.prefetch(w[g][j].wrapping_add(k + ahead));
                    }
                    for i in 0..M {
                        acc[i][g][j] = s.fma(x_now[i], w_now, acc[i][g][j]);
                    }
                }
            }
            k += S::LANES;
        }
        if whole < len {
            for i in 0..M {
                // SAFETY: readable by the invariant: `len - whole` elements from `whole`.
                x_now[i] = unsafe { s.load_first(x.add(i * x_stride + whole), len - whole) };
            }
            for g in 0..G {
                for j in 0..4 {
                    // SAFETY: as above.
                    let w_now = unsafe { E::load_first(s, w[g][j].add(whole), len - whole) };
                    for i in 0..M {
                        acc[i][g][j] = s.fma(x_now[i], w_now, acc[i][g][j]);
                    }
                }
            }
        }
        let mut sums = [[[0.0; 4]; G]; M];
        for i in 0..M {
            for g in 0..G {
                sums[i][g] = s.sum4(acc[i][g]);
            }
        }
        sums
    }
}
