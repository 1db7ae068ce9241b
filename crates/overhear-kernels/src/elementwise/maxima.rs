//! Maxima of a row by block, for argmax and top-k: one vector pass over the row, after which only a few hundred
//! maxima and the best blocks are searched.

use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::reference;
use crate::simd::{Simd, Vectorized};

/// Elements of a block: short enough for a linear search, and about the square root of a vocabulary.
const BLOCK: usize = 256;

/// Largest element of every block of a row, NaN excepted, see [`crate::Kernels::find_maxima`].
///
/// Every method must be given the row in which the maxima were found, unchanged.
#[derive(Clone, Debug, Default)]
pub struct Maxima {
    of_blocks: Vec<f32>,
}

impl Maxima {
    /// Room for the maxima of a row of `len` elements, to be written.
    pub(crate) fn reset(&mut self, len: usize) -> &mut [f32] {
        self.of_blocks.clear();
        self.of_blocks.resize(len.div_ceil(BLOCK), 0.0);
        &mut self.of_blocks
    }

    /// The largest element; negative infinity for an empty row. NaN is never largest.
    #[must_use]
    pub fn largest(&self) -> f32 {
        self.of_blocks
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max)
    }

    /// Largest of the first `end` elements; negative infinity if `end` is 0. NaN is never largest.
    ///
    /// # Panics
    /// If there are fewer elements.
    #[must_use]
    pub fn largest_before(&self, x: &[f32], end: usize) -> f32 {
        let n_whole = end / BLOCK;
        let rest = &x[n_whole * BLOCK..end];
        let whole = self.of_blocks[..n_whole].iter();
        whole.chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// The index of the largest element, the first of equals; `None` for an empty row. NaN is never largest.
    #[must_use]
    pub fn argmax(&self, x: &[f32]) -> Option<usize> {
        let block = reference::argmax(&self.of_blocks)?;
        let max = self.of_blocks[block];
        if max == f32::NEG_INFINITY {
            return reference::argmax(x);
        }
        let first = block * BLOCK;
        let at = x[first..].iter().position(|&x| x == max)?;
        Some(first + at)
    }

    /// The `k` largest elements with their indices, in descending order, the first of equals first, into `largest`.
    /// Fewer if the others are NaN or negative infinity. Allocates nothing if `largest` has capacity for `k`.
    pub fn top_k(&self, x: &[f32], k: usize, largest: &mut Vec<(usize, f32)>) {
        // Blocks below the `k` best maxima contain none of the `k` largest elements. Suppressed elements (negative
        // infinity) are never considered.
        reference::top_k(&self.of_blocks, k, largest);
        let least = match largest.last() {
            Some(last) if largest.len() == k => last.1,
            _ => f32::MIN,
        };
        largest.clear();
        for (i, block) in x.chunks(BLOCK).enumerate() {
            if self.of_blocks[i] >= least {
                reference::insert_largest(i * BLOCK, block, k, largest);
            }
        }
    }
}

/// Kernel of [`Kernels::find_maxima`]: the largest element of every block of `x`.
struct FindMaxima<'a> {
    x: &'a [f32],
    of_blocks: &'a mut [f32],
}

impl Vectorized for FindMaxima<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (block, max) in self.x.chunks(BLOCK).zip(self.of_blocks) {
            *max = largest(s, block);
        }
    }
}

/// Largest element that is not NaN, or negative infinity. Four vectors hide the latency of the maximum.
#[inline(always)]
pub(super) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut max = [s.splat(f32::NEG_INFINITY); 4];
    let fours = x.chunks_exact(4 * S::LANES);
    let rest = fours.remainder();
    for x in fours {
        for i in 0..4 {
            max[i] = s.max(s.read(&x[i * S::LANES..]), max[i]);
        }
    }
    for x in rest.chunks(S::LANES) {
        max[0] = s.max(read_padded(s, x), max[0]);
    }
    s.max_lane(s.max(s.max(max[0], max[1]), s.max(max[2], max[3])))
}

/// Up to `LANES` elements; lanes beyond the end of `from` are negative infinity.
#[inline(always)]
pub(super) fn read_padded<S: Simd>(s: S, from: &[f32]) -> S::V {
    if from.len() >= S::LANES {
        return s.read(from);
    }
    let mut padded = [f32::NEG_INFINITY; 16];
    padded[..from.len()].copy_from_slice(from);
    s.read(&padded)
}

impl Kernels {
    /// Finds the maxima of `x`. Allocates only if `maxima` is too small.
    pub fn find_maxima(&self, x: &[f32], maxima: &mut Maxima) {
        let of_blocks = maxima.reset(x.len());
        match self.arch {
            Arch::Scalar => reference::find_maxima(x, of_blocks, BLOCK),
            arch => arch.run(FindMaxima { x, of_blocks }, || {
                unreachable!("the scalar set has no vectors")
            }),
        }
    }
}
