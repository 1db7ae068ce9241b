//! Splits a transcript into cues: `whisper/utils.py::SubtitlesWriter.iterate_result`.

use super::CaptionOptions;
use crate::{Segment, Transcript, Word, python};

/// Minimum length in seconds of a pause that ends a cue where cues may end anywhere.
const LONG_PAUSE_S: f64 = 3.0;

/// Text shown at one time: a segment, or some words of one or several segments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cue {
    pub(super) start: f64,
    pub(super) end: f64,
    /// Words, each with the space or line break before it; or the whole text, if the times of words are unknown.
    pub(super) pieces: Vec<Word>,
    /// Whether the pieces are words.
    pub(super) has_words: bool,
}

impl Cue {
    pub(super) fn text(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| piece.word.as_str())
            .collect()
    }
}

/// Returns the cues of `transcript`: segments, or if words have times, words grouped by `options`. Segments without
/// text are skipped.
pub(super) fn cues(transcript: &Transcript, options: &CaptionOptions) -> Vec<Cue> {
    let segments = &transcript.segments;
    if segments.iter().all(|segment| segment.words.is_some()) {
        return Layout::new(options).cues(segments);
    }
    let spoken = segments
        .iter()
        .filter(|segment| !python::strip(&segment.text).is_empty());
    spoken.map(whole).collect()
}

fn whole(segment: &Segment) -> Cue {
    let (start, end) = (segment.start, segment.end);
    let text = Word {
        word: python::strip(&segment.text).to_owned(),
        start,
        end,
        probability: 1.0,
    };
    Cue {
        start,
        end,
        pieces: vec![text],
        has_words: false,
    }
}

/// Limits for filling lines with words, and cues with lines.
struct Layout {
    /// Maximum number of characters of a line.
    max_line_width: usize,
    /// Maximum number of lines of a cue; `None`: unlimited.
    max_line_count: Option<usize>,
    max_words_per_line: usize,
    /// Whether every segment starts a new cue. False if width and number of lines are both limited: then cues are
    /// filled.
    preserve_segments: bool,
}

impl Layout {
    fn new(options: &CaptionOptions) -> Self {
        // 0 counts as absent, as the reference tests the truth of the option.
        let given = |option: Option<usize>| option.filter(|&n| n > 0);
        let (width, count) = (given(options.max_line_width), given(options.max_line_count));
        Self {
            max_line_width: width.unwrap_or(1000),
            max_line_count: count,
            max_words_per_line: given(options.max_words_per_line).unwrap_or(1000),
            preserve_segments: count.is_none() || width.is_none(),
        }
    }

    fn cues(&self, segments: &[Segment]) -> Vec<Cue> {
        let words = |segment: &Segment| segment.words.clone().unwrap_or_default();
        let first = segments
            .iter()
            .find_map(|segment| Some(segment.words.as_ref()?.first()?.start));
        let mut cues = Vec::new();
        let mut pieces: Vec<Word> = Vec::new();
        let (mut line_len, mut line_count) = (0, 1);
        let mut last_start = first.unwrap_or(0.0);
        for words in segments.iter().map(words) {
            for (i, mut word) in words.into_iter().enumerate() {
                let begins_chunk = i % self.max_words_per_line == 0;
                let is_break = begins_chunk && !pieces.is_empty() && self.preserve_segments;
                let is_pause = !self.preserve_segments && word.start - last_start > LONG_PAUSE_S;
                let len = word.word.chars().count();
                if line_len > 0 && line_len + len <= self.max_line_width && !is_pause && !is_break {
                    line_len += len;
                } else {
                    word.word = python::strip(&word.word).to_owned();
                    let is_full = self
                        .max_line_count
                        .is_some_and(|max| is_pause || line_count >= max);
                    let len = word.word.chars().count();
                    if !pieces.is_empty() && is_full || is_break {
                        cues.extend(cue(std::mem::take(&mut pieces)));
                        line_count = 1;
                    } else if line_len > 0 {
                        line_count += 1;
                        word.word.insert(0, '\n');
                    }
                    line_len = len;
                }
                last_start = word.start;
                pieces.push(word);
            }
        }
        cues.extend(cue(pieces));
        cues
    }
}

/// Returns the cue of these words; `None` without words.
fn cue(pieces: Vec<Word>) -> Option<Cue> {
    Some(Cue {
        start: pieces.first()?.start,
        end: pieces.last()?.end,
        pieces,
        has_words: true,
    })
}
