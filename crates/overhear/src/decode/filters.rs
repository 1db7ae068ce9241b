//! The logit filters, in the reference's order: `SuppressBlank`, `SuppressTokens`, `ApplyTimestampRules`
//! of `whisper/decoding.py`.

use overhear_kernels::{Kernels, Maxima};

use super::DecodingOptions;
use crate::{Error, Result, TokenId, Tokenizer};

/// Seconds from one timestamp to the next.
const PRECISION_S: f64 = 0.02;

/// All filters of one decoding task.
pub(super) struct LogitFilters {
    /// Forbidden as the first token.
    blank: Vec<TokenId>,
    /// Always forbidden.
    suppressed: Vec<TokenId>,
    timestamps: Option<TimestampRules>,
    /// A text token that may not be the first one after the first so many tokens.
    not_next: Option<(usize, TokenId)>,
    eot: TokenId,
}

struct TimestampRules {
    eot: usize,
    no_timestamps: usize,
    timestamp_begin: usize,
    max_initial_timestamp_index: Option<usize>,
}

impl LogitFilters {
    /// # Errors
    /// [`Error::Option`] if a token to suppress does not exist.
    pub(super) fn new(tokenizer: &Tokenizer, options: &DecodingOptions) -> Result<Self> {
        let mut blank = Vec::new();
        if options.suppress_blank {
            blank = tokenizer.encode(" ");
            blank.push(tokenizer.eot());
        }
        let timestamps = (!options.without_timestamps).then(|| TimestampRules {
            eot: tokenizer.eot() as usize,
            no_timestamps: tokenizer.no_timestamps() as usize,
            timestamp_begin: tokenizer.timestamp_begin() as usize,
            // 0 means no limit, as the reference tests the option's truth.
            max_initial_timestamp_index: options
                .max_initial_timestamp
                .filter(|&seconds| seconds != 0.0)
                .map(|seconds| (seconds / PRECISION_S).round_ties_even() as usize),
        });
        Ok(Self {
            blank,
            suppressed: suppressed_tokens(tokenizer, &options.suppress_tokens)?,
            timestamps,
            not_next: None,
            eot: tokenizer.eot(),
        })
    }

    /// Forbids that `token` is the next text token after the first `n_tokens` of the text.
    pub(super) fn forbid_next(&mut self, n_tokens: usize, token: TokenId) {
        self.not_next = Some((n_tokens, token));
    }

    /// Forbids what may not follow `sampled` by setting its logit to negative infinity, and finds the maxima of what is
    /// left. `logits`: `[n_vocab]`.
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
            && sampled[n_tokens..].iter().all(|&token| token > self.eot)
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
            forbid(&mut logits[..rules.timestamp_begin]);
            kernels.find_maxima(logits, maxima);
        }
    }
}

impl TimestampRules {
    /// Forbids what would break the order of timestamps.
    fn forbid_by_order(&self, logits: &mut [f32], sampled: &[TokenId]) {
        let begin = self.timestamp_begin;
        let is_timestamp = |token: &TokenId| *token as usize >= begin;
        logits[self.no_timestamps] = f32::NEG_INFINITY;

        // Timestamps come in pairs, except directly before the end of text.
        let last_was_timestamp = sampled.last().is_some_and(is_timestamp);
        let penultimate_was_timestamp =
            sampled.len() < 2 || is_timestamp(&sampled[sampled.len() - 2]);
        if last_was_timestamp {
            if penultimate_was_timestamp {
                forbid(&mut logits[begin..]);
            } else {
                forbid(&mut logits[..self.eot]);
            }
        }
        // They never decrease, and no segment has length zero.
        if let Some(last) = sampled.iter().rev().find(|token| is_timestamp(token)) {
            let closes_pair = last_was_timestamp && !penultimate_was_timestamp;
            let first_allowed = if closes_pair {
                *last as usize
            } else {
                *last as usize + 1
            };
            forbid(&mut logits[begin..first_allowed]);
        }
        // The first token is a timestamp, and an early one.
        if sampled.is_empty() {
            forbid(&mut logits[..begin]);
            if let Some(last_allowed) = self.max_initial_timestamp_index {
                let end = logits.len().min(begin + last_allowed + 1);
                forbid(&mut logits[end..]);
            }
        }
    }

    /// Whether all timestamps together are likelier than any other token.
    fn is_timestamp(&self, kernels: &Kernels, logits: &[f32], maxima: &Maxima) -> bool {
        let likeliest_text = maxima.largest_before(logits, self.timestamp_begin);
        kernels.log_sum_exp(&logits[self.timestamp_begin..]) > likeliest_text
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

/// `DecodingTask._get_suppress_tokens`; an empty list turns the filter off.
fn suppressed_tokens(tokenizer: &Tokenizer, option: &[i64]) -> Result<Vec<TokenId>> {
    if option.is_empty() {
        return Ok(Vec::new());
    }
    let mut tokens = vec![
        tokenizer.transcribe(),
        tokenizer.translate(),
        tokenizer.sot(),
        tokenizer.sot_prev(),
        tokenizer.sot_lm(),
        tokenizer.no_speech(),
    ];
    for &token in option {
        match TokenId::try_from(token) {
            Ok(token) if (token as usize) < tokenizer.n_vocab() => tokens.push(token),
            _ if token == -1 => tokens.extend_from_slice(tokenizer.non_speech_tokens()),
            _ => {
                let reason = format!(
                    "{token} is no token: -1 or 0 to {}",
                    tokenizer.n_vocab() - 1
                );
                return Err(Error::Option {
                    name: "suppress_tokens",
                    reason,
                });
            }
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    Ok(tokens)
}
