//! What words change in a window: its segments' times and where the next one begins
//! (`whisper/transcribe.py` behind `word_timestamps`).

use super::Segment;
use super::hallucination::{self, Skip, Window};
use crate::mel::FRAMES_PER_SECOND;

/// Where a window with words ends.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The segments stand; the next window begins at this frame.
    At(usize),
    /// Nothing of the window stands; it is decoded again from this frame on.
    Again(usize),
}

/// Decides, from the times of its words, where to go on after `window`; without words to go by, at `next`.
/// May drop segments from the end.
pub(super) fn next_window(
    window: Window,
    segments: &mut Vec<Segment>,
    next: usize,
    silence_threshold: Option<f64>,
) -> Next {
    let start_s = window.seek as f64 / FRAMES_PER_SECOND;
    let mut next = next;
    // Unless nothing is said after the last timestamp, go on where the last word ends.
    if !window.is_closed
        && let Some(end) = last_end(segments).filter(|&end| end > start_s)
    {
        next = (end * FRAMES_PER_SECOND).round_ties_even() as usize;
    }
    if let Some(threshold) = silence_threshold {
        match hallucination::skip(window, segments, threshold) {
            Skip::None => {}
            Skip::To(frame) => next = frame,
            Skip::Leading(frame) => return Next::Again(advance(window, frame)),
        }
    }
    Next::At(advance(window, next))
}

/// `next`, or the end of the window where that would not move on (the reference would stand still for ever).
fn advance(window: Window, next: usize) -> usize {
    if next > window.seek {
        next
    } else {
        window.seek + window.n_frames
    }
}

/// Where speech ends: the end of the last word, or without words of the last segment (`whisper/utils.py::get_end`).
pub(super) fn last_end(segments: &[Segment]) -> Option<f64> {
    let words = |segment: &Segment| Some(segment.words.as_ref()?.last()?.end);
    segments
        .iter()
        .rev()
        .find_map(words)
        .or_else(|| segments.last().map(|segment| segment.end))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_next_window_begins_where_the_references_does() {
        let rules = std::fs::read("tests/fixtures/words/rules.json").unwrap();
        let rules: Value = serde_json::from_slice(&rules).unwrap();
        for (i, case) in rules["next_window"].as_array().unwrap().iter().enumerate() {
            let integer = |key: &str| case[key].as_u64().unwrap() as usize;
            let window = Window {
                seek: integer("previous_seek"),
                n_frames: integer("segment_size"),
                content_frames: integer("content_frames"),
                is_closed: case["single_timestamp_ending"].as_bool().unwrap(),
                last_speech_s: case["last_speech_timestamp"].as_f64().unwrap(),
            };
            let segments = case["segments"].as_array().unwrap().iter();
            let mut segments: Vec<Segment> = segments.map(Segment::from_json).collect();
            let threshold = case["hallucination_silence_threshold"].as_f64();
            let found = next_window(window, &mut segments, integer("seek"), threshold);
            let expected = &case["expected"];
            let frame = expected["seek"].as_u64().unwrap() as usize;
            let expected_next = match expected["again"].as_bool().unwrap() {
                true => Next::Again(frame),
                false => Next::At(frame),
            };
            assert_eq!(found, expected_next, "case {i}");
            if found == Next::At(frame) {
                let n_segments = expected["n_segments"].as_u64().unwrap() as usize;
                assert_eq!(segments.len(), n_segments, "case {i}");
            }
        }
    }

    #[test]
    fn whatever_the_words_and_the_threshold_the_next_window_is_further_on() {
        let word = |start: f64, end: f64| json!({"word": " a", "start": start, "end": end, "probability": 0.0});
        for (start, end) in [
            (10.0, 10.0),
            (10.0, 10.001),
            (9.0, 9.5),
            (0.0, 0.0),
            (10.2, 12.9),
        ] {
            for threshold in [None, Some(-1.0), Some(0.0), Some(0.1), Some(f64::INFINITY)] {
                for (n_frames, is_closed) in [(1, false), (1, true), (3000, false), (3000, true)] {
                    let json = json!({"start": start, "end": end, "words": [word(start, end)]});
                    let mut segments = vec![Segment::from_json(&json)];
                    let window = Window {
                        seek: 1000,
                        n_frames,
                        content_frames: 1000 + n_frames,
                        is_closed,
                        last_speech_s: 0.0,
                    };
                    let next = next_window(window, &mut segments, 1000 + n_frames, threshold);
                    let (Next::At(frame) | Next::Again(frame)) = next;
                    assert!(frame > 1000, "{start} {end} {threshold:?}: {next:?}");
                }
            }
        }
    }
}
