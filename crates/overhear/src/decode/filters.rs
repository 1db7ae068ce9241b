//! Logit filters, in the order of openai/whisper: `SuppressBlank`, `SuppressTokens`, `ApplyTimestampRules` of
//! `whisper/decoding.py`.

use overhear_kernels::{Kernels, Maxima};

use super::DecodingOptions;
use super::loops::Specials;
use crate::{Result, TokenId, Tokenizer};

/// Time between neighbouring timestamp tokens in seconds.
const PRECISION_S: f64 = 0.02;

/// All logit filters of one decoding task.
pub(super) struct LogitFilters {
    /// Tokens forbidden as the first token.
    blank: Vec<TokenId>,
    /// Tokens that are always forbidden.
    suppressed: Vec<TokenId>,
    timestamps: Option<TimestampRules>,
    /// Number of leading tokens, and the text token that must not be the first text token after them.
    not_next: Option<(usize, TokenId)>,
    specials: Specials,
}

struct TimestampRules {
    eot: usize,
    no_timestamps: usize,
    timestamp_begin: usize,
    /// End of the timestamp tokens (exclusive). Tokens that a fine-tune added may follow.
    timestamp_end: usize,
    max_initial_timestamp_index: Option<usize>,
}

impl LogitFilters {
    /// # Errors
    /// [`crate::Error::Option`] if a token to suppress does not exist.
    pub(super) fn new(tokenizer: &Tokenizer, options: &DecodingOptions) -> Result<Self> {
        let mut blank = Vec::new();
        if options.rules.suppress_blank {
            blank = tokenizer.encode(" ");
            blank.push(tokenizer.eot());
        }
        let with_timestamps = !options.rules.without_timestamps && tokenizer.has_timestamps();
        let timestamps = with_timestamps.then(|| TimestampRules {
            eot: tokenizer.eot() as usize,
            no_timestamps: tokenizer.no_timestamps() as usize,
            timestamp_begin: tokenizer.timestamps().start as usize,
            timestamp_end: tokenizer.timestamps().end as usize,
            max_initial_timestamp_index: options
                .rules
                .max_initial_timestamp
                .map(|seconds| (seconds / PRECISION_S).round_ties_even() as usize),
        });
        Ok(Self {
            blank,
            suppressed: options.rules.suppress_tokens.tokens(tokenizer)?,
            timestamps,
            not_next: None,
            specials: Specials::of(tokenizer),
        })
    }

    /// Forbids `token` as the next text token after the first `n_tokens` tokens.
    pub(super) fn forbid_next(&mut self, n_tokens: usize, token: TokenId) {
        self.not_next = Some((n_tokens, token));
    }

    /// Sets the logits of all tokens that must not follow `sampled` to negative infinity, and finds the maxima of the
    /// others. `logits`: `[n_vocab]`.
    pub(super) fn apply(
        &self,
        kernels: &Kernels,
        logits: &mut [f32],
        maxima: &mut Maxima,
        sampled: &[TokenId],
    ) {
        if sampled.is_empty() {
            forbid_each(logits, &self.blank);
        }
        forbid_each(logits, &self.suppressed);
        if let Some((n_tokens, token)) = self.not_next
            && !sampled[n_tokens..]
                .iter()
                .any(|&token| self.specials.is_text(token))
        {
            forbid_each(logits, &[token]);
        }
        if let Some(rules) = &self.timestamps {
            rules.forbid_by_order(logits, sampled);
        }
        kernels.find_maxima(logits, maxima);
        if let Some(rules) = &self.timestamps
            && rules.is_timestamp(kernels, logits, maxima)
        {
            rules.forbid_text(logits);
            kernels.find_maxima(logits, maxima);
        }
    }
}

impl TimestampRules {
    /// Forbids tokens that would break the order of timestamps.
    fn forbid_by_order(&self, logits: &mut [f32], sampled: &[TokenId]) {
        let (begin, end) = (self.timestamp_begin, self.timestamp_end);
        let is_timestamp = |token: &TokenId| (begin..end).contains(&(*token as usize));
        logits[self.no_timestamps] = f32::NEG_INFINITY;

        // Timestamps come in pairs, except directly before the end-of-text token.
        let last_was_timestamp = sampled.last().is_some_and(is_timestamp);
        let penultimate_was_timestamp =
            sampled.len() < 2 || is_timestamp(&sampled[sampled.len() - 2]);
        if last_was_timestamp {
            if penultimate_was_timestamp {
                forbid(&mut logits[begin..end]);
            } else {
                forbid(&mut logits[..self.eot]);
                forbid(&mut logits[end..]);
            }
        }
        // Timestamps never decrease, and no segment has length zero.
        if let Some(last) = sampled.iter().rev().find(|token| is_timestamp(token)) {
            let closes_pair = last_was_timestamp && !penultimate_was_timestamp;
            let first_allowed = if closes_pair {
                *last as usize
            } else {
                *last as usize + 1
            };
            forbid(&mut logits[begin..first_allowed]);
        }
        // The first token is a timestamp of at most the given maximum.
        if sampled.is_empty() {
            self.forbid_text(logits);
            if let Some(last_allowed) = self.max_initial_timestamp_index {
                forbid(&mut logits[end.min(begin + last_allowed + 1)..end]);
            }
        }
    }

    /// Returns whether the probability of all timestamps together exceeds that of every other token.
    fn is_timestamp(&self, kernels: &Kernels, logits: &[f32], maxima: &Maxima) -> bool {
        let (begin, end) = (self.timestamp_begin, self.timestamp_end);
        let added = logits[end..].iter().copied();
        let likeliest_text = added.fold(maxima.largest_before(logits, begin), f32::max);
        kernels.log_sum_exp(&logits[begin..end]) > likeliest_text
    }

    /// Forbids all tokens but timestamps.
    fn forbid_text(&self, logits: &mut [f32]) {
        forbid(&mut logits[..self.timestamp_begin]);
        forbid(&mut logits[self.timestamp_end..]);
    }
}

fn forbid(logits: &mut [f32]) {
    logits.fill(f32::NEG_INFINITY);
}

fn forbid_each(logits: &mut [f32], tokens: &[TokenId]) {
    for &token in tokens {
        logits[token as usize] = f32::NEG_INFINITY;
    }
}
