//! Normalisation of English: `whisper/normalizers/english.py::EnglishTextNormalizer`.

use std::collections::HashMap;

use super::basic::{remove_brackets, remove_symbols_and_diacritics};
use super::numbers::EnglishNumberNormalizer;
use super::rewrite::{begins_word, collapse_spaces, ends_word, is_digit, is_word, run, sub, words};
use crate::python::is_space;

/// British spellings and their American ones (openai/whisper, MIT; after tysto.com's list).
const SPELLINGS: &str = include_str!("english.json");

/// Filler words, which are removed.
const IGNORED: [&str; 6] = ["hmm", "mm", "mhm", "mmm", "uh", "um"];

/// Whole words and their replacements, applied in this order: contractions, then titles.
#[rustfmt::skip]
const WORDS: [(&str, &str); 35] = [
    ("won't", "will not"), ("can't", "can not"), ("let's", "let us"), ("ain't", "aint"), ("y'all", "you all"),
    ("wanna", "want to"), ("gotta", "got to"), ("gonna", "going to"), ("i'ma", "i am going to"),
    ("imma", "i am going to"), ("woulda", "would have"), ("coulda", "could have"), ("shoulda", "should have"),
    ("ma'am", "madam"),
    ("mr", "mister "), ("mrs", "missus "), ("st", "saint "), ("dr", "doctor "), ("prof", "professor "),
    ("capt", "captain "), ("gov", "governor "), ("ald", "alderman "), ("gen", "general "), ("sen", "senator "),
    ("rep", "representative "), ("pres", "president "), ("rev", "reverend "), ("hon", "honorable "),
    ("asst", "assistant "), ("assoc", "associate "), ("lt", "lieutenant "), ("col", "colonel "),
    ("jr", "junior "), ("sr", "senior "), ("esq", "esquire "),
];

/// Endings of words, replaced in this order after the whole words.
#[rustfmt::skip]
const ENDINGS: [(&str, &str); 14] = [
    ("'d been", " had been"), ("'s been", " has been"), ("'d gone", " had gone"), ("'s gone", " has gone"),
    ("'d done", " had done"), ("'s got", " has got"),
    ("n't", " not"), ("'re", " are"), ("'s", " is"), ("'d", " would"), ("'ll", " will"), ("'t", " not"),
    ("'ve", " have"), ("'m", " am"),
];

/// Normaliser for English: lower case, contractions and titles in full, digits for numbers, American spelling, no
/// symbols.
#[derive(Clone, Debug)]
pub struct EnglishTextNormalizer {
    numbers: EnglishNumberNormalizer,
    spellings: HashMap<String, String>,
}

impl Default for EnglishTextNormalizer {
    fn default() -> Self {
        Self::new()
    }
}

impl EnglishTextNormalizer {
    /// Builds the tables.
    #[must_use]
    pub fn new() -> Self {
        let spellings =
            serde_json::from_str(SPELLINGS).expect("english.json is an object of strings");
        Self {
            numbers: EnglishNumberNormalizer::new(),
            spellings,
        }
    }

    /// Returns the normalised form of `text`. As in the reference it may start or end with a space.
    #[must_use]
    pub fn normalize(&self, text: &str) -> String {
        let text = remove_brackets(&text.to_lowercase());
        let text = remove_ignored(&text);
        let text = attach_apostrophes(&text);
        let text = expand_contractions(&text);
        let text = remove_commas_and_periods(&text);
        let text = remove_symbols_and_diacritics(&text, ".%$¢€£");

        let text = self.numbers.normalize(&text);
        let text = self.americanize(&text);

        let text = remove_stray_signs(&text);
        collapse_spaces(&text)
    }

    fn americanize(&self, text: &str) -> String {
        let american = |word| self.spellings.get(word).map_or(word, String::as_str);
        words(text).map(american).collect::<Vec<_>>().join(" ")
    }
}

/// `\b(hmm|mm|mhm|mmm|uh|um)\b`: removed.
fn remove_ignored(text: &str) -> String {
    sub(text, |chars, at| {
        let n_word = run(chars, at, is_word);
        let word: String = chars[at..at + n_word].iter().collect();
        let is_ignored = begins_word(chars, at) && IGNORED.contains(&word.as_str());
        is_ignored.then(|| (n_word, String::new()))
    })
}

/// `\s+'`: removes spaces before an apostrophe.
fn attach_apostrophes(text: &str) -> String {
    sub(text, |chars, at| {
        let n_spaces = run(chars, at, is_space);
        let is_apostrophe = n_spaces > 0 && chars.get(at + n_spaces) == Some(&'\'');
        is_apostrophe.then(|| (n_spaces + 1, "'".to_owned()))
    })
}

fn expand_contractions(text: &str) -> String {
    let whole = WORDS.iter().map(|rule| (rule, true));
    let endings = ENDINGS.iter().map(|rule| (rule, false));
    let mut text = text.to_owned();
    for ((pattern, replacement), is_whole) in whole.chain(endings) {
        if !text.contains(pattern) {
            continue;
        }
        let pattern: Vec<char> = pattern.chars().collect();
        text = sub(&text, |chars, at| {
            let is_match = chars[at..].starts_with(&pattern)
                && ends_word(chars, at + pattern.len())
                && (!is_whole || begins_word(chars, at));
            is_match.then(|| (pattern.len(), (*replacement).to_owned()))
        });
    }
    text
}

/// `(\d),(\d)`: removes commas between digits (matches do not overlap: 1,2,3 becomes 12,3). Then `\.([^0-9]|$)`:
/// removes periods that no digit follows.
fn remove_commas_and_periods(text: &str) -> String {
    let text = sub(text, |chars, at| match chars[at..] {
        [left, ',', right, ..] if is_digit(left) && is_digit(right) => {
            Some((3, [left, right].iter().collect()))
        }
        _ => None,
    });
    sub(&text, |chars, at| match chars[at..] {
        ['.'] => Some((1, " ".to_owned())),
        ['.', next, ..] if !next.is_ascii_digit() => Some((2, format!(" {next}"))),
        _ => None,
    })
}

/// `[.$¢€£]([^0-9])` and `([^0-9])%`: removes signs that belong to no number.
fn remove_stray_signs(text: &str) -> String {
    let text = sub(text, |chars, at| match chars[at..] {
        ['.' | '$' | '¢' | '€' | '£', next, ..] if !next.is_ascii_digit() => {
            Some((2, format!(" {next}")))
        }
        _ => None,
    });
    sub(&text, |chars, at| match chars[at..] {
        [before, '%', ..] if !before.is_ascii_digit() => Some((2, format!("{before} "))),
        _ => None,
    })
}
