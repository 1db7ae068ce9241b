//! What a GEMM does with its result before it stores it: oneDNN's post-ops.

/// What [`Kernels::linear`] does with `x * w^T + bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOp {
    /// `y = ..`
    Store,
    /// `y = gelu(..)`, the exact erf form.
    Gelu,
    /// `y += ..`: the residual connection.
    Add,
}
