//! LoRA adapters in PEFT's layout: the transcripts of models that they are merged into, adapters that are refused, and damage.

#![allow(clippy::unwrap_used)]

use crate::common;
use crate::pytorch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{exact, nano};
use half::f16;
use overhear::model::find::base_of;
use overhear::{Audio, Model, ModelOptions, TranscribeOptions};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// A tensor of f32.
pub(crate) type Tensor = (Vec<usize>, Vec<f32>);
/// Damage of an adapter's tensors.
type Change<'a> = Box<dyn Fn(&mut BTreeMap<String, Tensor>) + 'a>;

const QUERY: &str = "model.decoder.layers.0.encoder_attn.q_proj";
const UP: &str = "model.encoder.layers.1.fc1";
const POSITIONS: &str = "model.decoder.embed_positions";
const NORM: &str = "model.decoder.layer_norm.weight";

/// Returns numbers around 0 that look random.
fn noise(n: usize, seed: u32, size: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| size * next()).collect()
}

/// Returns an adapter of rank 3 (the first layer of an MLP: 2) for four modules of nano.
pub(crate) fn adapter() -> BTreeMap<String, Tensor> {
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize], size: f32| {
        let seed = tensors.len() as u32;
        let values = noise(shape.iter().product(), seed, size);
        tensors.insert(format!("base_model.model.{name}"), (shape.to_vec(), values));
    };
    add(format!("{QUERY}.lora_A.weight"), &[3, 128], 0.2);
    add(format!("{QUERY}.lora_B.weight"), &[128, 3], 0.2);
    add(format!("{UP}.lora_A.weight"), &[2, 128], 0.2);
    add(format!("{UP}.lora_B.weight"), &[512, 2], 0.2);
    add(format!("{POSITIONS}.lora_embedding_A"), &[3, 448], 0.02);
    add(format!("{POSITIONS}.lora_embedding_B"), &[128, 3], 0.02);
    add(NORM.to_owned(), &[128], 2.0);
    tensors
}

pub(crate) fn config() -> Value {
    json!({
        "base_model_name_or_path": nano().to_str().unwrap(), "peft_type": "LORA", "r": 3, "lora_alpha": 6,
        "rank_pattern": {"fc1": 2}, "alpha_pattern": {"encoder.layers.1.fc1": 3.0}, "bias": "none", "use_dora": false,
        "fan_in_fan_out": false, "init_lora_weights": true, "use_rslora": false, "layer_replication": null,
        "trainable_token_indices": null, "task_type": null, "target_modules": ["q_proj", "fc1"], "loftq_config": {}
    })
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(crate) fn write(folder: &Path, config: &Value, tensors: &BTreeMap<String, Tensor>) {
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let data: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, bytes(values)))
        .collect();
    let views = data.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap();
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.join("adapter_model.safetensors"), file).unwrap();
}

/// Writes nano with [`adapter`] merged into it, in f32.
fn write_merged(folder: &Path) {
    for name in [
        "config.json",
        "generation_config.json",
        "vocab.json",
        "added_tokens.json",
    ] {
        fs::copy(nano().join(name), folder.join(name)).unwrap();
    }
    let file = fs::read(nano().join("model.safetensors")).unwrap();
    let adapter = adapter();
    let part = |name: &str, part: &str| &adapter[&format!("base_model.model.{name}.{part}")].1;
    let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
    let mut merged = Vec::new();
    for (name, tensor) in &tensors {
        let shape = tensor.shape().to_vec();
        let mut values: Vec<f32> = tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| f16::from_le_bytes(b).to_f32())
            .collect();
        let mut add = |n_cols: usize, delta: &dyn Fn(usize, usize) -> f32| {
            for (i, value) in values.iter_mut().enumerate() {
                *value += delta(i / n_cols, i % n_cols);
            }
        };
        let module = name.strip_suffix(".weight").unwrap_or(name);
        if module == QUERY || module == UP {
            let rank = if module == QUERY { 3 } else { 2 };
            let scaling = if module == QUERY {
                6.0 / 3.0
            } else {
                3.0 / 2.0
            };
            let (a, b) = (part(module, "lora_A.weight"), part(module, "lora_B.weight"));
            add(128, &|row, col| {
                let products = (0..rank).map(|i| b[row * rank + i] * a[i * 128 + col]);
                products.fold(0.0, |sum, x| sum + x) * scaling
            });
        }
        if module == POSITIONS {
            let (a, b) = (
                part(module, "lora_embedding_A"),
                part(module, "lora_embedding_B"),
            );
            add(128, &|row, col| {
                let products = (0..3).map(|i| a[i * 448 + row] * b[col * 3 + i]);
                products.fold(0.0, |sum, x| sum + x) * 2.0
            });
        }
        let replaced = adapter.get(&format!("base_model.model.{name}"));
        let is_changed = replaced.is_some() || [QUERY, UP, POSITIONS].contains(&module);
        let (dtype, data) = match is_changed {
            true => (
                Dtype::F32,
                bytes(replaced.map_or(&values, |(_, values)| values)),
            ),
            false => (Dtype::F16, tensor.data().to_vec()),
        };
        merged.push((name.clone(), dtype, shape, data));
    }
    let views = merged.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.join("model.safetensors"), file).unwrap();
}

