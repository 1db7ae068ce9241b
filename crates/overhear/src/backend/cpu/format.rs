//! What a compute type means on the CPU: element types of weights, keys and values.

use overhear_kernels::{
    GroupFormat, GroupedMatrix, Isa, Kernels, PackedMatrix, Packing, StoredMatrix,
};

use super::cross_kv::{CrossKv, KvFormat};
use super::stored::StoredFormat;
use super::weight::{EncoderWeight, Weight};
use crate::{ComputeType, Error, ModelDimensions, Result};

/// Element types of a network whose encoder has weights `E` and whose decoder has weights `D`.
pub(super) struct Formats<E: EncoderWeight, D: Weight> {
    /// Weights of the encoder, and of the keys and values of cross-attention.
    pub(super) encoder: E::Format,
    /// All other weights of the decoder.
    pub(super) decoder: D::Format,
    /// Keys and values of cross-attention.
    pub(super) cross_kv: <E::CrossKv as CrossKv>::Format,
    /// Keys and values of self-attention.
    pub(super) self_kv: KvFormat,
}

/// Networks by the layouts of their weights.
pub(super) enum Network {
    Stored(Formats<StoredMatrix, StoredMatrix>),
    Packed(Formats<PackedMatrix, PackedMatrix>),
    /// Packed encoder, stored decoder.
    Mixed(Formats<PackedMatrix, StoredMatrix>),
    /// Packed encoder, group-quantised decoder.
    Grouped(Formats<PackedMatrix, GroupedMatrix>),
}

impl Network {
    /// Returns the network of a compute type that is not [`ComputeType::Auto`].
    pub(super) fn of(compute_type: ComputeType) -> Self {
        let stored = |encoder, decoder, cross_kv| {
            Network::Stored(Formats {
                encoder,
                decoder,
                cross_kv,
                self_kv: cross_kv,
            })
        };
        let packed = |packing| {
            Network::Packed(Formats {
                encoder: packing,
                decoder: packing,
                cross_kv: packing,
                self_kv: KvFormat::F16,
            })
        };
        let grouped = |decoder| {
            Network::Grouped(Formats {
                encoder: Packing::Int8,
                decoder,
                cross_kv: Packing::Int8,
                self_kv: KvFormat::F16,
            })
        };
        use {KvFormat as Kv, StoredFormat as Weights};
        match compute_type {
            ComputeType::Auto | ComputeType::F32 => stored(Weights::Exact, Weights::Exact, Kv::F32),
            ComputeType::F16 => stored(Weights::F16, Weights::F16, Kv::F16),
            ComputeType::Bf16 => packed(Packing::Bf16),
            ComputeType::Int8 => packed(Packing::Int8),
            ComputeType::Int8Float32 => stored(Weights::Exact, Weights::Int8, Kv::F16),
            ComputeType::Int8Bfloat16 => Network::Mixed(Formats {
                encoder: Packing::Bf16,
                decoder: Weights::Int8,
                cross_kv: Packing::Bf16,
                self_kv: KvFormat::F16,
            }),
            ComputeType::Q5 => grouped(GroupFormat::Q5),
            ComputeType::Q4 => grouped(GroupFormat::Q4),
        }
    }
}

/// Returns the compute type that `asked` means on this machine.
///
/// # Errors
/// [`Error::Option`] if the model does not fit the compute type.
pub(super) fn resolve(
    asked: ComputeType,
    kernels: &Kernels,
    dims: &ModelDimensions,
) -> Result<ComputeType> {
    // Products of bfloat16 take two elements at a time from the rows of convolutions and heads.
    let is_even = [
        dims.n_mels,
        dims.n_audio_state / dims.n_audio_head,
        dims.n_text_state / dims.n_text_head,
    ]
    .iter()
    .all(|n| n.is_multiple_of(2));
    match asked {
        ComputeType::Auto if is_even && kernels.is_native(Packing::Bf16) => Ok(ComputeType::Bf16),
        ComputeType::Auto if kernels.isa() != Isa::Scalar => Ok(ComputeType::F16),
        ComputeType::Auto => Ok(ComputeType::F32),
        ComputeType::Bf16
        | ComputeType::Int8
        | ComputeType::Int8Bfloat16
        | ComputeType::Q5
        | ComputeType::Q4
            if !is_even =>
        {
            Err(Error::Option {
                name: "compute_type",
                reason: format!("{} needs heads and mel bins of even size", asked.name()),
            })
        }
        compute_type => Ok(compute_type),
    }
}
