//! Detection of repetition loops, as distinct from repetitions that people speak.
//!
//! A model that has lost track of the audio repeats itself until the window is full, with a probability that rises from
//! round to round. A loop is a sequence of text tokens at the end of the text that is repeated exactly, either more
//! often than people repeat themselves or faster than anybody speaks. Timestamps are ignored, since they differ from
//! round to round.

use std::ops::Range;

use crate::{TokenId, Tokenizer};

/// Maximum length of a round in text tokens: three rounds nearly fill a window (224 tokens).
const MAX_PERIOD: usize = 64;

/// Returns the number of rounds from which a repetition of `period` tokens is a loop.
///
/// Rounds of one to three tokens must add up to 16 tokens: card numbers of one repeated digit, laughter and "no, no,
/// no" are shorter. Phrases must occur four times, which is more than emphasis; long sentences, from 16 tokens on,
/// three times.
const fn n_rounds(period: usize) -> usize {
    match period {
        ..4 => 16usize.div_ceil(period),
        4..16 => 4,
        _ => 3,
    }
}

/// Minimum number of rounds of a repetition that is too fast to be spoken: more than emphasis.
const N_RUSHED_ROUNDS: usize = 4;

/// Minimum duration of a spoken token in seconds: half of that of the fastest speakers, since timestamps are not exact.
const TOKEN_S: f64 = 0.05;

/// Time between neighbouring timestamp tokens in seconds.
const TIME_PRECISION_S: f64 = 0.02;
/// Duration of a window in seconds.
const WINDOW_S: f64 = 30.0;

/// Limits of the special tokens, from `eot` on, and of the timestamps, which are the last of them. Text tokens are those
/// before, and those after, which a fine-tune added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Specials {
    pub(super) eot: TokenId,
    timestamp_begin: TokenId,
    /// End of the timestamps (exclusive).
    timestamp_end: TokenId,
}

impl Specials {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let timestamps = tokenizer.timestamps();
        Self {
            eot: tokenizer.eot(),
            timestamp_begin: timestamps.start,
            timestamp_end: timestamps.end,
        }
    }

    pub(super) fn is_text(self, token: TokenId) -> bool {
        token < self.eot || token >= self.timestamp_end
    }

    fn is_timestamp(self, token: TokenId) -> bool {
        (self.timestamp_begin..self.timestamp_end).contains(&token)
    }
}

/// A repetition loop at the end of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop {
    /// Number of text tokens of a round.
    pub(super) period: usize,
    /// Number of text tokens before the first round.
    pub(super) n_before: usize,
}

impl Loop {
    /// Returns the loop that `tokens` end with; of several, the one with the shortest round. If called after every
    /// token, it finds a loop as soon as it has enough rounds, and its first round is where the repetition began.
    pub(super) fn at_end_of(tokens: &[TokenId], specials: Specials) -> Option<Self> {
        let is_text = |token: &&TokenId| specials.is_text(**token);
        let n_text = tokens.iter().filter(is_text).count();
        let backwards = || tokens.iter().rev().filter(is_text);
        let repeats = |period: usize, n_rounds: usize| {
            let n_equal = period * (n_rounds - 1);
            n_equal + period <= n_text
                && backwards()
                    .zip(backwards().skip(period))
                    .take(n_equal)
                    .all(|(token, round_before)| token == round_before)
        };
        (1..=MAX_PERIOD).find_map(|period| {
            let mut n_found = n_rounds(period);
            if !repeats(period, n_found) {
                let is_rushed = |n_rounds: usize| {
                    repeats(period, n_rounds)
                        && is_rushed(tokens, n_text - period * n_rounds, specials)
                };
                if !is_rushed(N_RUSHED_ROUNDS) {
                    return None;
                }
                // A rushed loop may have more rounds, if no timestamp showed its duration before.
                n_found = (N_RUSHED_ROUNDS..)
                    .take_while(|&n_rounds| is_rushed(n_rounds))
                    .last()?;
            }
            Some(Self {
                period,
                n_before: n_text - period * n_found,
            })
        })
    }

    /// Returns the length to cut `tokens` to: after the first round, which may have been spoken, and the timestamp that
    /// follows.
    ///
    /// The boundaries of rounds are ambiguous (the rounds of "Go. No. No. No." may be ". No" or "No."). The cut is at
    /// the first end of a segment within one period, or else at the first end of a sentence.
    pub(super) fn cut(
        self,
        tokens: &[TokenId],
        specials: Specials,
        ends_sentence: impl Fn(TokenId) -> bool,
    ) -> usize {
        let ends: Vec<usize> = (1..=tokens.len())
            .filter(|&end| specials.is_text(tokens[end - 1]))
            .collect();
        let turn: Range<usize> =
            self.n_before + self.period - 1..self.n_before + 2 * self.period - 1;
        let turn = &ends[turn];
        let ends_segment = |end: &&usize| {
            let next = tokens.get(**end);
            next.is_some_and(|&token| specials.is_timestamp(token))
        };
        match turn.iter().find(ends_segment) {
            Some(end) => end + 1,
            None => *turn
                .iter()
                .find(|&&end| ends_sentence(tokens[end - 1]))
                .unwrap_or(&turn[0]),
        }
    }
}

