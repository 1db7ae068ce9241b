//! Attention over int8 keys and values against the oracle.

use super::{Random, all_sets};
use overhear_kernels::{
    Isa, Kernels, PackedActivations, Packing, Pool, QuantizedKv, Rows, Source, reference,
};

/// Tolerance against the oracle over the same bytes, of values of order 1: 2^-15 of a score of up to 20, and 1e-4 of
/// a probability.
const TOLERANCE: f32 = 1e-3;
/// Further tolerance per key: half a step of its numerator, if all err to one side.
const OF_EACH_KEY: f32 = 0.5 / 32512.0;

/// Quantises keys and values, `[n_key, width]` each, as they come out of a product.
fn pack(
    kernels: Kernels,
    pool: &Pool,
    [k, v]: [&[f32]; 2],
    (n_head, head_dim, n_key): (usize, usize, usize),
) -> QuantizedKv {
    let mut packed = QuantizedKv::new(n_head, head_dim, n_key);
    pack_into(kernels, pool, &mut packed, [k, v]);
    packed
}

fn pack_into(kernels: Kernels, pool: &Pool, to: &mut QuantizedKv, [k, v]: [&[f32]; 2]) {
    let (width, n_key) = (to.n_head() * to.head_dim(), to.n_key());
    let [k, v] = [k, v].map(|data| {
        let mut rows = PackedActivations::new(Packing::Bf16, 0, 0);
        let from = Source::F32(Rows {
            data,
            stride: width,
        });
        kernels.pack_rows(pool, &mut rows, from, (n_key, width), None);
        rows
    });
    kernels.quantize_kv(pool, to, k.rows(), v.rows());
}

/// Compares one shape on every set: close to the oracle, and the same bits on all.
fn check(n_head: usize, head_dim: usize, n_query: usize, n_key: usize) {
    let mut random = Random((n_query * 131 + n_key) as u64);
    let width = n_head * head_dim;
    let pool = Pool::new(2);
    let mut q = random.vec(n_query * width);
    // Scores of order 10 make a sharp softmax.
    q.iter_mut().for_each(|q| *q *= 3.0);
    let [mut k, v] = [(); 2].map(|()| random.vec(n_key * width));
    // Elements that are large in every row.
    for k in k.chunks_exact_mut(width) {
        k[width / 2] += 40.0;
    }
    let tolerance = TOLERANCE + OF_EACH_KEY * n_key as f32;
    let mut first: Option<Vec<f32>> = None;
    for kernels in all_sets() {
        let packed = pack(kernels, &pool, [&k, &v], (n_head, head_dim, n_key));
        let mut want = vec![0.0; n_query * width];
        let rows = Rows {
            data: &q[..],
            stride: width,
        };
        reference::attention_int8(&mut want, rows, &packed);
        let mut found = vec![f32::NAN; n_query * width];
        kernels.attention_int8(&pool, &mut found, &q, &packed);
        for (i, (found, want)) in found.iter().zip(&want).enumerate() {
            assert!(
                (found - want).abs() <= tolerance * want.abs().max(1.0),
                "{}: {n_query} queries, {n_key} keys, {n_head} heads of {head_dim}, {i}: {found}, not {want}",
                kernels.isa()
            );
        }
        let first = first.get_or_insert_with(|| found.clone());
        assert_eq!(*first, found, "{}: other bits", kernels.isa());
    }
}

#[test]
fn attention_to_bytes_matches_scalar_on_awkward_sizes() {
    for n_key in [1, 2, 31, 32, 33, 65, 300] {
        for n_query in [1, 2, 3, 5, 6, 7, 8, 13, 16, 17, 33] {
            check(3, 64, n_query, n_key);
        }
    }
    for head_dim in [2, 6, 16, 32, 34, 80, 128, 256] {
        check(2, head_dim, 7, 45);
    }
}

#[test]
fn attention_to_bytes_matches_scalar_on_whispers_shape() {
    check(6, 64, 1, 1500);
    check(1, 64, 40, 1500);
}

#[test]
fn a_query_of_bytes_is_the_same_bits_alone_and_among_others_and_on_any_threads() {
    let (n_head, head_dim, n_key) = (3, 64, 130);
    let width = n_head * head_dim;
    let mut random = Random(3);
    let q = random.vec(20 * width);
    let [k, v] = [(); 2].map(|()| random.vec(n_key * width));
    for kernels in all_sets() {
        let shape = (n_head, head_dim, n_key);
        let packed = pack(kernels, &Pool::new(3), [&k, &v], shape);
        let mut together = vec![0.0; q.len()];
        kernels.attention_int8(&Pool::new(3), &mut together, &q, &packed);
        for (q, together) in q.chunks(width).zip(together.chunks(width)) {
            let mut alone = vec![0.0; width];
            kernels.attention_int8(&Pool::new(1), &mut alone, q, &packed);
            assert_eq!(alone, together, "{}", kernels.isa());
        }
    }
}

