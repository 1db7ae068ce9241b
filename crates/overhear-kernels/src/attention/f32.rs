//! Attention in f32.

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
    /// The most queries of one attention call that do not depend on each other, to the bit.
    pub const MAX_DECODE_QUERIES: usize = MAX_DECODE_QUERIES;

    /// `softmax(q * k^T / sqrt(head_dim)) * v` per head, never storing an `n_query x n_key` matrix.
    ///
    /// `q`, `k`, `v`: rows of which head `h` is the `head_dim` elements from `h * head_dim`.
    /// `out`: `[n_query, n_head * head_dim]`, contiguous. Up to [`Kernels::MAX_DECODE_QUERIES`] queries allocate nothing,
    /// and each one's result is the same bits alone or among the others; more use memory that each thread keeps.
    /// The result does not depend on the number of threads.
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

    /// [`Kernels::attention`] over keys and values in f16, widened as they are read: to the bit what it gives over the
    /// same numbers in f32.
    ///
    /// `k`, `v`: `[n_head, n_key, head_dim]`, so that a head is read as it lies.
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

/// Runs the call on `arch`, which is not [`Arch::Scalar`]; shapes have been checked.
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
