//! Evidence that a segment is a hallucination over silence.
//!
//! No single piece of evidence suffices: the audio of a segment may be silent because its times are wrong, attention
//! may be scattered, and the probability of no speech is that of the whole window. A segment is cleared if they agree.

use serde::{Deserialize, Serialize};

use super::Segment;
use crate::mel::FRAMES_PER_SECOND;

/// Weight of the probability of no speech relative to attention: even if that is 1, two thirds of the attention must
/// fall on silence.
const NO_SPEECH_WEIGHT: f64 = 0.25;
/// Score above which a segment is a hallucination. In windows without speech, the shares of audio and attention are
/// near 1. A threshold of 0.6 lost speech as loud as the white noise around it (11 of 238 segments of
/// `examples/hallucinations`), 0.9 none.
const THRESHOLD: f64 = 0.9;

/// Evidence that a segment is a hallucination over silence, computed with `hallucination_guard`; `no_speech_prob` of
/// the segment is part of it, too. Not in openai/whisper's result.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Silence {
    /// Share of the segment's frames that are silent: at most 3 dB louder than the quietest frames of the file.
    pub audio: f64,
    /// Share of the cross-attention of the segment's tokens that falls on silent frames of the window.
    pub attention: f64,
    /// Text of the segment before it was cleared as a hallucination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
}

impl Silence {
    /// Returns the evidence for `segment`. `is_silent`: one value per frame of the window; `attention`: for each text
    /// token of the segment, the share of its cross-attention on silent frames.
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

    /// Returns whether the evidence, in a window with this probability of no speech, suffices to clear the segment.
    pub(super) fn is_hallucination(&self, no_speech_prob: f64) -> bool {
        self.audio * (self.attention + NO_SPEECH_WEIGHT * no_speech_prob) > THRESHOLD
    }
}
