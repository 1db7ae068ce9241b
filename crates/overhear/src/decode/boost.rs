//! Boosting of phrases: a trie over their tokens, which search walks along with each hypothesis.
//!
//! Each token that begins or continues a phrase gains the weight of the phrase. A phrase that breaks off loses the
//! gains of its tokens; a complete phrase keeps them. After a break, matching continues with the longest suffix that
//! begins another phrase (Aho and Corasick 1975). The prompt is not used, and the reported log-probabilities are those
//! of the model, without gains.

use crate::{Error, Result, TokenId, Tokenizer};

/// A phrase whose probability is to be raised.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BoostPhrase {
    /// Text of the phrase, in the case in which it is to be written.
    pub text: String,
    /// Gain of each token's logit, in nats: above 0, up to [`BoostPhrase::MAX_WEIGHT`]. [`BoostPhrase::DEFAULT_WEIGHT`]
    /// is a good start.
    #[cfg_attr(feature = "serde", serde(default = "default_weight"))]
    pub weight: f32,
}

impl BoostPhrase {
    /// Default weight: multiplies the odds of a token by 7.
    pub const DEFAULT_WEIGHT: f32 = 2.0;

    /// Maximum weight: multiplies the odds of a token by 500 million, so that nothing else is sampled. A larger weight
    /// would leave too few bits of an f32 logit to compute probabilities from.
    pub const MAX_WEIGHT: f32 = 20.0;

    /// Returns a phrase of the default weight.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            weight: Self::DEFAULT_WEIGHT,
        }
    }
}

#[cfg(feature = "serde")]
fn default_weight() -> f32 {
    BoostPhrase::DEFAULT_WEIGHT
}

/// Position of a text in the trie.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Match {
    node: usize,
    /// Sum of all gains so far.
    pub(super) bonus: f32,
}

/// Trie of all phrases. Node 0 is the root.
#[derive(Debug)]
pub(crate) struct BoostTrie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Child nodes, sorted by token.
    children: Vec<(TokenId, usize)>,
    /// Node of the longest proper suffix of this node's tokens that begins a phrase.
    fallback: usize,
    /// Gain of this node's token.
    weight: f32,
    ends_phrase: bool,
    /// Sum of the gains from the root to this node.
    total: f32,
    /// Part of `total` that remains if the phrase breaks off here, because another phrase is complete within it.
    kept: f32,
}

impl BoostTrie {
    /// Returns the trie of `phrases`, each with and without a space before it; `None` if there are no phrases.
    ///
    /// # Errors
    /// [`Error::Option`] if a weight is not a number above 0 and up to [`BoostPhrase::MAX_WEIGHT`].
    pub(crate) fn new(tokenizer: &Tokenizer, phrases: &[BoostPhrase]) -> Result<Option<Self>> {
        let mut trie = Self {
            nodes: vec![Node::default()],
        };
        for phrase in phrases {
            if !(phrase.weight > 0.0 && phrase.weight <= BoostPhrase::MAX_WEIGHT) {
                let reason = format!(
                    "the weight {} of `{}` must be above 0 and at most {}",
                    phrase.weight,
                    phrase.text,
                    BoostPhrase::MAX_WEIGHT
                );
                return Err(Error::Option {
                    name: "boost",
                    reason,
                });
            }
            let text = phrase.text.trim();
            if !text.is_empty() {
                trie.insert(&tokenizer.encode(text), phrase.weight);
                trie.insert(&tokenizer.encode(&format!(" {text}")), phrase.weight);
            }
        }
        trie.link();
        Ok((trie.nodes.len() > 1).then_some(trie))
    }

