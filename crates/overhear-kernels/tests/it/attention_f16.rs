//! f16: conversion, and attention over keys and values in f16.

use half::{bf16, f16};

use super::{ATTENTION_ERROR, AWKWARD, Random, sets};
use overhear_kernels::{
    AttentionShape, Dtype, Kernels, Matrix, MatrixData, Pool, Rows, Storage, reference,
};

/// Compares one shape of attention over f16 on every set: close to the oracle, and the same bits as attention over
/// the same numbers in f32, on any threads.
fn check_attention(n_head: usize, head_dim: usize, n_query: usize, n_key: usize, causal: bool) {
    let mut random = Random((n_query * 137 + n_key) as u64);
    let width = n_head * head_dim;
    let rows = |data| Rows {
        data,
        stride: width,
    };
    let q: Vec<f32> = random
        .vec(n_query * width)
        .iter()
        .map(|x| 3.0 * x)
        .collect();
    let [wide_k, wide_v] = [(); 2].map(|()| {
        let halves = random.vec(n_key * width).into_iter().map(f16::from_f32);
        halves.map(f16::to_f32).collect::<Vec<_>>()
    });
    let [k, v] = [&wide_k, &wide_v].map(|wide| {
        let mut halves = vec![f16::ZERO; n_key * width];
        reference::convert_heads_f16(&mut halves, rows(wide), n_key, head_dim);
        halves
    });
    let shape = AttentionShape {
        n_head,
        head_dim,
        n_query,
        n_key,
        causal,
        block: 0,
    };
    let mut want = vec![f32::NAN; n_query * width];
    reference::attention_f16(&mut want, rows(&q), &k, &v, &shape);
    for kernels in sets() {
        let [one, three] = [1, 3].map(|n_threads| {
            let mut out = vec![f32::NAN; n_query * width];
            kernels.attention_f16(&Pool::new(n_threads), &mut out, rows(&q), &k, &v, &shape);
            out
        });
        let mut widened = vec![f32::NAN; n_query * width];
        let (q, k, v) = (rows(&q), rows(&wide_k), rows(&wide_v));
        kernels.attention(&Pool::new(2), &mut widened, q, k, v, &shape);
        assert_eq!(one, widened, "{} {shape:?}: widened", kernels.isa());
        assert_eq!(one, three, "{} {shape:?}: threads", kernels.isa());
        for (i, (out, want)) in one.iter().zip(&want).enumerate() {
            assert!(
                (out - want).abs() <= ATTENTION_ERROR,
                "{} {shape:?} at {i}: {out}, not {want}",
                kernels.isa()
            );
        }
    }
}

#[test]
fn attention_over_halves_is_that_over_the_same_numbers_widened() {
    let sizes: &[(usize, usize)] = if cfg!(miri) {
        &[(1, 3), (5, 5), (13, 70)]
    } else {
        &[
            (0, 1),
            (1, 1),
            (1, 2),
            (1, 5),
            (1, 257),
            (1, 1500),
            (2, 31),
            (3, 300),
            (5, 5),
            (6, 40),
            (8, 700),
            (9, 9),
            (17, 64),
            (49, 65),
        ]
    };
    for &(n_query, n_key) in sizes {
        for (n_head, head_dim) in [(1, 64), (3, 20), (2, 1), (1, 67), (1, 136), (2, 33)] {
            for causal in [false, true] {
                check_attention(n_head, head_dim, n_query, n_key, causal);
            }
        }
    }
}

