//! Skipping of silence around possible hallucinations: the rules of `hallucination_silence_threshold` in
//! `whisper/transcribe.py`.

use super::words::last_end;
use super::{Segment, Word};
use crate::mel::{FRAMES_PER_SECOND, N_FRAMES};

/// Punctuation, which does not count as a word. Tested as Python's `in`: any substring matches.
const PUNCTUATION: &str = "\"'“¿([{-\"'.。,，!！?？:：”)]}、";
/// Number of words of a segment that are scored.
const N_WORDS: usize = 8;
/// Distance in seconds to an edge of the window within which a possible hallucination counts as having silence there.
const EDGE_S: f64 = 2.0;

/// A decoded window.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// First frame of the window.
    pub(super) seek: usize,
    /// Number of frames of the window that are audio.
    pub(super) n_frames: usize,
    /// Number of frames of the file.
    pub(super) content_frames: usize,
    /// Whether the window ends with a single timestamp, after which nothing is said.
    pub(super) is_closed: bool,
    /// End of the speech before the window in seconds.
    pub(super) last_speech_s: f64,
}

/// Effect of the rules on a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Skip {
    /// The window is kept.
    None,
    /// The window began with silence: decoding is repeated from this frame on.
    Leading(usize),
    /// The window is kept up to a segment; the next window begins at this frame.
    To(usize),
}

impl Window {
    fn start_s(self) -> f64 {
        seconds(self.seek)
    }

    /// Returns the end of a window of full length in seconds.
    fn end_s(self) -> f64 {
        seconds(self.seek + N_FRAMES)
    }
}

/// Applies the rules to the words of the window's `segments`: removes all segments from the first possible
/// hallucination on that is surrounded by silence longer than `threshold` seconds.
pub(super) fn skip(window: Window, segments: &mut Vec<Segment>, threshold: f64) -> Skip {
    let mut skip = Skip::None;
    if !window.is_closed
        && let Some(last_end) = last_end(segments).filter(|&end| end > window.start_s())
    {
        let is_silent_to_the_end = window.end_s() - last_end > threshold;
        skip = Skip::To(if is_silent_to_the_end {
            frame(last_end)
        } else {
            window.seek + window.n_frames
        });
    }
    if let Some(first) = with_words(segments).filter(|first| is_anomalous(Some(first))) {
        let gap = first.start - window.start_s();
        if gap > threshold {
            return Skip::Leading(window.seek + frame(gap));
        }
    }
    let mut last_end = window.last_speech_s;
    for i in 0..segments.len() {
        let segment = &segments[i];
        if words(segment).is_empty() {
            continue;
        }
        if is_anomalous(Some(segment))
            && is_surrounded(window, segment, last_end, &segments[i + 1..], threshold)
        {
            let content_s = seconds(window.content_frames);
            skip = Skip::To(if content_s - segment.end < threshold {
                window.content_frames
            } else {
                frame(segment.start.max(window.start_s() + 1.0))
            });
            segments.truncate(i);
            break;
        }
        last_end = segments[i].end;
    }
    skip
}

/// Returns whether there is silence, or another possible hallucination, on both sides of `segment`.
fn is_surrounded(
    window: Window,
    segment: &Segment,
    last_end: f64,
    after: &[Segment],
    threshold: f64,
) -> bool {
    let next = with_words(after);
    let next_start = next.map_or(window.start_s() + seconds(window.n_frames), |next| {
        words(next)[0].start
    });
    let silence_before = segment.start - last_end > threshold
        || segment.start < threshold
        || segment.start - window.start_s() < EDGE_S;
    let silence_after = next_start - segment.end > threshold
        || is_anomalous(next)
        || window.end_s() - segment.end < EDGE_S;
    silence_before && silence_after
}

/// Returns whether most of a segment's first words are improbable, too short or too long: `is_segment_anomaly`.
fn is_anomalous(segment: Option<&Segment>) -> bool {
    let Some(segment) = segment.filter(|segment| !words(segment).is_empty()) else {
        return false;
    };
    let spoken = words(segment)
        .iter()
        .filter(|word| !PUNCTUATION.contains(&*word.word))
        .take(N_WORDS);
    let (mut score, mut n_words) = (0.0, 0);
    for word in spoken {
        score += anomaly_score(word);
        n_words += 1;
    }
    score >= 3.0 || score + 0.01 >= f64::from(n_words)
}

fn anomaly_score(word: &Word) -> f64 {
    let duration = word.end - word.start;
    let mut score = 0.0;
    if word.probability < 0.15 {
        score += 1.0;
    }
    if duration < 0.133 {
        score += (0.133 - duration) * 15.0;
    }
    if duration > 2.0 {
        score += duration - 2.0;
    }
    score
}

fn with_words(segments: &[Segment]) -> Option<&Segment> {
    segments.iter().find(|segment| !words(segment).is_empty())
}

fn words(segment: &Segment) -> &[Word] {
    segment.words.as_deref().unwrap_or_default()
}

fn seconds(frame: usize) -> f64 {
    frame as f64 / FRAMES_PER_SECOND
}

/// Converts seconds to frames, rounded half to even as in Python.
fn frame(seconds: f64) -> usize {
    (seconds * FRAMES_PER_SECOND).round_ties_even() as usize
}
