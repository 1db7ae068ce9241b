//! Audio that arrives in pieces of any length, cut into frames.

use std::sync::Arc;

use super::energy::NoiseFloor;
use super::silero::{CONTEXT, LstmState, Silero};
use super::{Detector, FRAME_SAMPLES};

/// Maximum number of frames computed at a time, which bounds the memory of a call.
const MAX_FRAMES: usize = 128;

/// Stream of audio, for which probabilities of speech are computed as it arrives. The probabilities do not depend on how the
/// audio is cut into pieces, to the bit.
pub struct VadStream {
    detection: Detection,
    /// Samples from the context of the next frame on.
    samples: Vec<f32>,
}

/// Detector with its state.
enum Detection {
    Silero(Arc<Silero>, Box<LstmState>),
    Energy(NoiseFloor),
}

impl VadStream {
    pub(super) fn new(detector: &Detector) -> Self {
        Self {
            detection: match detector {
                Detector::Silero(silero) => {
                    Detection::Silero(Arc::clone(silero), Box::new(LstmState::new()))
                }
                Detector::Energy => Detection::Energy(NoiseFloor::default()),
            },
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
            match &mut self.detection {
                Detection::Silero(silero, state) => silero.forward(frames, state, probabilities),
                Detection::Energy(floor) => {
                    let (frames, _) = frames[CONTEXT..].as_chunks::<FRAME_SAMPLES>();
                    probabilities.extend(frames.iter().map(|frame| floor.probability(frame)));
                }
            }
            self.samples.drain(..n_samples);
        }
    }
}
