//! Packed GEMM in bf16 and int8 against the oracle.

use super::{AWKWARD, DTYPES, POST_OPS, Random, SUM_ERROR, all_sets};
use overhear_kernels::{
    Dtype, Isa, Kernels, Matrix, Output, PackedActivations, Packing, Pool, PostOp, Rows, Source,
    reference,
};

pub(super) const PACKINGS: [Packing; 2] = [Packing::Bf16, Packing::Int8];

/// Tolerance against the oracle, which sums in the same order: the last step's roundings.
const TOLERANCE: f32 = 1e-6;
/// Tolerance with GELU, whose approximation is good to 6e-5.
const GELU_TOLERANCE: f32 = 7e-5;

/// Whether accumulators are summed in the order of tiles, which is not the oracle's.
fn has_tiles(kernels: Kernels, packing: Packing) -> bool {
    packing == Packing::Bf16 && kernels.sums_in_tiles()
}

/// `linear_packed` as the network calls it: rows and weights packed, f32 out.
fn product(
    kernels: Kernels,
    pool: &Pool,
    y: &mut [f32],
    (x, n): (Rows<'_>, usize),
    w: &Matrix,
    packing: Packing,
    bias: Option<&[f32]>,
    post_op: PostOp,
) {
    let packed = kernels.pack_weights(pool, w, packing);
    let mut rows = PackedActivations::new(packing, 0, 0);
    kernels.pack_rows(pool, &mut rows, Source::F32(x), (n, w.n_cols()), None);
    kernels.linear_packed(pool, Output::F32(y), rows.rows(), n, &packed, bias, post_op);
}

/// Compares one shape on every set with the oracle.
fn check_product(
    n: usize,
    n_out: usize,
    n_in: usize,
    dtype: Dtype,
    packing: Packing,
    post_op: PostOp,
    with_bias: bool,
) {
    let mut random = Random((n * 31 + n_out * 7 + n_in) as u64);
    let stride = n_in + n % 3;
    let x = random.vec(n.saturating_sub(1) * stride + n_in);
    let x = Rows { data: &x, stride };
    let w = random.matrix(n_out, n_in, dtype);
    let bias = random.vec(n_out);
    let bias = with_bias.then_some(&bias[..]);
    let before = random.vec(n * n_out);
    let mut want = before.clone();
    if n_out > 0 {
        reference::linear_packed(&mut want, x, &w, packing, bias, post_op);
    }
    let tolerance = if post_op == PostOp::Gelu {
        GELU_TOLERANCE
    } else {
        TOLERANCE
    };
    let pool = Pool::new(2);
    // Scale of the tolerance for tiles, whose sums are in another order.
    let magnitudes = magnitudes(x, &w, n);
    for kernels in all_sets() {
        let mut y = before.clone();
        product(kernels, &pool, &mut y, (x, n), &w, packing, bias, post_op);
        for (i, (&y, &want)) in y.iter().zip(&want).enumerate() {
            let order = if has_tiles(kernels, packing) {
                SUM_ERROR * magnitudes[i]
            } else {
                0.0
            };
            assert!(
                (y - want).abs() <= tolerance * want.abs().max(1.0) + order,
                "{}: [{n}, {n_out}, {n_in}] {packing:?} {dtype:?} {post_op:?} {i}: {y}, not {want}",
                kernels.isa()
            );
        }
    }
}

/// `|x| * |w|^T`, `[n, n_out]`.
fn magnitudes(x: Rows<'_>, w: &Matrix, n: usize) -> Vec<f32> {
    let (n_out, n_in) = (w.n_rows(), w.n_cols());
    let mut rows = vec![0.0; n_out * n_in];
    for (out, row) in rows.chunks_exact_mut(n_in.max(1)).enumerate() {
        w.copy_row(out, row);
    }
    let sum = |i: usize, out: usize| -> f32 {
        let pairs = x.data[i * x.stride..]
            .iter()
            .zip(&rows[out * n_in..][..n_in]);
        pairs.map(|(x, w)| (x * w).abs()).sum()
    };
    (0..n * n_out)
        .map(|at| sum(at / n_out, at % n_out))
        .collect()
}

#[test]
fn tiles_of_the_machine_give_the_bits_of_their_twin() {
    check_bits(Isa::Amx, Kernels::emulated_amx(), &POST_OPS);
}

#[test]
fn dot_products_of_neon_give_the_bits_of_their_twin() {
    // GELU's polynomial is fused on the machine's vectors alone.
    let post_ops = [PostOp::Store, PostOp::Add];
    check_bits(Isa::Neon, Kernels::emulated(), &post_ops);
}

/// Compares products of `isa` with those of its emulated twin, bit for bit.
fn check_bits(isa: Isa, twin: Kernels, post_ops: &[PostOp]) {
    let Some(kernels) = Kernels::new(isa) else {
        eprintln!("left out: this machine lacks {isa}");
        return;
    };
    let pool = Pool::new(2);
    let mut random = Random(17);
    for (n, n_out, n_in) in [(1, 33, 70), (16, 64, 32), (37, 100, 1030), (70, 40, 1284)] {
        let (x, bias) = (random.vec(n * n_in), random.vec(n_out));
        let w = random.matrix(n_out, n_in, Dtype::F16);
        let x = Rows {
            data: &x,
            stride: n_in,
        };
        for packing in PACKINGS {
            for &post_op in post_ops {
                let bits = |kernels| -> Vec<u32> {
                    let mut y = vec![0.5; n * n_out];
                    product(
                        kernels,
                        &pool,
                        &mut y,
                        (x, n),
                        &w,
                        packing,
                        Some(&bias),
                        post_op,
                    );
                    y.iter().map(|y| y.to_bits()).collect()
                };
                let (found, expected) = (bits(kernels), bits(twin));
                assert_eq!(
                    found, expected,
                    "[{n}, {n_out}, {n_in}] {packing:?} {post_op:?}"
                );
            }
        }
    }
}

#[test]
fn products_match_scalar_on_awkward_sizes() {
    for (i, &n_in) in AWKWARD.iter().enumerate() {
        for (j, &n_out) in [0, 1, 5, 31, 33, 64, 100, 129].iter().enumerate() {
            for (l, &n) in [0, 1, 2, 3, 4, 6, 7, 12, 13, 25].iter().enumerate() {
                // Each dtype, packing and post-op meets each size, but not each pair of sizes.
                let (dtype, post_op) = (DTYPES[(i + j + l) % 3], POST_OPS[(i + l) % 3]);
                let packing = PACKINGS[(i + j) % 2];
                check_product(n, n_out, n_in, dtype, packing, post_op, l % 2 == 0);
            }
        }
    }
}

#[test]
fn products_match_scalar_on_many_rows_and_groups_of_panels() {
    if cfg!(miri) {
        return;
    }
    for packing in PACKINGS {
        check_product(389, 200, 1282, Dtype::F16, packing, PostOp::Gelu, true);
        check_product(40, 300, 5120, Dtype::Bf16, packing, PostOp::Add, true);
        check_product(1, 5000, 384, Dtype::F32, packing, PostOp::Store, false);
    }
}

#[test]
fn every_block_of_rows_matches_scalar() {
    for packing in PACKINGS {
        for n in 1..=40 {
            check_product(n, 129, 36, Dtype::F32, packing, PostOp::Store, true);
        }
    }
}

#[test]
fn a_row_of_a_product_is_the_same_bits_alone_and_among_others_and_on_any_threads() {
    let (n, n_out, n_in) = if cfg!(miri) {
        (14, 40, 6)
    } else {
        (61, 200, 1540)
    };
    let mut random = Random(7);
    let x = random.vec(n * n_in);
    let w = random.matrix(n_out, n_in, Dtype::F16);
    let bias = random.vec(n_out);
    for kernels in all_sets() {
        for packing in PACKINGS {
            let bits = |threads: usize, first: usize, n: usize| -> Vec<u32> {
                let mut y = vec![0.0; n * n_out];
                let rows = Rows {
                    data: &x[first * n_in..],
                    stride: n_in,
                };
                let pool = Pool::new(threads);
                product(
                    kernels,
                    &pool,
                    &mut y,
                    (rows, n),
                    &w,
                    packing,
                    Some(&bias),
                    PostOp::Gelu,
                );
                y.iter().map(|y| y.to_bits()).collect()
            };
            let all = bits(1, 0, n);
            for threads in [2, 3, 8] {
                assert_eq!(all, bits(threads, 0, n), "{threads} threads");
            }
            for group in [1, 2, 3, 5, 7, 12, 13] {
                for first in (0..n).step_by(group) {
                    let n = group.min(n - first);
                    let expected = &all[first * n_out..][..n * n_out];
                    assert_eq!(
                        expected,
                        bits(2, first, n),
                        "{packing:?}: {n} rows from {first}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_product_over_no_inputs_is_the_bias_whatever_was_computed_before() {
    let (n, n_out) = (37, 70);
    let mut random = Random(29);
    let bias = random.vec(n_out);
    // One thread, so that it uses its own scratch memory again.
    let pool = Pool::new(1);
    for kernels in all_sets() {
        for packing in PACKINGS {
            for n_in in [64, 0] {
                let x = random.vec(n * n_in);
                let rows = Rows {
                    data: &x,
                    stride: n_in,
                };
                let w = random.matrix(n_out, n_in, Dtype::F32);
                let (mut y, store) = (vec![0.0; n * n_out], PostOp::Store);
                product(
                    kernels,
                    &pool,
                    &mut y,
                    (rows, n),
                    &w,
                    packing,
                    Some(&bias),
                    store,
                );
                let is_bias = y.chunks(n_out).all(|row| row == bias);
                assert_eq!(is_bias, n_in == 0, "{}: {packing:?}", kernels.isa());
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_leaves_the_others_alone() {
    let (n, n_out, n_in) = (37, 70, 70);
    let mut random = Random(23);
    let x = random.vec(n * n_in);
    let w = random.matrix(n_out, n_in, Dtype::F16);
    let pool = Pool::new(2);
    for kernels in all_sets() {
        for packing in PACKINGS {
            let bits = |data: &[f32]| -> Vec<u32> {
                let mut y = vec![0.0; n * n_out];
                let stride = n_in;
                let rows = (Rows { data, stride }, n);
                let store = PostOp::Store;
                product(kernels, &pool, &mut y, rows, &w, packing, None, store);
                y.iter().map(|y| y.to_bits()).collect()
            };
            let expected = bits(&x);
            for (bad, value) in [(0, f32::NAN), (16, f32::INFINITY), (36, f32::NAN)] {
                let mut x = x.clone();
                x[bad * n_in..][..n_in].fill(value);
                let found = bits(&x);
                for row in (0..n).filter(|&row| row != bad) {
                    let of = |bits: &[u32]| bits[row * n_out..][..n_out].to_vec();
                    assert_eq!(of(&found), of(&expected), "{packing:?} {bad} {row}");
                }
            }
        }
    }
}

#[test]
fn a_product_into_bf16_is_the_f32_one_rounded_and_goes_on_as_rows() {
    let (n, n_out, n_in) = (14, 70, 34);
    let mut random = Random(3);
    let x = random.vec(n * n_in);
    let x = Rows {
        data: &x,
        stride: n_in,
    };
    let w = random.matrix(n_out, n_in, Dtype::F32);
    let pool = Pool::new(2);
    for kernels in all_sets() {
        for packing in PACKINGS {
            let mut expected = vec![0.0; n * n_out];
            product(
                kernels,
                &pool,
                &mut expected,
                (x, n),
                &w,
                packing,
                None,
                PostOp::Gelu,
            );
            let packed = kernels.pack_weights(&pool, &w, packing);
            let mut rows = PackedActivations::new(packing, 0, 0);
            kernels.pack_rows(&pool, &mut rows, Source::F32(x), (n, n_in), None);
            // Two rows further down, as the padding of a convolution requires.
            let mut y = PackedActivations::new(Packing::Bf16, n + 4, n_out);
            kernels.linear_packed(
                &pool,
                Output::Bf16(&mut y, 2),
                rows.rows(),
                n,
                &packed,
                None,
                PostOp::Gelu,
            );
            let found: Vec<f32> = y
                .bits()
                .iter()
                .map(|&bits| half::bf16::from_bits(bits).to_f32())
                .collect();
            assert!(found[..2 * n_out].iter().all(|&x| x == 0.0));
            assert!(found[(n + 2) * n_out..].iter().all(|&x| x == 0.0));
            let rounded: Vec<f32> = expected
                .iter()
                .map(|&y| half::bf16::from_f32(y).to_f32())
                .collect();
            assert_eq!(found[2 * n_out..(n + 2) * n_out], rounded);
            // Packed again as int8, the rows are those packed from f32.
            let mut again = PackedActivations::new(Packing::Int8, 0, 0);
            kernels.pack_rows(&pool, &mut again, Source::Bf16(&y), (n + 4, n_out), None);
            let mut direct = PackedActivations::new(Packing::Int8, 0, 0);
            let source = Source::F32(Rows {
                data: &found,
                stride: n_out,
            });
            kernels.pack_rows(&pool, &mut direct, source, (n + 4, n_out), None);
            assert_eq!(again.rows().groups(), direct.rows().groups());
        }
    }
}

#[test]
fn rows_that_overlap_multiply_as_a_convolution() {
    let (n_frames, n_mels, n_out) = (21, 10, 33);
    let mut random = Random(5);
    let frames = random.vec(n_frames * n_mels);
    let w = random.matrix(n_out, 3 * n_mels, Dtype::F16);
    let pool = Pool::new(2);
    for kernels in all_sets() {
        for step in [1, 2] {
            let n = (n_frames - 3) / step + 1;
            let mut want = vec![0.0; n * n_out];
            let x = Rows {
                data: &frames,
                stride: step * n_mels,
            };
            product(
                kernels,
                &pool,
                &mut want,
                (x, n),
                &w,
                Packing::Bf16,
                None,
                PostOp::Store,
            );
            let packed = kernels.pack_weights(&pool, &w, Packing::Bf16);
            let mut rows = PackedActivations::new(Packing::Bf16, 0, 0);
            let source = Source::F32(Rows {
                data: &frames,
                stride: n_mels,
            });
            kernels.pack_rows(&pool, &mut rows, source, (n_frames, n_mels), None);
            let mut y = vec![0.0; n * n_out];
            kernels.linear_packed(
                &pool,
                Output::F32(&mut y),
                rows.taps(3, step),
                n,
                &packed,
                None,
                PostOp::Store,
            );
            assert_eq!(y, want);
        }
    }
}

#[test]
fn a_row_of_zeros_stays_zero_and_the_largest_weight_is_exact() {
    let pool = Pool::new(1);
    let mut random = Random(1);
    let mut data = random.vec(3 * 40);
    data[..40].fill(0.0);
    let w = Matrix::new(3, 40, overhear_kernels::MatrixData::F32(data.clone()));
    for kernels in all_sets() {
        for packing in PACKINGS {
            let mut y = vec![1.0; 6];
            let mut x = vec![0.0; 80];
            x[40] = 2.0;
            let rows = Rows {
                data: &x,
                stride: 40,
            };
            product(
                kernels,
                &pool,
                &mut y,
                (rows, 2),
                &w,
                packing,
                None,
                PostOp::Store,
            );
            assert_eq!(y[..4], [0.0; 4], "{packing:?}");
        }
        let packed = kernels.pack_weights(&pool, &w, Packing::Int8);
        let mut row = vec![0.0; 40];
        packed.copy_row(1, &mut row);
        let largest = |x: &[f32]| x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        assert!((largest(&row) / largest(&data[40..80]) - 1.0).abs() < 1e-6);
    }
}

#[test]
fn a_row_of_bytes_has_all_its_steps_between_its_own_lowest_and_highest() {
    /// Half a step, and the rounding of the dequantisation.
    const HALF: f32 = 0.5 + 1e-3;
    let (pool, n) = (Pool::new(1), 64);
    let one = |i: usize| {
        if i / n == i % n { 1.0 } else { 0.0 }
    };
    let identity = Matrix::new(
        n,
        n,
        overhear_kernels::MatrixData::F32((0..n * n).map(one).collect()),
    );
    let mut random = Random(5);
    // Rows as GELU leaves them, the same below zero, about zero, and away from it.
    for (lowest, highest) in [(-0.17, 6.0), (-6.0, 0.17), (-3.0, 3.0), (5.0, 6.0)] {
        let middle = 0.5 * (lowest + highest);
        let mut x = random.vec(n);
        x.iter_mut()
            .for_each(|x| *x = (middle + *x).clamp(lowest, highest));
        (x[0], x[1]) = (lowest, highest);
        let step = (highest.max(0.0) - lowest.min(0.0)) / 253.0;
        for kernels in all_sets() {
            let mut y = vec![0.0; n];
            let rows = Rows {
                data: &x,
                stride: n,
            };
            product(
                kernels,
                &pool,
                &mut y,
                (rows, 1),
                &identity,
                Packing::Int8,
                None,
                PostOp::Store,
            );
            for (y, x) in y.iter().zip(&x) {
                assert!(
                    (y - x).abs() <= HALF * step,
                    "{}: {y}, not {x}",
                    kernels.isa()
                );
            }
        }
    }
}
