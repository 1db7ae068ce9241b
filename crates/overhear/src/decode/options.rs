//! What a caller of `decode` can choose, and what does not go together.

use std::num::NonZeroUsize;

use super::{BoostPhrase, Suppress};
use crate::{Error, Language, Result, Task, TokenId};

/// Most rows of text of one window: each has memory of its own, 18 MB at the size of turbo.
const MAX_ROWS: usize = 128;
/// Most tokens reported at one position: beyond it they are noise.
const MAX_ALTERNATIVES: usize = 100;

/// Options of decoding one window: `whisper/decoding.py::DecodingOptions`, with its defaults.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DecodingOptions {
    /// Transcribe, or translate to English.
    pub task: Task,
    /// Language spoken; `None` detects it.
    pub language: Option<Language>,
    /// Temperature: 0 takes the likeliest token, more samples. Default: 0.
    pub temperature: f32,
    /// Number of texts sampled side by side at temperatures above 0, of which the likeliest is kept. `None`: one.
    pub best_of: Option<usize>,
    /// Tokens said before, of which the last 223 count. Of a text: `tokenizer.encode_prompt(text)`.
    pub prompt: Vec<TokenId>,
    /// Tokens that the transcript is taken to begin with; no part of the result.
    pub prefix: Vec<TokenId>,
    /// Rules of search and sampling.
    pub rules: DecodingRules,
}

/// Rules of search and sampling, the same for one window ([`DecodingOptions`]) and for a file
/// ([`TranscribeOptions`](crate::TranscribeOptions)), and with the same defaults.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DecodingRules {
    /// Number of texts followed at once by beam search, which takes no notice of the temperature. `None`: no beam
    /// search.
    pub beam_size: Option<usize>,
    /// Patience of beam search, which ends with `beam_size * patience` ended texts. `None`: 1.
    /// See <https://arxiv.org/abs/2204.05424>.
    pub patience: Option<f64>,
    /// Exponent, 0 to 1, of the length by which log-probabilities are divided to compare texts, as in
    /// <https://arxiv.org/abs/1609.08144>. `None`: divide by the number of tokens.
    pub length_penalty: Option<f64>,
    /// Maximum number of tokens sampled of a window. `None`: half of the decoder's positions, 224.
    pub sample_len: Option<NonZeroUsize>,
    /// Tokens never sampled. Default: all that are not speech.
    pub suppress_tokens: Suppress,
    /// Whether a text may not begin with a blank or end at once. Default: true.
    pub suppress_blank: bool,
    /// Whether to leave timestamps out. Default: false.
    pub without_timestamps: bool,
    /// Latest time, in seconds, at which the first timestamp may stand. `None`: no limit. Default: 1.
    pub max_initial_timestamp: Option<f64>,
    /// Seed of the sampling at temperatures above 0. Default: 0.
    pub seed: u64,
    /// Number of likeliest tokens to report at each position. Default: 0, none.
    pub alternatives: usize,
    /// Phrases made likelier, without a part in the prompt. Default: none.
    pub boost: Vec<BoostPhrase>,
    /// Whether to stop as soon as the text goes round in a loop, and to cut the loop behind its first round: see
    /// [`DecodingResult::looped`]. A file is continued from there at the next temperature, and the text is no prompt of
    /// later windows. Default: false, as the reference.
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
    /// `DecodingTask._verify_options`.
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
            return refuse("patience", "beam_size * patience must come to 1 or more");
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

    /// Rows of text decoded side by side.
    pub(crate) fn n_group(&self) -> usize {
        self.rules.beam_size.or(self.best_of).unwrap_or(1)
    }

    /// Ended texts that end beam search, rounded as Python rounds.
    pub(super) fn max_candidates(&self) -> usize {
        let n = self.n_group() as f64 * self.rules.patience.unwrap_or(1.0);
        n.round_ties_even() as usize
    }
}
