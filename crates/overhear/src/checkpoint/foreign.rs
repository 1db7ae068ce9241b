//! What was given in place of a Hugging Face folder of safetensors: told by its first bytes and its files, so that the
//! error says what it is and what to do.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::file::{LFS_POINTER, LFS_REASON};

/// What to do about weights in a format that is not read.
const CONVERT: &str = "overhear reads Hugging Face folders: get the model in that form (config.json, model.safetensors, \
     tokenizer.json), or load it with transformers and save it with save_pretrained";

/// Why the file at `path` is no model folder.
pub(super) fn describe_file(path: &Path) -> String {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    if let Err(error) = read {
        return format!("cannot read: {error}");
    }
    let what = match &start[..] {
        start if start.starts_with(LFS_POINTER) => return LFS_REASON.into(),
        [_, _, _, _, _, _, _, _, b'{', ..] => {
            return "a safetensors file: pass the folder that it is in, which must hold config.json too".into();
        }
        start if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x80\x02") => {
            "a PyTorch file (.pt or .bin)"
        }
        start if start.starts_with(b"lmgg") || start.starts_with(b"ggml") => {
            "a ggml file of whisper.cpp"
        }
        start if start.starts_with(b"GGUF") => "a GGUF file",
        _ => "a file",
    };
    format!("{what}, not a model folder; {CONVERT}")
}

/// Why `folder`, which holds no safetensors, is no model; `None` if nothing in it is known either.
pub(super) fn describe_folder(folder: &Path) -> Option<String> {
    let has = |name: &str| folder.join(name).exists();
    if has("adapter_model.safetensors") || has("adapter_model.bin") {
        return Some(
            "a LoRA adapter without its base model: load both with PEFT, merge them with merge_and_unload and save that \
             with save_pretrained"
                .into(),
        );
    }
    if is_ctranslate2(folder) {
        return Some(format!(
            "a CTranslate2 model (of faster-whisper); {CONVERT}"
        ));
    }
    let others = [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "tf_model.h5",
        "flax_model.msgpack",
        "onnx",
    ];
    let name = others.into_iter().find(|name| has(name))?;
    Some(format!(
        "no model.safetensors here, only {name}, which is not read: load the model with transformers and save it with \
         save_pretrained, or get the revision that has model.safetensors"
    ))
}

/// Whether `folder` holds what ct2-transformers-converter writes.
fn is_ctranslate2(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    has("model.bin") && (has("vocabulary.json") || has("vocabulary.txt"))
}
