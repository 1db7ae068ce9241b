//! Properties of the search other than equality with openai/whisper (`tests/it/parity.rs`), on the bundled model.

use std::path::Path;

use overhear_kernels::{Maxima, reference};
use proptest::prelude::*;

use super::DecodingOptions;
use super::filters::LogitFilters;
use crate::decode::DecodingRules;
use crate::mel::log_mel_spectrogram;
use crate::{Audio, Language, LogMel, Model, ModelOptions, TokenId};

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano");
    Model::open(folder, &ModelOptions::default()).expect("the bundled model")
}

fn mel(clip: &str) -> LogMel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio");
    let audio = Audio::open(folder.join(clip)).expect("a bundled clip");
    let mut samples = audio.samples().expect("a bundled clip");
    samples.resize(480_000, 0.0);
    log_mel_spectrogram(&samples, 80, 0)
}

fn beams(beam_size: usize) -> DecodingOptions {
    DecodingOptions {
        language: Some(Language::ENGLISH),
        rules: DecodingRules {
            beam_size: Some(beam_size),
            ..DecodingRules::default()
        },
        ..DecodingOptions::default()
    }
}

fn samples(best_of: usize) -> DecodingOptions {
    DecodingOptions {
        language: Some(Language::ENGLISH),
        temperature: 0.8,
        best_of: Some(best_of),
        rules: DecodingRules {
            seed: 3,
            ..DecodingRules::default()
        },
        ..DecodingOptions::default()
    }
}

#[test]
fn hypotheses_are_sorted_and_distinct_and_begin_with_the_result() {
    let model = model();
    for clip in ["synth-en-05.flac", "jfk.flac", "noise-35s.flac"] {
        let mel = mel(clip);
        let patient = DecodingOptions {
            rules: DecodingRules {
                patience: Some(2.0),
                length_penalty: Some(0.6),
                ..beams(4).rules
            },
            ..beams(4)
        };
        for options in [beams(1), beams(5), patient, samples(6), samples(1)] {
            let result = model.decode(&mel, &options).expect("options that fit");
            let found = &result.hypotheses;
            assert_eq!(found[0].tokens, result.tokens, "{clip}");
            assert_eq!(found[0].text, result.text, "{clip}");
            assert_eq!(found[0].avg_logprob, result.avg_logprob, "{clip}");
            assert!(found.len() <= options.max_candidates().max(options.n_group()));
            assert!(
                options.rules.beam_size.is_none_or(|n| found.len() >= n),
                "{clip}"
            );
            assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{clip}");
            for (i, hypothesis) in found.iter().enumerate() {
                assert_eq!(hypothesis.tokens.len(), hypothesis.token_logprobs.len());
                let is_new = found[..i].iter().all(|h| h.tokens != hypothesis.tokens);
                assert!(is_new && hypothesis.score.is_finite(), "{clip}");
            }
        }
    }
}

#[test]
fn alternatives_change_no_token_and_contain_the_selected_ones() {
    let model = model();
    let mel = mel("jfk.flac");
    for options in [DecodingOptions::default(), beams(5)] {
        let without = model.decode(&mel, &options).expect("options that fit");
        let options = DecodingOptions {
            rules: DecodingRules {
                alternatives: 4,
                ..options.rules.clone()
            },
            ..options
        };
        let with = model.decode(&mel, &options).expect("options that fit");
        assert!(without.alternatives.is_empty());
        assert_eq!(with.tokens, without.tokens);
        assert_eq!(with.alternatives.len(), with.tokens.len());
        let chosen = with.tokens.iter().zip(&with.token_logprobs);
        for ((&token, &logprob), alternatives) in chosen.zip(&with.alternatives) {
            assert!(alternatives.len() <= 4);
            assert!(alternatives.is_sorted_by(|a, b| a.logprob >= b.logprob));
            let total: f32 = alternatives.iter().map(|a| a.logprob.exp()).sum();
            assert!(total < 1.0 + 1e-4, "{total}");
            if options.rules.beam_size.is_none() {
                assert_eq!(
                    (alternatives[0].token, alternatives[0].logprob),
                    (token, logprob)
                );
            }
        }
    }
}

#[test]
fn beam_search_with_one_beam_is_greedy_search() {
    let model = model();
    for clip in ["synth-en-05.flac", "jfk.flac", "real-cv-ja.flac"] {
        let mel = mel(clip);
        let greedy = DecodingOptions {
            rules: DecodingRules {
                beam_size: None,
                ..beams(1).rules
            },
            ..beams(1)
        };
        let greedy = model.decode(&mel, &greedy).expect("options that fit");
        let beam = model.decode(&mel, &beams(1)).expect("options that fit");
        assert_eq!(beam.tokens, greedy.tokens, "{clip}");
        assert_eq!(beam.token_logprobs, greedy.token_logprobs, "{clip}");
    }
}

