//! Compute types: the arithmetic of the network.

/// Arithmetic of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComputeType {
    /// For a model whose decoder's matrices are all quantised as ggml's q5_0 or q4_0 or as CTranslate2's int8, the type that keeps
    /// them ([`ComputeType::Q5`], [`ComputeType::Q4`], [`ComputeType::Int8`]), if the machine has instructions for it. For any
    /// other, the fastest type with nearly the same text as f32 (PERFORMANCE.md, *What rounding costs*):
    /// [`ComputeType::Bf16`] if the machine has instructions for it, else [`ComputeType::F16`], or [`ComputeType::F32`] on a
    /// machine without vector instructions, where the conversion of f16 is slow.
    #[default]
    Auto,
    /// Single precision: the most exact type.
    F32,
    /// Arithmetic in f32; weights and cross-attention keys and values are stored as f16, so that half as many bytes are
    /// read. Values beyond the range of f16 are clamped to it.
    F16,
    /// Products in bf16; sums, layer normalisation and softmax in f32. Emulated, slowly, if the machine has no
    /// instructions for it.
    Bf16,
    /// Linear layers in int8: weights quantised when the model is opened, with a scale per output; activations
    /// quantised dynamically, with a scale and a zero point per row. Convolutions and attention as
    /// [`ComputeType::Bf16`].
    Int8,
    /// Decoder weights in int8 with scales per output and per input, multiplied with f32 activations; cross-attention
    /// keys and values as [`ComputeType::F16`], everything else as [`ComputeType::F32`].
    Int8Float32,
    /// [`ComputeType::Int8Float32`], but with encoder and cross-attention as [`ComputeType::Bf16`].
    Int8Bfloat16,
    /// Decoder weights in 5 bits with a scale per 32 inputs, as ggml's q5_0, multiplied with activations in groups of 8
    /// bits; encoder and cross-attention as [`ComputeType::Int8`]. Weights of a q5_0 file keep their numbers; any others are
    /// quantised when the model is opened, by inputs sorted by size where that is better, so that the two may differ.
    Q5,
    /// As [`ComputeType::Q5`] with 4 bits, ggml's q4_0.
    Q4,
}

impl ComputeType {
    /// All types, as listed to users.
    pub const ALL: [Self; 9] = [
        Self::Auto,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Int8,
        Self::Int8Float32,
        Self::Int8Bfloat16,
        Self::Q5,
        Self::Q4,
    ];

    /// Returns the name on the command line: `auto`, `f32`, `f16`, `bf16`, `int8`, CTranslate2's `int8_float32` and
    /// `int8_bfloat16`, `q5` and `q4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ComputeType::Auto => "auto",
            ComputeType::F32 => "f32",
            ComputeType::F16 => "f16",
            ComputeType::Bf16 => "bf16",
            ComputeType::Int8 => "int8",
            ComputeType::Int8Float32 => "int8_float32",
            ComputeType::Int8Bfloat16 => "int8_bfloat16",
            ComputeType::Q5 => "q5",
            ComputeType::Q4 => "q4",
        }
    }
}
