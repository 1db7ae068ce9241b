//! One hypothesis during the search, and the statistics from which its next token is selected.

use overhear_kernels::Maxima;

use super::boost::{BoostTrie, Match};
use super::loops::{Loop, Specials};
use super::result::TokenProbability;
use crate::TokenId;

/// A hypothesis, unfinished or finished.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Sampled tokens, without the end-of-text token.
    pub(super) tokens: Vec<TokenId>,
    pub(super) logprobs: Vec<f32>,
    /// Most probable tokens at each position, if requested.
    pub(super) alternatives: Vec<Vec<TokenProbability>>,
    /// Sum of the log-probabilities of the tokens, the end-of-text token included. In f32 as in torch, since ties
    /// depend on the rounding.
    pub(super) sum_logprob: f32,
    /// Gains of boosted phrases, and the position in the phrase that is being matched.
    pub(super) boosted: Match,
    /// Repetition loop that the text ends with; searched for only with the loop guard.
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

    /// Returns the tokens, and the position in the boosted phrases after them.
    pub(super) fn text(&self) -> (&[TokenId], Match) {
        (&self.tokens, self.boosted)
    }

    /// Returns the score that beam search compares.
    pub(super) fn score(&self) -> f32 {
        self.sum_logprob + self.boosted.bonus
    }

    /// Appends `token`, selected from the logits of `next`.
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

    /// Removes all but the first `n_tokens` tokens.
    pub(super) fn truncate(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.logprobs.truncate(n_tokens);
        self.alternatives.truncate(n_tokens);
        self.sum_logprob = self.logprobs.iter().sum();
    }
}

/// Written out because the derived `clone_from` would not reuse the memory of `self`.
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

/// Parameters shared by all rows of a task.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) boosts: Option<&'a BoostTrie>,
    pub(super) specials: Specials,
    pub(super) loop_guard: bool,
}

/// Statistics of a row of logits, `[n_vocab]`.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Index of the window that requested the logits.
    pub(crate) window: usize,
    /// Index of the row among the rows of logits of the window.
    pub(crate) at: usize,
    /// Positions of the largest logits.
    pub(super) maxima: Maxima,
    /// Log-sum-exp of the filtered logits, without the gains of boosted phrases.
    pub(super) log_sum: f32,
    /// Log-sum-exp of the unfiltered logits after `<|startoftranscript|>`, in the first step of a window.
    pub(super) log_sum_at_sot: f32,
    /// Logit of no speech after `<|startoftranscript|>`, in the first step of a window.
    pub(super) no_speech: f32,
    /// Candidates of beam search: tokens and their logits, best first.
    pub(super) largest: Vec<(usize, f32)>,
    pub(super) alternatives: Vec<TokenProbability>,
}

impl Rules<'_> {
    /// Returns the log-probability of `token` after `row`, at temperature 1 and without the gains of boosted phrases,
    /// which `logits` (filtered) include.
    pub(super) fn logprob(&self, row: &Row, next: &Next, logits: &[f32], token: usize) -> f32 {
        let gain = self
            .boosts
            .map_or(0.0, |boosts| boosts.gain(row.boosted, token as TokenId));
        logits[token] - gain - next.log_sum
    }

    /// Returns the sum of all gains of boosted phrases if `token` follows `row`.
    pub(super) fn bonus(&self, row: &Row, token: usize) -> f32 {
        self.boosts.map_or(0.0, |boosts| {
            boosts.next(row.boosted, token as TokenId).bonus
        })
    }
}
