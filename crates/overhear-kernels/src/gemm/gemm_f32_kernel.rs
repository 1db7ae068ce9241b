//! Register blocks of GEMM in f32.

use super::layout::NR;
use crate::simd::{Element, Simd, Vectorized};

/// K block: elements of K summed in registers before they are added to the accumulators in memory. 256 elements of a
/// panel are 32 KiB of f32; shorter sums are also more accurate than one long one.
pub(super) const KC: usize = 256;
/// Leading dimension of copied rows of A, in elements: a K block and a cache line.
pub(super) const LDA: usize = KC + 16;
/// Prefetch distance in B for skinny calls, in bytes: what memory delivers during its latency.
const PREFETCH_BYTES: usize = 4 << 10;

/// Operands of a register block.
#[derive(Clone, Copy)]
pub(super) struct Operands<E> {
    /// A: a K block of the first row; rows are [`LDA`] elements apart.
    pub(super) x: *const f32,
    /// B: the same K block of the first panel.
    pub(super) w: *const E,
    /// Panel stride of B, in elements.
    pub(super) w_stride: usize,
    pub(super) n_panels: usize,
    /// Elements of the K block.
    pub(super) len: usize,
    /// Accumulators of the first row, panel after panel.
    pub(super) acc: *mut f32,
    pub(super) ld_acc: usize,
}

/// Adds the products of `n` rows and the panels to the accumulators. With `PREFETCH`, B is prefetched
/// [`PREFETCH_BYTES`] ahead.
///
/// # Safety
/// The operands must be readable, and the accumulators writable, for `n` rows and all panels.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, E: Element, const PREFETCH: bool>(
    s: S,
    n: usize,
    operands: &Operands<E>,
) {
    // Blocks of even size: a small block costs nearly as much as a full one.
    let n_blocks = n.div_ceil(2 * S::ROWS).max(1);
    let block_rows = n.div_ceil(n_blocks).max(1);
    for row in (0..n).step_by(block_rows) {
        let operands = Operands {
            x: operands.x.wrapping_add(row * LDA),
            acc: operands.acc.wrapping_add(row * operands.ld_acc),
            ..*operands
        };
        // SAFETY: the caller's, for each.
        unsafe {
            match block_rows.min(n - row) {
                1 => row_block::<S, E, 1, PREFETCH>(s, &operands),
                2 => row_block::<S, E, 2, PREFETCH>(s, &operands),
                3 => row_block::<S, E, 3, PREFETCH>(s, &operands),
                4 => row_block::<S, E, 4, PREFETCH>(s, &operands),
                5 => row_block::<S, E, 5, PREFETCH>(s, &operands),
                6 => row_block::<S, E, 6, PREFETCH>(s, &operands),
                7 if S::ROWS > 3 => row_block::<S, E, 7, PREFETCH>(s, &operands),
                8 if S::ROWS > 3 => row_block::<S, E, 8, PREFETCH>(s, &operands),
                9 if S::ROWS > 4 => row_block::<S, E, 9, PREFETCH>(s, &operands),
                10 if S::ROWS > 4 => row_block::<S, E, 10, PREFETCH>(s, &operands),
                11 if S::ROWS > 5 => row_block::<S, E, 11, PREFETCH>(s, &operands),
                12 if S::ROWS > 5 => row_block::<S, E, 12, PREFETCH>(s, &operands),
                n => unreachable!("a register block of {n} rows"),
            }
        }
    }
}

/// `M` rows by all panels, in register blocks of as many vectors as keep the accumulators in registers (4 * `ROWS`
/// vectors).
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn row_block<S: Simd, E: Element, const M: usize, const PREFETCH: bool>(
    s: S,
    operands: &Operands<E>,
) {
    let of_panel = NR / S::LANES;
    let n_vectors = operands.n_panels * of_panel;
    let mut vector = 0;
    while vector < n_vectors {
        let (panel, lane) = (vector / of_panel, vector % of_panel * S::LANES);
        let operands = Operands {
            w: operands.w.wrapping_add(panel * operands.w_stride + lane),
            acc: operands.acc.wrapping_add(panel * NR + lane),
            ..*operands
        };
        let left = n_vectors - vector;
        vector += if of_panel == 8 && M <= S::ROWS / 2 {
            s.vectorize(RegisterBlock::<E, M, 8, PREFETCH>(operands));
            8
        } else if left >= 4 && M <= S::ROWS {
            s.vectorize(RegisterBlock::<E, M, 4, PREFETCH>(operands));
            4
        } else {
            s.vectorize(RegisterBlock::<E, M, 2, PREFETCH>(operands));
            2
        };
    }
}

/// Register block of `M` rows by `N` vectors of outputs, of one panel or two. Compiled as a function of its own, so
/// that its loop has all registers. Invariant: the operands satisfy the contract of [`accumulate`]; only
/// [`row_block`] makes one.
struct RegisterBlock<E, const M: usize, const N: usize, const PREFETCH: bool>(Operands<E>);

impl<E: Element, const M: usize, const N: usize, const PREFETCH: bool> Vectorized
    for RegisterBlock<E, M, N, PREFETCH>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Operands {
            mut x,
            w,
            w_stride,
            len,
            acc,
            ld_acc,
            ..
        } = self.0;
        let of_panel = NR / S::LANES;
        let mut panels = [w, w.wrapping_add(w_stride)];
        let mut regs = [[s.splat(0.0); N]; M];
        let mut w_now = [s.splat(0.0); N];
        // SAFETY: `M` rows and the panels of `N` vectors have `len` elements, and their sums are there, by the
        // invariant.
        unsafe {
            for _ in 0..len {
                for n in 0..N {
                    let lane = n % of_panel * S::LANES;
                    let w = panels[n / of_panel].wrapping_add(lane);
                    w_now[n] = E::load(s, w);
                    // Once per cache line.
                    if PREFETCH && (lane * size_of::<E>()).is_multiple_of(64) {
                        s.prefetch(w.wrapping_byte_add(PREFETCH_BYTES));
                    }
                }
                for m in 0..M {
                    let x = s.splat(*x.wrapping_add(m * LDA));
                    for n in 0..N {
                        regs[m][n] = s.fma(x, w_now[n], regs[m][n]);
                    }
                }
                x = x.wrapping_add(1);
                panels = panels.map(|panel| panel.wrapping_add(NR));
            }
            for m in 0..M {
                for n in 0..N {
                    let at = n / of_panel * NR + n % of_panel * S::LANES;
                    let at = acc.wrapping_add(m * ld_acc).wrapping_add(at);
                    s.store(at, s.add(s.load(at), regs[m][n]));
                }
            }
        }
    }
}
