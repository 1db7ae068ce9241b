//! Formats of keys and values: [`mod@f16`], [`mod@bf16`] ([`PackedKv`]), [`mod@int8`] ([`QuantizedKv`]).

pub(super) mod bf16;
mod f16;
pub(super) mod int8;

pub use bf16::PackedKv;
pub use int8::QuantizedKv;
