//! Attention in bf16 against the oracle.

use super::{Random, all_sets};
use overhear_kernels::{
    AttentionShape, Isa, Kernels, PackedActivations, PackedKv, Packing, Pool, Rows, Source,
    reference,
};

/// Tolerance. Operands are the same bf16 on both sides; numerators are rounded to 8 bits, by at most 2^-9 each and at
/// random, and values of order 1 are averaged.
const TOLERANCE: f32 = 0.01;

/// Rows packed as bf16, and the same as f32.
fn bf16_rows(
    kernels: Kernels,
    pool: &Pool,
    x: &[f32],
    n_cols: usize,
) -> (PackedActivations, Vec<f32>) {
    let n = x.len() / n_cols;
    let mut packed = PackedActivations::new(Packing::Bf16, 0, 0);
    let source = Source::F32(Rows {
        data: x,
        stride: n_cols,
    });
    kernels.pack_rows(pool, &mut packed, source, (n, n_cols), None);
    let rounded = x
        .iter()
        .map(|&x| half::bf16::from_f32(x).to_f32())
        .collect();
    (packed, rounded)
}

fn widened(out: &mut PackedActivations) -> Vec<f32> {
    let widen = |&bits: &u16| half::bf16::from_bits(bits).to_f32();
    out.bits().iter().map(widen).collect()
}

fn check(n_head: usize, head_dim: usize, n_query: usize, n_key: usize) {
    // Scores of order 10 make a sharp softmax.
    check_scores(n_head, head_dim, n_query, n_key, |_| 3.0);
}

/// Compares one shape on every set with the oracle; key `i` is multiplied by `size(i)`.
fn check_scores(
    n_head: usize,
    head_dim: usize,
    n_query: usize,
    n_key: usize,
    size: impl Fn(usize) -> f32,
) {
    let mut random = Random((n_query * 131 + n_key) as u64);
    let width = n_head * head_dim;
    let pool = Pool::new(2);
    let q = random.vec(n_query * width);
    let mut kv = random.vec(n_key * 2 * width);
    for (key, row) in kv.chunks_exact_mut(2 * width).enumerate() {
        row[..width].iter_mut().for_each(|k| *k *= size(key));
    }
    for kernels in all_sets() {
        let (q, q_f32) = bf16_rows(kernels, &pool, &q, width);
        let (kv, kv_f32) = bf16_rows(kernels, &pool, &kv, 2 * width);
        let shape = AttentionShape {
            n_head,
            head_dim,
            n_query,
            n_key,
            causal: false,
            block: 0,
        };
        let mut want = vec![0.0; n_query * width];
        let (k, v) = (
            Rows {
                data: &kv_f32[..],
                stride: 2 * width,
            },
            Rows {
                data: &kv_f32[width..],
                stride: 2 * width,
            },
        );
        reference::attention(
            &mut want,
            Rows {
                data: &q_f32,
                stride: width,
            },
            k,
            v,
            &shape,
        );
        let mut packed = PackedKv::new(n_head, head_dim, n_key);
        kernels.pack_kv(
            &pool,
            &mut packed,
            kv.columns(0, width),
            kv.columns(width, width),
        );
        let mut keys = vec![0.0; n_key * head_dim];
        for head in 0..n_head {
            packed.copy_keys(head, &mut keys);
            for (key, row) in keys.chunks(head_dim).zip(kv_f32.chunks(2 * width)) {
                assert_eq!(key, &row[head * head_dim..][..head_dim]);
            }
        }
        let mut out = PackedActivations::new(Packing::Bf16, n_query + 1, width);
        kernels.attention_bf16(&pool, (&mut out, 1), (q.rows(), n_query), &packed);
        let found = widened(&mut out);
        assert!(found[..width].iter().all(|&x| x == 0.0));
        for (i, (found, want)) in found[width..].iter().zip(&want).enumerate() {
            assert!(
                (found - want).abs() <= TOLERANCE * want.abs().max(1.0),
                "{}: {n_query} queries, {n_key} keys, {n_head} heads of {head_dim}, {i}: {found}, not {want}",
                kernels.isa()
            );
        }
    }
}

#[test]
fn flash_attention_matches_scalar_on_awkward_sizes() {
    for n_key in [1, 2, 31, 32, 33, 65, 100] {
        for n_query in [1, 2, 3, 5, 12, 13, 16, 17, 30, 47] {
            check(3, 64, n_query, n_key);
        }
    }
    for head_dim in [2, 6, 16, 32, 34, 80, 128] {
        check(2, head_dim, 7, 45);
    }
}

#[test]
fn flash_attention_matches_scalar_at_whispers_shape() {
    if !cfg!(miri) {
        for n_query in [1, 5, 20, 70] {
            check(2, 64, n_query, 1500);
        }
    }
}

