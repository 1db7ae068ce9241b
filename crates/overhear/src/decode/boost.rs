//! Phrases made likelier: a trie over their tokens that search walks along with each text.
//!
//! Every token that begins or continues a phrase gains the phrase's weight. A phrase that breaks off gives back what
//! its tokens gained, so that whoever continues it gains that much over whoever does not; a phrase that ends keeps
//! it. Where a phrase breaks off, the longest end of it that begins another goes on (Aho and Corasick 1975). Nothing
//! enters the prompt, and the log-probabilities reported are the model's own.

use crate::{Error, Result, TokenId, Tokenizer};

/// A phrase to be made likelier.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BoostPhrase {
    /// The phrase, in the case in which it is to be written.
    pub text: String,
    /// What each of its tokens gains, in nats: above 0, up to [`BoostPhrase::MAX_WEIGHT`].
    /// [`BoostPhrase::DEFAULT_WEIGHT`] is a good beginning.
    #[cfg_attr(feature = "serde", serde(default = "default_weight"))]
    pub weight: f32,
}

impl BoostPhrase {
    /// Tokens seven times as likely.
    pub const DEFAULT_WEIGHT: f32 = 2.0;

    /// Tokens 500 million times as likely: nothing else is said then. Of larger weights too little would be left of a
    /// logit in f32 to tell probabilities from.
    pub const MAX_WEIGHT: f32 = 20.0;

    /// A phrase of the default weight.
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

/// How far a text has got in the phrases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Match {
    node: usize,
    /// All that phrases have added so far.
    pub(super) bonus: f32,
}

/// All phrases. Node 0 is their common beginning.
#[derive(Debug)]
pub(crate) struct BoostTrie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// By token.
    children: Vec<(TokenId, usize)>,
    /// The node of the longest end of this one's tokens that begins a phrase.
    fallback: usize,
    /// What this node's token gains.
    weight: f32,
    ends_phrase: bool,
    /// What the tokens up to this one gain.
    total: f32,
    /// What of it stays when the phrase breaks off, as another has ended.
    kept: f32,
}

impl BoostTrie {
    /// The trie of `phrases`, each with and without a space before it; `None` if there are none.
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
                    "the weight {} of `{}` is not above 0 and up to {}",
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

    /// Works out, nodes of few tokens first, what hangs on shorter ones.
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

    /// The node after `token` at `node`.
    fn go(&self, mut node: usize, token: TokenId) -> usize {
        loop {
            match self.find(node, token) {
                Ok(at) => return self.nodes[node].children[at].1,
                Err(_) if node == 0 => return 0,
                Err(_) => node = self.nodes[node].fallback,
            }
        }
    }

    /// The match after `token`.
    pub(super) fn next(&self, at: Match, token: TokenId) -> Match {
        let at_risk = self.nodes[at.node].total - self.nodes[at.node].kept;
        Match {
            node: self.go(at.node, token),
            bonus: at.bonus - at_risk + self.gain(at, token),
        }
    }

    /// What `token` gains over tokens that no phrase goes on with.
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

    /// Adds what each token gains to its logit, times `sign`.
    pub(super) fn add_gains(&self, at: Match, logits: &mut [f32], sign: f32) {
        let mut node = at.node;
        loop {
            for &(token, _) in &self.nodes[node].children {
                // Tokens of shorter ends count only where no longer one has them.
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

    /// The first node from `node` on, by fallbacks, that has a child `token`.
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

    /// Phrases of tokens, all of weight 1 but the last, of weight 3.
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

    /// The bonus after each token.
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
    fn logits_gain_what_matches_gain_and_get_it_back() {
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
                // Compared with a token of no phrase.
                let lead = trie.next(at, other).bonus - trie.next(at, 11).bonus;
                assert_eq!(lead, trie.gain(at, other), "{at:?} {other}");
            }
            trie.add_gains(at, &mut logits, -1.0);
            assert_eq!(logits, [0.0; 12]);
            at = trie.next(at, token);
        }
    }
}
