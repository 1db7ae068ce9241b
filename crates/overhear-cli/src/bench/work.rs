//! Minimum arithmetic and memory traffic of the stages, for any implementation of Whisper.

use overhear::model::{Dtype, ModelDimensions};
use overhear::{ComputeType, Model};

/// Number of frames that the first convolution reads; the second one halves them.
const N_FRAMES: f64 = 3000.0;

/// Work of one model in one compute type.
pub(super) struct Work {
    /// Operations of the encoder and of the cross-attention keys and values over one window; a multiply-add counts as
    /// two.
    pub(super) encoder_ops: f64,
    /// Bytes that a step of the decoder must read: its weights, and one window's keys and values.
    pub(super) step_bytes: f64,
}

impl Work {
    pub(super) fn of(model: &Model) -> Self {
        let dims = model.dims();
        let dtype_bytes = match model.dtype() {
            Dtype::F16 | Dtype::Bf16 => 2.0,
            _ => 4.0,
        };
        // Bytes per weight, and per element of the cross-attention keys and values.
        let (weight_bytes, cache_bytes) = match model.compute_type() {
            ComputeType::Int8 => (1.0, 1.0),
            ComputeType::Int8Float32 | ComputeType::Int8Bfloat16 => (1.0, 2.0),
            ComputeType::Bf16 | ComputeType::F16 => (2.0, 2.0),
            // With an f16 scale per 32 weights.
            ComputeType::Q5 => (5.5 / 8.0, 1.0),
            ComputeType::Q4 => (4.5 / 8.0, 1.0),
            _ => (dtype_bytes, 4.0),
        };
        Self {
            encoder_ops: encoder_ops(dims),
            step_bytes: n_step_weights(dims) * weight_bytes + n_cross_cache(dims) * cache_bytes,
        }
    }
}

fn encoder_ops(dims: &ModelDimensions) -> f64 {
    let (n, d, n_mels) = (
        dims.n_audio_ctx as f64,
        dims.n_audio_state as f64,
        dims.n_mels as f64,
    );
    let stem = 2.0 * N_FRAMES * 3.0 * n_mels * d + 2.0 * n * 3.0 * d * d;
    let linear = 2.0 * n * 12.0 * d * d;
    let attention = 4.0 * n * n * d;
    let cross = 2.0 * d * n_cross_cache(dims);
    stem + dims.n_audio_layer as f64 * (linear + attention) + cross
}

/// Returns the number of weights that a token is multiplied with: per layer 4 square matrices of self-attention, 2 of
/// cross-attention and 8 of the MLP, and the embedding as output projection.
fn n_step_weights(dims: &ModelDimensions) -> f64 {
    let d = dims.n_text_state as f64;
    14.0 * d * d * dims.n_text_layer as f64 + dims.n_vocab as f64 * d
}

/// Returns the number of elements of one window's cross-attention keys and values.
fn n_cross_cache(dims: &ModelDimensions) -> f64 {
    2.0 * (dims.n_audio_ctx * dims.n_text_state * dims.n_text_layer) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// large-v3-turbo.
    const TURBO: ModelDimensions = ModelDimensions {
        n_mels: 128,
        n_audio_ctx: 1500,
        n_audio_state: 1280,
        n_audio_head: 20,
        n_audio_layer: 32,
        n_vocab: 51866,
        n_text_ctx: 448,
        n_text_state: 1280,
        n_text_head: 20,
        n_text_layer: 4,
    };

    #[test]
    fn the_work_of_turbo_follows_from_its_dimensions() {
        // 2274 GFLOP are the encoder's own, 39 those of keys and values.
        let encoder = encoder_ops(&TURBO) / 1e9;
        assert!((encoder - 2274.0 - 39.3).abs() < 1.0, "{encoder}");
        assert!((n_step_weights(&TURBO) / 1e6 - 158.1).abs() < 0.1);
        assert!((n_cross_cache(&TURBO) * 2.0 / 1e6 - 30.7).abs() < 0.1);
    }
}
