//! Models, clips and goldens that tests share.

#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use overhear::{Audio, ComputeType, Model, ModelOptions};
use serde_json::Value;

/// A model, clips, and openai/whisper's results for them.
pub struct Suite {
    pub model: Model,
    audio: PathBuf,
    golden: PathBuf,
    /// Clips whose goldens have tensors.
    n_tensors: usize,
    /// Tolerance in seconds of the times of words.
    pub word_time: f64,
}

/// Results of openai/whisper for one clip.
pub struct Golden {
    pub name: String,
    pub path: PathBuf,
    pub json: Value,
    audio: PathBuf,
}

/// Returns the folder that an environment variable names.
pub fn folder(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set"))
        .into()
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")
}

/// Returns the published model in the repository.
pub fn tiny_en() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny.en")
}

/// Returns openai/whisper's name of a tensor of a Hugging Face checkpoint.
pub fn openai_name(name: &str) -> String {
    let last = if name.contains("encoder.") {
        "ln_post"
    } else {
        "ln"
    };
    let mut name = name.strip_prefix("model.").unwrap_or(name).to_owned();
    for (from, to) in [
        ("layers", "blocks"),
        ("encoder_attn_layer_norm", "cross_attn_ln"),
        ("self_attn_layer_norm", "attn_ln"),
        ("final_layer_norm", "mlp_ln"),
        ("encoder_attn", "cross_attn"),
        ("self_attn", "attn"),
        ("q_proj", "query"),
        ("k_proj", "key"),
        ("v_proj", "value"),
        ("out_proj", "out"),
        ("fc1", "mlp.0"),
        ("fc2", "mlp.2"),
        ("embed_tokens", "token_embedding"),
        ("embed_positions.weight", "positional_embedding"),
    ] {
        name = name.replace(from, to);
    }
    name.replace("layer_norm", last)
}

/// Compute type that equals the reference.
pub fn exact() -> ModelOptions {
    ModelOptions {
        compute_type: ComputeType::F32,
        ..ModelOptions::default()
    }
}

impl Suite {
    /// Returns the bundled model with the bundled clips.
    pub fn bundled() -> Self {
        Self::open(
            &nano(),
            fixtures().join("audio"),
            fixtures().join("golden"),
            2,
        )
    }

    /// Returns the published model in the repository with the English clips of people.
    pub fn tiny_en() -> Self {
        let golden = fixtures().join("golden-tiny.en");
        Self::open(&tiny_en(), fixtures().join("audio"), golden, 0)
    }

    /// Returns the published model `name` in the folder `OVERHEAR_PUBLISHED` with the clips of people.
    pub fn published(name: &str) -> Self {
        let model = folder("OVERHEAR_PUBLISHED").join(name);
        let golden = fixtures().join(format!("golden-{name}"));
        Self {
            // One step of the path through the attention matrix: at the end of real-pauses-172s, base repeats six words
            // a hundred times over silence, and the path has a step earlier.
            word_time: 0.02 + 1e-6,
            ..Self::open(&model, fixtures().join("audio"), golden, 0)
        }
    }

    /// Returns the bundled model with all clips of the folder `OVERHEAR_SHARED`.
    pub fn shared() -> Self {
        let shared = folder("OVERHEAR_SHARED");
        Self::open(&nano(), shared.join("audio"), shared.join("golden"), 2)
    }

    /// Returns the checkpoint inflated to `size` in the folder `OVERHEAR_INFLATED`, with the clips that have goldens.
    pub fn inflated(size: &str) -> Self {
        let golden = fixtures().join(format!("golden-{size}"));
        Self::open(
            &folder("OVERHEAR_INFLATED").join(size),
            fixtures().join("audio"),
            golden,
            0,
        )
    }

    fn open(model: &Path, audio: PathBuf, golden: PathBuf, n_tensors: usize) -> Self {
        Self {
            model: Model::open(model, &exact()).unwrap(),
            audio,
            golden,
            n_tensors,
            word_time: 1e-6,
        }
    }

    /// Returns all goldens by name.
    pub fn goldens(&self) -> Vec<Golden> {
        let entries = std::fs::read_dir(&self.golden)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = entries
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "no golden in {}", self.golden.display());
        paths.into_iter().map(|path| self.golden(path)).collect()
    }

    fn golden(&self, path: PathBuf) -> Golden {
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let file = json["file"].as_str().unwrap();
        let audio = self.audio.join(file);
        // The longest clips are too large for the repository.
        let audio = if audio.exists() {
            audio
        } else {
            folder("OVERHEAR_SHARED").join("audio").join(file)
        };
        Golden {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            path,
            json,
            audio,
        }
    }

    /// Asserts that all clips with tensors were tested.
    pub fn assert_tensors(&self, n_tested: usize) {
        assert_eq!(n_tested, self.n_tensors, "clips with tensors");
    }
}

impl Golden {
    pub fn audio(&self) -> Audio {
        Audio::open(&self.audio).unwrap()
    }
}

/// Shape of a tensor, and its elements as f32.
pub type Tensor = (Vec<usize>, Vec<f32>);

/// Returns the tensors of a safetensors file; `None` if the file does not exist.
pub fn tensors(path: &Path) -> Option<HashMap<String, Tensor>> {
    let bytes = std::fs::read(path).ok()?;
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |tensor: &safetensors::tensor::TensorView<'_>| -> Vec<f32> {
        match tensor.dtype() {
            safetensors::Dtype::F32 => tensor
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            safetensors::Dtype::I64 => tensor
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b) as f32)
                .collect(),
            dtype => panic!("{dtype:?} in a golden"),
        }
    };
    Some(
        file.iter()
            .map(|(name, t)| (name.to_owned(), (t.shape().to_vec(), values(&t))))
            .collect(),
    )
}

/// Asserts that no element differs by more than `tolerance`, and reports the worst one.
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, name: &str) {
    assert_eq!(found.len(), expected.len(), "{name}: length");
    let errors = found
        .iter()
        .zip(expected)
        .map(|(f, e)| if f == e { 0.0 } else { (f - e).abs() });
    let (at, worst) = errors.enumerate().fold((0, 0.0f32), |worst, error| {
        if error.1 > worst.1 || error.1.is_nan() {
            error
        } else {
            worst
        }
    });
    println!("{name}: largest difference {worst:.2e}");
    assert!(
        worst <= tolerance,
        "{name}: {} at {at}, expected {}",
        found[at],
        expected[at]
    );
}

pub fn tokens(json: &Value) -> Vec<u32> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|token| token.as_u64().unwrap() as u32)
        .collect()
}
