//! A task of attention in bfloat16.

use super::kv::KeysValues;
use crate::gemm::pack_a::PackedRows;
use crate::parallel::Split;

/// Some queries of one head: a task.
#[derive(Clone, Copy)]
pub(crate) struct Queries<'a> {
    pub(crate) keys_values: &'a KeysValues,
    pub(crate) q: PackedRows<'a>,
    pub(crate) out: Split<'a, u16>,
    /// Elements from row to row.
    pub(crate) out_stride: usize,
    pub(crate) head: usize,
    pub(crate) first: usize,
    pub(crate) n: usize,
}

impl<'a> Queries<'a> {
    /// Where `n` elements of query `i`, of the head's from `element` on, go.
    ///
    /// # Safety
    /// No other part that is alive overlaps them, see [`Split::take`].
    #[inline(always)]
    pub(crate) unsafe fn output(&self, i: usize, element: usize, n: usize) -> &'a mut [u16] {
        let row = (self.first + i) * self.out_stride;
        let at = row + self.head * self.keys_values.head_dim() + element;
        // SAFETY: the caller's.
        unsafe { self.out.take(at, n) }
    }

    /// Takes scores to powers of two.
    #[inline(always)]
    pub(crate) fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.keys_values.head_dim() as f32).sqrt()
    }
}
