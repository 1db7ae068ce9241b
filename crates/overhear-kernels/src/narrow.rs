//! Numbers rounded to IEEE halves: keys and values that are kept so, and weights of wider checkpoints.

use half::f16;

use crate::simd::{Element, Set, Simd, Vectorized};
use crate::split::Split;
use crate::{Pool, Rows};

/// Elements of a task: a few microseconds' work.
const TASK_ELEMENTS: usize = 16 << 10;

/// Runs the call on `set`, which is not [`Set::Scalar`]; shapes have been checked.
pub(crate) fn narrow_heads(
    set: Set,
    pool: &Pool,
    to: &mut [f16],
    from: Rows<'_>,
    n_row: usize,
    head_dim: usize,
) {
    let width = to.len() / n_row;
    let to = Split::new(to);
    let rows = TASK_ELEMENTS.div_ceil(width.max(1));
    pool.run(n_row.div_ceil(rows), &|task| {
        let heads = NarrowHeads {
            to,
            from,
            rows: task * rows..n_row.min((task + 1) * rows),
            n_row,
            head_dim,
        };
        set.run(heads, || unreachable!("the scalar set has no vectors"));
    });
}

/// Some rows of [`narrow_heads`].
struct NarrowHeads<'a> {
    /// `[n_head, n_row, head_dim]`.
    to: Split<'a, f16>,
    from: Rows<'a>,
    rows: std::ops::Range<usize>,
    n_row: usize,
    head_dim: usize,
}

impl Vectorized for NarrowHeads<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n_row, head_dim) = (self.n_row, self.head_dim);
        for row in self.rows {
            let from = &self.from.data[row * self.from.stride..][..self.to.len() / n_row];
            for (head, from) in from.chunks_exact(head_dim).enumerate() {
                // SAFETY: no other task has this row, and this one has one head of it at a time.
                let to = unsafe { self.to.take((head * n_row + row) * head_dim, head_dim) };
                narrow_run(s, to, from);
            }
        }
    }
}

/// Narrows numbers that lie one behind the other.
#[inline(always)]
pub(crate) fn narrow_run<S: Simd, E: Element>(s: S, to: &mut [f16], from: &[E]) {
    let (least, largest) = (f16::MIN.to_f32(), f16::MAX.to_f32());
    let (least, largest) = (s.splat(least), s.splat(largest));
    for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        // In this order NaN stays NaN.
        let v = s.min(largest, s.max(least, E::read(s, from)));
        s.write_f16(to, v);
    }
}
