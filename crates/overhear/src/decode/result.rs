//! What comes of decoding one window.

use serde::Serialize;

use crate::{Language, TokenId};

/// What was decoded from one window: `whisper/decoding.py::DecodingResult`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DecodingResult {
    /// The language decoded in.
    pub language: Language,
    /// The tokens sampled, timestamps included, the end of text not.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each of `tokens` when it was sampled.
    pub token_logprobs: Vec<f32>,
    /// The likeliest tokens at the position of each of `tokens`, likeliest first; empty unless asked for.
    pub alternatives: Vec<Vec<TokenProbability>>,
    /// Their text, without white space around it.
    pub text: String,
    /// Mean log-probability of the tokens, the end of text included.
    pub avg_logprob: f64,
    /// Probability that the window holds no speech.
    pub no_speech_prob: f64,
    /// Temperature it was sampled at.
    pub temperature: f32,
    /// Length of the text over that of its zlib compression: a repetitive text has a high one.
    pub compression_ratio: f64,
    /// All texts that were ended or still followed when the search was over, best first, none twice. The first is
    /// this result.
    pub hypotheses: Vec<Hypothesis>,
    /// The text tokens of one round, if with `loop_guard` the text was found to go round in a loop: `tokens` end behind
    /// the first round, and not because the text was at its end.
    pub looped: Option<Vec<TokenId>>,
}

/// One text that a window may hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hypothesis {
    /// Its text, without white space around it.
    pub text: String,
    /// Its tokens, as in [`DecodingResult::tokens`].
    pub tokens: Vec<TokenId>,
    /// Log-probability of each of `tokens`; not serialised.
    #[serde(skip)]
    pub token_logprobs: Vec<f32>,
    /// What it is ranked by: the log-probability (and what boosted phrases add) over a function of the length.
    pub score: f64,
    /// Mean log-probability of the tokens, the end of text included.
    pub avg_logprob: f64,
}

/// A token and how likely it is at one position, among those that the rules allow there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenProbability {
    /// The token.
    pub token: TokenId,
    /// The logarithm of its probability.
    pub logprob: f32,
}
