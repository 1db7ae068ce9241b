//! The layers in bfloat16 and int8: weights and activations packed for dot products, attention in bfloat16.
//!
//! The residual stream, layer normalisation, sums and softmax stay in f32. Between the products of a block activations
//! are bfloat16; with int8, what goes into a linear layer is quantised per row just before it.

use overhear_kernels::{
    Output, PackedActivations, PackedKv, PackedMatrix, PackedRows, Packing, PostOp, Rows, Source,
};

use super::layers::Compute;
use super::weights::{LayerNorm, Mlp};

/// What a block writes to on its way.
pub(super) struct PackedScratch {
    /// `[n, up to 4 * n_state]`: the input of the next linear layer, packed as the weights are.
    rows: PackedActivations,
    /// `[n, up to 4 * n_state]`, bfloat16: query, key and value, or the perceptron's middle.
    wide: PackedActivations,
    /// `[n, n_state]`, bfloat16: what attention found.
    attended: PackedActivations,
}

/// A packed layer: weight and bias.
pub(super) type PackedLinear<'a> = (&'a PackedMatrix, &'a [f32]);

impl PackedScratch {
    /// Room for `n` rows of a network whose states are `n_state` wide; none without `packing`.
    pub(super) fn new(packing: Option<Packing>, n: usize, n_state: usize) -> Self {
        let n = if packing.is_some() { n } else { 0 };
        let wide = |packing| PackedActivations::new(packing, n, 4 * n_state);
        Self {
            rows: wide(packing.unwrap_or(Packing::Bf16)),
            wide: wide(Packing::Bf16),
            attended: PackedActivations::new(Packing::Bf16, n, n_state),
        }
    }

    /// `y = epilogue(layer(norm(x)))`. `x`: `[n, n_in]`; `y`: `[n, n_out]`.
    pub(super) fn linear(
        &mut self,
        c: Compute<'_>,
        y: &mut [f32],
        x: &[f32],
        norm: Option<&LayerNorm>,
        (weight, bias): (&PackedMatrix, Option<&[f32]>),
        epilogue: PostOp,
    ) {
        let n = pack(c, &mut self.rows, x, weight.n_in(), norm);
        let rows = self.rows.rows();
        c.kernels
            .linear_packed(c.pool, Output::F32(y), rows, n, weight, bias, epilogue);
    }

    /// `wide = layer(norm(x))`, bfloat16; how many rows.
    fn linear_to_wide(
        &mut self,
        c: Compute<'_>,
        x: &[f32],
        norm: Option<&LayerNorm>,
        (weight, bias): PackedLinear<'_>,
        epilogue: PostOp,
    ) -> usize {
        let n = pack(c, &mut self.rows, x, weight.n_in(), norm);
        self.wide.reset(n, weight.n_out());
        let (rows, wide) = (self.rows.rows(), Output::Bf16(&mut self.wide, 0));
        c.kernels
            .linear_packed(c.pool, wide, rows, n, weight, Some(bias), epilogue);
        n
    }

    /// `x += down(gelu(up(norm(x))))`.
    pub(super) fn mlp(&mut self, c: Compute<'_>, mlp: &Mlp, x: &mut [f32]) {
        let n = self.linear_to_wide(c, x, Some(&mlp.norm), mlp.up.packed(), PostOp::Gelu);
        let rows = repack(c, &mut self.rows, &self.wide);
        add(c, x, rows, n, mlp.down.packed());
    }

    /// `x += out(attention(query_key_value(norm(x))))`, all rows seeing all rows.
    pub(super) fn self_attention(
        &mut self,
        c: Compute<'_>,
        x: &mut [f32],
        norm: &LayerNorm,
        query_key_value: PackedLinear<'_>,
        out: PackedLinear<'_>,
        keys_values: &mut PackedKv,
    ) {
        let n_state = out.0.n_in();
        let n = self.linear_to_wide(c, x, Some(norm), query_key_value, PostOp::Store);
        let part = |i: usize| self.wide.columns(i * n_state, n_state);
        c.kernels.pack_kv(c.pool, keys_values, part(1), part(2));
        self.attended.reset(n, n_state);
        let attended = (&mut self.attended, 0);
        c.kernels
            .attention_bf16(c.pool, attended, (part(0), n), keys_values);
        let rows = repack(c, &mut self.rows, &self.attended);
        add(c, x, rows, n, out);
    }

