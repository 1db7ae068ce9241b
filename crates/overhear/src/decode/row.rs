//! A text in the making, and what its next token is chosen from.

use overhear_kernels::Maxima;

use super::boost::{BoostTrie, Match};
use super::loops::{Loop, Specials};
use super::result::TokenProbability;
use crate::TokenId;

/// One text in the making, or an ended one.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What was sampled, without the end of text.
    pub(super) tokens: Vec<TokenId>,
    pub(super) logprobs: Vec<f32>,
    /// The likeliest tokens at each position, if asked for.
    pub(super) alternatives: Vec<Vec<TokenProbability>>,
    /// Of the tokens, the end of text included. In f32, as torch adds it up: ties hang on it.
    pub(super) sum_logprob: f32,
    /// What boosted phrases add to it, and which phrase is under way.
    pub(super) boosted: Match,
    /// The loop that it fell into, looked for only with the loop guard.
    pub(super) looped: Option<Loop>,
    pub(super) is_complete: bool,
}

impl Row {
    pub(super) fn with_capacity(n_tokens: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(n_tokens),
            logprobs: Vec::with_capacity(n_tokens),
            ..Self::default()
        }
    }

    /// What search goes by.
    pub(super) fn score(&self) -> f32 {
        self.sum_logprob + self.boosted.bonus
    }

    /// Appends `token`, chosen from `next`.
    pub(super) fn push(&mut self, token: usize, next: &Next, logprob: f32, rules: &Rules<'_>) {
        let token = token as TokenId;
        self.sum_logprob += logprob;
        if let Some(boosts) = rules.boosts {
            self.boosted = boosts.next(self.boosted, token);
        }
        if token == rules.specials.eot {
            self.is_complete = true;
            return;
        }
        self.tokens.push(token);
        self.logprobs.push(logprob);
        if !next.alternatives.is_empty() {
            self.alternatives.push(next.alternatives.clone());
        }
        if rules.loop_guard && self.looped.is_none() {
            self.looped = Loop::at_end_of(&self.tokens, rules.specials);
        }
    }

    /// Drops all but the first `n_tokens` tokens.
    pub(super) fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.logprobs.truncate(n_tokens);
        self.alternatives.truncate(n_tokens);
        self.sum_logprob = self.logprobs.iter().sum();
    }
}

/// By hand, as the derived one would not use the memory of `self` again.
impl Clone for Row {
    fn clone(&self) -> Self {
        let mut row = Self::with_capacity(self.tokens.capacity());
        row.clone_from(self);
        row
    }

    fn clone_from(&mut self, from: &Self) {
        self.tokens.clone_from(&from.tokens);
        self.logprobs.clone_from(&from.logprobs);
        self.alternatives.clone_from(&from.alternatives);
        self.sum_logprob = from.sum_logprob;
        self.boosted = from.boosted;
        self.looped = from.looped;
        self.is_complete = from.is_complete;
    }
}

/// What is the same for all rows of a task.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) boosts: Option<&'a BoostTrie>,
    pub(super) specials: Specials,
    pub(super) loop_guard: bool,
}

/// Statistics of a row of logits.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Index of the window whose logits they are.
    pub(crate) window: usize,
    /// Place of the logits among those of the window.
    pub(crate) at: usize,
    /// Where the largest are.
    pub(super) maxima: Maxima,
    /// The logarithm of the sum of the exponentials, without what boosts add.
    pub(super) log_sum: f32,
    /// The same of the logits behind start-of-transcript, unfiltered, in the first step of a window.
    pub(super) log_sum_at_sot: f32,
    /// Their logit of no speech.
    pub(super) no_speech: f32,
    /// The candidates of beam search: tokens and their logits, the likeliest first.
    pub(super) largest: Vec<(usize, f32)>,
    pub(super) alternatives: Vec<TokenProbability>,
}

impl Rules<'_> {
    /// The log-probability of `token` after `row`, whose filtered logits are `logits`, boosts included: statistics are
    /// the model's own, and the temperature plays no part.
    pub(super) fn logprob(&self, row: &Row, next: &Next, logits: &[f32], token: usize) -> f32 {
        let gain = self
            .boosts
            .map_or(0.0, |boosts| boosts.gain(row.boosted, token as TokenId));
        logits[token] - gain - next.log_sum
    }

    /// What boosts add to `row` if `token` follows, in all.
    pub(super) fn bonus(&self, row: &Row, token: usize) -> f32 {
        self.boosts.map_or(0.0, |boosts| {
            boosts.next(row.boosted, token as TokenId).bonus
        })
    }
}
