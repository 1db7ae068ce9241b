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

/// Returns the compute type that `asked` means on this machine for a model whose decoder's matrices are `in_file`, if they have
/// one type.
///
/// # Errors
/// [`Error::Option`] if the model does not fit the compute type.
pub(super) fn resolve(
    asked: ComputeType,
    kernels: &Kernels,
    dims: &ModelDimensions,
    in_file: Option<&str>,
) -> Result<ComputeType> {
    // Products of bfloat16 take two elements at a time from the rows of convolutions and heads.
    let is_even = [
        dims.n_mels,
        dims.n_audio_state / dims.n_audio_head,
        dims.n_text_state / dims.n_text_head,
    ]
    .iter()
    .all(|n| n.is_multiple_of(2));
    if asked == ComputeType::Auto
        && is_even
        && let Some(kept) = in_file.and_then(|in_file| kept(in_file, kernels))
    {
        return Ok(kept);
    }
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

/// Returns the compute type whose decoder keeps weights that are quantised so in the file, if there is a kernel for it.
fn kept(in_file: &str, kernels: &Kernels) -> Option<ComputeType> {
    match in_file {
        "Q5_0" if kernels.has_grouped() => Some(ComputeType::Q5),
        "Q4_0" if kernels.has_grouped() => Some(ComputeType::Q4),
        "I8" if kernels.is_native(Packing::Int8) => Some(ComputeType::Int8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EVEN: ModelDimensions = ModelDimensions {
        n_mels: 80,
        n_audio_ctx: 1500,
        n_audio_state: 512,
        n_audio_head: 8,
        n_audio_layer: 6,
        n_vocab: 51865,
        n_text_ctx: 448,
        n_text_state: 512,
        n_text_head: 8,
        n_text_layer: 6,
    };

    #[test]
    fn auto_keeps_quantised_weights_where_there_is_a_kernel() {
        let odd = ModelDimensions { n_mels: 81, ..EVEN };
        for kernels in Isa::ALL.iter().filter_map(|&isa| Kernels::new(isa)) {
            let resolve = |asked, dims, in_file| resolve(asked, &kernels, dims, in_file).unwrap();
            let auto = |dims, in_file| resolve(ComputeType::Auto, dims, in_file);
            let usual = auto(&EVEN, None);
            assert!([ComputeType::Bf16, ComputeType::F16, ComputeType::F32].contains(&usual));
            for (in_file, kept, has_kernel) in [
                ("Q5_0", ComputeType::Q5, kernels.has_grouped()),
                ("Q4_0", ComputeType::Q4, kernels.has_grouped()),
                ("I8", ComputeType::Int8, kernels.is_native(Packing::Int8)),
                ("Q8_0", usual, true),
                ("Q5_1", usual, true),
                ("F16", usual, true),
            ] {
                let expected = if has_kernel { kept } else { usual };
                let (found, isa) = (auto(&EVEN, Some(in_file)), kernels.isa());
                assert_eq!(found, expected, "{in_file}, {isa:?}");
                let of_odd = auto(&odd, Some(in_file));
                assert!(
                    [ComputeType::F16, ComputeType::F32].contains(&of_odd),
                    "{in_file}"
                );
                // What is asked for is what is done.
                let asked = ComputeType::Bf16;
                assert_eq!(resolve(asked, &EVEN, Some(in_file)), asked);
            }
        }
    }
}
