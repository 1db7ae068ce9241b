//! `config.json`: check that the model is a Whisper model, and its dimensions.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::foreign::{describe_file, describe_folder};
use super::{ModelDimensions, TOKEN_EMBEDDING};
use crate::excerpt::{excerpt, malformed};
use crate::file::read_if_present;
use crate::{Error, Result, json};

/// Fields of Hugging Face's `WhisperConfig` that are read. Optional ones can be derived from tensors.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(skip)]
    path: PathBuf,
    model_type: Option<Value>,
    num_mel_bins: Option<usize>,
    max_source_positions: Option<usize>,
    d_model: Option<usize>,
    encoder_attention_heads: usize,
    encoder_layers: usize,
    vocab_size: Option<usize>,
    max_target_positions: Option<usize>,
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

/// Function from openai/whisper's name of a tensor to the shape, if the tensor exists.
pub(super) type ShapeOf<'a> = &'a dyn Fn(&str) -> Option<&'a [u64]>;

impl Config {
    /// Reads `config.json` of `folder`.
    ///
    /// # Errors
    /// [`Error::Model`] if the file is missing, or not of a supported Whisper model.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let missing = |reason: String| Error::Model {
            path: folder.to_owned(),
            reason,
        };
        if folder.is_file() {
            return Err(missing(describe_file(folder)));
        }
        let Some(json) = read_if_present(&path)? else {
            let reason = match folder.is_dir() {
                true => describe_folder(folder).unwrap_or("no config.json in this folder".into()),
                false => "no such model folder".into(),
            };
            return Err(missing(reason));
        };
        match parse(&json) {
            Ok(config) => Ok(Self { path, ..config }),
            // CTranslate2 also writes a `config.json`, without a model type.
            Err(reason) => Err(match describe_folder(folder) {
                Some(reason) if !has_model_type(&json) => missing(reason),
                _ => Error::Model { path, reason },
            }),
        }
    }

    /// Returns whether the output matrix is declared to differ from the token embedding.
    pub(super) fn has_own_output(&self) -> bool {
        !self.tie_word_embeddings
    }

    /// Returns the dimensions; `shape` completes those that the file lacks.
    ///
    /// # Errors
    /// [`Error::Model`] if a dimension is missing from both, or is not supported.
    pub(super) fn dims(&self, shape: ShapeOf<'_>) -> Result<ModelDimensions> {
        self.complete(shape).map_err(|reason| Error::Model {
            path: self.path.clone(),
            reason,
        })
    }

    fn complete(&self, shape: ShapeOf<'_>) -> std::result::Result<ModelDimensions, String> {
        let dimension = |field: &str, value: Option<usize>, tensor: &str, axis: usize| {
            let by_tensor = || usize::try_from(*shape(tensor)?.get(axis)?).ok();
            value
                .or_else(by_tensor)
                .ok_or_else(|| format!("no {field}, and no tensor from which it follows"))
        };
        let conv = "encoder.conv1.weight";
        if self.model_type.is_none() && shape(conv).is_none() {
            return Err("not a Whisper configuration: no model_type".into());
        }
        let d_model = dimension("d_model", self.d_model, conv, 0)?;
        let positions = "decoder.positional_embedding";
        let dims = ModelDimensions {
            n_mels: dimension("num_mel_bins", self.num_mel_bins, conv, 1)?,
            n_audio_ctx: self.max_source_positions.unwrap_or(1500),
            n_audio_state: d_model,
            n_audio_head: self.encoder_attention_heads,
            n_audio_layer: self.encoder_layers,
            n_vocab: dimension("vocab_size", self.vocab_size, TOKEN_EMBEDDING, 0)?,
            n_text_ctx: dimension(
                "max_target_positions",
                self.max_target_positions,
                positions,
                0,
            )?,
            n_text_state: d_model,
            n_text_head: self.decoder_attention_heads,
            n_text_layer: self.decoder_layers,
        };
        check(&dims)?;
        // Further rows of the embedding would be ignored without an error.
        let n_rows = dimension("vocab_size", None, TOKEN_EMBEDDING, 0);
        match n_rows {
            Ok(n_rows) if n_rows != dims.n_vocab => Err(format!(
                "vocab_size is {}, but the token embedding has {n_rows} rows",
                dims.n_vocab
            )),
            _ => Ok(dims),
        }
    }
}

fn has_model_type(json: &[u8]) -> bool {
    json::parse::<Value>(json).is_ok_and(|value| value.get("model_type").is_some())
}

