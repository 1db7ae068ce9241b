//! What speaks for a segment having been made up over silence, and whether that is enough to drop it.
//!
//! No single witness is. The audio of a segment may be silent because its times are off; attention wanders; and the
//! probability of no speech is the whole window's. A segment is dropped when they agree.

use serde::Serialize;

use super::Segment;
use crate::mel::FRAMES_PER_SECOND;

/// How much the probability of no speech counts beside attention: be it 1, two thirds of the attention must fall on
/// silence all the same.
const NO_SPEECH_WEIGHT: f64 = 0.25;
/// Above this a segment was made up. In windows without speech audio and attention are 1; at 0.6 speech as loud as the
/// white noise around it was lost (11 of 238 segments of `examples/hallucinations.rs`), at 0.9 none.
const THRESHOLD: f64 = 0.9;

/// What speaks for a segment having been made up over silence, with `hallucination_guard`; its `no_speech_prob` does,
/// too. Not in the reference's result.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Silence {
    /// The share of its frames that are silent for this file: no louder than its quietest by more than 3 dB.
    pub audio: f64,
    /// The share of its tokens' attention that falls on silent frames of the window, wherever the segment lies.
    pub attention: f64,
    /// The text that the segment had, if it was dropped: it is cleared then, as the reference clears empty ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
}

impl Silence {
    /// Weighs `segment`. `is_silent`: of each frame of its window; `attention`: the share of each of its text tokens'
    /// attention that falls on them.
    pub(super) fn of(segment: &Segment, is_silent: &[bool], attention: &[f32]) -> Self {
        let frame = |seconds: f64| {
            let frame = (seconds * FRAMES_PER_SECOND).round() as usize;
            frame.saturating_sub(segment.seek).min(is_silent.len())
        };
        let start = frame(segment.start).min(is_silent.len().saturating_sub(1));
        let frames = &is_silent[start..frame(segment.end).max(start + 1).min(is_silent.len())];
        let n_silent = frames.iter().filter(|&&is_silent| is_silent).count();
        let sum: f64 = attention.iter().map(|&share| f64::from(share)).sum();
        Self {
            audio: n_silent as f64 / frames.len().max(1) as f64,
            attention: (sum / attention.len().max(1) as f64).min(1.0),
            dropped: None,
        }
    }

    /// Whether the segment of this evidence, in a window of this probability of no speech, was made up.
    pub(super) fn is_hallucination(&self, no_speech_prob: f64) -> bool {
        self.audio * (self.attention + NO_SPEECH_WEIGHT * no_speech_prob) > THRESHOLD
    }
}
