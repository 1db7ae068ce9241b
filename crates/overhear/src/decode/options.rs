//! Options of decoding, and the check that they fit together.

use std::num::NonZeroUsize;

use super::{BoostPhrase, Suppress};
use crate::{Error, Language, Result, Task, TokenId};

/// Maximum number of rows of text of one window. Each has its own self-attention cache, 18 MB for turbo.
const MAX_ROWS: usize = 128;
/// Maximum number of alternatives per position: less probable tokens are noise.
const MAX_ALTERNATIVES: usize = 100;

/// Options of decoding one window: `whisper/decoding.py::DecodingOptions`, with the same defaults.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DecodingOptions {
    /// Task: transcription, or translation to English.
    pub task: Task,
    /// Language of the speech. `None`: it is detected.
    pub language: Option<Language>,
    /// Temperature of the sampling; 0 selects the most probable token. Default: 0.
    pub temperature: f32,
    /// Number of independent samples at temperatures above 0, of which the most probable is kept. `None`: one.
    pub best_of: Option<usize>,
    /// Tokens of the text before the window, of which the last 223 are used. For a text:
    /// `tokenizer.encode_prompt(text)`.
    pub prompt: Vec<TokenId>,
    /// Tokens that the transcript must begin with. The result does not contain them.
    pub prefix: Vec<TokenId>,
    /// Rules of search and sampling.
    pub rules: DecodingRules,
}

/// Rules of search and sampling, shared by the options of one window ([`DecodingOptions`]) and of a file
/// ([`TranscribeOptions`](crate::TranscribeOptions)).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DecodingRules {
    /// Number of beams of beam search, which ignores the temperature. `None`: no beam search.
    pub beam_size: Option<usize>,
    /// Patience of beam search, which ends when `beam_size * patience` hypotheses are finished. `None`: 1. See
    /// <https://arxiv.org/abs/2204.05424>.
    pub patience: Option<f64>,
    /// Exponent, 0 to 1, of the length penalty, by which the log-probability of a hypothesis is divided in the ranking:
    /// <https://arxiv.org/abs/1609.08144>. `None`: the log-probability is divided by the number of tokens.
    pub length_penalty: Option<f64>,
    /// Maximum number of tokens sampled per window. `None`: half of the decoder's context, 224.
    pub sample_len: Option<NonZeroUsize>,
    /// Tokens that are never sampled. Default: all that are not speech.
    pub suppress_tokens: Suppress,
    /// Whether to forbid a blank and the end-of-text token as the first token. Default: true.
    pub suppress_blank: bool,
    /// Whether to decode without timestamps. Default: false.
    pub without_timestamps: bool,
    /// Maximum of the first timestamp in seconds. `None`: no maximum. Default: 1.
    pub max_initial_timestamp: Option<f64>,
    /// Seed of the random numbers at temperatures above 0. Default: 0.
    pub seed: u64,
    /// Number of most probable tokens to report at each position. Default: 0.
    pub alternatives: usize,
    /// Phrases whose probability is raised, without a prompt. Default: none.
    pub boost: Vec<BoostPhrase>,
    /// Whether to stop as soon as the text repeats itself in a loop, and to cut it after the first round: see
    /// [`DecodingResult::looped`]. A file is then decoded further from the cut at the next temperature, and the text is
    /// not used as the prompt of later windows. Default: false, as in openai/whisper.
    ///
    /// [`DecodingResult::looped`]: super::DecodingResult::looped
    pub loop_guard: bool,
}

impl Default for DecodingRules {
    fn default() -> Self {
        Self {
            beam_size: None,
            patience: None,
            length_penalty: None,
            sample_len: None,
            suppress_tokens: Suppress::default(),
            suppress_blank: true,
            without_timestamps: false,
            max_initial_timestamp: Some(1.0),
            seed: 0,
            alternatives: 0,
            boost: Vec::new(),
            loop_guard: false,
        }
    }
}

impl DecodingOptions {
    /// Checks that the options fit together: `whisper/decoding.py::DecodingTask._verify_options`.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub(crate) fn verify(&self) -> Result<()> {
        let refuse = |name, reason: &str| {
            let reason = reason.to_owned();
            Err(Error::Option { name, reason })
        };
        for (name, n_rows) in [
            ("beam_size", self.rules.beam_size),
            ("best_of", self.best_of),
        ] {
            if n_rows.is_some_and(|n| !(1..=MAX_ROWS).contains(&n)) {
                return refuse(name, &format!("must be 1 to {MAX_ROWS}"));
            }
        }
        if self.best_of.is_some() && self.rules.beam_size.is_some() {
            return refuse("best_of", "cannot be given together with beam_size");
        }
        if self.best_of.is_some() && self.temperature == 0.0 {
            return refuse("best_of", "is for temperatures above 0");
        }
        if self.rules.patience.is_some() && self.rules.beam_size.is_none() {
            return refuse("patience", "requires beam_size to be given");
        }
        if self.max_candidates() < 1 || self.rules.patience.is_some_and(|p| !p.is_finite()) {
            return refuse("patience", "beam_size * patience must be 1 or more");
        }
        if self
            .rules
            .length_penalty
            .is_some_and(|p| !(0.0..=1.0).contains(&p))
        {
            return refuse("length_penalty", "must be 0 to 1");
        }
        if self.rules.alternatives > MAX_ALTERNATIVES {
            let reason = format!("at most {MAX_ALTERNATIVES} can be reported");
            return refuse("alternatives", &reason);
        }
        Ok(())
    }

    /// Returns the number of rows of text that are decoded in parallel: `DecodingTask.n_group`.
    pub(crate) fn n_group(&self) -> usize {
        self.rules.beam_size.or(self.best_of).unwrap_or(1)
    }

    /// Returns the number of finished hypotheses that ends beam search, rounded half to even as in Python.
    pub(super) fn max_candidates(&self) -> usize {
        let n = self.n_group() as f64 * self.rules.patience.unwrap_or(1.0);
        n.round_ties_even() as usize
    }
}
