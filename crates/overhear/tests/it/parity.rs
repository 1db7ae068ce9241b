//! Every stage from samples to text, compared with openai/whisper (tools/dump_golden.py).
//!
//! Every run has nano on the bundled clips and published tiny.en on the English ones; `just sweep` and
//! `just sweep-turbo` have published base, all shared clips, and nano inflated to published sizes.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use crate::common;
use crate::common::{Golden, Suite, assert_close, tensors};
use overhear::decode::{DecodingOptions, DecodingResult, LogMel, log_mel_spectrogram};
use overhear::transcribe::LanguageOptions;
use overhear::{Segment, Task, TranscribeOptions, Transcript};
use serde_json::Value;

/// Log-mel: values span 2 (8 decades over 4); the reference's own f32 transform has errors of a few 1e-6.
const MEL: f32 = 1e-4;
/// Encoder output: values of about 1 after a few dozen f32 sums of up to 5120 terms.
const AUDIO_FEATURES: f32 = 1e-3;
/// Logits: sums over the state of values with the error above.
const LOGITS: f32 = 2e-3;
/// Log-probabilities, probabilities and ratios, with 6 digits in the goldens.
const STATISTIC: f64 = 1e-3;
/// Seconds, with 6 digits in the goldens.
const TIME: f64 = 1e-6;
/// Number of samples of a window.
const N_SAMPLES: usize = 480_000;

fn pad_or_trim(mut samples: Vec<f32>) -> Vec<f32> {
    samples.resize(N_SAMPLES, 0.0);
    samples
}