fn parse(json: &[u8]) -> std::result::Result<Config, String> {
    let value: Value = json::parse(json)?;
    match value.get("model_type") {
        None => {}
        Some(Value::String(kind)) if kind == "whisper" => {}
        Some(kind) => {
            let kind = excerpt(&kind.to_string());
            return Err(format!("model_type is {kind}, not \"whisper\""));
        }
    }
    if value.get("model_type").is_none() && value.get("encoder_layers").is_none() {
        return Err("not a Whisper configuration: no model_type".into());
    }
    let config: Config = serde_json::from_value(value).map_err(|error| malformed(&error))?;
    if config.activation_function != "gelu" {
        return Err(format!(
            "activation_function is {:?}, not \"gelu\"",
            excerpt(&config.activation_function)
        ));
    }
    if config.scale_embedding {
        return Err("scale_embedding is true, which no published Whisper model has".into());
    }
    Ok(config)
}

/// Checks that the dimensions are those of a Whisper model, and supported.
pub(super) fn check(dims: &ModelDimensions) -> std::result::Result<(), String> {
    if dims.n_audio_state != dims.n_text_state {
        return Err(format!(
            "encoder of {} and decoder of {} elements",
            dims.n_audio_state, dims.n_text_state
        ));
    }
    one_of("num_mel_bins", dims.n_mels, &[80, 128])?;
    one_of("max_source_positions", dims.n_audio_ctx, &[1500])?;
    // Well above large (1280, 20, 32 and 448), and well below sizes that exhaust memory.
    within("vocab_size", dims.n_vocab, 1..=1 << 20)?;
    within("max_target_positions", dims.n_text_ctx, 8..=4096)?;
    within("d_model", dims.n_audio_state, 1..=8192)?;
    for (part, heads, layers) in [
        ("encoder", dims.n_audio_head, dims.n_audio_layer),
        ("decoder", dims.n_text_head, dims.n_text_layer),
    ] {
        within(&format!("{part}_attention_heads"), heads, 1..=128)?;
        within(&format!("{part}_layers"), layers, 1..=128)?;
        let d_model = dims.n_audio_state;
        if !d_model.is_multiple_of(heads) {
            return Err(format!(
                "d_model {d_model} is not a multiple of the {heads} {part}_attention_heads"
            ));
        }
        // Maximum that the attention kernels support; every published model has 64.
        within(
            &format!("{part} d_model per head"),
            d_model / heads,
            1..=256,
        )?;
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

    use super::super::ModelDimensions;
    use super::super::testing::config;
    use super::parse;

    /// Returns the dimensions from a configuration alone.
    fn dims(config: &str) -> Result<ModelDimensions, String> {
        parse(config.as_bytes())?.complete(&|_| None)
    }

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
                "malformed: missing field `encoder_attention_heads`",
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
                "d_model 4 is not a multiple of the 3 decoder_attention_heads",
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
                changed("vocab_size", json!(1 << 21)),
                "vocab_size is 2097152, not between 1 and 1048576",
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
                changed("num_mel_bins", Value::Null),
                "no num_mel_bins, and no tensor from which it follows",
            ),
        ];
        for (config, reason) in cases {
            assert_eq!(dims(&config).unwrap_err(), reason);
        }
    }

    #[test]
    fn messages_quote_little_of_a_long_value() {
        for (field, value) in [
            ("model_type", json!("x".repeat(60_000))),
            ("activation_function", json!("x".repeat(60_000))),
            ("encoder_layers", json!("x".repeat(60_000))),
            ("model_type", json!(["x".repeat(60_000)])),
        ] {
            let mut config = config();
            config[field] = value;
            let reason = dims(&config.to_string()).unwrap_err();
            assert!(reason.len() < 200, "{field}: {reason}");
        }
    }

    #[test]
    fn missing_dimensions_are_derived_from_tensors() {
        let whole = dims(&config().to_string()).unwrap();
        for field in [
            "model_type",
            "num_mel_bins",
            "vocab_size",
            "max_target_positions",
            "max_source_positions",
            "d_model",
        ] {
            let mut config = config();
            config.as_object_mut().unwrap().remove(field);
            let config = parse(config.to_string().as_bytes()).unwrap();
            let shape = |name: &str| -> Option<&[u64]> {
                match name {
                    "encoder.conv1.weight" => Some(&[4, 80, 3]),
                    "decoder.token_embedding.weight" => Some(&[51865, 4]),
                    "decoder.positional_embedding" => Some(&[448, 4]),
                    _ => None,
                }
            };
            assert_eq!(config.complete(&shape).unwrap(), whole, "{field}");
        }
    }
}
