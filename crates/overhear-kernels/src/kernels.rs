//! The kernels as the forward pass calls them: shapes are checked here, work is split here, and the chosen
//! instruction set does the rest.

use std::convert::Infallible;

use half::f16;

use crate::attention::{HeadRows, MAX_HEAD_DIM, attention};
use crate::byte_attention::byte_attention;
use crate::flash::flash_attention;
use crate::linear::linear;
use crate::maxima::{self, FindMaxima};
use crate::narrow::narrow_heads;
use crate::product::product;
use crate::rows::{LogSumExp, add, layer_norm, transpose};
use crate::simd::Set;
use crate::spectrum::LogSpectrogram;
use crate::weights::attention_weights;
use crate::{
    Activations, ByteKeysValues, Dtype, Isa, IsaError, Kept, KeysValues, Matrix, Maxima, Output,
    PackedMatrix, PackedRows, Packing, Pool, Source, Spectrogram, StoredMatrix, scalar, scratch,
};

/// What [`Kernels::linear`] does with `x * w^T + bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// `y = ..`
    Store,
    /// `y = gelu(..)`, the exact erf form.
    Gelu,
    /// `y += ..`: the residual connection.
    Add,
}

/// Rows of activations inside a larger buffer: row `i` starts at `i * stride`.
///
/// Rows may overlap (`stride` below the row length): that is how a convolution is one matrix product over a
/// time-major buffer, without an im2col copy.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The buffer, from the first element of row 0.
    pub data: &'a [f32],
    /// Elements from the start of one row to the start of the next.
    pub stride: usize,
}

/// The shape of one [`Kernels::attention`] call.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Heads.
    pub n_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Query rows.
    pub n_query: usize,
    /// Key and value rows.
    pub n_key: usize,
    /// Query `i` sees keys `0..=n_key - n_query + i` only.
    pub causal: bool,
    /// Queries that share one pass over the keys; 0 chooses.
    pub block: usize,
}

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    isa: Isa,
    set: Set,
}

impl Kernels {
    /// The most queries of one attention call that do not depend on each other, to the bit.
    pub const FEW_QUERIES: usize = crate::attention::FEW_QUERIES;

    /// The kernels of `isa`, or `None` if this machine cannot run it.
    #[must_use]
    pub fn new(isa: Isa) -> Option<Self> {
        Set::new(isa).map(|set| Self { isa, set })
    }

    /// The fastest kernels of this machine.
    ///
    /// # Panics
    /// Never: the scalar set is always there.
    #[must_use]
    pub fn detect() -> Self {
        Self::new(Isa::detect()).expect("detected sets are available")
    }

    /// The kernels that `OVERHEAR_ISA` names, or the fastest of this machine if it is unset or empty.
    ///
    /// # Errors
    /// If the name is unknown or the machine lacks the set.
    pub fn from_env() -> Result<Self, IsaError> {
        let isa = Isa::from_env()?;
        Self::new(isa).ok_or(IsaError::Unavailable(isa))
    }

