//! Drafts of speculative decoding: tokens that are proposed to follow a text, and verified in one decoder call (Leviathan,
//! Kalman, Matias 2023, <https://arxiv.org/abs/2211.17192>). In place of their rule for samples, which keeps the distribution
//! alone, a drafted token is right if it is the one that is selected without drafts: the most probable one, or the one drawn
//! with the random number of its position. A draft model draws with the same number, so that it is mostly right.

use super::boost::Match;
use super::row::Row;
use crate::TokenId;
use crate::decode::BoostTrie;

/// Maximum number of drafted tokens of one call. With the token before them they are as many queries as the kernels of
/// attention compute independently of each other, so that drafts do not change a bit of the logits.
pub(crate) const MAX_DRAFT: usize = 7;

/// Indices in a row's tokens of the tokens whose logits are requested: all of them.
pub(super) const ALL: [usize; MAX_DRAFT + 1] = [0, 1, 2, 3, 4, 5, 6, 7];

/// Text of a row, followed by drafted tokens.
#[derive(Default)]
pub(super) struct Draft {
    /// Tokens of the text and of the draft.
    tokens: Vec<TokenId>,
    /// Number of tokens of the text.
    n_text: usize,
    /// Positions in the boosted phrases: after the text, and after each drafted token.
    boosted: Vec<Match>,
}

impl Draft {
    /// Begins an empty draft after the text of `row`.
    pub(super) fn begin(&mut self, row: &Row) {
        self.tokens.clone_from(&row.tokens);
        self.n_text = row.tokens.len();
        self.boosted.clear();
        self.boosted.push(row.boosted);
    }

    /// Removes the draft.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.n_text = 0;
    }

    pub(super) fn push(&mut self, token: TokenId, boosts: Option<&BoostTrie>) {
        let (_, boosted) = self.after(self.len());
        let boosted = boosts.map_or(boosted, |boosts| boosts.next(boosted, token));
        self.tokens.push(token);
        self.boosted.push(boosted);
    }

    /// Returns the number of drafted tokens.
    pub(super) fn len(&self) -> usize {
        self.tokens.len() - self.n_text
    }

    /// Returns drafted token `i`.
    pub(super) fn token(&self, i: usize) -> TokenId {
        self.tokens[self.n_text + i]
    }

    /// Returns the tokens of the text and of the draft.
    pub(super) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Returns the last token of the text and the drafted tokens.
    pub(super) fn last_and_drafted(&self) -> &[TokenId] {
        &self.tokens[self.n_text - 1..]
    }

    /// Returns the tokens up to the first `n` drafted ones, and the position in the boosted phrases after them.
    pub(super) fn after(&self, n: usize) -> (&[TokenId], Match) {
        (&self.tokens[..self.n_text + n], self.boosted[n])
    }
}
