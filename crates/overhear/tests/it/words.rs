//! Word timestamps of very short audio and texts: no failure, and consistent times.
#![allow(clippy::unwrap_used)]

use crate::common::{fixtures, nano};
use overhear::decode::{DecodingRules, Suppress};
use overhear::transcribe::{Thresholds, WordOptions};
use overhear::{Audio, Model, ModelOptions, Task, TranscribeOptions, Transcript};
use std::num::NonZeroUsize;

fn model() -> Model {
    Model::open(nano(), &ModelOptions::default()).unwrap()
}

fn clip(name: &str) -> Audio {
    Audio::open(fixtures().join("audio").join(name)).unwrap()
}

fn words() -> TranscribeOptions {
    TranscribeOptions {
        temperatures: vec![0.0],
        language: "en".parse().ok(),
        words: Some(WordOptions::default()),
        ..TranscribeOptions::default()
    }
}

/// Asserts that every segment has its words, in order and within the segment.
fn assert_consistent(transcript: &Transcript, name: &str) {
    for segment in &transcript.segments {
        let words = segment.words.as_ref().unwrap();
        assert!(segment.start <= segment.end, "{name}: {segment:?}");
        for word in words {
            assert!(word.start <= word.end, "{name}: {word:?}");
            assert!((0.0..=1.0).contains(&word.probability), "{name}: {word:?}");
        }
        assert!(
            words.is_sorted_by(|a, b| a.start <= b.start),
            "{name}: {words:?}"
        );
        let text: String = words.iter().map(|word| word.word.as_str()).collect();
        assert_eq!(text, segment.text, "{name}");
    }
}

#[test]
fn audio_of_any_length_has_words_or_none() {
    let model = model();
    // Less than a frame, a frame (no encoder position), up to the four positions that the filter needs, a window.
    for n_samples in [
        0, 159, 160, 320, 480, 640, 1280, 1440, 16_000, 479_999, 480_001,
    ] {
        for speech in [true, false] {
            let mut samples = clip("jfk.flac").samples().unwrap();
            if !speech {
                samples.fill(0.0);
            }
            samples.resize(n_samples, 0.0);
            let audio = Audio::from_samples(samples, 16_000).unwrap();
            // Text is forced, so that there are words.
            let options = TranscribeOptions {
                prefix: Some("And so, my fellow".to_owned()),
                thresholds: Thresholds {
                    no_speech: None,
                    ..words().thresholds
                },
                ..words()
            };
            for options in [options, words()] {
                let transcript = model.transcribe(&audio, &options).unwrap();
                let without_position = n_samples < 320;
                if !without_position {
                    assert_consistent(&transcript, &format!("{n_samples} samples"));
                }
            }
        }
    }
}

#[test]
fn one_word_has_its_time() {
    let model = model();
    let transcript = model
        .transcribe(&clip("synth-en-05.flac"), &words())
        .unwrap();
    let of_transcript = transcript.segments[0].words.clone().unwrap();
    assert!(of_transcript.len() > 5);
    let options = TranscribeOptions {
        clip_timestamps: vec![0.0, 0.7],
        rules: DecodingRules {
            sample_len: NonZeroUsize::new(2),
            ..words().rules
        },
        ..words()
    };
    let transcript = model
        .transcribe(&clip("synth-en-05.flac"), &options)
        .unwrap();
    assert_consistent(&transcript, "one word");
    assert_eq!(transcript.segments[0].words.as_ref().unwrap().len(), 1);
}

#[test]
fn text_that_exceeds_the_decoders_context_has_no_words() {
    let options = TranscribeOptions {
        rules: DecodingRules {
            sample_len: NonZeroUsize::new(448),
            without_timestamps: true,
            suppress_tokens: Suppress::NonSpeechAnd((50257..51865).collect()),
            ..words().rules
        },
        ..words()
    };
    let transcript = model()
        .transcribe(&clip("synth-en-05.flac"), &options)
        .unwrap();
    assert!(transcript.segments[0].tokens.len() > 443);
    assert_eq!(transcript.segments[0].words, Some(Vec::new()));
}

#[test]
fn words_do_not_depend_on_threads_and_translations_have_them() {
    for task in [Task::Transcribe, Task::Translate] {
        let of_threads = |threads| {
            let options = ModelOptions {
                threads: NonZeroUsize::new(threads),
                ..ModelOptions::default()
            };
            let options = (
                Model::open(nano(), &options).unwrap(),
                TranscribeOptions { task, ..words() },
            );
            options
                .0
                .transcribe(&clip("long-90s.flac"), &options.1)
                .unwrap()
        };
        let one = of_threads(1);
        assert_eq!(of_threads(3), one);
        assert!(one.segments.len() > 5);
    }
}

#[test]
fn any_silence_threshold_ends() {
    let model = model();
    for clip_name in ["noise-35s.flac", "silence-10s.flac", "long-90s.flac"] {
        for threshold in [-1.0, 0.0, 0.01, f64::INFINITY] {
            let options = TranscribeOptions {
                thresholds: Thresholds {
                    no_speech: None,
                    ..words().thresholds
                },
                words: Some(WordOptions {
                    hallucination_silence_threshold: Some(threshold),
                    ..WordOptions::default()
                }),
                ..words()
            };
            let transcript = model.transcribe(&clip(clip_name), &options).unwrap();
            assert!(
                transcript
                    .segments
                    .iter()
                    .all(|segment| segment.words.is_some())
            );
        }
    }
}
