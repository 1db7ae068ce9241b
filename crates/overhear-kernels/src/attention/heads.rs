//! Operands of attention in f32: strided heads.

use half::f16;

use super::shape::AttentionShape;
use crate::matrix::Rows;
use crate::parallel::Disjoint;

/// Rows of heads: head `head` of row `row` begins at `row * stride + head * head_stride`.
#[derive(Clone, Copy)]
pub(crate) struct HeadRows<'a, E> {
    pub(crate) data: &'a [E],
    pub(crate) stride: usize,
    pub(crate) head_stride: usize,
}

/// Arguments of one call, shapes checked.
#[derive(Clone, Copy)]
pub(super) struct Call<'a, E> {
    pub(super) q: HeadRows<'a, f32>,
    pub(super) k: HeadRows<'a, E>,
    pub(super) v: HeadRows<'a, E>,
    pub(super) out: Disjoint<'a>,
    pub(super) shape: AttentionShape,
    pub(super) scale: f32,
}

impl<'a> HeadRows<'a, f32> {
    /// Rows in which heads are consecutive, `[row, head, element]`.
    pub(crate) fn side_by_side(rows: Rows<'a>, head_dim: usize) -> Self {
        Self {
            data: rows.data,
            stride: rows.stride,
            head_stride: head_dim,
        }
    }
}

impl<'a> HeadRows<'a, f16> {
    /// Contiguous heads, `[head, key, element]`.
    pub(crate) fn head_by_head(data: &'a [f16], n_key: usize, head_dim: usize) -> Self {
        Self {
            data,
            stride: head_dim,
            head_stride: n_key * head_dim,
        }
    }
}

impl<E> Call<'_, E> {
    /// Number of keys that query `query` sees.
    #[inline(always)]
    pub(super) fn n_seen(&self, query: usize) -> usize {
        let AttentionShape {
            n_query,
            n_key,
            causal,
            ..
        } = self.shape;
        if causal {
            n_key - n_query + query + 1
        } else {
            n_key
        }
    }

    /// Head `head` of row `row`.
    #[inline(always)]
    pub(super) fn head<'a, T>(&self, rows: &HeadRows<'a, T>, row: usize, head: usize) -> &'a [T] {
        &rows.data[row * rows.stride + head * rows.head_stride..][..self.shape.head_dim]
    }
}
