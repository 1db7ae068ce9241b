//! What encoder and decoder have in common.

use overhear_kernels::{Kernels, Pool, PostOp, Rows, StoredMatrix};

use super::packed::PackedScratch;
use super::weights::{LayerNorm, Linear, Mlp, Weight};

/// The kernels and the threads that run them.
#[derive(Clone, Copy)]
pub(super) struct Compute<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) pool: &'a Pool,
}

impl Compute<'_> {
    /// `y = epilogue(weight * x + bias)` with a stored weight. `x`: rows of `n_in`; `y`: `[n, n_out]`.
    fn stored_linear(
        &self,
        y: &mut [f32],
        x: Rows<'_>,
        weight: &StoredMatrix,
        bias: Option<&[f32]>,
        epilogue: PostOp,
    ) {
        self.kernels.linear(self.pool, y, x, weight, bias, epilogue);
    }

    /// `y = epilogue(layer(x))` with a stored weight. `x`: rows of `n_in`; `y`: `[n, n_out]`.
    ///
    /// # Panics
    /// If the weight is packed.
    pub(super) fn linear(&self, y: &mut [f32], x: Rows<'_>, layer: &Linear, epilogue: PostOp) {
        match &layer.weight {
            Weight::Stored(weight) => self.stored_linear(y, x, weight, Some(&layer.bias), epilogue),
            Weight::Packed(_) => unreachable!("a network is packed as a whole"),
        }
    }

    /// `y = epilogue(weight * norm(x) + bias)`, whichever the weight. `x`: `[n, n_in]`, `h`: likewise, for what is
    /// normalised; `y`: `[n, n_out]`.
    pub(super) fn norm_linear(
        &self,
        y: &mut [f32],
        x: &[f32],
        norm: Option<&LayerNorm>,
        (weight, bias): (&Weight, Option<&[f32]>),
        epilogue: PostOp,
        (h, packed): (&mut [f32], &mut PackedScratch),
    ) {
        match weight {
            Weight::Stored(weight) => {
                let data = match norm {
                    Some(norm) => {
                        self.layer_norm(h, x, norm);
                        &*h
                    }
                    None => x,
                };
                let stride = weight.n_in();
                self.stored_linear(y, Rows { data, stride }, weight, bias, epilogue);
            }
            Weight::Packed(weight) => packed.linear(*self, y, x, norm, (weight, bias), epilogue),
        }
    }

    /// `x`, `y`: `[n, n_state]`.
    pub(super) fn layer_norm(&self, y: &mut [f32], x: &[f32], norm: &LayerNorm) {
        self.kernels
            .layer_norm(self.pool, y, x, &norm.gamma, &norm.beta);
    }

    /// `x += down(gelu(up(norm(x))))`. `x`, `h`: `[n, n_state]`; `wide`: at least `[n, 4 * n_state]`, if the weights
    /// are stored.
    pub(super) fn mlp(
        &self,
        mlp: &Mlp,
        x: &mut [f32],
        h: &mut [f32],
        wide: &mut [f32],
        packed: &mut PackedScratch,
    ) {
        if let Weight::Packed(_) = mlp.up.weight {
            return packed.mlp(*self, mlp, x);
        }
        let n_state = mlp.norm.gamma.len();
        let wide = &mut wide[..4 * x.len()];
        self.layer_norm(h, x, &mlp.norm);
        self.linear(
            wide,
            Rows {
                data: h,
                stride: n_state,
            },
            &mlp.up,
            PostOp::Gelu,
        );
        self.linear(
            x,
            Rows {
                data: wide,
                stride: 4 * n_state,
            },
            &mlp.down,
            PostOp::Add,
        );
    }
}