fn transcribe(model: &Path, options: &ModelOptions) -> Value {
    let model = Model::open(model, options).unwrap();
    let audio = Audio::open(common::fixtures().join("audio/synth-en-05.flac")).unwrap();
    serde_json::to_value(
        model
            .transcribe(&audio, &TranscribeOptions::default())
            .unwrap(),
    )
    .unwrap()
}

#[test]
fn an_adapter_gives_the_transcript_of_the_model_that_it_is_merged_into() {
    let root = tempfile::tempdir().unwrap();
    let [own, merged] = ["adapter", "merged"].map(|name| root.path().join(name));
    for folder in [&own, &merged] {
        fs::create_dir(folder).unwrap();
    }
    write(&own, &config(), &adapter());
    write_merged(&merged);
    let found = transcribe(&own, &exact());
    assert_eq!(found, transcribe(&merged, &exact()));
    assert_ne!(
        found,
        transcribe(&nano(), &exact()),
        "the adapter changes something"
    );
    // The base model that is given comes before the one that is named, which may have been on another machine.
    let mut elsewhere = config();
    elsewhere["base_model_name_or_path"] = json!("/elsewhere/nano");
    write(&own, &elsewhere, &adapter());
    let options = ModelOptions {
        base: Some(nano()),
        ..exact()
    };
    assert_eq!(transcribe(&own, &options), found);
}

/// Returns the error of an adapter after `change`.
fn error(change: impl FnOnce(&mut Value, &mut BTreeMap<String, Tensor>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, mut tensors) = (config(), adapter());
    change(&mut config, &mut tensors);
    write(folder.path(), &config, &tensors);
    open(folder.path())
}

fn open(folder: &Path) -> String {
    let error = Model::open(folder, &exact()).err().unwrap().to_string();
    assert!(error.len() < 500 && !error.contains('\n'), "{error}");
    error
}

#[test]
fn adapters_that_are_more_than_products_of_two_matrices_are_refused_by_name() {
    for (field, value, reason) in [
        ("use_dora", json!(true), "use_dora is not supported"),
        (
            "peft_type",
            json!("IA3"),
            "an adapter of type \"IA3\", not LORA",
        ),
        (
            "fan_in_fan_out",
            json!(true),
            "fan_in_fan_out is not supported",
        ),
        ("bias", json!("all"), "bias is \"all\""),
        (
            "layer_replication",
            json!([[0, 2]]),
            "layer_replication is not supported",
        ),
        (
            "init_lora_weights",
            json!("pissa_niter_4"),
            "init_lora_weights \"pissa_niter_4\"",
        ),
        (
            "alpha_pattern",
            json!({"q_pr.*": 3}),
            "the pattern \"q_pr.*\" is not the name of a module",
        ),
        ("r", json!(null), "no r or lora_alpha of "),
        ("r", json!(0), "is 0: the rank is 1 or more"),
        (
            "rank_pattern",
            json!({"fc1": 0}),
            "r of model.encoder.layers.1.fc1 is 0",
        ),
        (
            "modules_to_save",
            json!(["proj_out"]),
            "no tensor proj_out.weight, although modules_to_save names \"proj_out\": the adapter is incomplete",
        ),
        (
            "modules_to_save",
            json!(["layers.1.fc2"]),
            "no tensor model.decoder.layers.1.fc2.",
        ),
        (
            "modules_to_save",
            json!(["decoder.layer_norm"]),
            "no tensor model.decoder.layer_norm.bias",
        ),
        ("modules_to_save", json!("proj_out"), "malformed"),
        ("lora_alpha", json!(null), "no r or lora_alpha of "),
        ("lora_alpha", json!("8"), "malformed"),
        (
            "base_model_name_or_path",
            json!(null),
            "no base_model_name_or_path",
        ),
        (
            "base_model_name_or_path",
            json!("/nowhere"),
            "\"/nowhere\", which is not on this machine",
        ),
    ] {
        let said = error(|config, _| config[field] = value);
        assert!(said.contains(reason), "{field}: {said}");
    }
}

/// A merged model is saved with the adapter's configuration beside it now and then.
#[test]
fn a_folder_with_weights_of_its_own_is_no_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &config(), &adapter());
    assert!(base_of(folder).unwrap().is_some());
    for name in ["model.safetensors", "pytorch_model.bin"] {
        for file in [name.to_owned(), format!("{name}.index.json")] {
            fs::write(folder.join(&file), "").unwrap();
            assert_eq!(base_of(folder).unwrap(), None, "{file}");
            fs::remove_file(folder.join(&file)).unwrap();
        }
    }
}

