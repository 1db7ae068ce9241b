//! The arithmetic that the network runs in.

/// Arithmetic that the network runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComputeType {
    /// The fastest type whose words are f32's nearly everywhere (PERFORMANCE.md, *What rounding costs*):
    /// [`ComputeType::Bf16`] where the machine computes it natively, else [`ComputeType::F16`], or [`ComputeType::F32`] on
    /// a machine without vectors, where halves are converted slowly.
    #[default]
    Auto,
    /// Single precision: the exact one.
    F32,
    /// All arithmetic in f32; weights, and the keys and values of cross-attention, rounded to IEEE halves where they
    /// are kept, so that half as many bytes are read. What is beyond their range becomes their largest.
    F16,
    /// Products of bfloat16, rounded from whatever the checkpoint holds; sums, normalisation and softmax in f32.
    /// Emulated, slowly, where the machine has no instructions for it.
    Bf16,
    /// The linear layers in bytes: weights quantised at load with a scale per output, activations on the fly with a
    /// scale and a middle per row; convolutions and attention as [`ComputeType::Bf16`].
    Int8,
    /// The decoder's weights in bytes with scales per output and per input, multiplied by activations in f32; the keys and
    /// values of cross-attention as [`ComputeType::F16`], all else as [`ComputeType::F32`].
    Int8Float32,
    /// The same, with the encoder and cross-attention as [`ComputeType::Bf16`]. Other activations of the decoder are f32.
    Int8Bfloat16,
}

impl ComputeType {
    /// Every type, as listed to users.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Int8,
        Self::Int8Float32,
        Self::Int8Bfloat16,
    ];

    /// The name on the command line: `auto`, `f32`, `f16`, `bf16`, `int8`, and CTranslate2's `int8_float32` and
    /// `int8_bfloat16`.
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
        }
    }
}
