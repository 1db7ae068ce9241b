//! GEMM with group-quantised weights of 4 or 5 bits: `y = post_op(x * w^T + bias)`.
//!
//! Weights are quantised in groups of 32 along K with a scale each, as ggml's q4_0 and q5_0: `w = scale * (q -
//! zero_point)`. Activations are quantised per product, in the same groups, to s8 with a scale each (ggml's q8_0):
//! outliers cost accuracy in their group alone,
//! and inputs of very uneven size are sorted first. A group's dot product is exact in 32-bit integers; groups are summed
//! in f32, in one order, by fused multiply-adds. So every set has the same bits, on any number of threads.
//!
//! The format is for products of few rows, which wait for the weights to arrive from memory. Products of many rows
//! unpack a panel once per row block.
//!
//! - [`layout`]: blocks of a panel. [`weights`]: quantisation and packing at load time. [`activations`]: packed A.
//! - [`product`]: partition into tasks, epilogue. [`kernel`]: the trait of the microkernels, which are in
//!   `super::microkernels`.

pub(crate) mod activations;
pub(crate) mod kernel;
pub(crate) mod layout;
mod product;
mod weights;

pub use activations::GroupedActivations;
pub use layout::GroupFormat;
pub use weights::GroupedMatrix;
