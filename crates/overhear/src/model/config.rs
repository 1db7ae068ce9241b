//! Reads `config.json`: is this a Whisper model, and what are its dimensions?

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ModelDimensions;
use crate::file::read_if_present;
use crate::{Error, Result};

/// The fields of Hugging Face's `WhisperConfig` that matter.
#[derive(Deserialize)]
struct WhisperConfig {
    num_mel_bins: usize,
    max_source_positions: usize,
    d_model: usize,
    encoder_attention_heads: usize,
    encoder_layers: usize,
    vocab_size: usize,
    max_target_positions: usize,
    decoder_attention_heads: usize,
    decoder_layers: usize,
    #[serde(default = "gelu")]
    activation_function: String,
    #[serde(default)]
    scale_embedding: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn gelu() -> String {
    "gelu".into()
}

fn yes() -> bool {
    true
}

/// Reads the dimensions of the model in `folder`.
///
/// Only the three vocabularies of published models are accepted. A fine-tune with tokens of its own cannot be
/// told from one of the others by size, and a wrong guess moves every special token.
pub(super) fn read_dims(folder: &Path) -> Result<ModelDimensions> {
    let path = folder.join("config.json");
    let json = match read_if_present(&path)? {
        Some(json) => json,
        None if folder.is_dir() => {
            return Err(Error::Model {
                path: folder.to_owned(),
                reason: "no config.json in this folder".into(),
            });
        }
        None => {
            return Err(Error::Model {
                path: folder.to_owned(),
                reason: "no such model folder".into(),
            });
        }
    };
    parse(&json).map_err(|reason| Error::Model { path, reason })
}

fn parse(json: &[u8]) -> std::result::Result<ModelDimensions, String> {
    let value: Value = serde_json::from_slice(json).map_err(|e| format!("malformed: {e}"))?;
    match value.get("model_type") {
        Some(Value::String(kind)) if kind == "whisper" => {}
        Some(kind) => return Err(format!("model_type is {kind}, not \"whisper\"")),
        None => return Err("not a Whisper configuration: no model_type".into()),
    }
    let config: WhisperConfig =
        serde_json::from_value(value).map_err(|e| format!("malformed: {e}"))?;
    check(&config)?;
    Ok(ModelDimensions {
        n_mels: config.num_mel_bins,
        n_audio_ctx: config.max_source_positions,
        n_audio_state: config.d_model,
        n_audio_head: config.encoder_attention_heads,
        n_audio_layer: config.encoder_layers,
        n_vocab: config.vocab_size,
        n_text_ctx: config.max_target_positions,
        n_text_state: config.d_model,
        n_text_head: config.decoder_attention_heads,
        n_text_layer: config.decoder_layers,
    })
}

fn check(config: &WhisperConfig) -> std::result::Result<(), String> {
    one_of("num_mel_bins", config.num_mel_bins, &[80, 128])?;
    one_of("vocab_size", config.vocab_size, &[51864, 51865, 51866])?;
    one_of("max_source_positions", config.max_source_positions, &[1500])?;
    // Well beyond large (1280, 20, 32 and 448), well below what would exhaust memory.
    within(
        "max_target_positions",
        config.max_target_positions,
        8..=4096,
    )?;
    within("d_model", config.d_model, 1..=8192)?;
    for (part, heads, layers) in [
        (
            "encoder",
            config.encoder_attention_heads,
            config.encoder_layers,
        ),
        (
            "decoder",
            config.decoder_attention_heads,
            config.decoder_layers,
        ),
    ] {
        within(&format!("{part}_attention_heads"), heads, 1..=128)?;
        within(&format!("{part}_layers"), layers, 1..=128)?;
        if !config.d_model.is_multiple_of(heads) {
            return Err(format!(
                "d_model {} is no multiple of the {heads} {part}_attention_heads",
                config.d_model
            ));
        }
        // What attention's kernels hold; every published model has 64.
        within(
            &format!("{part} d_model per head"),
            config.d_model / heads,
            1..=256,
        )?;
    }
    if config.activation_function != "gelu" {
        return Err(format!(
            "activation_function is {:?}, not \"gelu\"",
            config.activation_function
        ));
    }
    if config.scale_embedding {
        return Err("scale_embedding is true, which no published Whisper model has".into());
    }
    if !config.tie_word_embeddings {
        return Err(
            "tie_word_embeddings is false: an output matrix of its own is not supported".into(),
        );
    }
    Ok(())
}

fn one_of(name: &str, value: usize, allowed: &[usize]) -> std::result::Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
    Err(format!("{name} is {value}, not {}", allowed.join(" or ")))
}

fn within(
    name: &str,
    value: usize,
    allowed: RangeInclusive<usize>,
) -> std::result::Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{name} is {value}, not between {} and {}",
        allowed.start(),
        allowed.end()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::config;
    use super::parse;

    #[test]
    fn a_configuration_that_is_not_of_whisper_is_an_error() {
        let changed = |field: &str, value: Value| {
            let mut config = config();
            config[field] = value;
            config.to_string()
        };
        let cases = [
            (
                changed("model_type", json!("llama")),
                "model_type is \"llama\", not \"whisper\"",
            ),
            (
                json!({"d_model": 4}).to_string(),
                "not a Whisper configuration: no model_type",
            ),
            (
                json!({"model_type": "whisper"}).to_string(),
                "malformed: missing field `num_mel_bins`",
            ),
            (
                String::new(),
                "malformed: EOF while parsing a value at line 1 column 0",
            ),
            (
                "[".repeat(100_000),
                "malformed: recursion limit exceeded at line 1 column 128",
            ),
            (
                changed("encoder_attention_heads", json!(0)),
                "encoder_attention_heads is 0, not between 1 and 128",
            ),
            (
                changed("decoder_attention_heads", json!(3)),
                "d_model 4 is no multiple of the 3 decoder_attention_heads",
            ),
            (
                changed("d_model", json!(1028)),
                "encoder d_model per head is 514, not between 1 and 256",
            ),
            (
                changed("decoder_layers", json!(1_000_000)),
                "decoder_layers is 1000000, not between 1 and 128",
            ),
            (
                changed("encoder_layers", json!(0)),
                "encoder_layers is 0, not between 1 and 128",
            ),
            (
                changed("encoder_layers", json!(-1)),
                "malformed: invalid value: integer `-1`, expected usize",
            ),
            (
                changed("encoder_layers", json!(1.5)),
                "malformed: invalid type: floating point `1.5`, expected usize",
            ),
            (
                changed("d_model", json!(1u64 << 40)),
                "d_model is 1099511627776, not between 1 and 8192",
            ),
            (
                changed("num_mel_bins", json!(81)),
                "num_mel_bins is 81, not 80 or 128",
            ),
            (
                changed("vocab_size", json!(51867)),
                "vocab_size is 51867, not 51864 or 51865 or 51866",
            ),
            (
                changed("max_source_positions", json!(3000)),
                "max_source_positions is 3000, not 1500",
            ),
            (
                changed("max_target_positions", json!(0)),
                "max_target_positions is 0, not between 8 and 4096",
            ),
            (
                changed("activation_function", json!("relu")),
                "activation_function is \"relu\", not \"gelu\"",
            ),
            (
                changed("scale_embedding", json!(true)),
                "scale_embedding is true, which no published Whisper model has",
            ),
            (
                changed("tie_word_embeddings", json!(false)),
                "tie_word_embeddings is false: an output matrix of its own is not supported",
            ),
        ];
        for (config, reason) in cases {
            assert_eq!(parse(config.as_bytes()).unwrap_err(), reason);
        }
    }
}
