//! Result of decoding one window.

use serde::Serialize;

use crate::{Language, TokenId};

/// Result of decoding one window: `whisper/decoding.py::DecodingResult`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DecodingResult {
    /// Language of the transcript, given or detected.
    pub language: Language,
    /// Sampled tokens, timestamps included, without the end-of-text token.
    pub tokens: Vec<TokenId>,
    /// Log-probability of each of `tokens` when it was sampled.
    pub token_logprobs: Vec<f32>,
    /// Most probable tokens at the position of each of `tokens`, best first; empty unless requested by
    /// [`DecodingRules::alternatives`](super::DecodingRules::alternatives).
    pub alternatives: Vec<Vec<TokenProbability>>,
    /// Text of `tokens`, without white space around it.
    pub text: String,
    /// Mean log-probability of the tokens, the end-of-text token included.
    pub avg_logprob: f64,
    /// Probability that the window holds no speech.
    pub no_speech_prob: f64,
    /// Temperature of the sampling.
    pub temperature: f32,
    /// Bytes of the text divided by the bytes of its zlib compression: high for repetitive text.
    pub compression_ratio: f64,
    /// Hypotheses of the search, best first and without duplicates: the finished ones, and if they are fewer than
    /// beams, the best unfinished ones. The first is this result.
    pub hypotheses: Vec<Hypothesis>,
    /// Text tokens of one round of the repetition loop that `loop_guard` found, if any. In this case `tokens` end after
    /// the first round, where the loop was cut, and not at an end-of-text token.
    pub looped: Option<Vec<TokenId>>,
}

/// A hypothesis: one possible transcript of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hypothesis {
    /// Text of `tokens`, without white space around it.
    pub text: String,
    /// Tokens, as in [`DecodingResult::tokens`].
    pub tokens: Vec<TokenId>,
    /// Log-probability of each of `tokens`; not serialised.
    #[serde(skip)]
    pub token_logprobs: Vec<f32>,
    /// Score of the ranking: the sum of log-probabilities and of the boosts of phrases, divided by a function of the
    /// length (see [`DecodingRules::length_penalty`](super::DecodingRules::length_penalty)).
    pub score: f64,
    /// Mean log-probability of the tokens, the end-of-text token included.
    pub avg_logprob: f64,
}

/// A token and its probability at one position, among the tokens that the logit filters allow there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenProbability {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of the probability.
    pub logprob: f32,
}
