//! Repetition loops: text that has begun to go round, told from repetitions that people speak.
//!
//! A model that has lost the audio says the same again until its window is full, each round likelier than the one
//! before. Timestamps differ from round to round and are left out: a loop is text tokens that repeat, exactly, at the
//! end of what there is so far.

use std::ops::Range;

use crate::TokenId;

/// Longest round looked for, in text tokens: three of them are nearly all that a window holds (224).
const MAX_PERIOD: usize = 64;

/// Rounds after which a repetition of `period` tokens is a loop.
///
/// Rounds of one to three tokens take 16 tokens in all: a card number of one digit, laughter and "no, no, no" are
/// spoken, and are shorter. Four rounds of a phrase are more than emphasis; from 16 tokens on, a long sentence, three
/// are.
const fn n_rounds(period: usize) -> usize {
    match period {
        ..4 => 16usize.div_ceil(period),
        4..16 => 4,
        _ => 3,
    }
}

/// A loop at the end of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop {
    /// Text tokens of a round.
    pub(super) period: usize,
    /// Text tokens before the first round.
    pub(super) n_before: usize,
}

impl Loop {
    /// The loop that `tokens` end with, the one of the shortest rounds. Asked after every token it is found when it
    /// has just become one, so that its first round is where it began. Text tokens are those below `eot`.
    pub(super) fn at_end_of(tokens: &[TokenId], eot: TokenId) -> Option<Self> {
        let is_text = |token: &&TokenId| **token < eot;
        let n_text = tokens.iter().filter(is_text).count();
        let backwards = || tokens.iter().rev().filter(is_text);
        let period = (1..=MAX_PERIOD).find(|&period| {
            let n_equal = period * (n_rounds(period) - 1);
            n_equal + period <= n_text
                && backwards()
                    .zip(backwards().skip(period))
                    .take(n_equal)
                    .all(|(token, round_before)| token == round_before)
        })?;
        Some(Self {
            period,
            n_before: n_text - period * n_rounds(period),
        })
    }

    /// Where to cut `tokens`: behind the first round, so that what may have been said stays, once; with the timestamp
    /// that follows.
    ///
    /// Rounds can be told from where they begin only up to a turn (of "Go. No. No. No." they may be ". No" as well as
    /// "No."): the place is the first within the turn where a segment ends, or else where a sentence does.
    pub(super) fn cut(
        self,
        tokens: &[TokenId],
        eot: TokenId,
        ends_sentence: impl Fn(TokenId) -> bool,
    ) -> usize {
        let ends: Vec<usize> = (1..=tokens.len())
            .filter(|&end| tokens[end - 1] < eot)
            .collect();
        let turn: Range<usize> =
            self.n_before + self.period - 1..self.n_before + 2 * self.period - 1;
        let turn = &ends[turn];
        let ends_segment = |end: &&usize| tokens.get(**end).is_some_and(|&token| token > eot);
        match turn.iter().find(ends_segment) {
            Some(end) => end + 1,
            None => *turn
                .iter()
                .find(|&&end| ends_sentence(tokens[end - 1]))
                .unwrap_or(&turn[0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EOT: TokenId = 1000;
    /// The token that ends sentences in these tests.
    const STOP: TokenId = 13;

    /// The first loop found when `tokens` come one after the other, and how many had come.
    fn first_loop(tokens: &[TokenId]) -> Option<(usize, Loop)> {
        (1..=tokens.len()).find_map(|n| Some((n, Loop::at_end_of(&tokens[..n], EOT)?)))
    }

    fn cut(tokens: &[TokenId]) -> Option<Vec<TokenId>> {
        let (n, found) = first_loop(tokens)?;
        let end = found.cut(&tokens[..n], EOT, |token| token == STOP);
        Some(tokens[..end].to_vec())
    }

    #[test]
    fn what_people_repeat_is_no_loop() {
        let cases: [(&str, Vec<TokenId>); 6] = [
            ("nothing", vec![]),
            ("no, no, no, no, no, no, no.", [7, 11].repeat(7)),
            ("laughter, or a row of zeros", vec![5; 15]),
            (
                "a line of a song, sung three times",
                [1, 2, 3, 4, 5].repeat(3),
            ),
            ("a long sentence said twice", (0..40).chain(0..40).collect()),
            (
                "a list of sentences that begin alike",
                (0..30).flat_map(|i| [1, 2, 3, 100 + i]).collect(),
            ),
        ];
        for (name, tokens) in cases {
            assert_eq!(first_loop(&tokens), None, "{name}");
        }
    }

    #[test]
    fn a_loop_is_cut_behind_its_first_round_where_something_ends() {
        let time = |n: TokenId| EOT + 100 + n;
        let rounds = |n: TokenId| (1..n).flat_map(move |i| [time(i), 20, 21, STOP, time(i + 1)]);
        let timed: Vec<TokenId> = [time(0), 30, STOP, time(1)]
            .into_iter()
            .chain(rounds(9))
            .collect();
        let long: Vec<TokenId> = (100..120).collect();
        let cases: [(&[TokenId], &[TokenId]); 5] = [
            (
                &[vec![30, 31], [1, 2, 3, 4].repeat(4)].concat(),
                &[30, 31, 1, 2, 3, 4],
            ),
            (&[vec![30], vec![5; 16]].concat(), &[30, 5]),
            // The round is [STOP, 1, 2, 3] as well as [1, 2, 3, STOP].
            (
                &[vec![30, STOP], [1, 2, 3, STOP].repeat(4)].concat(),
                &[30, STOP, 1, 2, 3, STOP],
            ),
            (&timed, &timed[..9]),
            (
                &[vec![30], long.repeat(3)].concat(),
                &[vec![30], long.clone()].concat(),
            ),
        ];
        for (tokens, expected) in cases {
            assert_eq!(cut(tokens).as_deref(), Some(expected), "{tokens:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn text_that_repeats_nothing_is_never_a_loop(tokens in Just((0..224).collect::<Vec<TokenId>>()).prop_shuffle()) {
            prop_assert_eq!(first_loop(&tokens), None);
        }

        #[test]
        fn every_round_is_found_as_soon_as_it_is_a_loop(
            period in 1..=MAX_PERIOD, before in proptest::collection::vec(300u32..900, 0..30), time in EOT + 100..EOT + 200,
        ) {
            let round: Vec<TokenId> = (0..period as TokenId).collect();
            let mut tokens = before.clone();
            tokens.retain({
                let mut seen = std::collections::HashSet::new();
                move |token| seen.insert(*token)
            });
            let n_before = tokens.len();
            for _ in 0..n_rounds(period) + 3 {
                tokens.extend(&round);
                tokens.push(time);
            }
            let (n, found) = first_loop(&tokens).expect("a loop");
            prop_assert_eq!(found, Loop { period, n_before });
            // Text tokens, and a timestamp behind every round but the last.
            prop_assert_eq!(n, n_before + (period + 1) * n_rounds(period) - 1);
            let mut expected = tokens[..n_before + period].to_vec();
            expected.push(time);
            prop_assert_eq!(cut(&tokens), Some(expected));
        }
    }
}