#[test]
fn matrices_that_do_not_fit_are_errors() {
    let prefixed = |name: &str| format!("base_model.model.{name}");
    let a = prefixed(&format!("{QUERY}.lora_A.weight"));
    let b = prefixed(&format!("{QUERY}.lora_B.weight"));
    let cases: [(&str, Change<'_>); 9] = [
        ("has no tensors", Box::new(BTreeMap::clear)),
        (
            "has one matrix, not two",
            Box::new(|all| drop(all.remove(&b))),
        ),
        (
            "is [4, 128], not of rank 3",
            Box::new(|all| drop(all.insert(a.clone(), (vec![4, 128], vec![0.0; 512])))),
        ),
        (
            "is [3], not of rank 3",
            Box::new(|all| drop(all.insert(b.clone(), (vec![3], vec![0.0; 3])))),
        ),
        (
            "does not fit the base model's, [128, 128]",
            Box::new(|all| drop(all.insert(a.clone(), (vec![3, 64], vec![0.0; 192])))),
        ),
        (
            "changes decoder.blocks.9.attn.out.weight, which the base model",
            Box::new(|all| {
                for (part, shape) in [("lora_A", vec![3, 128]), ("lora_B", vec![128, 3])] {
                    let name = prefixed(&format!(
                        "model.decoder.layers.9.self_attn.out_proj.{part}.weight"
                    ));
                    all.insert(name, (shape, vec![0.0; 384]));
                }
            }),
        ),
        (
            "is of an unknown kind of adapter",
            Box::new(|all| {
                drop(all.insert(
                    prefixed(&format!("{QUERY}.lora_magnitude_vector")),
                    (vec![128], vec![0.0; 128]),
                ));
            }),
        ),
        (
            "is [2], that of the base model [128]",
            Box::new(|all| drop(all.insert(prefixed(NORM), (vec![2], vec![0.0; 2])))),
        ),
        (
            "cross_attn.query.weight",
            Box::new(|all| all.get_mut(&a).unwrap().1[7] = f32::INFINITY),
        ),
    ];
    for (reason, change) in cases {
        let said = error(|_, tensors| change(tensors));
        assert!(
            said.contains(reason) || (reason.contains("query") && said.contains("infinite")),
            "{reason}: {said}"
        );
    }
}

#[test]
fn a_damaged_or_incomplete_adapter_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &config(), &adapter());
    let path = folder.join("adapter_model.safetensors");
    let whole = fs::read(&path).unwrap();
    for at in [0, 4, 100, whole.len() - 1] {
        fs::write(&path, &whole[..at]).unwrap();
        let said = open(folder);
        assert!(
            said.contains("adapter_model.safetensors: file is"),
            "{at}: {said}"
        );
    }
    fs::remove_file(&path).unwrap();
    assert!(open(folder).contains("no adapter_model.safetensors or adapter_model.bin beside it"));
    fs::write(folder.join("adapter_model.bin"), "PK").unwrap();
    assert!(open(folder).contains("adapter_model.bin: "));
    fs::write(folder.join("adapter_config.json"), "{").unwrap();
    assert!(open(folder).contains("adapter_config.json: malformed"));
}

/// As PEFT saved adapters before it wrote safetensors, and reads them.
#[test]
fn an_adapter_may_be_a_pytorch_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &config(), &adapter());
    let expected = transcribe(folder, &exact());
    fs::remove_file(folder.join("adapter_model.safetensors")).unwrap();
    let file = pytorch::of_tensors(&adapter());
    fs::write(folder.join("adapter_model.bin"), file).unwrap();
    assert_eq!(transcribe(folder, &exact()), expected);
}

/// Modules that the base model has not are no reason to refuse an adapter, as for PEFT.
#[test]
fn modules_that_are_saved_replace_the_base_models() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut config, mut tensors) = (config(), adapter());
    config["modules_to_save"] = json!(["decoder.layer_norm", "classifier"]);
    let bias = NORM.replace("weight", "bias");
    tensors.insert(
        format!("base_model.model.{bias}"),
        (vec![128], vec![0.5; 128]),
    );
    write(folder, &config, &tensors);
    assert!(Model::open(folder, &exact()).is_ok());
}

#[test]
fn an_adapter_of_an_adapter_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| -> PathBuf { root.path().join(name) });
    for folder in [&first, &second] {
        fs::create_dir(folder).unwrap();
    }
    write(&first, &config(), &adapter());
    let mut config = config();
    config["base_model_name_or_path"] = json!(first.to_str().unwrap());
    write(&second, &config, &adapter());
    assert!(
        open(&second).contains("a LoRA adapter"),
        "{}",
        open(&second)
    );
}
