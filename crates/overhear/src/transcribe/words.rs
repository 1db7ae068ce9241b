//! Effect of word timestamps on a window: the start of the next one (`whisper/transcribe.py` under `word_timestamps`).

use super::Segment;
use super::hallucination::{self, Skip, Window};
use crate::mel::FRAMES_PER_SECOND;

/// Continuation after a window with words.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The segments are kept; the next window begins at this frame.
    At(usize),
    /// The window is discarded; decoding is repeated from this frame on.
    Again(usize),
}

/// Returns where to continue after `window`, based on the times of its words; without words, at `next`. May remove
/// segments from the end.
pub(super) fn next_window(
    window: Window,
    segments: &mut Vec<Segment>,
    next: usize,
    silence_threshold: Option<f64>,
) -> Next {
    let start_s = window.seek as f64 / FRAMES_PER_SECOND;
    let mut next = next;
    // Continue at the end of the last word, unless nothing is said after the last timestamp.
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

/// Returns `next`, or the end of the window if `next` is not beyond its start: openai/whisper would loop forever.
fn advance(window: Window, next: usize) -> usize {
    if next > window.seek {
        next
    } else {
        window.seek + window.n_frames
    }
}

/// Returns the end of speech: of the last word, or without words of the last segment (`whisper/utils.py::get_end`).
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
    fn the_next_window_begins_as_in_openai_whisper() {
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
    fn the_next_window_always_begins_after_the_start_of_the_window() {
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
