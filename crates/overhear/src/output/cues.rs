//! A transcript cut into what is shown at a time: `whisper/utils.py::SubtitlesWriter.iterate_result`.

use super::CaptionOptions;
use crate::{Segment, Transcript, Word, python};

/// Seconds of silence that end a cue where cues may be cut anywhere.
const LONG_PAUSE_S: f64 = 3.0;

/// What is shown at a time: a segment, or some words of one or several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cue {
    pub(super) start: f64,
    pub(super) end: f64,
    /// Its words, each with the space or line break before it; or all of its text, if times of words are not known.
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

/// The cues of `transcript`: segments, or where words have times, words as `options` say. Segments without text have
/// none.
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

/// How words are put into lines, and lines into cues.
struct Layout {
    /// Characters of a line.
    max_line_width: usize,
    /// Lines of a cue; `None`: any number.
    max_line_count: Option<usize>,
    max_words_per_line: usize,
    /// Whether a segment begins a cue. Not if both widths and lines are limited: then cues are filled.
    preserve_segments: bool,
}

impl Layout {
    fn new(options: &CaptionOptions) -> Self {
        // 0 counts as not given, as the reference tests the option's truth.
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

/// The cue of these words; none of no words.
fn cue(pieces: Vec<Word>) -> Option<Cue> {
    Some(Cue {
        start: pieces.first()?.start,
        end: pieces.last()?.end,
        pieces,
        has_words: true,
    })
}
