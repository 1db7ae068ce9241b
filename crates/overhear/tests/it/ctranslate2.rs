//! CTranslate2 folders of faster-whisper: the transcripts of the Hugging Face folders that they are made from, and damage.

#![allow(clippy::unwrap_used)]

use crate::common;
use std::fs;
use std::path::Path;

use half::f16;
use overhear::model::{Dtype, Isa};
use overhear::transcribe::WordOptions;
use overhear::{Audio, ComputeType, Model, ModelOptions, TranscribeOptions};
use safetensors::SafeTensors;
use serde_json::Value;

/// Numbers of types of variables.
const F32: u8 = 0;
const I8: u8 = 1;
const I16: u8 = 2;
const F16: u8 = 4;

/// Variables of a `model.bin`: name, shape, type, bytes.
#[derive(Default)]
struct Variables(Vec<(String, Vec<usize>, u8, Vec<u8>)>);

impl Variables {
    fn number(&mut self, name: &str, bytes: &[u8]) {
        self.0
            .push((name.to_owned(), vec![], bytes.len() as u8, bytes.to_vec()));
    }

    /// Adds tensors of one shape as one variable; zeros for those that do not exist.
    fn add(&mut self, name: String, tensors: &SafeTensors<'_>, parts: &[String]) {
        let first = parts
            .iter()
            .find_map(|part| tensors.tensor(part).ok())
            .unwrap();
        let mut shape = first.shape().to_vec();
        shape[0] *= parts.len();
        let bytes = parts.iter().flat_map(|part| match tensors.tensor(part) {
            Ok(tensor) => tensor.data().to_vec(),
            Err(_) => vec![0; first.data().len()],
        });
        self.0.push((name, shape, F16, bytes.collect()));
    }

    /// Quantises the weights to `kind`, or with `dequantised` gives the numbers that they stand for
    /// (`specs/model_spec.py::LayerSpec._quantize`, `src/ops/dequantize_cpu.cc`).
    fn quantise(&mut self, kind: u8, dequantised: bool) {
        let mut all = Vec::new();
        for (name, shape, stored, bytes) in self.0.drain(..) {
            if !name.ends_with("/weight") {
                all.push((name, shape, stored, bytes));
                continue;
            }
            let weights: Vec<f32> = bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f16::from_le_bytes(b).to_f32())
                .collect();
            let n_scales = if kind == I8 { shape[0] } else { 1 };
            let scale = |row: &[f32]| {
                let largest = row.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                match kind {
                    I8 if largest == 0.0 => 1.0,
                    I8 => 127.0 / largest,
                    _ => 1024.0 / largest,
                }
            };
            let rows = weights.chunks(weights.len() / n_scales);
            let scales: Vec<f32> = rows.clone().map(scale).collect();
            let integers = rows.zip(&scales).flat_map(|(row, scale)| {
                row.iter()
                    .map(move |weight| ((weight * scale).round_ties_even(), 1.0 / scale))
            });
            if dequantised {
                let bytes =
                    integers.flat_map(|(integer, reciprocal)| (integer * reciprocal).to_le_bytes());
                all.push((name, shape, F32, bytes.collect()));
                continue;
            }
            let bytes = match kind {
                I8 => integers.map(|(integer, _)| integer as i8 as u8).collect(),
                _ => integers
                    .flat_map(|(integer, _)| (integer as i16).to_le_bytes())
                    .collect(),
            };
            let scale_shape = if kind == I8 { vec![n_scales] } else { vec![] };
            let scales = scales
                .iter()
                .flat_map(|scale| scale.to_le_bytes())
                .collect();
            all.push((name.clone(), shape, kind, bytes));
            all.push((name + "_scale", scale_shape, F32, scales));
        }
        self.0 = all;
    }

    fn file(&self) -> Vec<u8> {
        let text = |text: &str| {
            let len = (text.len() as u16 + 1).to_le_bytes();
            [&len[..], text.as_bytes(), &[0]].concat()
        };
        let mut out = 6_u32.to_le_bytes().to_vec();
        out.extend(text("WhisperSpec"));
        out.extend(3_u32.to_le_bytes());
        out.extend((self.0.len() as u32).to_le_bytes());
        for (name, shape, kind, bytes) in &self.0 {
            out.extend(text(name));
            out.push(shape.len() as u8);
            out.extend(shape.iter().flat_map(|&n| (n as u32).to_le_bytes()));
            out.push(*kind);
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        out.extend(1_u32.to_le_bytes());
        out.extend(text("decoder/projection/weight"));
        out.extend(text("decoder/embeddings/weight"));
        out
    }
}

