//! Post-op of a GEMM, in oneDNN's sense: what is done with the result before it is stored.

use crate::math::gelu;
use crate::simd::Simd;

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

/// Epilogue of a row in f32: `y = post_op(acc * scales + bias)`, all of the same length.
#[inline(always)]
pub(super) fn store_row<S: Simd>(
    s: S,
    y: &mut [f32],
    acc: &[f32],
    scales: Option<&[f32]>,
    bias: Option<&[f32]>,
    post_op: PostOp,
) {
    for (i, (y, acc)) in y.chunks_mut(S::LANES).zip(acc.chunks(S::LANES)).enumerate() {
        let mut v = s.read(acc);
        if let Some(scales) = scales {
            v = s.mul(v, s.read(&scales[i * S::LANES..][..acc.len()]));
        }
        if let Some(bias) = bias {
            v = s.add(v, s.read(&bias[i * S::LANES..][..acc.len()]));
        }
        match post_op {
            PostOp::Store => {}
            PostOp::Gelu => v = gelu(s, v),
            PostOp::Add => v = s.add(s.read(y), v),
        }
        s.write(y, v);
    }
}