    /// `x += out(attention(query(norm(x))))`, the next `n` rows seeing `keys_values` for each item of `groups`.
    pub(super) fn cross_attention<'a>(
        &mut self,
        c: Compute<'_>,
        x: &mut [f32],
        norm: &LayerNorm,
        query: PackedLinear<'_>,
        out: PackedLinear<'_>,
        groups: impl Iterator<Item = (usize, &'a PackedKv)>,
    ) {
        let n = self.linear_to_wide(c, x, Some(norm), query, PostOp::Store);
        self.attend(c, groups);
        let rows = repack(c, &mut self.rows, &self.attended);
        add(c, x, rows, n, out);
    }

    /// `out = attention(q)`, likewise. `q`, `out`: `[n, n_state]`.
    pub(super) fn attention<'a>(
        &mut self,
        c: Compute<'_>,
        out: &mut [f32],
        q: &[f32],
        n_state: usize,
        groups: impl Iterator<Item = (usize, &'a PackedKv)>,
    ) {
        pack(c, &mut self.wide, q, n_state, None);
        self.attend(c, groups);
        self.attended.copy_widened(out);
    }

    /// `attended = attention(wide)`, likewise.
    fn attend<'a>(&mut self, c: Compute<'_>, groups: impl Iterator<Item = (usize, &'a PackedKv)>) {
        let (n, n_state) = self.wide.shape();
        self.attended.reset(n, n_state);
        let mut first = 0;
        for (n, keys_values) in groups {
            let q = self.wide.rows().skip(first);
            let attended = (&mut self.attended, first);
            c.kernels
                .attention_bf16(c.pool, attended, (q, n), keys_values);
            first += n;
        }
    }

    /// Computes for each layer the keys and values of `x`, `[n, n_in]`, and gives them to `keep`.
    pub(super) fn keys_values<'a>(
        &mut self,
        c: Compute<'_>,
        x: &[f32],
        layers: impl Iterator<Item = PackedLinear<'a>>,
        mut keep: impl FnMut(usize, PackedRows<'_>, PackedRows<'_>),
    ) {
        let mut n = 0;
        for (layer, (weight, bias)) in layers.enumerate() {
            if n == 0 {
                n = pack(c, &mut self.rows, x, weight.n_in(), None);
            }
            self.wide.reset(n, weight.n_out());
            let (rows, wide) = (self.rows.rows(), Output::Bf16(&mut self.wide, 0));
            c.kernels
                .linear_packed(c.pool, wide, rows, n, weight, Some(bias), PostOp::Store);
            let n_state = weight.n_out() / 2;
            let part = |i: usize| self.wide.columns(i * n_state, n_state);
            keep(layer, part(0), part(1));
        }
    }
}

/// Packs all of `x`, `[n, n_in]`, normalised if there is a norm; `n`.
fn pack(
    c: Compute<'_>,
    to: &mut PackedActivations,
    x: &[f32],
    n_in: usize,
    norm: Option<&LayerNorm>,
) -> usize {
    let n = x.len() / n_in;
    let source = Source::F32(Rows {
        data: x,
        stride: n_in,
    });
    let norm = norm.map(|norm| (&norm.gamma[..], &norm.beta[..]));
    c.kernels.pack_rows(c.pool, to, source, (n, n_in), norm);
    n
}

/// `from`, bfloat16, as the packing of `rows` wants it; in `rows` if that is another.
fn repack<'a>(
    c: Compute<'_>,
    rows: &'a mut PackedActivations,
    from: &'a PackedActivations,
) -> PackedRows<'a> {
    if rows.packing() == Packing::Bf16 {
        return from.rows();
    }
    c.kernels
        .pack_rows(c.pool, rows, Source::Bf16(from), from.shape(), None);
    rows.rows()
}

/// `x += layer(rows)`.
fn add(
    c: Compute<'_>,
    x: &mut [f32],
    rows: PackedRows<'_>,
    n: usize,
    (weight, bias): PackedLinear<'_>,
) {
    let bias = Some(bias);
    c.kernels
        .linear_packed(c.pool, Output::F32(x), rows, n, weight, bias, PostOp::Add);
}
