//! The hallucination guard. Published models hallucinate over silence; nano does not, so the end-of-text token is
//! forbidden in its tests.

#![allow(clippy::unwrap_used)]

use crate::common::{exact, fixtures, nano, tiny_en};
use overhear::decode::{DecodingRules, Suppress};
use overhear::transcribe::{Thresholds, WordOptions};
use overhear::{Audio, Model, TranscribeOptions, Transcript};

/// Number of samples of a window.
const WINDOW: usize = 480_000;

fn model() -> Model {
    Model::open(nano(), &exact()).unwrap()
}

fn clip(name: &str) -> Vec<f32> {
    let path = fixtures().join(format!("audio/{name}.flac"));
    Audio::open(path).unwrap().samples().unwrap()
}

/// Returns white noise of this root mean square, by Knuth's MMIX generator.
fn noise(n_samples: usize, level: f32) -> Vec<f32> {
    let mut state = 1u64;
    let sample = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        level * ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 12f32.sqrt()
    };
    (0..n_samples).map(sample).collect()
}

fn options(hallucination_guard: bool) -> TranscribeOptions {
    TranscribeOptions {
        temperatures: vec![0.0],
        hallucination_guard,
        ..TranscribeOptions::default()
    }
}

/// Options that forbid the end-of-text token and never skip a window as silence.
fn talkative(hallucination_guard: bool) -> TranscribeOptions {
    TranscribeOptions {
        rules: DecodingRules {
            suppress_tokens: Suppress::NonSpeechAnd(vec![50_257]),
            ..options(hallucination_guard).rules
        },
        thresholds: Thresholds {
            no_speech: None,
            ..options(hallucination_guard).thresholds
        },
        ..options(hallucination_guard)
    }
}

fn transcribe(model: &Model, samples: &[f32], options: &TranscribeOptions) -> Transcript {
    let audio = Audio::from_samples(samples.to_vec(), 16_000).unwrap();
    model.transcribe(&audio, options).unwrap()
}

#[test]
fn text_over_silence_and_steady_noise_is_dropped() {
    let model = model();
    let recordings = [
        vec![0.0; 160_000],
        noise(WINDOW, 1e-3),
        noise(WINDOW + 16_000, 0.1),
        clip("silence-10s"),
        clip("noise-35s"),
    ];
    for (i, samples) in recordings.iter().enumerate() {
        let options = |guard| TranscribeOptions {
            words: (i % 2 == 0).then(WordOptions::default),
            ..talkative(guard)
        };
        let loose = transcribe(&model, samples, &options(false));
        assert!(!loose.text.is_empty(), "{i}: nothing to drop");
        assert!(loose.segments.iter().all(|s| s.silence.is_none()));
        let guarded = transcribe(&model, samples, &options(true));
        assert_eq!(guarded.text, "", "{i}");
        let mut n_dropped = 0;
        for silence in guarded.segments.iter().filter_map(|s| s.silence.as_ref()) {
            assert!(
                silence.audio > 0.9 && silence.attention > 0.9,
                "{silence:?}"
            );
            assert!(
                silence
                    .dropped
                    .as_ref()
                    .is_some_and(|text| !text.is_empty())
            );
            n_dropped += 1;
        }
        assert!(n_dropped > 0, "{i}");
    }
}

#[test]
fn speech_stays_and_is_the_same_with_the_guard() {
    let model = model();
    let mut recordings: Vec<Vec<f32>> = [
        "synth-en-05",
        "synth-en-12",
        "synth-fr-02",
        "real-digits-0",
        "real-cv-ru",
        "jfk",
        "long-90s",
    ]
    .map(clip)
    .to_vec();
    // As loud as the speech.
    let speech = clip("synth-en-12");
    let power = speech.iter().map(|x| x * x).sum::<f32>() / speech.len() as f32;
    let noisy = noise(speech.len(), power.sqrt());
    recordings.push(
        speech
            .iter()
            .zip(noisy)
            .map(|(x, noise)| x + noise)
            .collect(),
    );
    for (i, samples) in recordings.iter().enumerate() {
        let loose = transcribe(&model, samples, &options(false));
        let mut guarded = transcribe(&model, samples, &options(true));
        for segment in &mut guarded.segments {
            let silence = segment.silence.take();
            assert_eq!(silence.is_some(), !segment.text.is_empty(), "{i}");
            assert!(silence.is_none_or(|s| s.dropped.is_none()), "{i}");
        }
        assert_eq!(guarded, loose, "{i}");
    }
}

#[test]
fn dropped_segments_are_not_in_the_text_and_not_in_the_next_prompt() {
    let model = model();
    let mut samples = vec![0.0; WINDOW];
    samples.extend(clip("synth-en-05"));
    let loose = transcribe(&model, &samples, &talkative(false));
    let guarded = transcribe(&model, &samples, &talkative(true));
    let speech = " Every cloud quietly hurried";
    assert!(guarded.text.starts_with(speech), "{}", guarded.text);
    assert!(!loose.text.starts_with(speech), "{}", loose.text);
    // A window of speech only, decoded without a prompt.
    let first = guarded.segments.iter().find(|s| !s.text.is_empty());
    let alone = TranscribeOptions {
        clip_timestamps: vec![first.unwrap().seek as f64 / 100.0],
        ..talkative(true)
    };
    assert_eq!(guarded.text, transcribe(&model, &samples, &alone).text);
}

#[test]
fn hallucinations_of_published_models_are_dropped_and_speech_is_kept() {
    let model = Model::open(tiny_en(), &exact()).unwrap();
    let guarded = || TranscribeOptions {
        hallucination_guard: true,
        rules: DecodingRules {
            loop_guard: true,
            ..DecodingRules::default()
        },
        ..TranscribeOptions::default()
    };
    let silence = vec![0.0; 320_000];
    let free = transcribe(&model, &silence, &TranscribeOptions::default());
    assert_eq!(free.text, " you");
    assert_eq!(transcribe(&model, &silence, &guarded()).text, "");

    let mut speech = vec![0.0; 128_000];
    speech.extend(clip("real-kathleen-0"));
    speech.extend(vec![0.0; 128_000]);
    speech.extend(clip("jfk"));
    let free = transcribe(&model, &speech, &TranscribeOptions::default());
    assert!(
        free.text.contains("blood") && free.text.contains("fellow Americans"),
        "{}",
        free.text
    );
    let guarded = transcribe(&model, &speech, &guarded());
    assert_eq!(guarded.text, free.text);
}