#[test]
fn scores_far_above_those_of_the_first_keys_leave_nothing_of_theirs() {
    for n_query in [1, 20] {
        // A little above, by powers of two up to 2^100, and so far above that nothing is left of the first keys.
        for step in [1.0, 8.0, 60.0, 500.0] {
            check_scores(2, 64, n_query, 200, |key| 1.0 + step * (key / 64) as f32);
        }
    }
}

#[test]
fn a_query_of_flash_attention_is_the_same_bits_alone_and_among_others_and_on_any_threads() {
    let (n_head, head_dim, n_query, n_key) = (2, 64, 27, 77);
    let width = n_head * head_dim;
    let mut random = Random(11);
    let (q, kv) = (random.vec(n_query * width), random.vec(n_key * 2 * width));
    for kernels in all_sets() {
        let bits = |threads: usize, first: usize, n: usize| -> Vec<f32> {
            let pool = Pool::new(threads);
            let (q, _) = bf16_rows(kernels, &pool, &q[first * width..][..n * width], width);
            let (kv, _) = bf16_rows(kernels, &pool, &kv, 2 * width);
            let mut packed = PackedKv::new(n_head, head_dim, n_key);
            let (k, v) = (kv.columns(0, width), kv.columns(width, width));
            kernels.pack_kv(&pool, &mut packed, k, v);
            let mut out = PackedActivations::new(Packing::Bf16, n, width);
            kernels.attention_bf16(&pool, (&mut out, 0), (q.rows(), n), &packed);
            widened(&mut out)
        };
        let all = bits(1, 0, n_query);
        for threads in [2, 3, 8] {
            assert_eq!(all, bits(threads, 0, n_query), "{threads} threads");
        }
        for group in [1, 2, 5, 12, 13] {
            for first in (0..n_query).step_by(group) {
                let n = group.min(n_query - first);
                assert_eq!(all[first * width..][..n * width], bits(2, first, n));
            }
        }
    }
}

#[test]
fn attention_by_tiles_of_the_machine_gives_the_bits_of_their_twin() {
    let Some(machine) = Kernels::new(Isa::Amx) else {
        eprintln!("left out: this machine lacks {}", Isa::Amx);
        return;
    };
    let pool = Pool::new(1);
    // Half a panel of queries and all of it; a head of no whole steps; scores that take a second run.
    for (head_dim, n_query, n_key, step) in [
        (64, 5, 333, 0.0),
        (64, 40, 600, 0.0),
        (80, 20, 45, 0.0),
        (64, 20, 300, 60.0),
    ] {
        let mut random = Random(n_key as u64);
        let q = random.vec(n_query * head_dim);
        let mut kv = random.vec(n_key * 2 * head_dim);
        for (key, row) in kv.chunks_exact_mut(2 * head_dim).enumerate() {
            let size = 1.0 + step * (key / 64) as f32;
            row[..head_dim].iter_mut().for_each(|k| *k *= size);
        }
        let bits = |kernels: Kernels| {
            let (q, _) = bf16_rows(kernels, &pool, &q, head_dim);
            let (kv, _) = bf16_rows(kernels, &pool, &kv, 2 * head_dim);
            let mut packed = PackedKv::new(1, head_dim, n_key);
            let (k, v) = (kv.columns(0, head_dim), kv.columns(head_dim, head_dim));
            kernels.pack_kv(&pool, &mut packed, k, v);
            let mut out = PackedActivations::new(Packing::Bf16, n_query, head_dim);
            kernels.attention_bf16(&pool, (&mut out, 0), (q.rows(), n_query), &packed);
            out.bits().to_vec()
        };
        assert_eq!(
            bits(machine),
            bits(Kernels::emulated_amx()),
            "{n_query} queries, {n_key} keys, a head of {head_dim}"
        );
    }
}

#[test]
fn keys_and_values_packed_again_forget_the_ones_before() {
    let (width, n_key) = (64, 33);
    let kernels = Kernels::detect();
    let pool = Pool::new(2);
    let mut random = Random(2);
    let q = random.vec(width);
    let (q, _) = bf16_rows(kernels, &pool, &q, width);
    let first = random.vec(n_key * 2 * width);
    let second = random.vec(n_key * 2 * width);
    let out = |packed: &mut PackedKv, kv: &[f32]| {
        let (kv, _) = bf16_rows(kernels, &pool, kv, 2 * width);
        let (k, v) = (kv.columns(0, width), kv.columns(width, width));
        kernels.pack_kv(&pool, packed, k, v);
        let mut out = PackedActivations::new(Packing::Bf16, 1, width);
        kernels.attention_bf16(&pool, (&mut out, 0), (q.rows(), 1), packed);
        widened(&mut out)
    };
    let mut used = PackedKv::new(1, width, n_key);
    out(&mut used, &first);
    let mut new = PackedKv::new(1, width, n_key);
    assert_eq!(out(&mut used, &second), out(&mut new, &second));
}
