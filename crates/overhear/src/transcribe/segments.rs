//! Splitting of a window's tokens into segments: `whisper/transcribe.py::transcribe`, `consecutive` and below.

use std::ops::Range;

use super::{Alternative, Segment};
use crate::decode::{DecodingResult, TokenProbability};
use crate::mel::FRAMES_PER_SECOND;
use crate::{TokenId, Tokenizer, python};

/// Time between neighbouring timestamp tokens in seconds.
const TIME_PRECISION_S: f64 = 0.02;
/// Number of frames between neighbouring timestamp tokens.
const INPUT_STRIDE: usize = 2;

/// Times and tokens of a segment of a window.
#[derive(Debug, PartialEq)]
pub(super) struct Span {
    /// Start and end in seconds from the beginning of the window.
    start_s: f64,
    end_s: f64,
    /// Range of the segment's tokens in those of the window.
    tokens: Range<usize>,
}

/// A window split into segments.
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    pub(super) spans: Vec<Span>,
    /// Number of frames from the start of this window to that of the next.
    pub(super) n_done: usize,
    /// Whether the window ends with a single timestamp, after which nothing is said.
    pub(super) is_closed: bool,
}

impl Split {
    /// Clamps the ends of spans to the `n_frames` frames of content, except of spans that begin after them.
    pub(super) fn end_within(&mut self, n_frames: usize) {
        let end_s = n_frames as f64 / FRAMES_PER_SECOND;
        for span in self.spans.iter_mut().filter(|span| span.start_s < end_s) {
            span.end_s = span.end_s.min(end_s);
        }
    }
}

/// Splits the tokens of a window of `n_frames` frames of content between consecutive timestamps.
pub(super) fn split(tokens: &[TokenId], timestamps: &Range<TokenId>, n_frames: usize) -> Split {
    let timestamp_begin = timestamps.start;
    let position = |token: TokenId| (token - timestamp_begin) as usize;
    let time_s = |token: TokenId| position(token) as f64 * TIME_PRECISION_S;
    let is_timestamp: Vec<bool> = tokens
        .iter()
        .map(|token| timestamps.contains(token))
        .collect();
    let is_closed = is_timestamp.ends_with(&[false, true]);
    let mut cuts: Vec<usize> = (1..tokens.len())
        .filter(|&i| is_timestamp[i - 1] && is_timestamp[i])
        .collect();

    if cuts.is_empty() {
        let last = tokens
            .iter()
            .rev()
            .copied()
            .find(|token| timestamps.contains(token));
        let end_s = match last {
            Some(token) if token != timestamp_begin => time_s(token),
            _ => n_frames as f64 / FRAMES_PER_SECOND,
        };
        return Split {
            spans: vec![Span {
                start_s: 0.0,
                end_s,
                tokens: 0..tokens.len(),
            }],
            n_done: n_frames,
            is_closed,
        };
    }
    if is_closed {
        cuts.push(tokens.len());
    }
    let mut spans = Vec::with_capacity(cuts.len());
    let mut first = 0;
    for cut in cuts {
        // The first token of a slice is a timestamp, unless the window began with a prefix.
        let start_s = if is_timestamp[first] {
            time_s(tokens[first])
        } else {
            0.0
        };
        spans.push(Span {
            start_s,
            end_s: time_s(tokens[cut - 1]),
            tokens: first..cut,
        });
        first = cut;
    }
    // Tokens after the last pair of timestamps are incomplete: the next window begins there. If that is at 0, which is
    // possible without the timestamp rules, openai/whisper would loop forever.
    let n_done = match position(tokens[first - 1]) * INPUT_STRIDE {
        n_done if n_done > 0 && !is_closed => n_done,
        _ => n_frames,
    };
    Split {
        spans,
        n_done,
        is_closed,
    }
}

/// Returns the frame at which a segment begins whose text `tokens` leave out: that of a second timestamp at their end.
pub(super) fn begun_at(tokens: &[TokenId], timestamps: &Range<TokenId>) -> Option<usize> {
    let &[.., end, begin] = tokens else {
        return None;
    };
    let is_pair = timestamps.contains(&end) && timestamps.contains(&begin);
    is_pair.then(|| (begin - timestamps.start) as usize * INPUT_STRIDE)
}

/// Returns the frame of the timestamp that `tokens` end with, if it is not 0.
pub(super) fn end_frames(tokens: &[TokenId], timestamps: &Range<TokenId>) -> Option<usize> {
    let last = tokens.last().filter(|token| timestamps.contains(token))?;
    let n_frames = (last - timestamps.start) as usize * INPUT_STRIDE;
    (n_frames > 0).then_some(n_frames)
}

/// Returns the segment of `span`.
pub(super) fn segment(
    span: &Span,
    result: &DecodingResult,
    tokenizer: &Tokenizer,
    id: usize,
    seek: usize,
) -> Segment {
    let offset_s = seek as f64 / FRAMES_PER_SECOND;
    let tokens = &result.tokens[span.tokens.clone()];
    let text_tokens: Vec<TokenId> = tokens
        .iter()
        .copied()
        .filter(|&token| tokenizer.is_text(token))
        .collect();
    Segment {
        id,
        seek,
        start: offset_s + span.start_s,
        end: offset_s + span.end_s,
        text: tokenizer.decode(&text_tokens),
        tokens: tokens.to_vec(),
        temperature: result.temperature,
        avg_logprob: result.avg_logprob,
        compression_ratio: result.compression_ratio,
        no_speech_prob: result.no_speech_prob,
        language: None,
        loop_cut: None,
        silence: None,
        token_probabilities: result.token_logprobs[span.tokens.clone()]
            .iter()
            .map(|p| p.exp())
            .collect(),
        alternatives: result
            .alternatives
            .get(span.tokens.clone())
            .unwrap_or_default()
            .iter()
            .map(|tokens| alternatives(tokens, tokenizer))
            .collect(),
        words: None,
    }
}