/// Tests of a suite whose goldens have tensors: stage by stage.
macro_rules! stages {
    ($name:ident, $suite:expr $(, #[$attribute:meta])?) => {
        mod $name {
            use super::Suite;

            #[test]
            $(#[$attribute])?
            fn mel_equals_the_reference_everywhere() {
                super::mel_equals_the_reference_everywhere(&$suite);
            }

            #[test]
            $(#[$attribute])?
            fn encoder_and_logits_equal_the_reference() {
                super::encoder_and_logits_equal_the_reference(&$suite);
            }
        }
    };
}

/// Tests of every suite: from samples to text.
macro_rules! parity {
    ($name:ident, $suite:expr $(, #[$attribute:meta])?) => {
        mod $name {
            use super::Suite;

            #[test]
            $(#[$attribute])?
            fn languages_have_the_probabilities_of_the_reference() {
                super::languages_have_the_probabilities_of_the_reference(&$suite);
            }

            #[test]
            $(#[$attribute])?
            fn windows_decode_to_the_same_tokens() {
                super::windows_decode_to_the_same_tokens(&$suite);
            }

            #[test]
            $(#[$attribute])?
            fn files_transcribe_to_the_same_segments() {
                super::files_transcribe_to_the_same_segments(&$suite);
            }
        }
    };
}

stages!(nano_stages, Suite::bundled());
parity!(nano, Suite::bundled());
parity!(tiny_en, Suite::tiny_en());
stages!(nano_stages_on_shared_clips, Suite::shared(), #[ignore = "needs OVERHEAR_SHARED"]);
parity!(nano_on_all_shared_clips, Suite::shared(), #[ignore = "needs OVERHEAR_SHARED"]);
parity!(base, Suite::published("base"), #[ignore = "needs OVERHEAR_PUBLISHED"]);
parity!(tiny, Suite::inflated("tiny"), #[ignore = "needs OVERHEAR_INFLATED"]);
parity!(turbo, Suite::inflated("turbo"), #[ignore = "needs OVERHEAR_INFLATED"]);

fn mel_equals_the_reference_everywhere(suite: &Suite) {
    let mut n_tested = 0;
    for golden in suite.goldens() {
        let Some(expected) = tensors(&golden.path.with_extension("safetensors")) else {
            continue;
        };
        let samples = golden.audio().samples().unwrap();
        let n_mels = suite.model.dims().n_mels;
        let mel = log_mel_spectrogram(&pad_or_trim(samples.clone()), n_mels, 0);
        assert_close(&mel.data, &expected["mel"].1, MEL, &golden.name);

        let (shape, whole) = &tensors(&golden.path.with_extension("mel.safetensors")).unwrap()["mel_whole_file_padded"];
        let mel = log_mel_spectrogram(&samples, n_mels, N_SAMPLES);
        let mel: Vec<f32> = mel
            .data
            .chunks(mel.n_frames)
            .flat_map(|bin| &bin[..shape[1]])
            .copied()
            .collect();
        assert_close(&mel, whole, MEL, &golden.name);
        n_tested += 1;
    }
    suite.assert_tensors(n_tested);
}

fn encoder_and_logits_equal_the_reference(suite: &Suite) {
    let mut n_tested = 0;
    for golden in suite.goldens() {
        let Some(expected) = tensors(&golden.path.with_extension("safetensors")) else {
            continue;
        };
        let (n_mels, n_vocab) = (suite.model.dims().n_mels, suite.model.dims().n_vocab);
        let mel = LogMel {
            n_mels,
            n_frames: 3000,
            data: expected["mel"].1.clone(),
        };
        assert_close(
            &suite.model.embed_audio(&mel).unwrap(),
            &expected["audio_features"].1,
            AUDIO_FEATURES,
            &golden.name,
        );

        let tokens: Vec<u32> = expected["tokens"]
            .1
            .iter()
            .map(|&token| token as u32)
            .collect();
        let logits = suite.model.logits(&mel, &tokens).unwrap();
        assert_eq!(logits.len(), tokens.len() * n_vocab);
        assert_close(&logits, &expected["logits"].1, LOGITS, &golden.name);
        n_tested += 1;
    }
    suite.assert_tensors(n_tested);
}

fn languages_have_the_probabilities_of_the_reference(suite: &Suite) {
    for golden in suite.goldens() {
        let options = LanguageOptions::default();
        let found = suite
            .model
            .detect_language(&golden.audio(), &options)
            .unwrap();
        for (code, expected) in golden.json["language_probs"].as_object().unwrap() {
            let language = code.parse().unwrap();
            let found = found
                .iter()
                .find(|found| found.language == language)
                .unwrap();
            let error = f64::from(found.probability) - expected.as_f64().unwrap();
            assert!(
                error.abs() < STATISTIC,
                "{}: {code} {found:?} {expected}",
                golden.name
            );
        }
    }
}

fn windows_decode_to_the_same_tokens(suite: &Suite) {
    let mut n_tested = 0;
    for golden in suite.goldens() {
        let samples = pad_or_trim(golden.audio().samples().unwrap());
        let mel = log_mel_spectrogram(&samples, suite.model.dims().n_mels, 0);
        let entries = golden.json["decode"].as_object().unwrap();
        let decodings: Vec<_> = entries
            .iter()
            .map(|(name, entry)| (name, entry, decoding_options(suite, &golden, entry)))
            .collect();
        let n_rows = |options: &DecodingOptions| options.rules.beam_size.unwrap_or(1);
        let n_rows = decodings
            .iter()
            .map(|(_, _, options)| n_rows(options))
            .max();
        // One session per clip: as `Model::decode`, but encoding the window once.
        let mut session = suite.model.session(n_rows.unwrap_or(1)).unwrap();
        session.encode(&mel).unwrap();
        for (name, expected, options) in decodings {
            let found = session.decode(&options).unwrap();
            same_decoding(&found, expected, &format!("{} {name}", golden.name));
            n_tested += 1;
        }
    }
    println!("{n_tested} windows");
    assert!(n_tested > 0);
}

fn files_transcribe_to_the_same_segments(suite: &Suite) {
    let mut n_tested = 0;
    for golden in suite.goldens() {
        for (name, expected) in golden.json["transcribe"].as_object().unwrap() {
            let options = transcribe_options(expected);
            let found = suite.model.transcribe(&golden.audio(), &options).unwrap();
            // Segments begin and end with their words.
            let is_by_words = expected["options"]["word_timestamps"] == true;
            let time = if is_by_words { suite.word_time } else { TIME };
            same_transcript(&found, expected, time, &format!("{} {name}", golden.name));
            n_tested += 1;
        }
    }
    println!("{n_tested} files");
    assert!(n_tested > 0);
}

/// Returns the options of a golden `decode` entry.
fn decoding_options(suite: &Suite, golden: &Golden, entry: &Value) -> DecodingOptions {
    let language = entry["language"].as_str().unwrap().parse().unwrap();
    let mut options = DecodingOptions {
        language: Some(language),
        ..DecodingOptions::default()
    };
    let encode = |text: &Value| {
        suite
            .model
            .tokenizer()
            .encode_prompt(text.as_str().unwrap())
    };
    for (name, value) in entry["options"].as_object().unwrap() {
        match name.as_str() {
            "without_timestamps" => options.rules.without_timestamps = value.as_bool().unwrap(),
            "prompt" => options.prompt = encode(value),
            "prefix" => options.prefix = encode(value),
            "task" if value == "translate" => options.task = Task::Translate,
            "beam_size" => options.rules.beam_size = Some(value.as_u64().unwrap() as usize),
            "patience" => options.rules.patience = value.as_f64(),
            "length_penalty" => options.rules.length_penalty = value.as_f64(),
            _ => panic!("{}: option {name} in a golden", golden.name),
        }
    }
    options
}

/// Returns the options of a golden `transcribe` entry.
fn transcribe_options(entry: &Value) -> TranscribeOptions {
    let mut options = TranscribeOptions::default();
    for (name, value) in entry["options"].as_object().unwrap() {
        match name.as_str() {
            "temperature" => {
                let one = std::slice::from_ref(value);
                let temperatures = value.as_array().map_or(one, Vec::as_slice).iter();
                options.temperatures = temperatures.map(|t| t.as_f64().unwrap() as f32).collect();
            }
            "best_of" => options.best_of = Some(value.as_u64().unwrap() as usize),
            "language" => options.language = value.as_str().unwrap().parse().ok(),
            "condition_on_previous_text" => {
                options.condition_on_previous_text = value.as_bool().unwrap()
            }
            "initial_prompt" => options.initial_prompt = Some(value.as_str().unwrap().to_owned()),
            "carry_initial_prompt" => options.carry_initial_prompt = value.as_bool().unwrap(),
            "clip_timestamps" => {
                let times = value.as_str().unwrap().split(',');
                options.clip_timestamps = times.map(|time| time.parse().unwrap()).collect();
            }
            "beam_size" => options.rules.beam_size = Some(value.as_u64().unwrap() as usize),
            "word_timestamps" => {
                assert_eq!(value, true);
                options.words.get_or_insert_default();
            }
            "hallucination_silence_threshold" => {
                let words = options.words.get_or_insert_default();
                words.hallucination_silence_threshold = value.as_f64();
            }
            "patience" => options.rules.patience = value.as_f64(),
            "length_penalty" => options.rules.length_penalty = value.as_f64(),
            "task" if value == "translate" => options.task = Task::Translate,
            _ => panic!("option {name} in a golden"),
        }
    }
    options
}

fn same_decoding(found: &DecodingResult, expected: &Value, name: &str) {
    assert_eq!(
        found.tokens,
        common::tokens(&expected["tokens"]),
        "{name}: tokens"
    );
    assert_eq!(
        found.text,
        expected["text"].as_str().unwrap(),
        "{name}: text"
    );
    assert_eq!(found.tokens.len(), found.token_logprobs.len(), "{name}");
    same_statistic(found.avg_logprob, expected, "avg_logprob", name);
    same_statistic(found.no_speech_prob, expected, "no_speech_prob", name);
    same_statistic(found.compression_ratio, expected, "compression_ratio", name);
}

fn same_transcript(found: &Transcript, expected: &Value, time: f64, name: &str) {
    let segments = expected["segments"].as_array().unwrap();
    for (found, expected) in found.segments.iter().zip(segments) {
        same_segment(
            found,
            expected,
            time,
            &format!("{name} segment {}", found.id),
        );
    }
    assert_eq!(found.segments.len(), segments.len(), "{name}: segments");
    assert_eq!(
        found.text,
        expected["text"].as_str().unwrap(),
        "{name}: text"
    );
    assert_eq!(
        found.language.code(),
        expected["language"].as_str().unwrap(),
        "{name}: language"
    );
}

fn same_segment(found: &Segment, expected: &Value, time: f64, name: &str) {
    assert_eq!(
        found.tokens,
        common::tokens(&expected["tokens"]),
        "{name}: tokens"
    );
    assert_eq!(
        found.text,
        expected["text"].as_str().unwrap(),
        "{name}: text"
    );
    assert_eq!(
        found.id as u64,
        expected["id"].as_u64().unwrap(),
        "{name}: id"
    );
    assert_eq!(
        found.seek as u64,
        expected["seek"].as_u64().unwrap(),
        "{name}: seek"
    );
    assert!(
        (found.start - expected["start"].as_f64().unwrap()).abs() < time,
        "{name}: start {}",
        found.start
    );
    assert!(
        (found.end - expected["end"].as_f64().unwrap()).abs() < time,
        "{name}: end {}",
        found.end
    );
    assert_eq!(
        f64::from(found.temperature),
        expected["temperature"].as_f64().unwrap(),
        "{name}"
    );
    same_statistic(found.avg_logprob, expected, "avg_logprob", name);
    same_statistic(found.no_speech_prob, expected, "no_speech_prob", name);
    same_statistic(found.compression_ratio, expected, "compression_ratio", name);
    assert_eq!(
        found.words.is_some(),
        expected["words"].is_array(),
        "{name}: words"
    );
    same_words(found, expected, time, name);
}

/// Asserts the same words at the same times. All times of all goldens must be equal, not just 99 %: the path through
/// the attention matrix is discrete, so that a small error either changes nothing or moves a time by a whole step.
fn same_words(found: &Segment, expected: &Value, time: f64, name: &str) {
    let no_words = Vec::new();
    let found = found.words.as_deref().unwrap_or_default();
    let expected = expected["words"].as_array().unwrap_or(&no_words);
    assert_eq!(found.len(), expected.len(), "{name}: words");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.word, expected["word"].as_str().unwrap(), "{name}");
        let is_at = |found: f64, key: &str| (found - expected[key].as_f64().unwrap()).abs() < time;
        assert!(
            is_at(found.start, "start") && is_at(found.end, "end"),
            "{name}: {found:?}, expected {expected}"
        );
        same_statistic(found.probability, expected, "probability", name);
    }
}

fn same_statistic(found: f64, expected: &Value, key: &str, name: &str) {
    let expected = expected[key].as_f64().unwrap();
    assert!(
        (found - expected).abs() < STATISTIC,
        "{name}: {key} {found}, expected {expected}"
    );
}
