//! Byte-level byte pair encoding: splits text into pieces, and pieces into tokens.
//!
//! The pieces are those of GPT-2's pattern, implemented by hand:
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
//! Within a piece the adjacent pair whose concatenation has the lowest id is merged first, the leftmost of
//! several, as tiktoken does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::TokenId;
use super::vocabulary::Vocabulary;

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// Encodes plain text.
pub(super) fn encode(vocabulary: &Vocabulary, text: &str) -> Vec<TokenId> {
    let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(piece_len(rest));
        match vocabulary.id(piece.as_bytes()) {
            Some(token) => tokens.push(token),
            None => merge(vocabulary, TokenId::MAX, piece.as_bytes(), &mut tokens),
        }
        rest = tail;
    }
    tokens
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Number,
    Other,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        _ if c.is_whitespace() => Class::Space,
        _ => match c.general_category_group() {
            GeneralCategoryGroup::Letter => Class::Letter,
            GeneralCategoryGroup::Number => Class::Number,
            _ => Class::Other,
        },
    }
}

/// Returns the number of bytes of the first piece of `text`, which must not be empty.
fn piece_len(text: &str) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|c| text.starts_with(**c)) {
        return contraction.len();
    }
    let body = text.strip_prefix(' ').unwrap_or(text);
    match body.chars().next().map(class) {
        Some(first) if first != Class::Space => text.len() - body.len() + run_len(body, first),
        _ => space_len(text),
    }
}

/// Returns the number of bytes of the leading characters of class `wanted`.
fn run_len(text: &str, wanted: Class) -> usize {
    text.find(|c| class(c) != wanted).unwrap_or(text.len())
}

/// Matches `\s+(?!\S)|\s+`: a run of white space, whose last character is left to a following word.
fn space_len(text: &str) -> usize {
    let run = run_len(text, Class::Space);
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    if run == text.len() || run == last {
        run
    } else {
        run - last
    }
}

/// Returns the tokens that the bytes of token `id` are merged into by the tokens before it.
pub(super) fn merged_before(vocabulary: &Vocabulary, id: TokenId) -> Vec<TokenId> {
    let mut tokens = Vec::new();
    match vocabulary.token(id) {
        // A byte is a token whatever its id.
        None | Some([_]) => tokens.push(id),
        Some(bytes) => merge(vocabulary, id, bytes, &mut tokens),
    }
    tokens
}

/// Merges the bytes of one piece into tokens below `limit`. `O(n log n)`, so that a long word cannot stall the encoder.
fn merge(vocabulary: &Vocabulary, limit: TokenId, piece: &[u8], tokens: &mut Vec<TokenId>) {
    let n = piece.len();
    // Parts are a linked list over byte positions: a part begins at `start` and ends where `next[start]` does.
    let mut next: Vec<usize> = (1..=n).collect();
    let mut previous: Vec<usize> = (0..=n).map(|start| start.saturating_sub(1)).collect();
    let mut is_part = vec![true; n];
    let mut queue = BinaryHeap::new();
    let candidate = |start: usize, end: usize| {
        vocabulary
            .id(&piece[start..end])
            .filter(|&id| id < limit)
            .map(|id| Reverse((id, start, end)))
    };
    queue.extend((0..n.saturating_sub(1)).filter_map(|start| candidate(start, start + 2)));

    while let Some(Reverse((_, start, end))) = queue.pop() {
        let middle = if is_part[start] {
            next[start]
        } else {
            continue;
        };
        if middle >= n || next[middle] != end {
            continue; // one of the two has grown since
        }
        is_part[middle] = false;
        next[start] = end;
        previous[end] = start;
        if start > 0 {
            queue.extend(candidate(previous[start], end));
        }
        if end < n {
            queue.extend(candidate(start, next[end]));
        }
    }

    let mut start = 0;
    while start < n {
        tokens.push(
            vocabulary
                .id(&piece[start..next[start]])
                .expect("parts are merged only into tokens"),
        );
        start = next[start];
    }
}