/// Returns whether the text tokens from index `n_before` on would have to be spoken faster than anybody speaks, given
/// the timestamps around them. Without a timestamp after them, the end of the window is their end.
fn is_rushed(tokens: &[TokenId], n_before: usize, specials: Specials) -> bool {
    let time_s = |token: TokenId| f64::from(token - specials.timestamp_begin) * TIME_PRECISION_S;
    let is_time = |token: &&TokenId| specials.is_timestamp(**token);
    let of_text = |(i, token): (usize, &TokenId)| specials.is_text(*token).then_some(i);
    let mut places = tokens.iter().enumerate().filter_map(of_text).skip(n_before);
    let Some(first) = places.next() else {
        return false;
    };
    let n_tokens = 1 + places.clone().count();
    let last = places.last().unwrap_or(first);
    let start_s = tokens[..first].iter().rev().find(is_time);
    let end_s = tokens[last..].iter().find(is_time);
    let start_s = start_s.map_or(0.0, |&token| time_s(token));
    let end_s = end_s.map_or(WINDOW_S, |&token| time_s(token));
    end_s - start_s < n_tokens as f64 * TOKEN_S
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EOT: TokenId = 1000;
    const TIMES: TokenId = EOT + 100;
    const ADDED: TokenId = TIMES + 1501;
    const SPECIALS: Specials = Specials {
        eot: EOT,
        timestamp_begin: TIMES,
        timestamp_end: ADDED,
    };
    /// Token that ends sentences in these tests.
    const STOP: TokenId = 13;

    /// Returns the first loop found while `tokens` are appended one by one, and the number of tokens by then.
    fn first_loop(tokens: &[TokenId]) -> Option<(usize, Loop)> {
        (1..=tokens.len()).find_map(|n| Some((n, Loop::at_end_of(&tokens[..n], SPECIALS)?)))
    }

    fn cut(tokens: &[TokenId]) -> Option<Vec<TokenId>> {
        let (n, found) = first_loop(tokens)?;
        let end = found.cut(&tokens[..n], SPECIALS, |token| token == STOP);
        Some(tokens[..end].to_vec())
    }

    #[test]
    fn repetitions_that_people_speak_are_not_loops() {
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
    fn a_loop_is_cut_after_its_first_round_at_the_end_of_a_segment_or_sentence() {
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
            // The round may also be read as [STOP, 1, 2, 3].
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

    #[test]
    fn repetitions_faster_than_speech_are_loops() {
        let at = |seconds: f64| TIMES + (seconds / TIME_PRECISION_S).round() as TokenId;
        let early = |n: usize| [7, STOP].repeat(n);
        // As of nano after the end of the audio: the rest of the window is too short.
        let at_the_end = [vec![at(29.84), 30, 31], early(5)].concat();
        assert_eq!(
            cut(&at_the_end).as_deref(),
            Some(&[at(29.84), 30, 31, 7, STOP][..])
        );
        // The timestamp shows that the time was too short for six rounds.
        let hurried = [vec![at(3.0)], early(6), vec![at(3.1)]].concat();
        assert_eq!(cut(&hurried).as_deref(), Some(&[at(3.0), 7, STOP][..]));
        for (name, tokens) in [
            ("three times at the end", vec![vec![at(29.84)], early(3)]),
            (
                "in a second",
                vec![vec![at(3.0)], early(6), vec![at(4.0), at(4.0), 9]],
            ),
            ("without timestamps", vec![early(7), vec![9], early(7)]),
            (
                "over several segments",
                (0..6)
                    .flat_map(|i| {
                        let start = f64::from(i);
                        [vec![at(start)], early(1), vec![at(start + 0.1)]]
                    })
                    .collect(),
            ),
        ] {
            assert_eq!(first_loop(&tokens.concat()), None, "{name}");
        }
    }

    #[test]
    fn added_tokens_are_text_and_no_timestamps() {
        // Slow enough to be spoken; taken for a timestamp, the added token would be after the end of the window.
        let spoken = [vec![TIMES], [7, ADDED + 5].repeat(6), vec![TIMES + 100]].concat();
        assert_eq!(first_loop(&spoken), None);
        let looped = [vec![30], [1, 2, ADDED, STOP].repeat(4)].concat();
        assert_eq!(cut(&looped), Some(vec![30, 1, 2, ADDED, STOP]));
    }

    #[test]
    fn only_timestamps_end_segments() {
        let no_timestamps = TIMES - 1;
        let tokens = [vec![30], [1, 2, no_timestamps, 3, STOP].repeat(4)].concat();
        let expected = [30, 1, 2, no_timestamps, 3, STOP];
        assert_eq!(cut(&tokens).as_deref(), Some(&expected[..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn text_that_repeats_nothing_is_never_a_loop(tokens in Just((0..224).collect::<Vec<TokenId>>()).prop_shuffle()) {
            prop_assert_eq!(first_loop(&tokens), None);
        }

        #[test]
        fn every_round_is_found_as_soon_as_it_is_a_loop(
            period in 1..=MAX_PERIOD, before in proptest::collection::vec(300u32..900, 0..30), time in TIMES..TIMES + 100,
        ) {
            let round: Vec<TokenId> = (0..period as TokenId).collect();
            let mut tokens = before.clone();
            tokens.retain({
                let mut seen = std::collections::HashSet::new();
                move |token| seen.insert(*token)
            });
            let n_before = tokens.len();
            for i in 0..n_rounds(period) as TokenId + 3 {
                tokens.extend(&round);
                // 1.4 seconds per round: slow enough to be spoken.
                tokens.push(time + 70 * i);
            }
            let (n, found) = first_loop(&tokens).expect("a loop");
            prop_assert_eq!(found, Loop { period, n_before });
            // n_rounds rounds of text, and a timestamp after every round but the last.
            prop_assert_eq!(n, n_before + (period + 1) * n_rounds(period) - 1);
            let mut expected = tokens[..n_before + period].to_vec();
            expected.push(time);
            prop_assert_eq!(cut(&tokens), Some(expected));
        }
    }
}