/// Converts the Hugging Face folder `from`, as `ct2-transformers-converter` does.
fn variables(from: &Path) -> Variables {
    let file = fs::read(from.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let config: Value =
        serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    let mut all = Variables::default();
    for side in ["encoder", "decoder"] {
        let n_heads = config[format!("{side}_attention_heads")].as_u64().unwrap() as u16;
        all.number(&format!("{side}/activation"), &[3]);
        all.number(&format!("{side}/pre_norm"), &[1]);
        all.number(&format!("{side}/num_heads"), &n_heads.to_le_bytes());
        let mut one = |name: &str, tensor: &str| {
            all.add(
                format!("{side}/{name}"),
                &tensors,
                &[format!("model.{side}.{tensor}")],
            );
        };
        one("position_encodings/encodings", "embed_positions.weight");
        one("layer_norm/gamma", "layer_norm.weight");
        one("layer_norm/beta", "layer_norm.bias");
        match side {
            "decoder" => one("embeddings/weight", "embed_tokens.weight"),
            _ => {
                for part in ["conv1/weight", "conv1/bias", "conv2/weight", "conv2/bias"] {
                    one(part, &part.replace('/', "."));
                }
            }
        }
        for i in 0..config[format!("{side}_layers")].as_u64().unwrap() {
            let mut add = |name: &str, parts: &[&str]| {
                for kind in ["weight", "bias"] {
                    let to = match (name.ends_with("layer_norm"), kind) {
                        (true, "weight") => "gamma",
                        (true, _) => "beta",
                        _ => kind,
                    };
                    let parts = parts
                        .iter()
                        .map(|part| format!("model.{side}.layers.{i}.{part}.{kind}"));
                    let parts: Vec<_> = parts.collect();
                    all.add(format!("{side}/layer_{i}/{name}/{to}"), &tensors, &parts);
                }
            };
            let attention = ["q_proj", "k_proj", "v_proj"].map(|part| format!("self_attn.{part}"));
            add("self_attention/layer_norm", &["self_attn_layer_norm"]);
            add(
                "self_attention/linear_0",
                &attention.each_ref().map(String::as_str),
            );
            add("self_attention/linear_1", &["self_attn.out_proj"]);
            if side == "decoder" {
                add("attention/layer_norm", &["encoder_attn_layer_norm"]);
                add("attention/linear_0", &["encoder_attn.q_proj"]);
                add(
                    "attention/linear_1",
                    &["encoder_attn.k_proj", "encoder_attn.v_proj"],
                );
                add("attention/linear_2", &["encoder_attn.out_proj"]);
            }
            add("ffn/layer_norm", &["final_layer_norm"]);
            add("ffn/linear_0", &["fc1"]);
            add("ffn/linear_1", &["fc2"]);
        }
    }
    all
}

/// Writes the files beside `model.bin`: alignment heads, and the tokens as a list.
fn write_others(from: &Path, to: &Path) {
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(from.join(name)).unwrap()).unwrap()
    };
    let generation = read("generation_config.json");
    let config =
        serde_json::json!({"alignment_heads": generation["alignment_heads"], "lang_ids": []});
    fs::write(to.join("config.json"), config.to_string()).unwrap();
    let tokenizer = read("tokenizer.json");
    let mut tokens: Vec<(u64, String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (id.as_u64().unwrap(), text.clone()))
        .collect();
    for token in tokenizer["added_tokens"].as_array().unwrap() {
        let id = token["id"].as_u64().unwrap();
        tokens.push((id, token["content"].as_str().unwrap().to_owned()));
    }
    tokens.sort();
    tokens.dedup();
    let texts: Vec<_> = tokens.into_iter().map(|(_, text)| text).collect();
    fs::write(to.join("vocabulary.txt"), texts.join("\n") + "\n").unwrap();
    fs::write(
        to.join("vocabulary.json"),
        serde_json::to_string(&texts).unwrap(),
    )
    .unwrap();
}

fn transcribe(model: &Path) -> Value {
    let model = Model::open(model, &common::exact()).unwrap();
    let audio = Audio::open(common::fixtures().join("audio/synth-en-05.flac")).unwrap();
    let options = TranscribeOptions {
        words: Some(WordOptions::default()),
        ..TranscribeOptions::default()
    };
    serde_json::to_value(model.transcribe(&audio, &options).unwrap()).unwrap()
}

#[test]
fn a_ctranslate2_folder_gives_the_transcript_of_the_folder_that_it_is_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("model.bin"), variables(&common::nano()).file()).unwrap();
    write_others(&common::nano(), folder);
    let expected = transcribe(&common::nano());
    assert_eq!(transcribe(folder), expected);
    fs::remove_file(folder.join("vocabulary.json")).unwrap();
    assert_eq!(transcribe(folder), expected, "vocabulary.txt");
    fs::write(folder.join("vocabulary.json"), "{").unwrap();
    fs::copy(
        common::nano().join("tokenizer.json"),
        folder.join("tokenizer.json"),
    )
    .unwrap();
    assert_eq!(transcribe(folder), expected, "tokenizer.json");
}

