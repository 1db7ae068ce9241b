//! Every kernel of every set against the reference, and the promises that no oracle can check: a row's result does
//! not depend on its neighbours, nor any result on the threads.

#![allow(
    clippy::needless_range_loop,
    clippy::too_many_arguments,
    reason = "register blocks are index arithmetic"
)]
#![allow(clippy::unwrap_used)]

mod attention_bf16;
mod attention_causal;
mod attention_f16;
mod attention_f32;
mod attention_int8;
mod elementwise;
mod gemm_f32;
mod gemm_f32_int8;
mod gemm_grouped;
mod gemm_packed;
mod packing;

use half::{bf16, f16};

use overhear_kernels::{
    AttentionShape, Dtype, Isa, Kernels, Matrix, MatrixData, Pool, PostOp, Rows, Storage,
};

/// Sizes about every set's lanes (4, 8, 16), the register block and the K block.
const AWKWARD: &[usize] = if cfg!(miri) {
    &[0, 1, 3, 4, 5, 17]
} else {
    &[
        0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 384, 769, 1000,
    ]
};

/// Tolerance of a kernel against an oracle that sums in f64, per unit of `sum |x w|`: 256 steps in a row, each within
/// half an epsilon (6e-8), then up to 20 K blocks: 1.7e-5 at worst. Roundings have random signs, so the real error is
/// about the root of it; 1e-6 leaves a factor of 3 and catches any wrong term.
const SUM_ERROR: f32 = 1e-6;
/// Tolerance of layer normalisation, which divides two such sums: values are of order 1, times gamma.
const NORM_ERROR: f32 = 3e-6;
/// Tolerance of attention, a mean of values of order 1 whose probabilities carry the error of a score (`SUM_ERROR`
/// times scores of order 10) and of the exponential (2e-7).
const ATTENTION_ERROR: f32 = 1e-5;
/// Tolerance of the log of a sum of at most 1e5 terms: half an ulp of a result of order 10, and the exponential's
/// 2e-7.
const LOG_ERROR: f32 = 2e-6;

/// The sets of this machine other than the scalar one, and the emulated ones.
fn sets() -> Vec<Kernels> {
    Kernels::vectorized()
}

/// All sets of [`sets`] and the scalar set: packed kernels run on it too, emulated.
fn all_sets() -> Vec<Kernels> {
    let scalar = Kernels::new(Isa::Scalar);
    sets().into_iter().chain(scalar).collect()
}

/// Pseudo-random numbers of about normal distribution, of order 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        let mut uniform = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (uniform() + uniform() + uniform()) * 2.0
    }
    fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
    fn matrix(&mut self, n_rows: usize, n_cols: usize, dtype: Dtype) -> Matrix {
        let values = self.vec(n_rows * n_cols);
        let data = match dtype {
            Dtype::F32 => MatrixData::F32(values),
            Dtype::F16 => MatrixData::F16(values.into_iter().map(f16::from_f32).collect()),
            Dtype::Bf16 => MatrixData::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        };
        Matrix::new(n_rows, n_cols, data)
    }
}

const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];
/// Dtypes of matrices and what they are stored as.
const STORAGES: [(Dtype, Storage); 4] = [
    (Dtype::F32, Storage::Float(Dtype::F32)),
    (Dtype::F16, Storage::Float(Dtype::F16)),
    (Dtype::Bf16, Storage::Float(Dtype::Bf16)),
    (Dtype::F32, Storage::Int8),
];
const POST_OPS: [PostOp; 3] = [PostOp::Store, PostOp::Gelu, PostOp::Add];

#[test]
fn the_run_says_which_sets_it_covered_and_has_those_it_must() {
    let (covered, missing): (Vec<Isa>, Vec<Isa>) =
        Isa::ALL.iter().partition(|isa| isa.is_available());
    let required = std::env::var("OVERHEAR_REQUIRE_ISA").unwrap_or_default();
    // Written straight to the descriptor, because the harness hides what passing tests print.
    use std::io::Write;
    let line = format!(
        "kernel sets covered: {covered:?}; this machine lacks: {missing:?}; required: [{required}]\n"
    );
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error takes a line");
    for name in required
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let isa: Isa = name.parse().expect("OVERHEAR_REQUIRE_ISA names known sets");
        assert!(
            isa.is_available(),
            "OVERHEAR_REQUIRE_ISA asks for {isa}, which this machine lacks"
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let kernels = Kernels::detect();
    let pool = Pool::new(1);
    let w = Matrix::new(4, 3, MatrixData::F32(vec![0.0; 12]));
    let w = kernels.store_weights(&pool, &w, Storage::Float(Dtype::F32));
    let refused = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    let linear = |n_y: usize, n_x: usize, stride: usize, n_bias: usize| {
        let (x, bias) = (vec![0.0; n_x], vec![0.0; n_bias]);
        kernels.linear(
            &pool,
            &mut vec![0.0; n_y],
            Rows { data: &x, stride },
            &w,
            Some(&bias),
            PostOp::Store,
        );
    };
    assert!(!refused(&|| linear(8, 6, 3, 4)));
    assert!(refused(&|| linear(7, 6, 3, 4)));
    assert!(refused(&|| linear(8, 5, 3, 4)));
    assert!(refused(&|| linear(8, 6, usize::MAX, 4)));
    assert!(refused(&|| linear(8, 6, 3, 3)));
    let attention = |n_out: usize, n_key: usize, n_data: usize, causal: bool| {
        let data = vec![0.0; n_data];
        let rows = Rows {
            data: &data,
            stride: 8,
        };
        let shape = AttentionShape {
            n_head: 2,
            head_dim: 4,
            n_query: 3,
            n_key,
            causal,
            block: 0,
        };
        kernels.attention(&pool, &mut vec![0.0; n_out], rows, rows, rows, &shape);
    };
    assert!(!refused(&|| attention(24, 3, 24, true)));
    assert!(refused(&|| attention(23, 3, 24, true)));
    assert!(refused(&|| attention(24, 3, 23, true)));
    assert!(refused(&|| attention(24, 2, 24, true)));
    assert!(refused(&|| attention(24, 0, 24, false)));
}