    /// Four lanes in plain Rust.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            isa: Isa::Scalar,
            set: Set::Plain(crate::simd::plain::Plain),
        }
    }

    /// The same with the tiles of AMX in plain Rust.
    #[cfg(test)]
    pub(crate) fn plain_tiles() -> Self {
        Self {
            isa: Isa::Scalar,
            set: Set::PlainTiles(crate::simd::plain::Plain),
        }
    }

    /// Whether bfloat16 products are summed in the order of tiles.
    #[cfg(test)]
    pub(crate) fn sums_tiles(&self) -> bool {
        self.set.has_tiles()
    }

    /// Whether the weights of attention are computed in numbers of 16 bits.
    #[cfg(test)]
    pub(crate) fn weighs_in_16_bits(&self) -> bool {
        self.set.lanes() == 16 && self.set.has_bf16() && !self.set.has_tiles()
    }

    #[cfg(test)]
    pub(crate) fn set(&self) -> Set {
        self.set
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `y = epilogue(x * w^T + bias)`.
    ///
    /// `x`: `n` rows of `w.n_in()`; `w`: `[n_out, n_in]`; `bias`: `[n_out]`; `y`: `[n, n_out]`, contiguous,
    /// whose length says `n`. A row's result does not depend on the other rows or on the number of threads.
    /// One row allocates nothing; more use memory that each thread keeps.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn linear(
        &self,
        pool: &Pool,
        y: &mut [f32],
        x: Rows<'_>,
        w: &StoredMatrix,
        bias: Option<&[f32]>,
        epilogue: Epilogue,
    ) {
        let (n_out, n_in) = (w.n_out(), w.n_in());
        let n_rows = y.len().checked_div(n_out).unwrap_or(0);
        assert_eq!(y.len(), n_rows * n_out, "y is not rows of {n_out}");
        assert!(
            bias.is_none_or(|bias| bias.len() == n_out),
            "the bias is not {n_out} long"
        );
        assert_rows("x", x, n_rows, n_in);
        match self.set {
            Set::Scalar => scalar::linear(y, x, w, bias, epilogue),
            set => linear(set, pool, y, x, w, bias, epilogue),
        }
    }

    /// `w` as [`Kernels::linear`] takes it, see [`Kernels::store_weights_from`].
    #[must_use]
    pub fn store_weights(&self, pool: &Pool, w: &Matrix, kept: Kept) -> StoredMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(stored) = self.store_weights_from(pool, shape, w.dtype(), kept, read);
        stored
    }

    /// `w` as [`Kernels::product`] takes it, rounded or quantised, see [`Kernels::pack_weights_from`].
    #[must_use]
    pub fn pack_weights(&self, pool: &Pool, w: &Matrix, packing: Packing) -> PackedMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(packed) = self.pack_weights_from(pool, shape, w.dtype(), packing, read);
        packed
    }

    /// A matrix `[n_out, n_in]` of `dtype` as [`Kernels::linear`] takes it, kept as it is, rounded to f16 as by
    /// [`Kernels::narrow_heads`], or in bytes. `read` writes its rows from the one that it is told on, as many as the bytes hold. It is
    /// asked for 32 at a time, in parallel, which are put in place while they are in the cache: the matrix is never in
    /// memory twice.
    ///
    /// # Errors
    /// What `read` answers; of several errors, any.
    ///
    /// # Panics
    /// If `kept` is a float other than `dtype` and f16.
    pub fn store_weights_from<E: Send>(
        &self,
        pool: &Pool,
        shape: (usize, usize),
        dtype: Dtype,
        kept: Kept,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<StoredMatrix, E> {
        StoredMatrix::read(self.set, pool, shape, dtype, kept, read)
    }

    /// The same as [`Kernels::product`] takes it, rounded or quantised.
    ///
    /// # Errors
    /// What `read` answers; of several errors, any.
    pub fn pack_weights_from<E: Send>(
        &self,
        pool: &Pool,
        shape: (usize, usize),
        dtype: Dtype,
        packing: Packing,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<PackedMatrix, E> {
        PackedMatrix::read(self.set, pool, shape, dtype, packing, read)
    }

    /// Makes `to` the first `n_rows` rows of `from`, `[n_rows, n_cols]`, as [`Kernels::product`] takes them; with
    /// `norm` (gamma and beta, `[n_cols]` each), their layer normalisation. Allocates only if `to` is too small.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn pack_rows(
        &self,
        pool: &Pool,
        to: &mut Activations,
        from: Source<'_>,
        (n_rows, n_cols): (usize, usize),
        norm: Option<(&[f32], &[f32])>,
    ) {
        match from {
            Source::F32(rows) => assert_rows("from", rows, n_rows, n_cols),
            Source::Bf16(rows) => assert!(
                rows.packing() == Packing::Bf16
                    && rows.n_rows() >= n_rows
                    && rows.n_cols() == n_cols,
                "not {n_rows} bfloat16 rows of {n_cols}"
            ),
        }
        assert!(
            norm.is_none_or(|(gamma, beta)| gamma.len() == n_cols && beta.len() == n_cols),
            "gamma or beta is not {n_cols} long"
        );
        to.pack(self.set, pool, from, (n_rows, n_cols), norm);
    }

    /// `y = epilogue(x * w^T + bias)` on packed operands: the dot products in bfloat16 or in bytes, all else in f32.
    ///
    /// `x`: at least `n_rows` rows of `w.n_in()`, packed as `w` is; `bias`: `[n_out]`; `y`: `[n_rows, n_out]`. A
    /// row's result does not depend on the other rows or on the number of threads. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes or the packings do not fit.
    pub fn product(
        &self,
        pool: &Pool,
        y: Output<'_>,
        x: PackedRows<'_>,
        n_rows: usize,
        w: &PackedMatrix,
        bias: Option<&[f32]>,
        epilogue: Epilogue,
    ) {
        let (n_out, n_in) = (w.n_out(), w.n_in());
        assert_eq!(x.packing, w.packing(), "the packings differ");
        assert_eq!(x.n_cols, n_in, "x is not rows of {n_in}");
        assert!(x.has(n_rows), "x is not {n_rows} rows");
        assert!(
            bias.is_none_or(|bias| bias.len() == n_out),
            "the bias is not {n_out} long"
        );
        let fits = match &y {
            Output::F32(y) => y.len() == n_rows * n_out,
            Output::Bf16(y, first) => {
                epilogue != Epilogue::Add && y.n_cols() == n_out && first + n_rows <= y.n_rows()
            }
        };
        assert!(fits, "y is not {n_rows} rows of {n_out}");
        if n_rows > 0 && n_out > 0 {
            product(self.set, pool, y, x, n_rows, w, bias, epilogue);
        }
    }

    /// Packs keys and values, bfloat16 rows of which head `h` is the `head_dim` elements from `h * head_dim`, for
    /// [`Kernels::flash_attention`]. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn pack_keys_values(
        &self,
        pool: &Pool,
        to: &mut KeysValues,
        k: PackedRows<'_>,
        v: PackedRows<'_>,
    ) {
        for rows in [k, v] {
            assert_bf16(rows, to.n_key(), to.n_head() * to.head_dim());
        }
        to.pack(self.set, pool, k, v);
    }

    /// `softmax(q * k^T / sqrt(head_dim)) * v` per head: both products in bfloat16, the softmax in f32.
    ///
    /// `q`: `n_query` bfloat16 rows; `out`: bfloat16 rows of `n_head * head_dim`, as many from the given one on. A
    /// query's result does not depend on the others or on the number of threads. Allocates nothing once threads are
    /// warm.
    ///
    /// # Panics
    /// If the shapes do not fit, or there is no key.
    pub fn flash_attention(
        &self,
        pool: &Pool,
        (out, first_out): (&mut Activations, usize),
        (q, n_query): (PackedRows<'_>, usize),
        keys_values: &KeysValues,
    ) {
        let width = keys_values.n_head() * keys_values.head_dim();
        assert_bf16(q, n_query, width);
        assert!(keys_values.n_key() > 0, "no keys");
        assert!(
            out.n_cols() == width && first_out + n_query <= out.n_rows(),
            "out is not {n_query} rows of {width}"
        );
        if n_query > 0 {
            let out = (out, first_out);
            flash_attention(self.set, pool, out, (q, n_query), keys_values);
        }
    }

    /// Rounds the first `n_row` rows of `from` to f16, to nearest even, head by head, as [`Kernels::attention_f16`]
    /// takes them. What is beyond the range of f16 becomes the largest of its sign: an infinite operand would make sums
    /// infinite, or no number at all.
    ///
    /// `to`: `[n_head, n_row, head_dim]`, whose length says `n_head`. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn narrow_heads(
        &self,
        pool: &Pool,
        to: &mut [f16],
        from: Rows<'_>,
        n_row: usize,
        head_dim: usize,
    ) {
        let size = n_row * head_dim;
        assert!(
            size > 0 && to.len().is_multiple_of(size),
            "to is not heads of {n_row} rows of {head_dim}"
        );
        assert_rows("from", from, n_row, to.len() / n_row);
        match self.set {
            Set::Scalar => scalar::narrow_heads(to, from, n_row, head_dim),
            set => narrow_heads(set, pool, to, from, n_row, head_dim),
        }
    }

    /// Whether products in `packing` are instructions of the machine (and not emulated).
    #[must_use]
    pub fn is_native(&self, packing: Packing) -> bool {
        match packing {
            Packing::Bf16 => self.set.has_bf16(),
            Packing::Int8 => self.set.has_int8(),
        }
    }

    /// Layer normalisation over rows of `gamma.len()` elements, epsilon 1e-5, the variance biased.
    ///
    /// `x`, `y`: `[n, n_state]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn layer_norm(&self, pool: &Pool, y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32]) {
        let n_state = gamma.len();
        assert!(
            y.len() == x.len() && beta.len() == n_state,
            "x and y, or gamma and beta, differ in length"
        );
        assert!(
            x.is_empty() || n_state > 0 && x.len().is_multiple_of(n_state),
            "x is not rows of {n_state}"
        );
        match self.set {
            _ if x.is_empty() => {}
            Set::Scalar => scalar::layer_norm(y, x, gamma, beta),
            set => layer_norm(set, pool, y, x, gamma, beta),
        }
    }

    /// Writes the transpose of `x`, rows of `n_cols`, to `y`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn transpose(&self, pool: &Pool, y: &mut [f32], x: &[f32], n_cols: usize) {
        assert_eq!(y.len(), x.len(), "x and y differ in length");
        if !x.is_empty() {
            assert!(
                n_cols > 0 && x.len().is_multiple_of(n_cols),
                "x is not rows of {n_cols}"
            );
            transpose(pool, y, x, n_cols);
        }
    }

    /// `y += x`, element by element.
    ///
    /// # Panics
    /// If they differ in length.
    pub fn add(&self, pool: &Pool, y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "x and y differ in length");
        add(pool, y, x);
    }

    /// `softmax(q * k^T / sqrt(head_dim)) * v` per head, never storing an `n_query x n_key` matrix.
    ///
    /// `q`, `k`, `v`: rows of which head `h` is the `head_dim` elements from `h * head_dim`.
    /// `out`: `[n_query, n_head * head_dim]`, contiguous. Up to [`Kernels::FEW_QUERIES`] queries allocate nothing,
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
        match self.set {
            _ if out.is_empty() => {}
            Set::Scalar => scalar::attention(out, q, k, v, shape),
            set => {
                let [k, v] = [k, v].map(|rows| HeadRows::side_by_side(rows, head_dim));
                attention(set, pool, out, q, k, v, shape);
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
        match self.set {
            _ if out.is_empty() => {}
            Set::Scalar => scalar::attention_f16(out, q, k, v, shape),
            set => {
                let [k, v] = [k, v].map(|data| HeadRows::head_by_head(data, n_key, head_dim));
                attention(set, pool, out, q, k, v, shape);
            }
        }
    }

    /// Rounds keys and values, bfloat16 rows of which head `h` is the `head_dim` elements from `h * head_dim`, to bytes
    /// for [`Kernels::attention_int8`]. Every element of a head has a range of its own over all rows. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn pack_byte_keys_values(
        &self,
        pool: &Pool,
        to: &mut ByteKeysValues,
        k: PackedRows<'_>,
        v: PackedRows<'_>,
    ) {
        for rows in [k, v] {
            assert_bf16(rows, to.n_key(), to.n_head() * to.head_dim());
        }
        to.pack(self.set, pool, k, v);
    }

    /// [`Kernels::attention`] of all queries to all keys, which are bytes; queries and weights have 16 bits.
    ///
    /// `q`, `out`: `[n_query, n_head * head_dim]`. A query's result does not depend on the others or on the number of
    /// threads. Allocates nothing once threads are warm.
    ///
    /// # Panics
    /// If the shapes do not fit, or there is no key.
    pub fn attention_int8(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: &[f32],
        keys_values: &ByteKeysValues,
    ) {
        let width = keys_values.n_head() * keys_values.head_dim();
        assert!(keys_values.n_key() > 0, "no keys");
        assert!(
            q.len() == out.len() && width > 0 && q.len().is_multiple_of(width),
            "q or out is not rows of {width}"
        );
        if !out.is_empty() {
            byte_attention(self.set, pool, out, q, keys_values);
        }
    }

    /// `softmax(q * k^T / sqrt(head_dim))` of one head, stored: where each query looks.
    ///
    /// `q`, `k`: rows whose first `head_dim` elements are the head. `out`: `[n_query, n_key]`, contiguous, whose
    /// length says `n_query`. The result does not depend on the number of threads.
    ///
    /// # Panics
    /// If the shapes do not fit, there is no key, or the head has more than 256 elements.
    pub fn attention_weights(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: Rows<'_>,
        k: Rows<'_>,
        n_key: usize,
        head_dim: usize,
    ) {
        assert!(
            n_key > 0 && out.len().is_multiple_of(n_key),
            "out is not rows of {n_key} keys"
        );
        assert!(
            (1..=MAX_HEAD_DIM).contains(&head_dim),
            "a head of {head_dim} elements"
        );
        assert_rows("q", q, out.len() / n_key, head_dim);
        assert_rows("k", k, n_key, head_dim);
        match self.set {
            Set::Scalar => scalar::attention_weights(out, q, k, n_key, head_dim),
            set => attention_weights(set, pool, out, q, k, n_key, head_dim),
        }
    }

    /// `log10(max(filter energy, floor))` of frames of `samples`, the first at its start, each `plan`'s hop after the
    /// last.
    ///
    /// `out`: `[n_frames, n_filters]`, contiguous, whose length says `n_frames`. A frame's result does not depend on
    /// the others.
    ///
    /// # Panics
    /// If `out` is not whole frames, or the samples end before the last one does.
    pub fn log_spectrogram(&self, plan: &Spectrogram, out: &mut [f32], samples: &[f32]) {
        let n_frames = out.len() / plan.n_filters();
        assert_eq!(
            out.len(),
            n_frames * plan.n_filters(),
            "out is not rows of {}",
            plan.n_filters()
        );
        let n_samples = match n_frames {
            0 => return,
            n => (n - 1) * plan.hop + plan.window.len(),
        };
        assert!(
            samples.len() >= n_samples,
            "{} samples for {n_frames} frames",
            samples.len()
        );
        match self.set {
            Set::Scalar => scalar::log_spectrogram(plan, out, samples),
            set => scratch::with(2 * plan.n_rows() * set.lanes(), |scratch| {
                let call = LogSpectrogram {
                    plan,
                    out,
                    samples,
                    scratch,
                };
                set.run(call, || unreachable!("the scalar set has no vectors"));
            }),
        }
    }

    /// `ln(sum(exp(x)))`; negative infinity for an empty or all `-inf` row.
    #[must_use]
    pub fn log_sum_exp(&self, x: &[f32]) -> f32 {
        let call = LogSumExp { x, max: None };
        self.set.run(call, || scalar::log_sum_exp(x))
    }

    /// The same, to the bit, of a row whose maxima are known.
    #[must_use]
    pub fn log_sum_exp_below(&self, x: &[f32], maxima: &Maxima) -> f32 {
        let max = Some(maxima.largest());
        let call = LogSumExp { x, max };
        self.set.run(call, || scalar::log_sum_exp(x))
    }

    /// Makes `maxima` those of `x`, from which its largest elements are found. Allocates only if it is too small.
    pub fn find_maxima(&self, x: &[f32], maxima: &mut Maxima) {
        let of_blocks = maxima.reset(x.len());
        match self.set {
            Set::Scalar => scalar::find_maxima(x, of_blocks, maxima::BLOCK),
            set => set.run(FindMaxima { x, of_blocks }, || {
                unreachable!("the scalar set has no vectors")
            }),
        }
    }
}

