//! Causal self-attention of sequences of different lengths, as a decoder step has them: one parallel region for all.

use half::f16;

use super::f32_decode::{MAX_DECODE_QUERIES, decode_head};
use super::f32_prefill::prefill;
use super::heads::{Call, HeadRows};
use super::shape::{AttentionShape, MAX_HEAD_DIM};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::matrix::{Rows, assert_rows};
use crate::parallel::{Disjoint, Pool};
use crate::reference;
use crate::simd::Element;

/// Sequence of a [`Kernels::causal_attention`] call. Its last `n_query` tokens are the queries.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Index of its first query among the queries of the call.
    pub first_query: usize,
    /// Number of queries, at least one.
    pub n_query: usize,
    /// Number of tokens, the queries included.
    pub n_key: usize,
    /// Keys and values of the tokens.
    pub kv: KvRows<'a>,
}

/// Keys and values of a sequence, `[n_key, 2, n_head * head_dim]`: of each token the key, then the value.
#[derive(Clone, Copy, Debug)]
pub enum KvRows<'a> {
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE half precision, widened as it is read.
    F16(&'a [f16]),
}

impl Kernels {
    /// [`Kernels::attention`] with a causal mask, of each of the `n_sequences` sequences `sequence(i)` over its own tokens.
    /// `q`, `out`: the queries of all sequences, rows of `n_head * head_dim` elements; `out` is contiguous.
    ///
    /// The bits of a query do not depend on the other sequences, nor, in a sequence of up to
    /// [`Kernels::MAX_DECODE_QUERIES`] queries, on its other queries. If all sequences are as short, nothing is allocated.
    ///
    /// # Panics
    /// If the shapes do not fit, sequences share queries, or a head has more than 256 elements.
    pub fn causal_attention<'a>(
        &self,
        pool: &Pool,
        out: &mut [f32],
        q: Rows<'_>,
        (n_head, head_dim): (usize, usize),
        n_sequences: usize,
        sequence: &(dyn Fn(usize) -> Sequence<'a> + Sync),
    ) {
        let width = n_head * head_dim;
        assert!(
            (1..=MAX_HEAD_DIM).contains(&head_dim),
            "a head of {head_dim} elements"
        );
        assert!(
            out.len().is_multiple_of(width),
            "out is not rows of {width}"
        );
        assert_rows("q", q, out.len() / width, width);
        let mut end = 0;
        for i in 0..n_sequences {
            let Sequence {
                first_query,
                n_query,
                n_key,
                kv,
            } = sequence(i);
            let len = match kv {
                KvRows::F32(kv) => kv.len(),
                KvRows::F16(kv) => kv.len(),
            };
            assert!(
                first_query >= end && n_query > 0,
                "queries of sequence {i} are not after those before"
            );
            end = first_query + n_query;
            assert!(
                end * width <= out.len(),
                "query {end} of {}",
                out.len() / width
            );
            assert!(
                n_key >= n_query && n_key * 2 * width <= len,
                "{n_key} keys of {width} for {n_query} queries in {len} elements"
            );
        }
        let run = Run {
            q,
            out: Disjoint::new(out),
            n_head,
            head_dim,
        };
        match self.arch {
            Arch::Scalar => (0..n_sequences).for_each(|i| run.scalar(&sequence(i))),
            arch => {
                pool.run(n_sequences * n_head, &|task| {
                    let (i, head) = (task / n_head, task % n_head);
                    let sequence = sequence(i);
                    if sequence.n_query <= MAX_DECODE_QUERIES {
                        match sequence.kv {
                            KvRows::F32(kv) => decode_head(arch, &run.call(&sequence, kv), head),
                            KvRows::F16(kv) => decode_head(arch, &run.call(&sequence, kv), head),
                        }
                    }
                });
                for sequence in (0..n_sequences).map(sequence) {
                    if sequence.n_query > MAX_DECODE_QUERIES {
                        match sequence.kv {
                            KvRows::F32(kv) => prefill(arch, pool, &run.call(&sequence, kv)),
                            KvRows::F16(kv) => prefill(arch, pool, &run.call(&sequence, kv)),
                        }
                    }
                }
            }
        }
    }
}

/// Arguments that all sequences share, shapes checked.
struct Run<'a> {
    q: Rows<'a>,
    out: Disjoint<'a>,
    n_head: usize,
    head_dim: usize,
}

impl Run<'_> {
    /// Queries of a sequence.
    fn queries(&self, sequence: &Sequence<'_>) -> Rows<'_> {
        Rows {
            data: &self.q.data[sequence.first_query * self.q.stride..],
            stride: self.q.stride,
        }
    }

    fn shape(&self, sequence: &Sequence<'_>) -> AttentionShape {
        AttentionShape {
            n_head: self.n_head,
            head_dim: self.head_dim,
            n_query: sequence.n_query,
            n_key: sequence.n_key,
            causal: true,
            block: 0,
        }
    }

    /// Call of one sequence, whose keys and values are `kv`.
    fn call<'a, E: Element>(&'a self, sequence: &Sequence<'_>, kv: &'a [E]) -> Call<'a, E> {
        let width = self.n_head * self.head_dim;
        let [k, v] = [0, width].map(|at| HeadRows {
            data: &kv[at..],
            stride: 2 * width,
            head_stride: self.head_dim,
        });
        Call {
            q: HeadRows::side_by_side(self.queries(sequence), self.head_dim),
            k,
            v,
            out: self.out.skip(sequence.first_query * width),
            shape: self.shape(sequence),
            scale: 1.0 / (self.head_dim as f32).sqrt(),
        }
    }

    /// Runs the reference for one sequence.
    fn scalar(&self, sequence: &Sequence<'_>) {
        let width = self.n_head * self.head_dim;
        let widened: Vec<f32>;
        let kv = match sequence.kv {
            KvRows::F32(kv) => kv,
            KvRows::F16(kv) => {
                widened = kv.iter().map(|element| element.to_f32()).collect();
                &widened
            }
        };
        let [k, v] = [0, width].map(|at| Rows {
            data: &kv[at..],
            stride: 2 * width,
        });
        // SAFETY: sequences run one after the other here.
        let out = unsafe {
            self.out
                .take(sequence.first_query * width, sequence.n_query * width)
        };
        reference::attention(out, self.queries(sequence), k, v, &self.shape(sequence));
    }
}
