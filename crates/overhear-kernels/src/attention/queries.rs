//! Task of attention in bf16: a block of queries of one head.

use super::kv::PackedKv;
use crate::gemm::pack_a::PackedRows;
use crate::parallel::Disjoint;

/// Block of queries of one head.
#[derive(Clone, Copy)]
pub(crate) struct QueryBlock<'a> {
    pub(crate) kv: &'a PackedKv,
    pub(crate) q: PackedRows<'a>,
    pub(crate) out: Disjoint<'a, u16>,
    /// Row stride of `out`, in elements.
    pub(crate) out_stride: usize,
    pub(crate) head: usize,
    pub(crate) first: usize,
    pub(crate) n: usize,
}

impl<'a> QueryBlock<'a> {
    /// Output elements `element..element + n` of the head of query `i`.
    ///
    /// # Safety
    /// No other live part may overlap them, see [`Disjoint::take`].
    #[inline(always)]
    pub(crate) unsafe fn output(&self, i: usize, element: usize, n: usize) -> &'a mut [u16] {
        let row = (self.first + i) * self.out_stride;
        let at = row + self.head * self.kv.head_dim() + element;
        // SAFETY: the caller's.
        unsafe { self.out.take(at, n) }
    }

    /// Factor from scores to exponents of two.
    #[inline(always)]
    pub(crate) fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.kv.head_dim() as f32).sqrt()
    }
}
