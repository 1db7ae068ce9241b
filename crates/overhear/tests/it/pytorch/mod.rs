//! PyTorch files: the transcripts of the Hugging Face folders that they are made from, and files that are meant to harm.

#![allow(clippy::print_stdout)]

mod damage;
mod writer;

use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::f16;
use overhear::model::Dtype;
use overhear::transcribe::WordOptions;
use overhear::{Audio, Model, TranscribeOptions};
use safetensors::SafeTensors;
use serde_json::Value;

use writer::{begin, file};

/// Returns the checkpoint in `folder` as openai/whisper's own, matrices in f16 and the rest in f32.
fn openai(folder: &Path) -> Vec<u8> {
    let model = Model::open(folder, &common::exact()).unwrap();
    let dims = model.dims();
    let config: Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let fields = [
        ("n_mels", dims.n_mels),
        ("n_vocab", config["vocab_size"].as_u64().unwrap() as usize),
        ("n_audio_ctx", dims.n_audio_ctx),
        ("n_audio_state", dims.n_audio_state),
        ("n_audio_head", dims.n_audio_head),
        ("n_audio_layer", dims.n_audio_layer),
        ("n_text_ctx", dims.n_text_ctx),
        ("n_text_state", dims.n_text_state),
        ("n_text_head", dims.n_text_head),
        ("n_text_layer", dims.n_text_layer),
    ];
    let dims = begin().raw(b"}(").text("dims").raw(b"}(");
    let dims = fields
        .iter()
        .fold(dims, |pickle, (name, n)| pickle.text(name).number(*n));
    let mut pickle = dims.raw(b"u").text("model_state_dict").raw(b"}(");
    let mut storages = Vec::new();
    let weights = fs::read(folder.join("model.safetensors")).unwrap();
    for (i, (name, tensor)) in SafeTensors::deserialize(&weights)
        .unwrap()
        .iter()
        .enumerate()
    {
        let (key, shape) = (i.to_string(), tensor.shape());
        let n: usize = shape.iter().product();
        let (kind, bytes) = match shape.len() {
            1 => {
                let (halves, _) = tensor.data().as_chunks();
                let singles = halves
                    .iter()
                    .flat_map(|half| f16::from_le_bytes(*half).to_f32().to_le_bytes());
                ("FloatStorage", singles.collect())
            }
            _ => ("HalfStorage", tensor.data().to_vec()),
        };
        pickle = pickle
            .text(&common::openai_name(name))
            .tensor(kind, &key, n, 0, shape);
        storages.push((key, bytes));
    }
    let storages: Vec<_> = storages
        .iter()
        .map(|(key, bytes)| (&key[..], bytes.clone()))
        .collect();
    file(pickle.raw(b"uu."), &storages)
}

/// Returns a file of tensors of f32, each with a storage of its own.
pub(crate) fn of_tensors(tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Vec<u8> {
    let mut pickle = begin().raw(b"}(");
    let mut storages = Vec::new();
    for (i, (name, (shape, values))) in tensors.iter().enumerate() {
        let key = i.to_string();
        let tensor = pickle.text(name);
        pickle = tensor.tensor("FloatStorage", &key, values.len(), 0, shape);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        storages.push((key, bytes.collect::<Vec<u8>>()));
    }
    let storages: Vec<_> = storages
        .iter()
        .map(|(key, bytes)| (&key[..], bytes.clone()))
        .collect();
    file(pickle.raw(b"u."), &storages)
}

/// Returns the weights in `folder` as `pytorch_model.bin`: all in one storage, and the output matrix tied.
fn state_dict(folder: &Path) -> Vec<u8> {
    let weights = fs::read(folder.join("model.safetensors")).unwrap();
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let storage: Vec<u8> = weights
        .iter()
        .flat_map(|(_, tensor)| tensor.data().to_vec())
        .collect();
    let n_stored = storage.len() / 2;
    let mut pickle = begin().raw(b"ccollections\nOrderedDict\n)R(");
    let mut first = 0;
    for (name, tensor) in weights.iter() {
        let shape = tensor.shape();
        let mut names = vec![name];
        if name == "model.decoder.embed_tokens.weight" {
            names.push("proj_out.weight");
        }
        for name in names {
            pickle = pickle
                .text(name)
                .tensor("HalfStorage", "0", n_stored, first, shape);
        }
        first += shape.iter().product::<usize>();
    }
    let pickle = pickle.raw(b"u}").text("_metadata").raw(b"}sb.");
    file(pickle, &[("0", storage)])
}

fn transcribe(model: &Path, clip: &str) -> Value {
    let model = Model::open(model, &common::exact()).unwrap();
    assert_eq!(model.dtype(), Dtype::F16);
    let audio = Audio::open(common::fixtures().join("audio").join(clip)).unwrap();
    let options = TranscribeOptions {
        words: Some(WordOptions::default()),
        ..TranscribeOptions::default()
    };
    serde_json::to_value(model.transcribe(&audio, &options).unwrap()).unwrap()
}

/// Copies the files of a folder but for its weights.
fn copy_others(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "safetensors") {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn pytorch_files_give_the_transcript_of_the_folder_that_they_are_made_from() {
    for (model, clip, name) in [
        (common::nano(), "synth-en-05.flac", "nano.pt"),
        (common::tiny_en(), "jfk.flac", "tiny.en.pt"),
    ] {
        let expected = transcribe(&model, clip);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, openai(&model)).unwrap();
        assert_eq!(transcribe(&path, clip), expected, "{name}");
        fs::write(folder.path().join("pytorch_model.bin"), state_dict(&model)).unwrap();
        copy_others(&model, folder.path());
        assert_eq!(transcribe(folder.path(), clip), expected, "{name}, folder");
    }
}

/// Files of torch.save: `just pytorch base`, `just pytorch tiny.en`.
#[test]
#[ignore = "needs OVERHEAR_PUBLISHED"]
fn published_models_in_files_of_torch_give_the_transcript_of_their_folders() {
    for name in ["tiny.en", "base"] {
        let published = common::folder("OVERHEAR_PUBLISHED").join(name);
        let folder = published.join("pytorch");
        if !folder.exists() {
            println!("{} does not exist: left out", folder.display());
            continue;
        }
        for clip in ["jfk.flac", "real-librispeech-1.flac"] {
            let expected = transcribe(&published, clip);
            for file in [&format!("{name}.pt"), "bin", "shards"] {
                let found = transcribe(&folder.join(file), clip);
                assert_eq!(found, expected, "{name}, {file}, {clip}");
            }
        }
    }
}
