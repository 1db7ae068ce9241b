//! Shape of an attention call, and its checks.

use crate::matrix::{Rows, assert_rows};

/// Longest head, in elements; Whisper's have 64.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// Shape of one [`Kernels::attention`](crate::Kernels::attention) call.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Number of heads.
    pub n_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Number of query rows.
    pub n_query: usize,
    /// Number of key and value rows.
    pub n_key: usize,
    /// Causal mask: query `i` sees keys `0..=n_key - n_query + i` only.
    pub causal: bool,
    /// Queries that share one pass over the keys; 0 for the default.
    pub block: usize,
}

/// Asserts the shapes of `out` and `q`, whatever the keys and values are.
pub(crate) fn assert_attention(out: &[f32], q: Rows<'_>, shape: &AttentionShape) {
    let AttentionShape {
        n_head,
        head_dim,
        n_query,
        n_key,
        causal,
        ..
    } = *shape;
    let width = n_head * head_dim;
    assert_eq!(
        out.len(),
        n_query * width,
        "out is not {n_query} rows of {width}"
    );
    assert!(
        n_key > 0 && (!causal || n_key >= n_query),
        "{n_key} keys for {n_query} queries"
    );
    assert!(
        (1..=MAX_HEAD_DIM).contains(&head_dim),
        "a head of {head_dim} elements"
    );
    assert_rows("q", q, n_query, width);
}
