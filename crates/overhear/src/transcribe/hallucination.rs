//! Skips silence around what may be a hallucination: the rules of `whisper/transcribe.py` behind
//! `hallucination_silence_threshold`.

use super::words::last_end;
use super::{Segment, Word};
use crate::mel::{FRAMES_PER_SECOND, N_FRAMES};

/// Punctuation does not count as a word here. Tested as Python's `in`: any substring counts.
const PUNCTUATION: &str = "\"'“¿([{-\"'.。,，!！?？:：”)]}、";
/// Words of a segment that are looked at.
const N_WORDS: usize = 8;
/// A possible hallucination this close to an end of the window, in seconds, has silence there.
const EDGE_S: f64 = 2.0;

/// A window that has been decoded.
#[derive(Clone, Copy)]
pub(super) struct Window {
    /// Its first frame.
    pub(super) seek: usize,
    /// Frames of it that are audio.
    pub(super) n_frames: usize,
    /// Frames of the file.
    pub(super) content_frames: usize,
    /// Whether it ends on a lone timestamp: nothing is said after it.
    pub(super) is_closed: bool,
    /// Where speech ended before it, in seconds.
    pub(super) last_speech_s: f64,
}

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Skip {
    /// It stands.
    None,
    /// It began with silence: it is decoded again from this frame on, as if this time had not been.
    Leading(usize),
    /// It stands up to a segment, and the next begins at this frame.
    To(usize),
}

impl Window {
    fn start_s(self) -> f64 {
        seconds(self.seek)
    }

    /// Where a whole window would end.
    fn end_s(self) -> f64 {
        seconds(self.seek + N_FRAMES)
    }
}

/// Looks through the words of the window's `segments` and drops those from the first hallucination on that silence
/// longer than `threshold` seconds surrounds.
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

/// Whether there is silence, or another hallucination, on either side of `segment`.
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

/// Whether most of a segment's first words are improbable, or last too short or too long.
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

/// As Python rounds: half to even.
fn frame(seconds: f64) -> usize {
    (seconds * FRAMES_PER_SECOND).round_ties_even() as usize
}
