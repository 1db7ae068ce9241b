//! Attention: `softmax(q * k^T / sqrt(head_dim)) * v`, per head.
//!
//! | kernel | keys and values | files | algorithm |
//! |---|---|---|---|
//! | [`Kernels::attention`](crate::Kernels::attention), [`attention_f16`](crate::Kernels::attention_f16) | f32 rows, f16 heads | `f32`, `f32_decode`, `f32_prefill`, `softmax` | flash attention (online softmax) |
//! | [`causal_attention`](crate::Kernels::causal_attention) | f32 or f16 rows of several sequences | `causal`, and as above | as above |
//! | [`attention_bf16`](crate::Kernels::attention_bf16) | [`PackedKv`] | `bf16` (registers), `bf16_amx` (tiles) | blocked: all scores of a block of queries; on tiles blocks of keys |
//! | [`attention_int8`](crate::Kernels::attention_int8) | [`QuantizedKv`] | `int8` | blocked: all scores of a block of queries |
//! | [`attention_probabilities`](crate::Kernels::attention_probabilities) | f32 rows | `probabilities` | the softmax itself, stored |
//!
//! `kv` has the packed formats of keys and values. *Numerators* are the exponentials of a softmax before the division
//! by their sum.

mod bf16;
mod bf16_amx;
mod causal;
mod dots;
mod f32;
mod f32_decode;
mod f32_prefill;
mod heads;
mod int8;
mod kv;
mod probabilities;
mod product;
mod queries;
mod shape;
mod softmax;

pub use causal::{KvRows, Sequence};
pub use kv::{PackedKv, QuantizedKv};
pub use shape::AttentionShape;
