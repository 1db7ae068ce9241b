//! Audio that arrives in pieces of any length, cut into frames.

use std::sync::Arc;

use super::FRAME_SAMPLES;
use super::silero::{CONTEXT, LstmState, Silero};

/// Maximum number of frames computed at a time, which bounds the memory of a call.
const MAX_FRAMES: usize = 128;

/// Stream of audio, for which probabilities of speech are computed as it arrives. The probabilities do not depend on how the
/// audio is cut into pieces, to the bit.
pub struct VadStream {
    silero: Arc<Silero>,
    state: LstmState,
    /// Samples from the context of the next frame on.
    samples: Vec<f32>,
}

impl VadStream {
    pub(super) fn new(silero: Arc<Silero>) -> Self {
        Self {
            silero,
            state: LstmState::new(),
            samples: vec![0.0; CONTEXT],
        }
    }

    /// Takes further samples at 16 kHz, finite and in `[-1, 1]`, and appends the probability of speech of each frame that they
    /// complete.
    pub fn push(&mut self, mut samples: &[f32], probabilities: &mut Vec<f32>) {
        while !samples.is_empty() {
            let room = CONTEXT + MAX_FRAMES * FRAME_SAMPLES - self.samples.len();
            let (now, later) = samples.split_at(room.min(samples.len()));
            self.samples.extend_from_slice(now);
            samples = later;
            self.compute(probabilities);
        }
    }

    /// Appends the probability of the last frame, completed with zeros. As in faster-whisper, it is a frame of zeros if the
    /// frames so far are complete.
    pub fn finish(mut self, probabilities: &mut Vec<f32>) {
        self.samples.resize(CONTEXT + FRAME_SAMPLES, 0.0);
        self.compute(probabilities);
    }

    /// Computes the frames that are complete.
    fn compute(&mut self, probabilities: &mut Vec<f32>) {
        let n_samples = (self.samples.len() - CONTEXT) / FRAME_SAMPLES * FRAME_SAMPLES;
        if n_samples > 0 {
            let frames = &self.samples[..CONTEXT + n_samples];
            self.silero.forward(frames, &mut self.state, probabilities);
            self.samples.drain(..n_samples);
        }
    }
}
