//! Assigns words to segments, and corrects known errors of attention around pauses:
//! `whisper/timing.py::add_word_timestamps`.

use super::words::merge_punctuations;
use crate::mel::FRAMES_PER_SECOND;
use crate::transcribe::WordOptions;
use crate::{Segment, TokenId, Word, python};

/// Marks that end a sentence. Tested as Python's `in`: any substring matches.
const SENTENCE_END_MARKS: &str = ".。!！?？";
/// Upper limit of the median duration of a word, in seconds.
const MAX_MEDIAN_S: f64 = 0.7;
/// Maximum difference in seconds between a segment's own time and that of its first or last word; beyond it the
/// segment's time is used.
const MAX_DIFFERENCE_S: f64 = 0.5;

/// A word with its time, before it is assigned to a segment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WordTiming {
    /// Text, spaces and punctuation included; empty if it was merged into a neighbour.
    pub(crate) word: String,
    pub(crate) tokens: Vec<TokenId>,
    /// Start and end, in seconds from the start of the window.
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// Mean probability of the tokens.
    pub(crate) probability: f64,
}

impl WordTiming {
    /// Takes text and tokens out of the word; its times remain.
    pub(super) fn take(&mut self) -> (String, Vec<TokenId>) {
        (
            std::mem::take(&mut self.word),
            std::mem::take(&mut self.tokens),
        )
    }
}

/// Typical and maximum durations of the words of a window, in seconds.
#[derive(Clone, Copy)]
struct Durations {
    median: f64,
    max: f64,
}

/// Assigns to each of the window's `segments` its words of `alignment`, and adjusts the segments' times to them.
/// `is_text`: whether a token is text. `last_speech_s`: end of the speech before this window.
pub(crate) fn add_words(
    segments: &mut [Segment],
    mut alignment: Vec<WordTiming>,
    is_text: impl Fn(TokenId) -> bool,
    options: &WordOptions,
    last_speech_s: f64,
) {
    let Some(first) = segments.first() else {
        return;
    };
    let offset_s = first.seek as f64 / FRAMES_PER_SECOND;
    let durations = Durations::of(&alignment);
    truncate_at_sentence_ends(&mut alignment, durations);
    let (prepended, appended) = (&options.prepend_punctuations, &options.append_punctuations);
    merge_punctuations(&mut alignment, prepended, appended);

    let mut alignment = alignment.into_iter();
    let mut last_speech_s = last_speech_s;
    for segment in segments {
        let n_tokens = segment.tokens.iter().filter(|t| is_text(**t)).count();
        let mut words = words_of_segment(&mut alignment, n_tokens, offset_s);
        if !words.is_empty() {
            shorten_after_pause(&mut words, durations, last_speech_s);
            fit_start(segment, &mut words[0], durations);
            fit_end(
                segment,
                words.last_mut().expect("there are words"),
                durations,
            );
            last_speech_s = segment.end;
        }
        segment.words = Some(words);
    }
}

impl Durations {
    fn of(alignment: &[WordTiming]) -> Self {
        let durations = alignment.iter().map(|word| word.end - word.start);
        let mut durations: Vec<f64> = durations.filter(|&duration| duration != 0.0).collect();
        durations.sort_unstable_by(f64::total_cmp);
        let middle = durations.len() / 2;
        let median = match durations.len() {
            0 => 0.0,
            n if n % 2 == 1 => durations[middle],
            _ => (durations[middle - 1] + durations[middle]) / 2.0,
        };
        let median = median.min(MAX_MEDIAN_S);
        Self {
            median,
            max: 2.0 * median,
        }
    }
}

/// Limits the duration of a mark that ends a sentence, and of the word after one: the excess is a pause.
fn truncate_at_sentence_ends(alignment: &mut [WordTiming], durations: Durations) {
    // Without any non-zero duration the limit is 0, and no word exceeds it.
    for i in 1..alignment.len() {
        let follows_end = SENTENCE_END_MARKS.contains(&*alignment[i - 1].word);
        let word = &mut alignment[i];
        if word.end - word.start <= durations.max {
            continue;
        }
        if SENTENCE_END_MARKS.contains(&*word.word) {
            word.end = word.start + durations.max;
        } else if follows_end {
            word.start = word.end - durations.max;
        }
    }
}

/// Returns the next words of the window, up to `n_tokens` tokens.
fn words_of_segment(
    alignment: &mut impl Iterator<Item = WordTiming>,
    n_tokens: usize,
    offset_s: f64,
) -> Vec<Word> {
    let mut n_taken = 0;
    let mut words = Vec::new();
    while n_taken < n_tokens
        && let Some(timing) = alignment.next()
    {
        n_taken += timing.tokens.len();
        if !timing.word.is_empty() {
            words.push(Word {
                word: timing.word,
                start: python::round_2(offset_s + timing.start),
                end: python::round_2(offset_s + timing.end),
                probability: timing.probability,
            });
        }
    }
    words
}

