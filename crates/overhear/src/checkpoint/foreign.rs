//! Recognition of models in other formats, by their first bytes and file names, for error messages that say how to
//! convert them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::file::{LFS_POINTER, LFS_REASON};

/// Advice for weights in an unsupported format.
const CONVERT: &str = "overhear reads Hugging Face folders, CTranslate2 folders, ggml and GGUF files, and openai/whisper's .pt files: get the model in one of these forms, \
     or load it with transformers and save it with save_pretrained";

/// Returns why the file at `path` is not a model folder.
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
        start if start.starts_with(b"ggml") => "a big-endian ggml file of whisper.cpp",
        _ => "a file",
    };
    format!("{what}, not a model folder; {CONVERT}")
}

/// Returns why `folder`, which has no weights that are read, is not a model; `None` if no other format is recognised.
pub(super) fn describe_folder(folder: &Path) -> Option<String> {
    let has = |name: &str| folder.join(name).exists();
    if has("adapter_model.safetensors") || has("adapter_model.bin") {
        return Some(
            "a LoRA adapter, which needs adapter_config.json and a base model that is not an adapter itself".into(),
        );
    }
    let others = ["tf_model.h5", "flax_model.msgpack", "onnx"];
    let name = others.into_iter().find(|name| has(name))?;
    Some(format!(
        "no model.safetensors, only {name}, which overhear does not read: load the model with transformers and save it with \
         save_pretrained, or get the revision that has model.safetensors"
    ))
}