    fn insert(&mut self, tokens: &[TokenId], weight: f32) {
        let mut node = 0;
        for &token in tokens {
            node = match self.find(node, token) {
                Ok(at) => self.nodes[node].children[at].1,
                Err(at) => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].children.insert(at, (token, child));
                    child
                }
            };
            self.nodes[node].weight = self.nodes[node].weight.max(weight);
        }
        self.nodes[node].ends_phrase = node != 0;
    }

    /// Sets `fallback`, `total` and `kept` of all nodes, breadth first, since they depend on shorter suffixes.
    fn link(&mut self) {
        let mut order = vec![0];
        let mut done = 0;
        while done < order.len() {
            let parent = order[done];
            done += 1;
            for (token, child) in self.nodes[parent].children.clone() {
                order.push(child);
                let fallback = if parent == 0 {
                    0
                } else {
                    self.go(self.nodes[parent].fallback, token)
                };
                let total = self.nodes[parent].total + self.nodes[child].weight;
                let kept = self.nodes[parent].kept.max(self.nodes[fallback].kept);
                let node = &mut self.nodes[child];
                node.fallback = fallback;
                node.total = total;
                node.kept = if node.ends_phrase {
                    total
                } else {
                    kept.min(total)
                };
            }
        }
    }

    fn find(&self, node: usize, token: TokenId) -> std::result::Result<usize, usize> {
        let children = &self.nodes[node].children;
        children.binary_search_by_key(&token, |(token, _)| *token)
    }

    /// Returns the node after `token` at `node`.
    fn go(&self, mut node: usize, token: TokenId) -> usize {
        loop {
            match self.find(node, token) {
                Ok(at) => return self.nodes[node].children[at].1,
                Err(_) if node == 0 => return 0,
                Err(_) => node = self.nodes[node].fallback,
            }
        }
    }

    /// Returns the match after `token`.
    pub(super) fn next(&self, at: Match, token: TokenId) -> Match {
        let at_risk = self.nodes[at.node].total - self.nodes[at.node].kept;
        Match {
            node: self.go(at.node, token),
            bonus: at.bonus - at_risk + self.gain(at, token),
        }
    }

    /// Returns the gain of `token` relative to a token that continues no phrase.
    pub(super) fn gain(&self, at: Match, token: TokenId) -> f32 {
        let to = self.go(at.node, token);
        let goes_on = self.find(at.node, token).is_ok();
        let before = if goes_on {
            self.nodes[at.node].kept
        } else {
            0.0
        };
        self.nodes[to].total - before
    }

    /// Adds the gain of each token, times `sign`, to `logits`, `[n_vocab]`.
    pub(super) fn add_gains(&self, at: Match, logits: &mut [f32], sign: f32) {
        let mut node = at.node;
        loop {
            for &(token, _) in &self.nodes[node].children {
                // A token that continues several suffixes counts once, for the longest of them.
                let is_shadowed = node != at.node && self.parent_on_the_way(at.node, token) != node;
                if !is_shadowed {
                    logits[token as usize] += sign * self.gain(at, token);
                }
            }
            if node == 0 {
                return;
            }
            node = self.nodes[node].fallback;
        }
    }

    /// Returns the first node from `node` on, along fallbacks, that has a child `token`.
    fn parent_on_the_way(&self, mut node: usize, token: TokenId) -> usize {
        while node != 0 && self.find(node, token).is_err() {
            node = self.nodes[node].fallback;
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a trie of phrases of weight 1, the last of which has weight 3.
    fn trie(phrases: &[&[TokenId]]) -> BoostTrie {
        let mut trie = BoostTrie {
            nodes: vec![Node::default()],
        };
        for (i, phrase) in phrases.iter().enumerate() {
            let weight = if i + 1 == phrases.len() { 3.0 } else { 1.0 };
            trie.insert(phrase, weight);
        }
        trie.link();
        trie
    }

    /// Returns the bonus after each token.
    fn bonuses(trie: &BoostTrie, tokens: &[TokenId]) -> Vec<f32> {
        let mut at = Match::default();
        let step = |token: &TokenId| {
            at = trie.next(at, *token);
            at.bonus
        };
        tokens.iter().map(step).collect()
    }

    #[test]
    fn a_phrase_gains_by_token_keeps_at_its_end_and_gives_back_when_it_breaks_off() {
        let trie = trie(&[&[1, 2, 3], &[9]]);
        assert_eq!(bonuses(&trie, &[1, 2, 3, 7]), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(bonuses(&trie, &[1, 2, 7, 1]), [1.0, 2.0, 0.0, 1.0]);
        assert_eq!(bonuses(&trie, &[7, 9, 9, 1, 9]), [0.0, 3.0, 6.0, 7.0, 9.0]);
    }

    #[test]
    fn a_phrase_within_another_is_kept_when_the_longer_breaks_off() {
        let prefix = trie(&[&[1, 2], &[1, 2, 3, 4], &[9]]);
        assert_eq!(bonuses(&prefix, &[1, 2, 3, 7]), [1.0, 2.0, 3.0, 2.0]);
        let middle = trie(&[&[2], &[1, 2, 3], &[9]]);
        assert_eq!(bonuses(&middle, &[1, 2, 7]), [1.0, 2.0, 1.0]);
    }

    #[test]
    fn the_end_of_a_broken_phrase_begins_another() {
        let trie = trie(&[&[1, 2, 3], &[2, 4], &[9]]);
        assert_eq!(bonuses(&trie, &[1, 2, 4]), [1.0, 2.0, 2.0]);
    }

    #[test]
    fn logits_gain_as_matches_do_and_gains_can_be_removed() {
        let trie = trie(&[&[1, 2, 3], &[2, 4], &[2, 3], &[1, 5], &[9]]);
        let mut at = Match::default();
        for token in [1, 2, 6, 2, 4, 9, 1, 2, 3] {
            let mut logits = vec![0.0; 12];
            trie.add_gains(at, &mut logits, 1.0);
            for other in 0..12 {
                assert_eq!(
                    logits[other as usize],
                    trie.gain(at, other),
                    "{at:?} {other}"
                );
                // Token 11 is in no phrase.
                let lead = trie.next(at, other).bonus - trie.next(at, 11).bonus;
                assert_eq!(lead, trie.gain(at, other), "{at:?} {other}");
            }
            trie.add_gains(at, &mut logits, -1.0);
            assert_eq!(logits, [0.0; 12]);
            at = trie.next(at, token);
        }
    }
}