/// Limits the duration of the first and the second word after a pause.
fn shorten_after_pause(words: &mut [Word], durations: Durations, last_speech_s: f64) {
    let Durations { median, max } = durations;
    let (first, rest) = words.split_first_mut().expect("there are words");
    let mut second = rest.first_mut();
    let is_long = first.end - first.start > max
        || second
            .as_ref()
            .is_some_and(|second| second.end - first.start > 2.0 * max);
    if first.end - last_speech_s <= 4.0 * median || !is_long {
        return;
    }
    if let Some(second) = second
        .as_mut()
        .filter(|second| second.end - second.start > max)
    {
        // Half of a time since the start of the file, as in the reference.
        let boundary = (second.end / 2.0).max(second.end - max);
        first.end = boundary;
        second.start = boundary;
    }
    first.start = (first.end - max).max(0.0);
}

/// Sets the segment's start to that of its first word, unless that word is much too long.
fn fit_start(segment: &mut Segment, first: &mut Word, durations: Durations) {
    if segment.start < first.end && segment.start - MAX_DIFFERENCE_S > first.start {
        first.start = (first.end - durations.median).min(segment.start).max(0.0);
    } else {
        segment.start = first.start;
    }
}

/// Sets the segment's end to that of its last word, unless that word is much too long.
fn fit_end(segment: &mut Segment, last: &mut Word, durations: Durations) {
    if segment.end > last.start && segment.end + MAX_DIFFERENCE_S < last.end {
        last.end = (last.start + durations.median).max(segment.end);
    } else {
        segment.end = last.end;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn timing(json: &Value) -> WordTiming {
        let tokens = json[1].as_array().unwrap().iter();
        WordTiming {
            word: json[0].as_str().unwrap().to_owned(),
            tokens: tokens.map(|t| t.as_u64().unwrap() as TokenId).collect(),
            start: json[2].as_f64().unwrap(),
            end: json[3].as_f64().unwrap(),
            probability: json[4].as_f64().unwrap(),
        }
    }

    #[test]
    fn words_and_segments_are_fitted_as_the_reference_does() {
        let rules = std::fs::read("tests/fixtures/words/rules.json").unwrap();
        let rules: Value = serde_json::from_slice(&rules).unwrap();
        let list = |json: &Value| json.as_array().unwrap().clone();
        for (i, case) in list(&rules["add_words"]).iter().enumerate() {
            let alignment = list(&case["alignment"]).iter().map(timing).collect();
            let mut segments: Vec<Segment> = list(&case["segments"])
                .iter()
                .map(Segment::from_json)
                .collect();
            let last_speech_s = case["last_speech"].as_f64().unwrap();
            let options = WordOptions::default();
            add_words(
                &mut segments,
                alignment,
                |token| token < 50257,
                &options,
                last_speech_s,
            );
            let expected = list(&case["expected"]);
            assert_eq!(segments.len(), expected.len());
            for (found, expected) in segments.iter().zip(&expected) {
                let expected = Segment::from_json(expected);
                // Values parsed from the JSON are exact to within a unit in the last place.
                let is_close = |a: f64, b: f64| (a - b).abs() < 1e-9;
                let is_same = |a: &Word, b: &Word| {
                    a.word == b.word
                        && is_close(a.start, b.start)
                        && is_close(a.end, b.end)
                        && a.probability == b.probability
                };
                let (a, b) = (
                    found.words.as_ref().unwrap(),
                    expected.words.as_ref().unwrap(),
                );
                assert!(
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
                    "case {i}: {a:?}, expected {b:?}"
                );
                assert!(
                    is_close(found.start, expected.start) && is_close(found.end, expected.end),
                    "case {i}: {found:?}, expected {expected:?}"
                );
            }
        }
    }

    #[test]
    fn no_words_and_no_segments_are_no_trouble() {
        let options = WordOptions::default();
        add_words(&mut [], Vec::new(), |token| token < 50257, &options, 0.0);
        let json = serde_json::json!({"seek": 0, "start": 1.0, "end": 2.0, "tokens": [1]});
        let mut segments = [Segment::from_json(&json)];
        add_words(
            &mut segments,
            Vec::new(),
            |token| token < 50257,
            &options,
            0.0,
        );
        assert_eq!(segments[0].words, Some(Vec::new()));
        assert_eq!((segments[0].start, segments[0].end), (1.0, 2.0));
    }
}
