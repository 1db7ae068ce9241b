//! Keys and values of attention, packed.

pub(super) mod bf16;
mod f16;
pub(super) mod int8;

pub use bf16::PackedKv;
pub use int8::QuantizedKv;
