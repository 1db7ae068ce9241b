//! Dot products of rows as they lie, contiguous along the sum: a query by keys.
//!
//! A register block computes `ROWS` x 4 dot products at once, each in its own vector of partial sums: lane `i` adds
//! elements `i`, `i + LANES`, .. by fused multiply-adds, then lanes are halved until one is left ([`Simd::sum4`]). So
//! a dot product has the same bits in any block.

use std::hint::black_box;

use crate::simd::{Element, Simd, Vectorized};

/// Operands of a register block.
#[derive(Clone, Copy)]
pub(crate) struct Operands<E, const G: usize> {
    /// Row 0 of `x`; rows are `x_stride` elements apart.
    pub(crate) x: *const f32,
    pub(crate) x_stride: usize,
    /// Rows of `w`.
    pub(crate) w: [[*const E; 4]; G],
    /// Elements of the dot product.
    pub(crate) len: usize,
    /// Prefetch distance in `w`, in elements.
    pub(crate) prefetch_distance: usize,
}

/// Pointers to the `4 * G` rows of `w`.
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

/// Dot products of `M` rows of `x` with `4 * G` rows of `w`. With `PREFETCH`, `w` is prefetched.
///
/// # Safety
/// The operands must be readable for `M` rows.
#[inline(always)]
pub(crate) unsafe fn block<
    S: Simd,
    E: Element,
    const M: usize,
    const G: usize,
    const PREFETCH: bool,
>(
    s: S,
    operands: &Operands<E, G>,
) -> [[[f32; 4]; G]; M] {
    s.vectorize(Block::<E, M, G, PREFETCH>(*operands))
}

/// Register block, a function of its own so that its loop has all registers. Invariant: the operands are readable;
/// only [`block`] makes one.
struct Block<E, const M: usize, const G: usize, const PREFETCH: bool>(Operands<E, G>);

impl<E: Element, const M: usize, const G: usize, const PREFETCH: bool> Vectorized
    for Block<E, M, G, PREFETCH>
{
    type Output = [[[f32; 4]; G]; M];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        // With few registers the compiler would recompute the addresses in every step, unless it cannot know how:
        // AVX2 goes from 45 % to 85 % of its peak. With AVX-512 the barrier costs a sixth.
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
            prefetch_distance,
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
                    if PREFETCH {
                        s.prefetch(w[g][j].wrapping_add(k + prefetch_distance));
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
