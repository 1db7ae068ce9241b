//! Post-op of a GEMM, in oneDNN's sense: what is done with the result before it is stored.

/// Post-op of [`Kernels::linear`](crate::Kernels::linear) and
/// [`Kernels::linear_packed`](crate::Kernels::linear_packed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostOp {
    /// `y = x * w^T + bias`.
    Store,
    /// `y = gelu(x * w^T + bias)`, the exact erf form.
    Gelu,
    /// `y += x * w^T + bias`: the residual connection (beta = 1).
    Add,
}