#[test]
fn incompatible_options_are_refused() {
    let refused = |options: DecodingOptions| match options.verify() {
        Err(crate::Error::Option { name, .. }) => Some(name),
        _ => None,
    };
    let with = |change: fn(&mut DecodingOptions)| {
        let mut options = beams(5);
        change(&mut options);
        refused(options)
    };
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|o| o.rules.beam_size = Some(0)), Some("beam_size"));
    assert_eq!(
        with(|o| o.rules.beam_size = Some(100_000)),
        Some("beam_size")
    );
    assert_eq!(with(|o| o.best_of = Some(5)), Some("best_of"));
    assert_eq!(
        with(|o| (o.rules.beam_size, o.best_of) = (None, Some(5))),
        Some("best_of")
    );
    assert_eq!(
        with(|o| (o.rules.beam_size, o.rules.patience) = (None, Some(1.0))),
        Some("patience")
    );
    assert_eq!(with(|o| o.rules.patience = Some(0.0)), Some("patience"));
    assert_eq!(with(|o| o.rules.patience = Some(0.1)), Some("patience"));
    assert_eq!(with(|o| o.rules.patience = Some(-1.0)), Some("patience"));
    assert_eq!(
        with(|o| o.rules.patience = Some(f64::NAN)),
        Some("patience")
    );
    assert_eq!(
        with(|o| o.rules.patience = Some(f64::INFINITY)),
        Some("patience")
    );
    assert_eq!(
        with(|o| o.rules.length_penalty = Some(1.1)),
        Some("length_penalty")
    );
    assert_eq!(
        with(|o| o.rules.length_penalty = Some(f64::NAN)),
        Some("length_penalty")
    );
    assert_eq!(with(|o| o.rules.length_penalty = Some(0.0)), None);
}

#[test]
fn patience_is_rounded_half_to_even() {
    let candidates = |beam_size, patience| {
        let options = DecodingOptions {
            rules: DecodingRules {
                patience,
                ..beams(beam_size).rules
            },
            ..beams(beam_size)
        };
        options.max_candidates()
    };
    assert_eq!(candidates(5, None), 5);
    assert_eq!(candidates(5, Some(0.5)), 2);
    assert_eq!(candidates(5, Some(0.7)), 4);
    assert_eq!(candidates(3, Some(1.5)), 4);
}

/// Sequences of tokens as sampling may produce them: words and timestamps in an allowed order.
fn sampled(begin: TokenId) -> impl Strategy<Value = Vec<TokenId>> {
    let step = prop_oneof![
        Just(None),
        (0u32..1501).prop_map(Some),
        (1490u32..1501).prop_map(Some)
    ];
    proptest::collection::vec(step, 0..12).prop_map(move |steps| {
        let (mut tokens, mut last) = (Vec::new(), 0);
        for step in steps {
            last = last.max(step.unwrap_or(0));
            tokens.push(step.map_or(440, |_| begin + last));
        }
        tokens
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_always_leave_a_token(
        tokens in sampled(50364), likely in 0usize..51865, seed in 0u32..1000, limit in proptest::option::of(0.0f64..30.0),
    ) {
        let model = SHARED.get_or_init(model);
        let options = DecodingOptions { rules: DecodingRules { max_initial_timestamp: limit, ..DecodingRules::default() }, ..DecodingOptions::default() };
        let filters = LogitFilters::new(model.tokenizer(), &options).expect("options that fit");
        let mut logits: Vec<f32> = (0..51865u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) as f32 / 400.0)
            .collect();
        logits[likely] = 40.0;
        let mut maxima = Maxima::default();
        filters.apply(model.kernels(), &mut logits, &mut maxima, &tokens);
        prop_assert!(logits.iter().any(|logit| logit.is_finite()), "{tokens:?}");
        // The maxima must be those of the allowed tokens, many of which have equal logits.
        prop_assert_eq!(maxima.argmax(&logits), reference::argmax(&logits));
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        maxima.top_k(&logits, 6, &mut found);
        reference::top_k(&logits, 6, &mut expected);
        prop_assert_eq!(found, expected);
    }
}

static SHARED: std::sync::OnceLock<Model> = std::sync::OnceLock::new();
