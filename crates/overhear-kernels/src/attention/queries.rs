//! A task of attention in bfloat16.

use super::kv::PackedKv;
use crate::gemm::pack_a::PackedRows;
use crate::parallel::Disjoint;

/// Some queries of one head: a task.
#[derive(Clone, Copy)]
pub(crate) struct QueryBlock<'a> {
    pub(crate) kv: &'a PackedKv,
    pub(crate) q: PackedRows<'a>,
    pub(crate) out: Disjoint<'a, u16>,
    /// Elements from row to row.
    pub(crate) out_stride: usize,
    pub(crate) head: usize,
    pub(crate) first: usize,
    pub(crate) n: usize,
}

impl<'a> QueryBlock<'a> {
    /// Where `n` elements of query `i`, of the head's from `element` on, go.
    ///
    /// # Safety
    /// No other part that is alive overlaps them, see [`Disjoint::take`].
    #[inline(always)]
    pub(crate) unsafe fn output(&self, i: usize, element: usize, n: usize) -> &'a mut [u16] {
        let row = (self.first + i) * self.out_stride;
        let at = row + self.head * self.kv.head_dim() + element;
        // SAFETY: the caller's.
        unsafe { self.out.take(at, n) }
    }

    /// Takes scores to powers of two.
    #[inline(always)]
    pub(crate) fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.kv.head_dim() as f32).sqrt()
    }
}