/// Compares the conversion of rows of `n_head * head_dim`, `spare` elements apart, on every set with the oracle; NaN
/// need only be NaN.
fn check_narrow(from: &[f32], n_head: usize, head_dim: usize, spare: usize) {
    let stride = n_head * head_dim + spare;
    let n_row = from.len() / stride;
    let from = Rows { data: from, stride };
    let mut want = vec![f16::ZERO; n_head * n_row * head_dim];
    reference::convert_heads_f16(&mut want, from, n_row, head_dim);
    for kernels in sets() {
        for n_threads in [1, 3] {
            let mut found = vec![f16::NAN; want.len()];
            kernels.convert_heads_f16(&Pool::new(n_threads), &mut found, from, n_row, head_dim);
            for (i, (found, want)) in found.iter().zip(&want).enumerate() {
                assert!(
                    found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan(),
                    "{}: {found}, not {want}, at {i} of {n_head} heads of {n_row} rows of {head_dim}",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn narrowing_matches_scalar_on_awkward_sizes() {
    for &head_dim in &AWKWARD[1..] {
        for (n_head, n_row, spare) in [(1, 1, 0), (3, 2, 1), (2, 40, 5)] {
            let stride = n_head * head_dim + spare;
            let from = Random(head_dim as u64).vec(n_row * stride);
            check_narrow(&from, n_head, head_dim, spare);
        }
    }
}

#[test]
fn narrowing_puts_heads_one_behind_the_other() {
    // Rows of two heads of two, and something else.
    let from: Vec<f32> = (0..15).map(|i| i as f32).collect();
    let rows = Rows {
        data: &from,
        stride: 5,
    };
    let want = [0, 1, 5, 6, 10, 11, 2, 3, 7, 8, 12, 13].map(|i| f16::from_f32(i as f32));
    for kernels in sets()
        .into_iter()
        .chain(Kernels::new(overhear_kernels::Isa::Scalar))
    {
        let mut found = [f16::NAN; 12];
        kernels.convert_heads_f16(&Pool::new(2), &mut found, rows, 3, 2);
        assert_eq!(found, want, "{}", kernels.isa());
    }
}

#[test]
fn narrowing_rounds_every_half_and_its_neighbours_as_the_oracle_does() {
    let step = if cfg!(miri) { 4001 } else { 1 };
    // A half, the tie to the next one, and the numbers a bit below and above the tie.
    let about = |bits: u16| {
        let wide = f16::from_bits(bits).to_f32().to_bits();
        let tie = wide + (1 << 12);
        [wide, tie - 1, tie, tie + 1].map(f32::from_bits)
    };
    let all: Vec<f32> = (0..=u16::MAX).step_by(step).flat_map(about).collect();
    check_narrow(&all, 1, 4, 0);
    let mut random = 1u32;
    let any = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(random)
    });
    let n = if cfg!(miri) { 128 } else { 1 << 18 };
    check_narrow(&any.take(n).collect::<Vec<_>>(), 2, 32, 0);
}

#[test]
fn what_is_beyond_the_halves_becomes_the_largest_and_nan_stays() {
    let inf = f32::INFINITY;
    for kernels in sets()
        .into_iter()
        .chain(Kernels::new(overhear_kernels::Isa::Scalar))
    {
        let mut halves = [f16::ZERO; 6];
        let data = &[65504.0, 65520.0, inf, -1e30, -inf, f32::NAN];
        let from = Rows { data, stride: 6 };
        kernels.convert_heads_f16(&Pool::new(1), &mut halves, from, 1, 6);
        assert_eq!(halves[..3], [f16::MAX; 3], "{}", kernels.isa());
        assert_eq!(halves[3..5], [f16::MIN; 2], "{}", kernels.isa());
        assert!(halves[5].is_nan(), "{}", kernels.isa());
    }
}

#[test]
fn weights_of_every_dtype_are_narrowed_and_halves_stay_as_they_are() {
    let values = Random(5).vec(300 * 71);
    let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
    let floats: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
    let of_floats = floats.iter().map(|x| f16::from_f32(x.to_f32())).collect();
    for kernels in sets() {
        for (data, want) in [
            (MatrixData::F32(values.clone()), &halves),
            (MatrixData::F16(halves.clone()), &halves),
            (MatrixData::Bf16(floats.clone()), &of_floats),
        ] {
            let w = Matrix::new(300, 71, data);
            let narrow = kernels.store_weights(&Pool::new(2), &w, Storage::Float(Dtype::F16));
            assert_eq!((narrow.n_out(), narrow.n_in()), (300, 71));
            assert_eq!(narrow.storage(), Storage::Float(Dtype::F16));
            let mut row = [0.0; 71];
            for (out, want) in want.chunks_exact(71).enumerate() {
                narrow.copy_row(out, &mut row);
                let want: Vec<f32> = want.iter().map(|x| x.to_f32()).collect();
                assert_eq!(row[..], want, "{}: output {out}", kernels.isa());
            }
        }
    }
}

#[test]
fn shapes_of_halves_that_do_not_fit_are_refused() {
    let (kernels, pool) = (Kernels::detect(), Pool::new(1));
    let refused = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    let attention = |n_out: usize, n_q: usize, n_k: usize, n_v: usize| {
        let shape = AttentionShape {
            n_head: 2,
            head_dim: 4,
            n_query: 3,
            n_key: 5,
            causal: false,
            block: 0,
        };
        let (q, k, v) = (vec![0.0; n_q], vec![f16::ZERO; n_k], vec![f16::ZERO; n_v]);
        let q = Rows {
            data: &q,
            stride: 8,
        };
        kernels.attention_f16(&pool, &mut vec![0.0; n_out], q, &k, &v, &shape);
    };
    assert!(!refused(&|| attention(24, 24, 40, 40)));
    assert!(refused(&|| attention(23, 24, 40, 40)));
    assert!(refused(&|| attention(24, 23, 40, 40)));
    assert!(refused(&|| attention(24, 24, 39, 40)));
    assert!(refused(&|| attention(24, 24, 40, 48)));
    let narrow = |n_to: usize, n_from: usize| {
        let from = vec![0.0; n_from];
        let rows = Rows {
            data: &from,
            stride: 9,
        };
        kernels.convert_heads_f16(&pool, &mut vec![f16::ZERO; n_to], rows, 3, 4);
    };
    assert!(!refused(&|| narrow(24, 26)));
    assert!(refused(&|| narrow(23, 26)));
    assert!(refused(&|| narrow(24, 25)));
}
