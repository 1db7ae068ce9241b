//! Checkpoints like those of fine-tunes, derived from nano: each gives nano's results, or an error of one line.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{exact, fixtures, nano};
use half::f16;
use overhear::decode::DecodingRules;
use overhear::transcribe::LanguageOptions;
use overhear::{Audio, ComputeType, Error, Language, Model, ModelOptions, Task, TranscribeOptions};
use serde_json::{Value, json};

const EMBEDDING: &str = "model.decoder.embed_tokens.weight";

/// A tensor in f16.
#[derive(Clone)]
struct Tensor {
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A modified copy of nano.
struct Checkpoint {
    folder: tempfile::TempDir,
    config: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    fn of_nano() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["generation_config.json", "vocab.json", "added_tokens.json"] {
            fs::copy(nano().join(name), folder.path().join(name)).unwrap();
        }
        let file = fs::read(nano().join("model.safetensors")).unwrap();
        let (length, rest) = file.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
        let tensor = |(name, entry): (String, Value)| {
            let offsets = entry.get("data_offsets")?.as_array()?;
            let at = |i: usize| offsets[i].as_u64().unwrap() as usize;
            let shape = serde_json::from_value(entry["shape"].clone()).unwrap();
            let bytes = data[at(0)..at(1)].to_vec();
            let dtype = "F16";
            Some((
                name,
                Tensor {
                    dtype,
                    shape,
                    bytes,
                },
            ))
        };
        Self {
            folder,
            config: serde_json::from_slice(&fs::read(nano().join("config.json")).unwrap()).unwrap(),
            tensors: header.into_iter().filter_map(tensor).collect(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.get_mut(name).unwrap()
    }

    /// Appends rows, each the mean of all rows (as `resize_token_embeddings`), or removes rows.
    fn resize(&mut self, n_vocab: usize) {
        let embedding = self.tensor(EMBEDDING);
        let (n, width) = (embedding.shape[0], embedding.shape[1]);
        let rows: Vec<f32> = values(embedding);
        let mean: Vec<u8> = (0..width)
            .map(|i| rows.iter().skip(i).step_by(width).sum::<f32>() / n as f32)
            .flat_map(|x| f16::from_f32(x).to_le_bytes())
            .collect();
        embedding
            .bytes
            .resize(embedding.bytes.len().min(2 * width * n_vocab), 0);
        for _ in n..n_vocab {
            embedding.bytes.extend(&mean);
        }
        embedding.shape[0] = n_vocab;
        self.config["vocab_size"] = json!(n_vocab);
    }

    fn write(&self) -> &Path {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, tensor) in &self.tensors {
            let start = data.len();
            data.extend(&tensor.bytes);
            let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), entry);
        }
        let header = Value::Object(header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        let file = [&length[..], header.as_bytes(), &data].concat();
        fs::write(self.path("model.safetensors"), file).unwrap();
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
        self.folder.path()
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let halves = tensor.bytes.chunks_exact(2);
    halves
        .map(|x| f16::from_le_bytes([x[0], x[1]]).to_f32())
        .collect()
}

/// Greedy search, for speed.
fn options() -> TranscribeOptions {
    TranscribeOptions {
        temperatures: vec![0.0],
        ..TranscribeOptions::default()
    }
}

fn hear(
    folder: &Path,
    clip: &str,
    options: &TranscribeOptions,
) -> overhear::Result<overhear::Transcript> {
    let model = Model::open(folder, &exact())?;
    let audio = Audio::open(fixtures().join("audio").join(clip))?;
    model.transcribe(&audio, options)
}

/// Asserts that `checkpoint` gives the same tokens and statistics as nano.
fn assert_as_nano(name: &str, checkpoint: &Checkpoint) {
    let folder = checkpoint.write();
    let expected = hear(&nano(), "synth-en-05.flac", &options()).unwrap();
    let found =
        hear(folder, "synth-en-05.flac", &options()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(found.text, expected.text, "{name}");
    assert_eq!(
        format!("{:?}", found.segments),
        format!("{:?}", expected.segments),
        "{name}"
    );
}

#[test]
fn every_size_of_the_vocabulary_gives_the_unchanged_models_transcript() {
    let translation = TranscribeOptions {
        task: Task::Translate,
        ..options()
    };
    let expected = hear(&nano(), "synth-de-00.flac", &translation)
        .unwrap()
        .text;
    for n_vocab in [51866, 51873, 51904, 51968] {
        let mut checkpoint = Checkpoint::of_nano();
        checkpoint.resize(n_vocab);
        assert_as_nano(&n_vocab.to_string(), &checkpoint);
        let text = hear(checkpoint.write(), "synth-de-00.flac", &translation)
            .unwrap()
            .text;
        assert_eq!(text, expected, "{n_vocab}");
        let model = Model::open(checkpoint.folder.path(), &exact()).unwrap();
        assert_eq!(model.tokenizer().num_languages(), 99);
        assert_eq!(model.dims().n_vocab, 51865);
    }
}

#[test]
fn a_model_without_timestamps_gives_the_text_without_them() {
    let mut checkpoint = Checkpoint::of_nano();
    checkpoint.resize(50364);
    let found = hear(checkpoint.write(), "synth-en-05.flac", &options()).unwrap();
    let without = TranscribeOptions {
        rules: DecodingRules {
            without_timestamps: true,
            ..options().rules
        },
        ..options()
    };
    let expected = hear(&nano(), "synth-en-05.flac", &without).unwrap();
    assert_eq!(found.text, expected.text);
    assert!(!found.text.is_empty());
}

#[test]
fn an_output_matrix_of_its_own_is_used() {
    let mut checkpoint = Checkpoint::of_nano();
    checkpoint.config["tie_word_embeddings"] = json!(false);
    assert_as_nano("no proj_out", &checkpoint);
    let embedding = checkpoint.tensor(EMBEDDING).clone();
    checkpoint
        .tensors
        .insert("proj_out.weight".into(), embedding.clone());
    assert_as_nano("equal", &checkpoint);
    // Also with a padded vocabulary.
    checkpoint.resize(51968);
    let padded = checkpoint.tensor(EMBEDDING).clone();
    checkpoint.tensors.insert("proj_out.weight".into(), padded);
    assert_as_nano("padded", &checkpoint);
    // Another output matrix gives another text; if tied, it is ignored.
    let zeros = vec![0; embedding.bytes.len()];
    let mut checkpoint = Checkpoint::of_nano();
    let other = Tensor {
        bytes: zeros,
        ..embedding
    };
    checkpoint.tensors.insert("proj_out.weight".into(), other);
    assert_as_nano("tied", &checkpoint);
    checkpoint.config["tie_word_embeddings"] = json!(false);
    let text = hear(checkpoint.write(), "synth-en-05.flac", &options())
        .unwrap()
        .text;
    assert_ne!(
        text,
        hear(&nano(), "synth-en-05.flac", &options()).unwrap().text
    );
    // Stored under the name of the output matrix only.
    let mut checkpoint = Checkpoint::of_nano();
    let embedding = checkpoint.tensors.remove(EMBEDDING).unwrap();
    checkpoint
        .tensors
        .insert("proj_out.weight".into(), embedding);
    assert_as_nano("proj_out alone", &checkpoint);
}

#[test]
fn doubles_missing_positions_and_pythons_json_are_read() {
    let double = |tensor: &mut Tensor| {
        tensor.bytes = values(tensor)
            .iter()
            .flat_map(|&x| f64::from(x).to_le_bytes())
            .collect();
        tensor.dtype = "F64";
    };
    let mut checkpoint = Checkpoint::of_nano();
    checkpoint.tensors.values_mut().for_each(double);
    assert_as_nano("f64", &checkpoint);
    let mut checkpoint = Checkpoint::of_nano();
    double(checkpoint.tensor("model.encoder.layers.0.fc1.bias"));
    double(checkpoint.tensor("model.encoder.layers.0.self_attn.q_proj.weight"));
    assert_as_nano("some f64", &checkpoint);

    let mut checkpoint = Checkpoint::of_nano();
    checkpoint
        .tensors
        .remove("model.encoder.embed_positions.weight");
    let text = hear(checkpoint.write(), "synth-en-05.flac", &options())
        .unwrap()
        .text;
    assert_eq!(
        text,
        hear(&nano(), "synth-en-05.flac", &options()).unwrap().text
    );

    let generation = fs::read_to_string(nano().join("generation_config.json")).unwrap();
    for contents in [
        generation.replacen('{', "{\"x\": Infinity, \"y\": [NaN, -Infinity],", 1),
        format!("\u{feff}{generation}"),
        String::new(),
        "\u{feff}\n".to_owned(),
    ] {
        let checkpoint = Checkpoint::of_nano();
        fs::write(checkpoint.path("generation_config.json"), &contents).unwrap();
        assert_as_nano(&contents[..contents.len().min(20)], &checkpoint);
    }
    let mut checkpoint = Checkpoint::of_nano();
    for field in [
        "model_type",
        "num_mel_bins",
        "vocab_size",
        "max_target_positions",
    ] {
        checkpoint.config.as_object_mut().unwrap().remove(field);
    }
    assert_as_nano("config", &checkpoint);
}

#[test]
fn weights_that_are_not_finite_are_an_error_that_names_the_tensor() {
    for (bits, name, at) in [
        (0x7e00u16, EMBEDDING, 256_000),
        (0x7c00, "model.decoder.layers.3.fc2.bias", 0),
        (0xfc00, "model.encoder.conv1.weight", 100),
        (
            0xfe00,
            "model.encoder.layers.2.self_attn.v_proj.weight",
            32_766,
        ),
    ] {
        let mut checkpoint = Checkpoint::of_nano();
        checkpoint.tensor(name).bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        let folder = checkpoint.write();
        for compute_type in [
            ComputeType::F32,
            ComputeType::F16,
            ComputeType::Bf16,
            ComputeType::Int8,
            ComputeType::Q5,
            ComputeType::Q4,
        ] {
            let options = ModelOptions {
                compute_type,
                ..ModelOptions::default()
            };
            let error = Model::open(folder, &options).err().unwrap();
            assert!(matches!(error, Error::Model { .. }));
            let message = error.to_string();
            let file = checkpoint.path("model.safetensors").display().to_string();
            assert!(
                message.starts_with(&file) && message.contains(name),
                "{message}"
            );
        }
    }
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    for (name, what) in [
        ("model.decoder.layer_norm.weight", "the logits for"),
        ("model.encoder.layer_norm.bias", "the encoder's outputs"),
    ] {
        let mut checkpoint = Checkpoint::of_nano();
        let tensor = checkpoint.tensor(name);
        tensor.dtype = "F32";
        let n = tensor.shape[0];
        // The sum with a bias of the same size overflows.
        tensor.bytes = (0..n).flat_map(|_| 3e38f32.to_le_bytes()).collect();
        if name.contains("encoder") {
            let weight = checkpoint.tensor("model.encoder.layer_norm.weight");
            weight.dtype = "F32";
            weight.bytes = (0..n).flat_map(|_| 3e38f32.to_le_bytes()).collect();
        }
        let folder = checkpoint.write();
        let model = Model::open(folder, &exact()).unwrap();
        let audio = Audio::open(fixtures().join("audio/synth-en-05.flac")).unwrap();
        let english = TranscribeOptions {
            language: Some(Language::ENGLISH),
            ..options()
        };
        let beams = TranscribeOptions {
            rules: DecodingRules {
                beam_size: Some(5),
                ..english.rules.clone()
            },
            ..english.clone()
        };
        for options in [english, beams] {
            let error = model.transcribe(&audio, &options).unwrap_err();
            assert!(matches!(error, Error::NotFinite { .. }), "{error}");
            assert!(error.to_string().starts_with(what), "{error}");
        }
        let error = model
            .detect_language(&audio, &LanguageOptions::default())
            .unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    }
}

#[test]
fn models_in_other_formats_are_recognised() {
    let cases: [(&str, &[u8], &str); 6] = [
        (
            "a.pt",
            b"PK\x03\x04 and more",
            "file is 13 bytes, and the end of a zip archive is missing",
        ),
        ("a.bin", b"lmgg and more", "file is 13 bytes, needs 16"),
        ("a.gguf", b"GGUF and more", "version 1684955424 of GGUF"),
        (
            "a.safetensors",
            b"\x10\0\0\0\0\0\0\0{}",
            "a safetensors file: pass the folder",
        ),
        (
            "b.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer",
        ),
        ("c.txt", b"", "a file, not a model folder"),
    ];
    let error = |path: &Path| {
        let error = Model::open(path, &exact()).err().unwrap();
        assert!(matches!(error, Error::Model { .. }), "{error}");
        error.to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, contents, what) in cases {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        let message = error(&path);
        assert!(
            message.starts_with(&format!("{}: {what}", path.display())),
            "{message}"
        );
    }
    for (config, file, what) in [
        (
            "config.json",
            "tf_model.h5",
            "no model.safetensors, only tf_model.h5",
        ),
        (
            "adapter_config.json",
            "adapter_model.safetensors",
            "no base_model_name_or_path",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(nano().join("config.json"), folder.path().join(config)).unwrap();
        fs::write(folder.path().join(file), "x").unwrap();
        let message = error(folder.path());
        assert!(message.contains(what), "{message}");
    }
    let checkpoint = Checkpoint::of_nano();
    checkpoint.write();
    fs::write(
        checkpoint.path("model.safetensors"),
        "version https://git-lfs.github.com/spec/v1\noid",
    )
    .unwrap();
    assert!(error(checkpoint.folder.path()).contains("a Git LFS pointer"));
}

#[test]
fn headers_of_very_many_tensors_are_refused() {
    let tensors: Vec<String> = (0..60_000)
        .map(|i| format!(r#""t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    for (n, links, what) in [
        (60_000, 1, "more than 50000 tensors"),
        (30_000, 2, "its files have more than 50000 tensors"),
    ] {
        let header = format!("{{{}}}", tensors[..n].join(","));
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::copy(nano().join("config.json"), path("config.json")).unwrap();
        let mut map = serde_json::Map::new();
        for link in 0..links {
            let name = format!("a{link}.safetensors");
            fs::write(path(&name), &file).unwrap();
            map.insert(format!("t{link}"), json!(name));
        }
        fs::write(
            path("model.safetensors.index.json"),
            json!({"weight_map": map}).to_string(),
        )
        .unwrap();
        let message = Model::open(folder.path(), &exact())
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains(what), "{message}");
    }
}
