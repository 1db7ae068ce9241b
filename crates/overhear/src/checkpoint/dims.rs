//! Dimensions of a Whisper model.

/// Dimensions of a model: `whisper/model.py::ModelDimensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelDimensions {
    /// Number of mel bins: 80 or 128.
    pub n_mels: usize,
    /// Number of encoder positions: 1500.
    pub n_audio_ctx: usize,
    /// Width of the encoder.
    pub n_audio_state: usize,
    /// Number of attention heads of the encoder.
    pub n_audio_head: usize,
    /// Number of encoder layers.
    pub n_audio_layer: usize,
    /// Number of tokens, without padding of the vocabulary to a round size.
    pub n_vocab: usize,
    /// Number of decoder positions: 448.
    pub n_text_ctx: usize,
    /// Width of the decoder.
    pub n_text_state: usize,
    /// Number of attention heads of the decoder.
    pub n_text_head: usize,
    /// Number of decoder layers.
    pub n_text_layer: usize,
}
