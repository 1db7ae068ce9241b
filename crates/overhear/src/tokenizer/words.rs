//! Splits tokens into words (`whisper/tokenizer.py::split_to_word_tokens`).

use super::{Language, TokenId, Tokenizer};
use crate::python;

/// Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

pub(super) fn split(
    tokenizer: &Tokenizer,
    tokens: &[TokenId],
    language: Language,
) -> Vec<(String, Vec<TokenId>)> {
    let pieces = split_on_unicode(tokenizer, tokens);
    // An English-only model has no language (`get_tokenizer` sets it to None).
    if tokenizer.is_multilingual() && language.is_written_without_spaces() {
        pieces
    } else {
        join_on_spaces(tokenizer, pieces)
    }
}

/// Splits wherever the tokens so far decode to complete characters. A replacement character is complete if the text
/// itself has one at that position; as in the reference, tokens after the last complete character are dropped.
fn split_on_unicode(tokenizer: &Tokenizer, tokens: &[TokenId]) -> Vec<(String, Vec<TokenId>)> {
    let full: Vec<char> = tokenizer.decode_with_timestamps(tokens).chars().collect();
    let mut pieces = Vec::new();
    let mut current = Vec::new();
    let mut n_chars_done = 0;
    for &token in tokens {
        current.push(token);
        let decoded = tokenizer.decode_with_timestamps(&current);
        let replaced = decoded.chars().position(|c| c == REPLACEMENT);
        if replaced.is_none_or(|at| full.get(n_chars_done + at) == Some(&REPLACEMENT)) {
            n_chars_done += decoded.chars().count();
            pieces.push((decoded, std::mem::take(&mut current)));
        }
    }
    pieces
}

/// Joins pieces into words: a special token, a leading space or punctuation starts a new one.
fn join_on_spaces(
    tokenizer: &Tokenizer,
    pieces: Vec<(String, Vec<TokenId>)>,
) -> Vec<(String, Vec<TokenId>)> {
    let mut words: Vec<(String, Vec<TokenId>)> = Vec::new();
    for (text, tokens) in pieces {
        let is_special = !tokenizer.is_text(tokens[0]);
        // Python's `in` on strings: any substring of the list matches, including the empty one.
        let is_punctuation = PUNCTUATION.contains(python::strip(&text));
        match words.last_mut() {
            Some(word) if !(is_special || text.starts_with(' ') || is_punctuation) => {
                word.0.push_str(&text);
                word.1.extend(tokens);
            }
            _ => words.push((text, tokens)),
        }
    }
    words
}