/// Returns the text tokens of a segment, without timestamps.
pub(super) fn text_tokens<'a>(
    segment: &'a Segment,
    tokenizer: &'a Tokenizer,
) -> impl Iterator<Item = TokenId> + 'a {
    let tokens = segment.tokens.iter().copied();
    tokens.filter(|&token| tokenizer.is_text(token))
}

/// Clears the segment if it has no duration or no text.
pub(super) fn clear_if_empty(segment: &mut Segment) {
    if segment.start == segment.end || python::strip(&segment.text).is_empty() {
        clear(segment);
    }
}

/// Removes text, tokens and words of the segment.
pub(super) fn clear(segment: &mut Segment) {
    segment.text.clear();
    segment.tokens.clear();
    segment.token_probabilities.clear();
    segment.alternatives.clear();
    // As in openai/whisper, whether words were requested or not.
    segment.words = Some(Vec::new());
}

fn alternatives(tokens: &[TokenProbability], tokenizer: &Tokenizer) -> Vec<Alternative> {
    let alternative = |&TokenProbability { token, logprob }: &TokenProbability| Alternative {
        token,
        text: tokenizer.decode_with_timestamps(&[token]),
        probability: logprob.exp(),
    };
    tokens.iter().map(alternative).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TokenId = 1000;

    fn span(start_s: f64, end_s: f64, tokens: Range<usize>) -> Span {
        Span {
            start_s,
            end_s,
            tokens,
        }
    }

    #[test]
    fn a_segment_is_begun_by_a_second_timestamp_at_the_end() {
        let begun_at = |tokens: &[TokenId]| begun_at(tokens, &(T..T + 1501));
        assert_eq!(begun_at(&[T, 1, T + 50, T + 60]), Some(120));
        assert_eq!(begun_at(&[T, 1, T + 50]), None);
        assert_eq!(begun_at(&[T, 1, T + 50, T + 50, 2]), None);
        assert_eq!(begun_at(&[T + 50]), None);
        assert_eq!(begun_at(&[]), None);
    }

    #[test]
    fn cuts_where_timestamps_meet() {
        struct Case {
            tokens: &'static [TokenId],
            spans: Vec<Span>,
            n_done: usize,
            is_closed: bool,
        }
        let cases = [
            // Two pairs and an incomplete third: the next window begins after the second.
            Case {
                tokens: &[T, 1, T + 50, T + 50, 2, T + 100, T + 100, 3],
                spans: vec![span(0.0, 1.0, 0..3), span(1.0, 2.0, 3..6)],
                n_done: 200,
                is_closed: false,
            },
            // A single timestamp at the end: the window is complete.
            Case {
                tokens: &[T, 1, T + 50, T + 60, 2, T + 100],
                spans: vec![span(0.0, 1.0, 0..3), span(1.2, 2.0, 3..6)],
                n_done: 2500,
                is_closed: true,
            },
            // No pair: one segment up to its last timestamp, and the window is complete.
            Case {
                tokens: &[T, 1, 2, T + 75],
                spans: vec![span(0.0, 1.5, 0..4)],
                n_done: 2500,
                is_closed: true,
            },
            // No pair and no timestamp but 0: one segment up to the end of the window.
            Case {
                tokens: &[T, 1, 2],
                spans: vec![span(0.0, 25.0, 0..3)],
                n_done: 2500,
                is_closed: false,
            },
            Case {
                tokens: &[1, 2],
                spans: vec![span(0.0, 25.0, 0..2)],
                n_done: 2500,
                is_closed: false,
            },
            Case {
                tokens: &[],
                spans: vec![span(0.0, 25.0, 0..0)],
                n_done: 2500,
                is_closed: false,
            },
            // A pair at the end: the next window begins at the first of the two.
            Case {
                tokens: &[T + 5, 1, T + 50, T + 50],
                spans: vec![span(0.1, 1.0, 0..3)],
                n_done: 100,
                is_closed: false,
            },
        ];
        for case in cases {
            assert_eq!(
                split(case.tokens, &(T..T + 1501), 2500),
                Split {
                    spans: case.spans,
                    n_done: case.n_done,
                    is_closed: case.is_closed,
                },
                "{:?}",
                case.tokens
            );
        }
    }

    #[test]
    fn spans_end_with_the_content_unless_they_begin_after_it() {
        let mut split = Split {
            spans: vec![
                span(0.0, 1.0, 0..3),
                span(1.0, 23.9, 3..6),
                span(2.5, 3.0, 6..9),
            ],
            n_done: 2390,
            is_closed: false,
        };
        split.end_within(200);
        let expected = [
            span(0.0, 1.0, 0..3),
            span(1.0, 2.0, 3..6),
            span(2.5, 3.0, 6..9),
        ];
        assert_eq!(split.spans, expected);
    }
}
