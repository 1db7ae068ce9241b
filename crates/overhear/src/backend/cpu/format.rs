//! What a compute type means on the CPU: how weights and the keys and values of cross-attention are kept.

use overhear_kernels::{Dtype, Isa, Kernels, Packing, Storage};

use crate::{ComputeType, Error, ModelDimensions, Result};

/// Formats of a compute type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Weights of the encoder, and those that make keys and values of its output.
    pub(super) encoder: WeightFormat,
    /// All others of the decoder.
    pub(super) decoder: WeightFormat,
    pub(super) cross: CrossFormat,
}

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WeightFormat {
    /// As in the checkpoint.
    Exact,
    /// In f16, widened to f32 as they are multiplied.
    F16,
    /// In bytes, likewise.
    Int8,
    /// Packed, multiplied by activations that are packed alike.
    Packed(Packing),
}

/// How the keys and values of cross-attention are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrossFormat {
    F32,
    F16,
    /// Packed bfloat16.
    Bf16,
    Int8,
}

impl CrossFormat {
    /// Bytes of an element.
    pub(super) fn element_size(self) -> usize {
        match self {
            CrossFormat::F32 => 4,
            CrossFormat::F16 | CrossFormat::Bf16 => 2,
            CrossFormat::Int8 => 1,
        }
    }
}

impl Format {
    pub(super) const F32: Self = Self {
        encoder: WeightFormat::Exact,
        decoder: WeightFormat::Exact,
        cross: CrossFormat::F32,
    };
    pub(super) const F16: Self = Self {
        encoder: WeightFormat::F16,
        decoder: WeightFormat::F16,
        cross: CrossFormat::F16,
    };
    pub(super) const BF16: Self = Self {
        encoder: WeightFormat::Packed(Packing::Bf16),
        decoder: WeightFormat::Packed(Packing::Bf16),
        cross: CrossFormat::Bf16,
    };
    pub(super) const INT8: Self = Self {
        encoder: WeightFormat::Packed(Packing::Int8),
        decoder: WeightFormat::Packed(Packing::Int8),
        cross: CrossFormat::Int8,
    };
    pub(super) const INT8_FLOAT32: Self = Self {
        encoder: WeightFormat::Exact,
        decoder: WeightFormat::Int8,
        cross: CrossFormat::F16,
    };
    pub(super) const INT8_BFLOAT16: Self = Self {
        decoder: WeightFormat::Int8,
        ..Self::BF16
    };

    /// How the encoder's activations are packed, if they are.
    pub(super) fn encoder_packing(self) -> Option<Packing> {
        self.encoder.packing()
    }

    /// How the decoder's activations are packed, if any are: those of cross-attention at least.
    pub(super) fn decoder_packing(self) -> Option<Packing> {
        let of_cross = (self.cross == CrossFormat::Bf16).then_some(Packing::Bf16);
        self.decoder.packing().or(of_cross)
    }
}

impl WeightFormat {
    /// What weights of `dtype` are stored as, or how they are packed.
    pub(super) fn keep(self, dtype: Dtype) -> std::result::Result<Storage, Packing> {
        match self {
            WeightFormat::Exact => Ok(Storage::Float(dtype)),
            WeightFormat::F16 => Ok(Storage::Float(Dtype::F16)),
            WeightFormat::Int8 => Ok(Storage::Int8),
            WeightFormat::Packed(packing) => Err(packing),
        }
    }

    fn packing(self) -> Option<Packing> {
        self.keep(Dtype::F32).err()
    }
}

/// Returns the compute type that `asked` means on this machine, and its formats.
///
/// # Errors
/// [`Error::Option`] if the model does not fit the compute type.
pub(super) fn resolve(
    asked: ComputeType,
    kernels: &Kernels,
    dims: &ModelDimensions,
) -> Result<(ComputeType, Format)> {
    // Products of bfloat16 take two elements at a time from the rows of convolutions and heads.
    let is_even = [
        dims.n_mels,
        dims.n_audio_state / dims.n_audio_head,
        dims.n_text_state / dims.n_text_head,
    ]
    .iter()
    .all(|n| n.is_multiple_of(2));
    let compute_type = match asked {
        ComputeType::Auto if is_even && kernels.is_native(Packing::Bf16) => ComputeType::Bf16,
        ComputeType::Auto if kernels.isa() != Isa::Scalar => ComputeType::F16,
        ComputeType::Auto => ComputeType::F32,
        ComputeType::Bf16 | ComputeType::Int8 | ComputeType::Int8Bfloat16 if !is_even => {
            return Err(Error::Option {
                name: "compute_type",
                reason: format!("{} needs heads and mel bins of even size", asked.name()),
            });
        }
        compute_type => compute_type,
    };
    let format = match compute_type {
        ComputeType::Auto | ComputeType::F32 => Format::F32,
        ComputeType::F16 => Format::F16,
        ComputeType::Bf16 => Format::BF16,
        ComputeType::Int8 => Format::INT8,
        ComputeType::Int8Float32 => Format::INT8_FLOAT32,
        ComputeType::Int8Bfloat16 => Format::INT8_BFLOAT16,
    };
    Ok((compute_type, format))
}