/// Checks what attention has in common whatever its keys and values are.
fn assert_attention(out: &[f32], q: Rows<'_>, shape: &AttentionShape) {
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

/// Checks that these are `n_rows` bfloat16 rows of `n_cols`.
fn assert_bf16(rows: PackedRows<'_>, n_rows: usize, n_cols: usize) {
    assert_eq!(rows.packing, Packing::Bf16, "rows that are not bfloat16");
    assert_eq!(rows.n_cols, n_cols, "rows that are not {n_cols} long");
    assert!(rows.has(n_rows), "fewer than {n_rows} rows");
}

/// Writes the bytes of rows of `w` from `first` on.
fn copy_rows(w: &Matrix, first: usize, to: &mut [u8]) -> Result<(), Infallible> {
    let bytes = &w.bytes()[first * w.n_cols() * w.dtype().size()..];
    to.copy_from_slice(&bytes[..to.len()]);
    Ok(())
}

/// Checks that `n_rows` rows of `len` elements lie within the buffer.
fn assert_rows(name: &str, rows: Rows<'_>, n_rows: usize, len: usize) {
    let end = if n_rows == 0 {
        Some(0)
    } else {
        (n_rows - 1)
            .checked_mul(rows.stride)
            .and_then(|at| at.checked_add(len))
    };
    assert!(
        end.is_some_and(|end| end <= rows.data.len()),
        "{name}: {n_rows} rows of {len}, {} apart, in {} elements",
        rows.stride,
        rows.data.len()
    );
}
