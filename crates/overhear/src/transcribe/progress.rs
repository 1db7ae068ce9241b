//! Progress of a transcription, from which a later one goes on ([`Engine::resume`](crate::Engine::resume)).
//!
//! What the loop carries from window to window is small: its position, and where the prompt begins in the text so far. The
//! rest of the state is a function of the audio, the options and the segments.

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{Alternative, Segment, Silence, WindowHypotheses, Word};
use crate::decode::Hypothesis;
use crate::{Error, Language, Result, TokenId, Tokenizer};

/// What a transcription has done: all of it, or what one [`Event::Resumable`](crate::Event::Resumable) adds.
///
/// The progress of a transcription is the sum ([`Progress::add`]) of what its events report. A transcription that goes on from
/// it ends with the result of an uninterrupted one, to the bit, if model, audio and options are the same. Serialised, it can be
/// kept across processes of the same version; the fields are no stable format. Numbers have to come back exactly, as they do in
/// JSON by `serde_json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Progress {
    /// Set by the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plan: Option<Plan>,
    pub(super) n_windows: usize,
    pub(super) position: Position,
    segments: Vec<Whole>,
    n_best: Vec<WholeWindow>,
}

/// State of the loop between two windows. The default is that before the first.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Position {
    /// Index of the stretch of the last window.
    pub(super) stretch: usize,
    /// First frame of the next window.
    pub(super) seek: usize,
    /// Number of tokens so far, those of the initial prompt included, that are not part of a prompt any more.
    pub(super) prompt_reset_since: usize,
    /// End of the last word in seconds; with word timestamps only.
    pub(super) last_speech_s: f64,
    /// Whether the next window begins where a repetition loop was cut.
    pub(super) is_after_loop: bool,
}

impl Progress {
    /// Adds what was done after it. If that is the beginning of a transcription, it replaces all there was.
    pub fn add(&mut self, later: Progress) {
        if later.plan.is_some() {
            *self = later;
            return;
        }
        self.n_windows += later.n_windows;
        self.position = later.position;
        self.segments.extend(later.segments);
        self.n_best.extend(later.n_best);
    }

    /// Returns the number of windows that are done, or of pieces with
    /// [`TranscribeOptions::batched`](crate::TranscribeOptions::batched). They are not encoded again.
    #[must_use]
    pub fn n_windows(&self) -> usize {
        self.n_windows
    }

    pub(super) fn planned(plan: Plan) -> Self {
        Self {
            plan: Some(plan),
            ..Self::default()
        }
    }

    /// Returns the progress of one window or piece.
    pub(super) fn of_window(
        position: Position,
        segments: &[Segment],
        n_best: &[WindowHypotheses],
    ) -> Self {
        Self {
            plan: None,
            n_windows: 1,
            position,
            segments: segments.iter().cloned().map(Whole).collect(),
            n_best: n_best.iter().map(WholeWindow::new).collect(),
        }
    }

    /// Returns the segments and hypotheses.
    pub(super) fn into_results(self) -> (Vec<Segment>, Vec<WindowHypotheses>) {
        let segments = self.segments.into_iter().map(|whole| whole.0);
        let n_best = self.n_best.into_iter().map(WholeWindow::into_window);
        (segments.collect(), n_best.collect())
    }

    /// Checks that this is progress with the model of `tokenizer`, which has `n_vocab` tokens, and with audio of
    /// `content_frames` frames.
    ///
    /// # Errors
    /// [`Error::Option`] if it is not.
    pub(super) fn verify(
        &self,
        tokenizer: &Tokenizer,
        n_vocab: usize,
        content_frames: usize,
    ) -> Result<()> {
        let refuse = |reason: &str| {
            Err(Error::Option {
                name: "progress",
                reason: reason.to_owned(),
            })
        };
        let Some(plan) = &self.plan else {
            return match *self == Self::default() {
                true => Ok(()),
                false => refuse("its beginning is missing"),
            };
        };
        if plan.content_frames != content_frames {
            return refuse("it is of audio of another length");
        }
        let is_unknown = |language| tokenizer.language_token(language).is_none();
        let mut languages = plan.stretches.iter().map(|stretch| stretch.language);
        let mut tokens = self.segments.iter().flat_map(|whole| &whole.0.tokens);
        if tokens.any(|&token| token as usize >= n_vocab)
            || tokenizer.is_multilingual() && languages.any(is_unknown)
        {
            return refuse("it is of another model");
        }
        Ok(())
    }
}

