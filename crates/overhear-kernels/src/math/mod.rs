//! Elementary functions: exponential, 2^x and GELU on vectors, rounding and quantisation.
//!
//! Coefficients are minimax fits of our own (iterated least squares on Chebyshev points).

mod convert;
mod exp;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "only AVX-512 BF16 computes 2^x so; elsewhere the tests alone"
    )
)]
pub(crate) mod exp2_i16;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "only tiles compute 2^x so; elsewhere the tests alone"
    )
)]
pub(crate) mod exp2_lut;
mod gelu;
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "only tiles compute GELU so; elsewhere the tests alone"
    )
)]
pub(crate) mod gelu_lut;
pub(crate) mod quantize;

pub(crate) use convert::{convert_f16, round_bf16};
pub(crate) use exp::{exp, exp2};
pub(crate) use gelu::{gelu, gelu_bf16};