#[test]
fn bytes_are_within_half_a_step_of_their_elements_range() {
    let pool = Pool::new(2);
    for shape in [(2, 64, 100), (1, 34, 1), (3, 6, 67), (1, 256, 64)] {
        let (n_head, head_dim, n_key) = shape;
        let width = n_head * head_dim;
        let mut random = Random(9);
        let mut both = [(); 2].map(|()| random.vec(n_key * width));
        for x in both.iter_mut().flat_map(|x| x.chunks_exact_mut(width)) {
            x.iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x = *x * (1 + i) as f32 + 3.0 * i as f32);
            // An element that is the same in all rows is exact.
            x[1] = -7.5;
        }
        let both = both.map(|x| {
            let rounded = x.iter().map(|&x| half::bf16::from_f32(x).to_f32());
            rounded.collect::<Vec<_>>()
        });
        for kernels in all_sets() {
            // Previous contents must be forgotten.
            let ones = vec![1.0; n_key * width];
            let mut packed = pack(kernels, &pool, [&ones, &ones], shape);
            pack_into(kernels, &pool, &mut packed, [&both[0], &both[1]]);
            let mut found = vec![0.0; n_key * head_dim];
            for head in 0..n_head {
                for (of_values, x) in both.iter().enumerate() {
                    match of_values {
                        0 => packed.copy_keys(head, &mut found),
                        _ => packed.copy_values(head, &mut found),
                    }
                    for element in 0..head_dim {
                        let column = |row: usize| x[row * width + head * head_dim + element];
                        let (low, high) = (0..n_key)
                            .map(column)
                            .fold((f32::MAX, f32::MIN), |(low, high), x| {
                                (low.min(x), high.max(x))
                            });
                        let half = (high - low) / 254.0 * 0.501;
                        for row in 0..n_key {
                            let (found, want) = (found[row * head_dim + element], column(row));
                            assert!(
                                (found - want).abs() <= half,
                                "{}: {found}, not {want}",
                                kernels.isa()
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_query_that_is_not_a_number_leaves_the_others_alone_and_zeros_take_the_mean() {
    let (n_head, head_dim, n_key) = (1, 32, 50);
    let mut random = Random(4);
    let [k, v] = [(); 2].map(|()| random.vec(n_key * head_dim));
    let mut q = random.vec(3 * head_dim);
    q[3] = f32::NAN;
    q[2 * head_dim..].fill(0.0);
    let pool = Pool::new(2);
    for kernels in all_sets() {
        let packed = pack(kernels, &pool, [&k, &v], (n_head, head_dim, n_key));
        let mut found = vec![0.0; q.len()];
        kernels.attention_int8(&pool, &mut found, &q, &packed);
        assert!(found[..head_dim].iter().all(|x| x.is_nan()));
        assert!(found[head_dim..].iter().all(|x| x.is_finite()));
        for (i, found) in found[2 * head_dim..].iter().enumerate() {
            let mean: f32 = v.iter().skip(i).step_by(head_dim).sum::<f32>() / n_key as f32;
            assert!((found - mean).abs() < 0.01, "{}", kernels.isa());
        }
    }
}

#[test]
#[should_panic(expected = "q or out is not rows of 12")]
fn queries_of_another_width_are_refused() {
    let packed = QuantizedKv::new(3, 4, 5);
    Kernels::new(Isa::Scalar).unwrap().attention_int8(
        &Pool::new(1),
        &mut [0.0; 13],
        &[0.0; 13],
        &packed,
    );
}

#[test]
fn scores_of_any_size_take_the_value_of_the_likeliest_key() {
    let (n_head, head_dim, n_key) = (1, 64, 200);
    let pool = Pool::new(1);
    let mut random = Random(17);
    let [q, mut k, v] = [1, n_key, n_key].map(|n| random.vec(n * head_dim));
    k.iter_mut().for_each(|k| *k *= 1e20);
    for kernels in all_sets() {
        let packed = pack(kernels, &pool, [&k, &v], (n_head, head_dim, n_key));
        let mut want = vec![0.0; head_dim];
        let rows = Rows {
            data: &q[..],
            stride: head_dim,
        };
        reference::attention_int8(&mut want, rows, &packed);
        let mut found = vec![f32::NAN; head_dim];
        kernels.attention_int8(&pool, &mut found, &q, &packed);
        for (found, want) in found.iter().zip(want) {
            assert!((found - want).abs() < TOLERANCE, "{}", kernels.isa());
        }
    }
}
