//! Attention.

mod bf16;
mod bf16_amx;
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

pub use kv::{PackedKv, QuantizedKv};
pub use shape::AttentionShape;
