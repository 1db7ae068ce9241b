//! GEMM: `y = post_op(x * w^T + bias)`, A being the activations `x`, B the weights `w`.
//!
//! Structure, after BLIS and oneDNN's BRGEMM:
//!
//! - Packing. B is packed once, at load time, in micro-panels of 32 outputs: [`pack_b`] for bf16 and int8 (K groups,
//!   as VNNI and AMX want them), [`prepack_f32`] for products in f32. A is packed once per product: [`pack_a`], with
//!   layer normalisation or quantisation on the way. [`layout`] defines both formats.
//! - Partition into tasks: [`gemm_packed`], [`gemm_f32`]. Outputs are split, never K, so results do not depend on the
//!   number of threads.
//! - Loop nest of a task: [`macrokernel`], with the blocking (`mr`, `kc_l1`, `kc`, `nc_bytes`, `mc`) that the
//!   microkernel prescribes.
//! - Weights of 4 and 5 bits, with formats and products of their own: [`grouped`].
//! - Microkernels: traits in [`microkernel`] and [`tile_kernel`] (products) and [`vector_ops`] (bf16 stores, GELU,
//!   softmax numerators), implementations in [`microkernels`], one file per instruction set.
//! - Epilogue: [`epilogue`]. A microkernel hands finished accumulators to it. AMX runs the epilogue of one panel
//!   while it multiplies the next; register kernels run it row by row. Operands read only once are loaded with the T1
//!   hint (`tileloaddt1`), so that they do not evict reused ones from L1.
//!
//! int8 is u8 x s8 with a scale and a zero point per row of A (dynamic quantisation, `crate::math::quantize`) and a
//! scale per output of B. Each microkernel has an emulated twin in plain Rust; where the machine has the
//! instructions, the tests demand the twin's bits.
//!
//! Adding a microkernel: implement [`MicroKernel`](microkernel::MicroKernel) and
//! [`VectorOps`](vector_ops::VectorOps) in a file of `microkernels/` for a proof token of `crate::arch`, and give it an
//! arm in `crate::dispatch`.

pub(crate) mod aligned;
pub(crate) mod epilogue;
mod gemm_f32;
mod gemm_f32_kernel;
mod gemm_packed;
pub(crate) mod grouped;
pub(crate) mod layout;
mod macrokernel;
pub(crate) mod microkernel;
pub(crate) mod microkernels;
pub(crate) mod pack_a;
mod pack_b;
mod panel_reader;
mod post_op;
pub(crate) mod prepack_f32;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "only AMX has tiles; elsewhere the emulated ones of the tests alone"
    )
)]
pub(crate) mod tile_kernel;
pub(crate) mod vector_ops;

pub use epilogue::Output;
pub use grouped::{GroupFormat, GroupedActivations, GroupedMatrix};
pub use layout::Packing;
pub use pack_a::{PackedActivations, PackedRows, Source};
pub use pack_b::PackedMatrix;
pub use post_op::PostOp;
pub use prepack_f32::{Storage, StoredMatrix};
