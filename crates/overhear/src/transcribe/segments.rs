//! Tokens of a window to segments: the slicing of `whisper/transcribe.py`.

use std::ops::Range;

use super::{Alternative, Segment};
use crate::decode::{DecodingResult, TokenProbability};
use crate::mel::FRAMES_PER_SECOND;
use crate::{TokenId, Tokenizer, python};

/// Seconds from one timestamp to the next.
const TIME_PRECISION_S: f64 = 0.02;
/// Frames from one timestamp to the next.
const INPUT_STRIDE: usize = 2;

/// A segment of a window, before it has text.
#[derive(Debug, PartialEq)]
pub(super) struct Span {
    /// Seconds from the start of the window.
    start_s: f64,
    end_s: f64,
    /// Which of the window's tokens are its.
    tokens: Range<usize>,
}

/// A window cut into segments.
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    pub(super) spans: Vec<Span>,
    /// How many frames the next window is further on.
    pub(super) n_done: usize,
    /// Whether the window ends on a lone timestamp, which says that nothing is spoken after it.
    pub(super) is_closed: bool,
}

impl Split {
    /// Lets no span end behind the `n_frames` frames of content, where the reference lets it, unless it begins there.
    pub(super) fn end_within(&mut self, n_frames: usize) {
        let end_s = n_frames as f64 / FRAMES_PER_SECOND;
        for span in self.spans.iter_mut().filter(|span| span.start_s < end_s) {
            span.end_s = span.end_s.min(end_s);
        }
    }
}

/// Cuts the tokens of a window of `n_frames` frames of content where two timestamps meet.
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
        // The first token of a slice is a timestamp, unless a prefix kept the window from beginning with one.
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
    // What follows the last pair is unfinished: the next window begins there. At 0, which the rules forbid but
    // sampling without them does not, the reference would stand still for ever.
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

/// How many frames further on `tokens` end, if they end with a timestamp, and not at 0.
pub(super) fn end_frames(tokens: &[TokenId], timestamps: &Range<TokenId>) -> Option<usize> {
    let last = tokens.last().filter(|token| timestamps.contains(token))?;
    let n_frames = (last - timestamps.start) as usize * INPUT_STRIDE;
    (n_frames > 0).then_some(n_frames)
}

/// The segment of `span`.
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

/// Clears the segment if it has no duration or no text.
pub(super) fn clear_if_empty(segment: &mut Segment) {
    if segment.start == segment.end || python::strip(&segment.text).is_empty() {
        clear(segment);
    }
}

/// Takes the text of the segment away.
pub(super) fn clear(segment: &mut Segment) {
    segment.text.clear();
    segment.tokens.clear();
    segment.token_probabilities.clear();
    segment.alternatives.clear();
    // Whether words were asked for or not.
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
    fn cuts_where_timestamps_meet() {
        struct Case {
            tokens: &'static [TokenId],
            spans: Vec<Span>,
            n_done: usize,
            is_closed: bool,
        }
        let cases = [
            // Two pairs and an unfinished third: go on after the second.
            Case {
                tokens: &[T, 1, T + 50, T + 50, 2, T + 100, T + 100, 3],
                spans: vec![span(0.0, 1.0, 0..3), span(1.0, 2.0, 3..6)],
                n_done: 200,
                is_closed: false,
            },
            // A lone timestamp at the end: the window is done.
            Case {
                tokens: &[T, 1, T + 50, T + 60, 2, T + 100],
                spans: vec![span(0.0, 1.0, 0..3), span(1.2, 2.0, 3..6)],
                n_done: 2500,
                is_closed: true,
            },
            // No pair: one segment up to its last timestamp, and the window is done.
            Case {
                tokens: &[T, 1, 2, T + 75],
                spans: vec![span(0.0, 1.5, 0..4)],
                n_done: 2500,
                is_closed: true,
            },
            // No pair and no timestamp but 0: to the end of the window.
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
            // Ends on a pair: go on at its second timestamp's first, the last of the slice.
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
    fn spans_end_with_the_content_unless_they_begin_behind_it() {
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
