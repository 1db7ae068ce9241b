//! Published models on people's speech, in every compute type. `parity.rs` compares f32 with openai/whisper.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use crate::common::{fixtures, tiny_en};
use overhear::decode::{DecodingOptions, DecodingRules};
use overhear::{Audio, ComputeType, Model, ModelOptions, TranscribeOptions};

const TEXT: &str = "and so my fellow americans ask not what your country can do for you \
                    ask what you can do for your country";

fn model(compute_type: ComputeType) -> Model {
    let options = ModelOptions {
        compute_type,
        ..ModelOptions::default()
    };
    Model::open(tiny_en(), &options).unwrap()
}

fn jfk() -> Audio {
    Audio::open(fixtures().join("audio/jfk.flac")).unwrap()
}

/// Converts to lower case without punctuation: commas may differ between compute types.
fn words(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_ascii_punctuation());
    let lower: String = kept.flat_map(char::to_lowercase).collect();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The start-of-transcript sequence of an English-only model is one token, which is then the whole prompt.
#[test]
fn an_english_only_model_transcribes_in_every_compute_type() {
    for compute_type in [
        ComputeType::Auto,
        ComputeType::F32,
        ComputeType::F16,
        ComputeType::Bf16,
        ComputeType::Int8,
        ComputeType::Q5,
        ComputeType::Q4,
    ] {
        let transcript = model(compute_type)
            .transcribe(&jfk(), &TranscribeOptions::default())
            .unwrap();
        assert_eq!(words(&transcript.text), TEXT, "{compute_type:?}");
    }
}

#[test]
fn an_english_only_model_decodes_every_shape_of_prompt() {
    let model = model(ComputeType::F32);
    let tokenizer = model.tokenizer();
    let mut samples = jfk().samples().unwrap();
    samples.resize(480_000, 0.0);
    let mel = overhear::decode::log_mel_spectrogram(&samples, model.dims().n_mels, 0);
    let prompt = || tokenizer.encode_prompt("A speech in January.");
    let prefix = || tokenizer.encode_prompt("And so");
    let shapes = [
        DecodingOptions::default(),
        DecodingOptions {
            rules: DecodingRules {
                without_timestamps: true,
                ..DecodingRules::default()
            },
            ..DecodingOptions::default()
        },
        DecodingOptions {
            prompt: prompt(),
            ..DecodingOptions::default()
        },
        DecodingOptions {
            prefix: prefix(),
            rules: DecodingRules {
                without_timestamps: true,
                ..DecodingRules::default()
            },
            ..DecodingOptions::default()
        },
        DecodingOptions {
            prompt: prompt(),
            prefix: prefix(),
            rules: DecodingRules {
                without_timestamps: true,
                ..DecodingRules::default()
            },
            ..DecodingOptions::default()
        },
    ];
    for beam_size in [None, Some(5)] {
        for shape in &shapes {
            let options = DecodingOptions {
                rules: DecodingRules {
                    beam_size,
                    ..shape.rules.clone()
                },
                ..shape.clone()
            };
            let result = model.decode(&mel, &options).unwrap();
            assert!(
                words(&result.text).ends_with("ask what you can do for your country"),
                "{options:?}: {}",
                result.text
            );
            assert!(
                result.no_speech_prob < 0.1,
                "{options:?}: {}",
                result.no_speech_prob
            );
        }
    }
}
