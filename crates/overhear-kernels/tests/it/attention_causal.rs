//! Causal attention of several sequences, against the kernel of one and the reference.

use half::f16;

use super::{ATTENTION_ERROR, Random, all_sets};
use overhear_kernels::{AttentionShape, Isa, Kernels, KvRows, Pool, Rows, Sequence, reference};

fn rows(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, stride }
}

#[test]
fn sequences_of_causal_attention_are_the_same_bits_alone_and_match_the_reference() {
    let (n_head, head_dim) = (2, 20);
    let width = n_head * head_dim;
    // Queries and keys of each sequence.
    let sizes = [
        (1, 1),
        (1, 300),
        (5, 5),
        (8, 270),
        (9, 30),
        (1, 2),
        (40, 300),
    ];
    let sizes = &sizes[..if cfg!(miri) { 4 } else { sizes.len() }];
    let n: usize = sizes.iter().map(|(n_query, _)| n_query).sum();
    let mut random = Random(1);
    let q = random.vec(n * 3 * width);
    let kv: Vec<_> = sizes
        .iter()
        .map(|(_, n_key)| random.vec(n_key * 2 * width))
        .collect();
    let halves: Vec<Vec<f16>> = kv
        .iter()
        .map(|kv| kv.iter().map(|&element| f16::from_f32(element)).collect())
        .collect();
    let firsts: Vec<usize> = (0..sizes.len())
        .map(|i| sizes[..i].iter().map(|(n_query, _)| n_query).sum())
        .collect();
    let q = rows(&q, 3 * width);
    for kernels in all_sets() {
        for is_half in [false, true] {
            let sequence = |i: usize| Sequence {
                first_query: firsts[i],
                n_query: sizes[i].0,
                n_key: sizes[i].1,
                kv: match is_half {
                    true => KvRows::F16(&halves[i]),
                    false => KvRows::F32(&kv[i]),
                },
            };
            let mut together = vec![0.0; n * width];
            kernels.causal_attention(
                &Pool::new(2),
                &mut together,
                q,
                (n_head, head_dim),
                sizes.len(),
                &sequence,
            );
            for (i, &(n_query, n_key)) in sizes.iter().enumerate() {
                let data = &q.data[firsts[i] * q.stride..];
                let shape = AttentionShape {
                    n_head,
                    head_dim,
                    n_query,
                    n_key,
                    causal: true,
                    block: 0,
                };
                let kv: Vec<f32> = match is_half {
                    true => halves[i].iter().map(|half| half.to_f32()).collect(),
                    false => kv[i].clone(),
                };
                let [k, v] = [rows(&kv, 2 * width), rows(&kv[width..], 2 * width)];
                let mut alone = vec![0.0; n_query * width];
                let q = rows(data, q.stride);
                kernels.attention(&Pool::new(1), &mut alone, q, k, v, &shape);
                let together = &together[firsts[i] * width..][..n_query * width];
                assert_eq!(together, alone, "{}: sequence {i}", kernels.isa());
                let mut want = vec![0.0; n_query * width];
                reference::attention(&mut want, q, k, v, &shape);
                for (got, want) in together.iter().zip(&want) {
                    assert!(
                        (got - want).abs() <= ATTENTION_ERROR,
                        "{}: sequence {i}",
                        kernels.isa()
                    );
                }
                // Each query alone.
                if n_query <= Kernels::MAX_DECODE_QUERIES {
                    for query in 0..n_query {
                        let shape = AttentionShape {
                            n_query: 1,
                            n_key: n_key - n_query + query + 1,
                            ..shape
                        };
                        let q = rows(&q.data[query * q.stride..], q.stride);
                        let mut one = vec![0.0; width];
                        kernels.attention(&Pool::new(1), &mut one, q, k, v, &shape);
                        // The reference sums in another order.
                        if kernels.isa() != Isa::Scalar {
                            assert_eq!(one, together[query * width..][..width]);
                        }
                    }
                }
            }
        }
    }
}
