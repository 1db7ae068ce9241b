//! Search through the whole engine: sampling with a seed, n-best, boosted phrases, hotwords.

#![allow(clippy::unwrap_used)]

use crate::common::{fixtures, nano};
use overhear::decode::{BoostPhrase, DecodingRules};
use overhear::{Audio, Language, Model, ModelOptions, TranscribeOptions};
use std::num::NonZeroUsize;

/// Clips, and words in them that nano's greedy search misses. Beam search finds the last.
const MISHEARD: [(&str, &str); 3] = [
    ("synth-en-02.flac", "eighteen"),
    ("synth-en-04.flac", "carpet"),
    ("synth-en-12.flac", "last year"),
];

fn model(threads: usize) -> Model {
    let options = ModelOptions {
        threads: NonZeroUsize::new(threads),
        ..ModelOptions::default()
    };
    Model::open(nano(), &options).unwrap()
}

fn clip(name: &str) -> Audio {
    Audio::open(fixtures().join("audio").join(name)).unwrap()
}

fn search(beam_size: Option<usize>) -> TranscribeOptions {
    TranscribeOptions {
        language: Some(Language::ENGLISH),
        temperatures: vec![0.0],
        rules: DecodingRules {
            beam_size,
            ..DecodingRules::default()
        },
        ..TranscribeOptions::default()
    }
}

fn boosted(beam_size: Option<usize>, weight: f32, phrases: &[&str]) -> TranscribeOptions {
    let phrase = |text: &&str| BoostPhrase {
        text: (*text).to_owned(),
        weight,
    };
    TranscribeOptions {
        rules: DecodingRules {
            boost: phrases.iter().map(phrase).collect(),
            ..search(beam_size).rules
        },
        ..search(beam_size)
    }
}

#[test]
fn same_seed_same_text_and_beams_the_same_for_any_number_of_threads() {
    let sampled = TranscribeOptions {
        temperatures: vec![0.9],
        best_of: Some(4),
        rules: DecodingRules {
            seed: 11,
            ..search(None).rules
        },
        ..search(None)
    };
    let audio = clip("jfk.flac");
    for options in [sampled, search(Some(5))] {
        let one = model(1).transcribe(&audio, &options).unwrap();
        for threads in [2, 3, 8] {
            let found = model(threads).transcribe(&audio, &options).unwrap();
            assert_eq!(found, one, "{threads} threads");
        }
    }
}

#[test]
fn the_best_hypothesis_of_a_window_is_the_text_of_its_segments() {
    let options = TranscribeOptions {
        n_best: 3,
        rules: DecodingRules {
            alternatives: 2,
            ..search(Some(5)).rules
        },
        ..search(Some(5))
    };
    let model = model(0);
    let plain = model.transcribe(&clip("long-90s.flac"), &search(Some(5)));
    let found = model.transcribe(&clip("long-90s.flac"), &options).unwrap();
    assert_eq!(found.text, plain.unwrap().text);
    assert!(found.n_best.len() > 1, "several windows");
    for window in &found.n_best {
        assert_eq!(window.hypotheses.len(), 3);
        let said: String = found
            .segments
            .iter()
            .filter(|segment| segment.seek == window.seek)
            .map(|segment| segment.text.as_str())
            .collect();
        let best = &window.hypotheses[0].text;
        assert!(
            !said.is_empty() && best.starts_with(said.trim()),
            "{said} {best}"
        );
    }
    for segment in &found.segments {
        assert_eq!(segment.alternatives.len(), segment.tokens.len());
        assert!(segment.alternatives.iter().all(|tokens| tokens.len() <= 2));
    }
}

#[test]
fn boosted_words_are_heard_that_were_not_before() {
    let model = model(0);
    let words = MISHEARD.map(|(_, word)| word);
    for (beams, n_before) in [(None, 0), (Some(5), 1)] {
        let heard = |options: &TranscribeOptions| {
            let found = MISHEARD.iter().filter(|(name, word)| {
                let transcript = model.transcribe(&clip(name), options).unwrap();
                transcript.text.contains(word)
            });
            found.count()
        };
        assert_eq!(heard(&search(beams)), n_before, "{beams:?}");
        assert_eq!(heard(&boosted(beams, 2.0, &words)), 2, "{beams:?}");
        assert_eq!(heard(&boosted(beams, 3.0, &words)), 3, "{beams:?}");
    }
}

#[test]
fn boosted_words_that_are_not_said_are_not_heard() {
    let model = model(0);
    let words = [
        "Kubernetes",
        "eighteen",
        "carpet",
        "last year",
        "New Zealand",
    ];
    for name in [
        "synth-en-05.flac",
        "synth-en-00.flac",
        "silence-10s.flac",
        "long-90s.flac",
    ] {
        for beams in [None, Some(5)] {
            let plain = model.transcribe(&clip(name), &search(beams)).unwrap();
            let found = model.transcribe(&clip(name), &boosted(beams, 2.0, &words));
            assert_eq!(found.unwrap().text, plain.text, "{name} {beams:?}");
        }
    }
}

#[test]
fn no_phrases_and_blank_ones_change_nothing() {
    let model = model(0);
    for name in ["jfk.flac", "synth-en-05.flac"] {
        for beams in [None, Some(5)] {
            let plain = model.transcribe(&clip(name), &search(beams)).unwrap();
            for phrases in [&[][..], &["", " \t"]] {
                let found = model.transcribe(&clip(name), &boosted(beams, 2.0, phrases));
                assert_eq!(found.unwrap(), plain, "{name} {beams:?}");
            }
        }
    }
}

#[test]
fn an_invalid_weight_is_refused() {
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let options = boosted(None, weight, &["carpet"]);
        let result = model(0).transcribe(&clip("synth-en-04.flac"), &options);
        assert!(
            matches!(result, Err(overhear::Error::Option { name: "boost", .. })),
            "{weight}"
        );
    }
}

#[test]
fn hotwords_of_any_length_leave_room_for_text_and_are_ignored_with_a_prefix() {
    let model = model(0);
    let with = |hotwords: &str, prefix: Option<&str>| {
        let options = TranscribeOptions {
            hotwords: Some(hotwords.to_owned()),
            prefix: prefix.map(str::to_owned),
            initial_prompt: Some("It was raining. ".repeat(80)),
            carry_initial_prompt: true,
            ..search(None)
        };
        model.transcribe(&clip("long-90s.flac"), &options).unwrap()
    };
    let (short, long) = (with("garden", None), with(&"garden ".repeat(600), None));
    for transcript in [&short, &long] {
        assert!(transcript.segments.len() > 3, "{}", transcript.text);
    }
    assert_eq!(with("garden", Some("The")), with("", Some("The")));
}
