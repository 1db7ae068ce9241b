//! Writer of Hugging Face folders, as transformers reads them.
//!
//! The other files of a Hugging Face folder are copied. Those of a model in another format are made: what they say follows
//! from the weights' dimensions and the vocabulary.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::tensors::{Part, Source};
use super::{ElementType, cannot_write, parent};
use crate::align::AlignmentHeads;
use crate::checkpoint::huggingface_name;
use crate::json::read_json_if_any;
use crate::{Error, Language, Result, Tokenizer, temporary};

/// Files that are copied from a folder.
const COPIED: [&str; 9] = [
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
];

/// Writes the model to the folder `out`.
pub(super) fn write(
    source: &Source,
    out: &Path,
    element: Option<ElementType>,
    on_tensor: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<()> {
    let element = element.unwrap_or_else(|| match source.checkpoint.dtype() {
        "F16" => ElementType::F16,
        "BF16" => ElementType::Bf16,
        // What is widened as it is read is exact in f32 alone.
        _ => ElementType::F32,
    });
    let dtype = match element {
        ElementType::F32 => "float32",
        ElementType::F16 => "float16",
        ElementType::Bf16 => "bfloat16",
        _ => {
            return Err(Error::Option {
                name: "dtype",
                reason: format!("a Hugging Face folder has no {element}: choose f32, f16 or bf16"),
            });
        }
    };
    let failed = |error| cannot_write(out, error);
    let (folder, _lock) = temporary::folder(parent(out)).map_err(failed)?;
    for (name, bytes) in other_files(source, dtype)? {
        fs::write(folder.path().join(name), bytes).map_err(failed)?;
    }
    let file = File::create_new(folder.path().join("model.safetensors")).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    let parts = source.parts(source.checkpoint.dims().n_vocab);
    writer.write_all(&header(&parts, element)).map_err(failed)?;
    for part in &parts {
        if on_tensor().is_break() {
            return Err(Error::Canceled);
        }
        source.encode(part, element, &mut |bytes| {
            writer.write_all(bytes).map_err(failed)
        })?;
    }
    let file = writer
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    // A folder that appeared in the meantime is only replaced if it is empty.
    fs::rename(folder.path(), out).map_err(failed)?;
    // It is no longer there to be removed.
    let _ = folder.keep();
    source.checkpoint.warn_of_unused();
    Ok(())
}

/// Returns the header of a safetensors file: its length and a JSON object, padded to whole words of 8 bytes.
fn header(parts: &[Part], element: ElementType) -> Vec<u8> {
    let (dtype, size) = match element {
        ElementType::F16 => ("F16", 2),
        ElementType::Bf16 => ("BF16", 2),
        _ => ("F32", 4),
    };
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut start = 0;
    for part in parts {
        let end = start + size * part.n_elements();
        let described = json!({"dtype": dtype, "shape": part.shape, "data_offsets": [start, end]});
        header.insert(huggingface_name(&part.name), described);
        start = end;
    }
    let mut json = Value::Object(header).to_string();
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
}

/// Returns the files other than the weights, by name.
fn other_files(source: &Source, dtype: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let path = &source.path;
    let mut files = Vec::new();
    if path.is_dir() {
        for name in COPIED {
            match fs::read(path.join(name)) {
                Ok(bytes) => files.push((name, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::Model {
                        path: path.join(name),
                        reason: format!("cannot read: {error}"),
                    });
                }
            }
        }
    }
    let own = match path.is_dir() {
        true => read_json_if_any::<Value>(&path.join("config.json"))?,
        false => None,
    };
    let own = own.filter(|config| config["model_type"] == "whisper");
    let is_own = own.is_some();
    let mut config = own.unwrap_or_else(|| config(source));
    if let Some(fields) = config.as_object_mut() {
        let field = if fields.contains_key("dtype") {
            "dtype"
        } else {
            "torch_dtype"
        };
        fields.insert(field.to_owned(), dtype.into());
    }
    let mut made = vec![("config.json", config)];
    if !is_own {
        made.push(("generation_config.json", generation_config(source)?));
        made.push(("preprocessor_config.json", preprocessor_config(source)));
        if !files
            .iter()
            .any(|(name, _)| ["tokenizer.json", "vocab.json"].contains(name))
        {
            made.push(("tokenizer.json", source.tokenizer.to_json()));
        }
    }
    for (name, json) in made {
        if !files.iter().any(|(other, _)| *other == name) {
            files.push((name, format!("{json:#}\n").into_bytes()));
        }
    }
    Ok(files)
}

/// Returns `config.json` of a model without.
fn config(source: &Source) -> Value {
    let (dims, eot) = (source.checkpoint.dims(), source.tokenizer.eot());
    json!({
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "is_encoder_decoder": true,
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "max_target_positions": dims.n_text_ctx,
        "vocab_size": dims.n_vocab,
        "d_model": dims.n_audio_state,
        "encoder_layers": dims.n_audio_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "decoder_layers": dims.n_text_layer,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_ffn_dim": 4 * dims.n_text_state,
        "activation_function": "gelu",
        "scale_embedding": false,
        "tie_word_embeddings": !source.checkpoint.has_own_output(),
        "bos_token_id": eot,
        "eos_token_id": eot,
        "pad_token_id": eot,
        "decoder_start_token_id": source.tokenizer.sot(),
    })
}

/// Returns `generation_config.json`, with the tokens that openai/whisper suppresses, and the alignment heads if they are known.
fn generation_config(source: &Source) -> Result<Value> {
    let tokenizer: &Tokenizer = &source.tokenizer;
    let mut suppressed = tokenizer.non_speech_tokens().to_vec();
    suppressed.push(tokenizer.sot());
    suppressed.extend(tokenizer.translate()..=tokenizer.no_speech());
    let eot = tokenizer.eot();
    let mut blank = tokenizer.encode(" ");
    blank.push(eot);
    let mut config = json!({
        "bos_token_id": eot,
        "eos_token_id": eot,
        "pad_token_id": eot,
        "decoder_start_token_id": tokenizer.sot(),
        "prev_sot_token_id": tokenizer.sot_prev(),
        "no_timestamps_token_id": tokenizer.no_timestamps(),
        "max_initial_timestamp_index": 50,
        "max_length": source.checkpoint.dims().n_text_ctx,
        "return_timestamps": false,
        "is_multilingual": tokenizer.is_multilingual(),
        "begin_suppress_tokens": blank,
        "suppress_tokens": suppressed,
    });
    if tokenizer.is_multilingual() {
        let languages: Map<String, Value> = Language::all()
            .filter_map(|language| {
                let token = tokenizer.language_token(language)?;
                Some((format!("<|{}|>", language.code()), token.into()))
            })
            .collect();
        config["lang_to_id"] = languages.into();
        config["task_to_id"] =
            json!({"transcribe": tokenizer.transcribe(), "translate": tokenizer.translate()});
    }
    let heads = AlignmentHeads::of(&source.path, source.checkpoint.dims())?;
    if let Some(heads) = heads.known() {
        config["alignment_heads"] = json!(heads);
    }
    Ok(config)
}

/// Returns `preprocessor_config.json`.
fn preprocessor_config(source: &Source) -> Value {
    json!({
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": source.checkpoint.dims().n_mels,
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 480_000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": false,
    })
}
