//! The numbers that describe a Whisper model.

/// `whisper/model.py::ModelDimensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelDimensions {
    /// Mel bins: 80 or 128.
    pub n_mels: usize,
    /// Encoder positions: 1500.
    pub n_audio_ctx: usize,
    /// Width of the encoder.
    pub n_audio_state: usize,
    /// Heads of the encoder.
    pub n_audio_head: usize,
    /// Encoder layers.
    pub n_audio_layer: usize,
    /// Tokens the model knows; what pads the vocabulary to a round size is left out.
    pub n_vocab: usize,
    /// Decoder positions: 448.
    pub n_text_ctx: usize,
    /// Width of the decoder.
    pub n_text_state: usize,
    /// Heads of the decoder.
    pub n_text_head: usize,
    /// Decoder layers.
    pub n_text_layer: usize,
}