/// [`Segment`] with all of its fields; as a part of a transcript, it is serialised without some.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Whole(#[serde(with = "SegmentFields")] Segment);

#[derive(Deserialize, Serialize)]
#[serde(remote = "Segment")]
struct SegmentFields {
    id: usize,
    seek: usize,
    start: f64,
    end: f64,
    text: String,
    tokens: Vec<TokenId>,
    temperature: f32,
    avg_logprob: f64,
    compression_ratio: f64,
    no_speech_prob: f64,
    language: Option<Language>,
    loop_cut: Option<bool>,
    silence: Option<Silence>,
    words: Option<Vec<Word>>,
    token_probabilities: Vec<f32>,
    alternatives: Vec<Vec<Alternative>>,
}

/// [`WindowHypotheses`] with all fields of hypotheses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct WholeWindow {
    seek: usize,
    hypotheses: Vec<WholeHypothesis>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct WholeHypothesis(#[serde(with = "HypothesisFields")] Hypothesis);

#[derive(Deserialize, Serialize)]
#[serde(remote = "Hypothesis")]
struct HypothesisFields {
    text: String,
    tokens: Vec<TokenId>,
    token_logprobs: Vec<f32>,
    score: f64,
    avg_logprob: f64,
}

impl WholeWindow {
    fn new(window: &WindowHypotheses) -> Self {
        let hypotheses = window.hypotheses.iter().cloned().map(WholeHypothesis);
        Self {
            seek: window.seek,
            hypotheses: hypotheses.collect(),
        }
    }

    fn into_window(self) -> WindowHypotheses {
        let hypotheses = self.hypotheses.into_iter().map(|whole| whole.0);
        WindowHypotheses {
            seek: self.seek,
            hypotheses: hypotheses.collect(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_come_back_with_their_bits() {
        let third = 1.0_f32 / 3.0;
        let segment = Segment {
            id: 7,
            seek: 1234,
            start: 0.1 + 0.2,
            end: 1e-7,
            text: "\u{fffd} \"a\"".to_owned(),
            tokens: vec![1, 50_000],
            temperature: 0.2,
            avg_logprob: -f64::from(third),
            compression_ratio: f64::MIN_POSITIVE,
            no_speech_prob: f64::from(third * third),
            language: Some("haw".parse().unwrap()),
            loop_cut: Some(false),
            silence: Some(Silence {
                audio: 1.0 / 3.0,
                attention: 0.0,
                dropped: Some("x".to_owned()),
            }),
            words: Some(vec![Word::default()]),
            token_probabilities: vec![third, f32::MIN_POSITIVE],
            alternatives: vec![vec![Alternative::default()], vec![]],
        };
        let window = WindowHypotheses {
            seek: 5,
            hypotheses: vec![Hypothesis {
                token_logprobs: vec![-third],
                score: -1.0 / 3.0,
                ..Hypothesis::default()
            }],
        };
        let position = Position {
            stretch: 2,
            seek: 3,
            prompt_reset_since: 4,
            last_speech_s: 0.1 + 0.7,
            is_after_loop: true,
        };
        let progress = Progress::of_window(position, &[segment], &[window]);
        let json = serde_json::to_string(&progress).unwrap();
        let read: Progress = serde_json::from_str(&json).unwrap();
        assert_eq!(read, progress);
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }
}
