//! Matrix products.

pub(crate) mod aligned;
pub(crate) mod epilogue;
mod gemm_f32;
mod gemm_f32_kernel;
mod gemm_packed;
pub(crate) mod layout;
mod macrokernel;
pub(crate) mod microkernel;
pub(crate) mod microkernels;
pub(crate) mod pack_a;
mod pack_b;
mod panel_reader;
mod post_op;
pub(crate) mod prepack_f32;
pub(crate) mod tile_kernel;

pub use epilogue::Output;
pub use layout::Packing;
pub use pack_a::{PackedActivations, PackedRows, Source};
pub use pack_b::PackedMatrix;
pub use post_op::PostOp;
pub use prepack_f32::{Storage, StoredMatrix};
