//! The text normalisers, compared with openai/whisper's (`tools/dump_normalized.py`).

#![allow(clippy::unwrap_used)]

use overhear::eval::normalize::{BasicTextNormalizer, EnglishTextNormalizer};
use serde_json::Value;

const GOLDEN: &str = include_str!("../fixtures/normalize/golden.jsonl");

/// Compares the normalised texts with `field` of the golden, where present.
fn assert_golden(field: &str, n_least: usize, normalize: impl Fn(&str) -> String) {
    let mut differing = Vec::new();
    let mut n_texts = 0;
    for line in GOLDEN.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (text, Some(expected)) = (row["text"].as_str().unwrap(), row.get(field)) else {
            continue;
        };
        let found = normalize(text);
        n_texts += 1;
        if found != *expected {
            differing.push(format!("{text:?}: {found:?}, expected {expected}"));
        }
    }
    assert!(n_texts >= n_least, "{n_texts} texts");
    assert!(differing.is_empty(), "{field}:\n{}", differing.join("\n"));
}

#[test]
fn english_texts_are_normalised_as_in_openai_whisper() {
    let english = EnglishTextNormalizer::new();
    assert_golden("english", 1400, |text| english.normalize(text));
}

#[test]
fn basic_texts_are_normalised_as_in_openai_whisper() {
    let basic = BasicTextNormalizer::default();
    assert_golden("basic", 280, |text| basic.normalize(text));
    let plain = BasicTextNormalizer {
        remove_diacritics: true,
        ..basic
    };
    assert_golden("basic_without_diacritics", 280, |text| {
        plain.normalize(text)
    });
    let letters = BasicTextNormalizer {
        split_letters: true,
        ..basic
    };
    assert_golden("basic_letters", 280, |text| letters.normalize(text));
}