#[test]
fn integers_are_what_they_stand_for_when_divided_by_their_scales() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_others(&common::nano(), folder);
    for (kind, dtype) in [(I8, Dtype::Int8), (I16, Dtype::Int16)] {
        let transcribe_as = |dequantised| {
            let mut all = variables(&common::nano());
            all.quantise(kind, dequantised);
            fs::write(folder.join("model.bin"), all.file()).unwrap();
            transcribe(folder)
        };
        assert_eq!(transcribe_as(true), transcribe_as(false), "{dtype}");
        assert_eq!(
            Model::open(folder, &common::exact()).unwrap().dtype(),
            dtype
        );
        let auto = Model::open(folder, &ModelOptions::default()).unwrap();
        let is_int8 = auto.compute_type() == ComputeType::Int8;
        let has_kernel = matches!(auto.isa(), Isa::Avx2 | Isa::Amx);
        assert!(is_int8 || dtype != Dtype::Int8 || !has_kernel);
        assert!(!is_int8 || dtype == Dtype::Int8);
    }
}

#[test]
fn scales_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_others(&common::nano(), folder);
    let scales = "encoder/layer_0/ffn/linear_0/weight_scale";
    let error = |kind: u8, change: &dyn Fn(&mut Variables, usize)| {
        let mut all = variables(&common::nano());
        all.quantise(kind, false);
        let at = all
            .0
            .iter()
            .position(|variable| variable.0 == scales)
            .unwrap();
        change(&mut all, at);
        fs::write(folder.join("model.bin"), all.file()).unwrap();
        Model::open(folder, &common::exact())
            .err()
            .map(|error| error.to_string())
    };
    let said = error(I8, &|all, at| drop(all.0.remove(at))).unwrap();
    assert!(
        said.contains("linear_0/weight is I8 without scales"),
        "{said}"
    );
    let said = error(I8, &|all, at| all.0[at].3.truncate(4)).unwrap();
    assert!(said.contains("F32 in 4 bytes, not "), "{said}");
    let said = error(I8, &|all, at| all.0[at].2 = F16).unwrap();
    assert!(said.contains("weight_scale is F16 in"), "{said}");
    let said = error(I8, &|all, at| all.0[at].3.fill(0)).unwrap();
    assert!(
        said.contains("mlp.0.weight has elements that are infinite"),
        "{said}"
    );
    let said = error(I8, &|all, at| {
        all.0[at].0 = "encoder/layer_0/ffn/linear_0/bias".to_owned()
    })
    .unwrap();
    assert!(said.contains("two variables are called"), "{said}");
    // Old converters wrote none for int16, which meant 1000.
    assert_eq!(error(I16, &|all, at| drop(all.0.remove(at))), None);
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_others(&common::nano(), folder);
    let error = |bytes: &[u8]| {
        fs::write(folder.join("model.bin"), bytes).unwrap();
        let error = Model::open(folder, &common::exact()).err().unwrap();
        let said = error.to_string();
        assert!(said.contains("model.bin: "), "{said}");
        said
    };
    let all = variables(&common::nano());
    let whole = all.file();
    for at in [0, 3, 10, 30, 100, whole.len() / 2, whole.len() - 1] {
        assert!(error(&whole[..at]).contains("file is"), "{at}");
    }
    assert!(error(&[&whole[..], &[0]].concat()).contains("belong to nothing"));
    let with = |change: &dyn Fn(&mut Variables)| {
        let mut changed = variables(&common::nano());
        change(&mut changed);
        error(&changed.file())
    };
    let find = |all: &Variables, name: &str| {
        all.0
            .iter()
            .position(|variable| variable.0 == name)
            .unwrap()
    };
    assert!(error(b"version https://git-lfs.github.com/spec/v1").contains("a Git LFS pointer"));
    let said = with(&|all| {
        let at = find(all, "encoder/layer_0/ffn/linear_0/weight");
        all.0[at].2 = 3;
    });
    assert!(said.contains("is of type I32"), "{said}");
    let said = with(&|all| {
        let at = find(all, "encoder/layer_0/ffn/linear_0/weight");
        all.0[at].1[0] += 1;
    });
    assert!(said.contains("bytes"), "{said}");
    let said = with(&|all| {
        let at = find(all, "decoder/layer_1/attention/linear_1/weight");
        all.0.remove(at);
    });
    assert!(
        said.contains("no tensor decoder.blocks.1.cross_attn.key.weight"),
        "{said}"
    );
    let said = with(&|all| {
        let at = find(all, "encoder/activation");
        all.0[at].3 = vec![0];
    });
    assert!(said.contains("not GELU"), "{said}");
    for (at, number) in [(0, 3_u32), (6, u32::MAX), (22, u32::MAX)] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        error(&bytes);
    }
    fs::remove_file(folder.join("model.bin")).unwrap();
    fs::create_dir(folder.join("model.bin")).unwrap();
    let said = Model::open(folder, &common::exact())
        .err()
        .unwrap()
        .to_string();
    assert!(said.ends_with("model.bin: not a file"), "{said}");
}
