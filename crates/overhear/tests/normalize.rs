//! The text normalisers against openai/whisper's own output (`tools/dump_normalized.py`).

#![allow(clippy::unwrap_used)]

use overhear::eval::normalize::{BasicTextNormalizer, EnglishTextNormalizer};
use serde_json::Value;

const GOLDEN: &str = include_str!("fixtures/normalize/golden.jsonl");

/// Compares what `normalize` makes of the texts with the golden's `field`, where it has that.
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
fn english_texts_become_what_the_reference_makes_of_them() {
    let english = EnglishTextNormalizer::new();
    assert_golden("english", 1400, |text| english.normalize(text));
}

#[test]
fn basic_texts_become_what_the_reference_makes_of_them() {
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
