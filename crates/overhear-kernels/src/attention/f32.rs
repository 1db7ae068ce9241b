//! Attention in f32 with keys and values in f32 or f16: entry points and the choice between decode and prefill.
//!
//! Both are *flash attention*: keys and values are processed in blocks and no `n_query x n_key` matrix is stored.
//! Each query keeps the largest score so far, the sum of exponentials and the weighted sum of values, rescaled when
//! the largest score grows (the online softmax of Milakov and Gimelshein, <https://arxiv.org/abs/1805.02867>; the
//! blocking of FlashAttention, <https://arxiv.org/abs/2205.14135>).
//!
//! - [`super::f32_decode`]: few queries, vector lanes along the head.
//! - [`super::f32_prefill`]: many queries, vector lanes along the queries.

use half::f16;

use super::f32_decode::{MAX_DECODE_QUERIES, decode};
use super::f32_prefill::prefill;
use super::heads::{Call, HeadRows};
use super::shape::{AttentionShape, assert_attention};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::matrix::{Rows, assert_rows};
use crate::parallel::{Disjoint, Pool};
use crate::reference;
use crate::simd::Element;

impl Kernels {
    /// Most queries of one [`Kernels::attention`] call that are independent of each other, to the bit: the decode
    /// kernel's.
    pub const MAX_DECODE_QUERIES: usize = MAX_DECODE_QUERIES;

    /// `softmax(q * k^T / sqrt(head_dim)) * v` per head, never storing an `n_query x n_key` matrix.
    ///
    /// `q`, `k`, `v`: rows, in which head `h` is the `head_dim` elements from `h * head_dim` on. `out`: `[n_query,
    /// n_head * head_dim]`, contiguous. Up to [`Kernels::MAX_DECODE_QUERIES`] queries allocate nothing, and each
    /// one's result has the same bits alone or among the others; more queries use scratch memory that each thread
    /// keeps. The result does not depend on the number of threads.
    ///
    /// # Panics
    /// If the shapes do not fit, there is no key, or a head has more than 256 elements.
    pub fn attention(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: Rows<'_>,
        k: Rows<'_>,
        v: Rows<'_>,
        shape: &AttentionShape,
    ) {
        let AttentionShape {
            n_head,
            head_dim,
            n_key,
            ..
        } = *shape;
        assert_attention(out, q, shape);
        assert_rows("k", k, n_key, n_head * head_dim);
        assert_rows("v", v, n_key, n_head * head_dim);
        match self.arch {
            _ if out.is_empty() => {}
            Arch::Scalar => reference::attention(out, q, k, v, shape),
            arch => {
                let [k, v] = [k, v].map(|rows| HeadRows::side_by_side(rows, head_dim));
                attention(arch, pool, out, q, k, v, shape);
            }
        }
    }

    /// [`Kernels::attention`] over keys and values in f16, widened as they are read: the same bits as over the same
    /// numbers in f32.
    ///
    /// `k`, `v`: `[n_head, n_key, head_dim]`, so that a head is contiguous.
    ///
    /// # Panics
    /// As [`Kernels::attention`].
    pub fn attention_f16(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: Rows<'_>,
        k: &[f16],
        v: &[f16],
        shape: &AttentionShape,
    ) {
        let AttentionShape {
            n_head,
            head_dim,
            n_key,
            ..
        } = *shape;
        assert_attention(out, q, shape);
        assert!(
            k.len() == n_head * n_key * head_dim && v.len() == k.len(),
            "k or v is not {n_head} heads of {n_key} rows of {head_dim}"
        );
        match self.arch {
            _ if out.is_empty() => {}
            Arch::Scalar => reference::attention_f16(out, q, k, v, shape),
            arch => {
                let [k, v] = [k, v].map(|data| HeadRows::head_by_head(data, n_key, head_dim));
                attention(arch, pool, out, q, k, v, shape);
            }
        }
    }
}

/// Runs the call on vectors. `arch` is not [`Arch::Scalar`]; shapes have been checked.
pub(crate) fn attention<E: Element>(
    arch: Arch,
    pool: &Pool,
    out: &mut [f32],
    q: Rows<'_>,
    k: HeadRows<'_, E>,
    v: HeadRows<'_, E>,
    shape: &AttentionShape,
) {
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    let call = Call {
        q: HeadRows::side_by_side(q, shape.head_dim),
        k,
        v,
        out: Disjoint::new(out),
        shape: *shape,
        scale,
    };
    if shape.n_query <= MAX_DECODE_QUERIES {
        decode(arch, pool, &call);
    } else {
        prefill(arch, pool, &call);
    }
}
