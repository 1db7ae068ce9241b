//! Any bytes as one file of a model folder whose other files are valid, or as a ggml, GGUF, PyTorch or CTranslate2 file, or as a file of an
//! adapter: a model, or an error.
//!
//! The first byte names the file; the rest is an input of `overhear_fuzz::splice`. The valid model is as small
//! as a vocabulary of 51865 allows, with all weights zero: its safetensors file is a header and a hole.

#![no_main]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use overhear::{Model, ModelOptions};
use overhear_fuzz::{nano, splice, write};

const CONFIG: &[u8] = br#"{"architectures":["WhisperForConditionalGeneration"],"model_type":"whisper","activation_function":"gelu",
"d_model":64,"encoder_layers":1,"encoder_attention_heads":1,"encoder_ffn_dim":256,"decoder_layers":1,
"decoder_attention_heads":1,"decoder_ffn_dim":256,"max_source_positions":1500,"max_target_positions":448,
"num_mel_bins":80,"vocab_size":51865,"scale_embedding":false,"torch_dtype":"float16"}"#;
const INDEX: &[u8] =
    br#"{"metadata":{"total_size":9},"weight_map":{"model.encoder.conv1.weight":"a.safetensors",
"model.decoder.embed_tokens.weight":"a.safetensors"}}"#;

const ADAPTER_CONFIG: &[u8] = br#"{"peft_type":"LORA","base_model_name_or_path":"base","r":2,"lora_alpha":4,"bias":"none",
"use_rslora":true,"rank_pattern":{"q_proj":2},"alpha_pattern":{"layers.0.self_attn.q_proj":1.5},"use_dora":false}"#;

/// The safetensors header, and how many bytes of weights follow.
static HEADER: LazyLock<(Vec<u8>, u64)> = LazyLock::new(header);
static GENERATION: LazyLock<Vec<u8>> = LazyLock::new(|| nano("generation_config.json"));
static VOCAB: LazyLock<Vec<u8>> = LazyLock::new(|| nano("vocab.json"));
/// Beginning of a ggml file: dimensions, no filters, a token, and a tensor in blocks.
static GGML: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let numbers = |numbers: &[i32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let mut bytes = b"lmgg".to_vec();
    bytes.extend(numbers(&[51865, 1500, 64, 1, 1, 448, 64, 1, 1, 80, 1, 0, 0, 1, 1]));
    bytes.push(b'a');
    bytes.extend(numbers(&[2, 34, 6, 64, 64]));
    bytes.extend_from_slice(b"decoder.blocks.0.attn.query.weight");
    bytes.extend_from_slice(&[0; 64 * 2 * 22]);
    bytes
});

/// A checkpoint in openai/whisper's form, without checksums.
const PYTORCH: &[u8] = include_bytes!("../../crates/overhear/tests/fixtures/pytorch/openai.pt");
/// A GGUF file with metadata, and a tensor in super-blocks.
static GGUF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
    bytes.extend(text("general.alignment"));
    bytes.extend([4_u32, 32].map(u32::to_le_bytes).concat());
    bytes.extend(text("texts"));
    bytes.extend([9_u32, 8].map(u32::to_le_bytes).concat());
    bytes.extend([1_u64.to_le_bytes().to_vec(), text("a")].concat());
    bytes.extend(text("model.decoder.layers.0.fc2.weight"));
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend([256_u64, 64].map(u64::to_le_bytes).concat());
    bytes.extend(12_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + 64 * 144, 0);
    bytes
});
/// A CTranslate2 file with a matrix of bytes, its scales, a number and an alias.
static CTRANSLATE2: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text = |text: &str| [&(text.len() as u16 + 1).to_le_bytes()[..], text.as_bytes(), &[0]].concat();
    let mut bytes = 6_u32.to_le_bytes().to_vec();
    bytes.extend(text("WhisperSpec"));
    bytes.extend([3_u32, 3].map(u32::to_le_bytes).concat());
    bytes.extend(text("decoder/layer_0/self_attention/linear_0/weight"));
    bytes.push(2);
    bytes.extend([192_u32, 64].map(u32::to_le_bytes).concat());
    bytes.push(1);
    bytes.extend((192_u32 * 64).to_le_bytes());
    bytes.resize(bytes.len() + 192 * 64, 1);
    bytes.extend(text("decoder/layer_0/self_attention/linear_0/weight_scale"));
    bytes.extend(b"\x01\xc0\0\0\0\0\0\x03\0\0");
    bytes.resize(bytes.len() + 192 * 4, 1);
    bytes.extend(text("decoder/num_heads"));
    bytes.extend(b"\0\x02\x02\0\0\0\x01\0\x01\0\0\0");
    bytes.extend([text("decoder/projection/weight"), text("decoder/embeddings/weight")].concat());
    bytes
});
/// The matrices of an adapter: for a weight, for an embedding, and a tensor that replaces another.
static ADAPTER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut header = String::from("{");
    let mut end = 0;
    for (name, shape) in [
        ("decoder.layers.0.self_attn.q_proj.lora_A.weight", &[2, 64][..]),
        ("decoder.layers.0.self_attn.q_proj.lora_B.weight", &[64, 2]),
        ("decoder.embed_positions.lora_embedding_A", &[2, 448]),
        ("decoder.embed_positions.lora_embedding_B", &[64, 2]),
        ("decoder.layer_norm.weight", &[64]),
    ] {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let comma = if start == 0 { "" } else { "," };
        write!(
            header,
            r#"{comma}"base_model.model.model.{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        )
        .expect("a string can grow");
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + end, 1);
    bytes
});

fuzz_target!(init: initialize(), |bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let (header, n_weight_bytes) = &*HEADER;
    let single = match which % 12 {
        5 => Some(splice(&GGML, bytes)),
        6 => Some(splice(PYTORCH, bytes)),
        7 => Some(archive(&splice(pickle(), bytes))),
        _ => None,
    };
    if let Some(bytes) = single {
        let _ = open_file(&bytes);
        return;
    }
    let _ = open(|folder| match which % 12 {
        0 => write(folder, "config.json", &splice(CONFIG, bytes)),
        1 => write_weights(folder, &splice(header, bytes), *n_weight_bytes),
        2 => write(folder, "model.safetensors", bytes),
        3 => {
            let whole = folder.join("model.safetensors");
            std::fs::rename(whole, folder.join("a.safetensors")).expect("a file can be renamed");
            write(folder, "model.safetensors.index.json", &splice(INDEX, bytes));
        }
        4 => write(folder, "generation_config.json", &splice(&GENERATION, bytes)),
        8 => {
            remove(folder, "model.safetensors");
            write(folder, "model.gguf", &splice(&GGUF, bytes));
        }
        9 => {
            remove(folder, "model.safetensors");
            write(folder, "vocabulary.json", b"[]");
            write(folder, "model.bin", &splice(&CTRANSLATE2, bytes));
        }
        10 => write_adapter(folder, &splice(ADAPTER_CONFIG, bytes), &ADAPTER),
        _ => write_adapter(folder, ADAPTER_CONFIG, &splice(&ADAPTER, bytes)),
    });
});

fn initialize() {
    overhear_fuzz::initialize();
    // Else nothing but the first check would ever be reached.
    if let Err(error) = open(|_| ()) {
        panic!("the valid model does not open: {error}");
    }
}

/// Returns the pickle of [`PYTORCH`]: its first entry, up to what follows that.
fn pickle() -> &'static [u8] {
    let find = |mark: &[u8]| PYTORCH.windows(mark.len()).position(|bytes| bytes == mark);
    let range = find(b"\x80\x02").zip(find(b"PK\x07\x08"));
    let (start, end) = range.expect("the fixture has a pickle");
    &PYTORCH[start..end]
}

/// Returns a PyTorch file with this pickle, and the storages that [`PYTORCH`]'s names.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let storages = [32, 32, 48, 16, 24].map(|n| vec![0; n]);
    let storages = (0..).zip(storages).map(|(key, bytes)| (format!("a/data/{key}"), bytes));
    let entries = std::iter::once(("a/data.pkl".to_owned(), pickle.to_vec())).chain(storages);
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let first = file.len() as u32;
        let n_bytes = (bytes.len() as u32).to_le_bytes();
        let n_name = (name.len() as u16).to_le_bytes();
        // From the flags to the number of optional bytes.
        let common = [&[0; 12], &n_bytes[..], &n_bytes, &n_name, &[0; 2]].concat();
        file.extend([b"PK\x03\x04\0\0", &common[..], name.as_bytes(), &bytes].concat());
        directory.extend([b"PK\x01\x02\0\0\0\0", &common[..], &[0; 10], &first.to_le_bytes(), name.as_bytes()].concat());
    }
    let (first, len) = (file.len() as u32, directory.len() as u32);
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0\x06\0\x06\0");
    file.extend([len.to_le_bytes(), first.to_le_bytes()].concat());
    file.extend([0; 2]);
    file
}

/// Opens a file that is a whole model.
fn open_file(bytes: &[u8]) -> overhear::Result<Model> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    write(folder.path(), "base.pt", bytes);
    let options = ModelOptions {
        threads: NonZeroUsize::new(1),
        ..ModelOptions::default()
    };
    Model::open(folder.path().join("base.pt"), &options)
}

/// Opens the valid model after `change`.
fn open(change: impl FnOnce(&Path)) -> overhear::Result<Model> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = folder.path();
    let (header, n_weight_bytes) = &*HEADER;
    write(folder, "config.json", CONFIG);
    write(folder, "generation_config.json", &GENERATION);
    write(folder, "vocab.json", &VOCAB);
    write_weights(folder, header, *n_weight_bytes);
    change(folder);
    let (adapter, base) = (folder.join("adapter"), folder.to_owned());
    let is_adapter = adapter.is_dir();
    let options = ModelOptions {
        threads: NonZeroUsize::new(1),
        base: is_adapter.then_some(base),
        ..ModelOptions::default()
    };
    Model::open(if is_adapter { adapter.as_path() } else { folder }, &options)
}

fn remove(folder: &Path, name: &str) {
    std::fs::remove_file(folder.join(name)).expect("a temporary file can be removed");
}

/// Puts an adapter of the model in `folder` into a folder in it.
fn write_adapter(folder: &Path, config: &[u8], weights: &[u8]) {
    let folder = folder.join("adapter");
    std::fs::create_dir(&folder).expect("a temporary folder can be made");
    write(&folder, "adapter_config.json", config);
    write(&folder, "adapter_model.safetensors", weights);
}

fn write_weights(folder: &Path, header: &[u8], n_weight_bytes: u64) {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    write(folder, "model.safetensors", &file);
    OpenOptions::new()
        .write(true)
        .open(folder.join("model.safetensors"))
        .and_then(|f| f.set_len(file.len() as u64 + n_weight_bytes))
        .expect("a temporary file can grow");
}

fn header() -> (Vec<u8>, u64) {
    let mut header = String::from("{");
    let mut end = 0;
    let mut tensor = |name: &str, shape: &[u64]| {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        let comma = if start == 0 { "" } else { "," };
        write!(header, r#"{comma}"model.{name}":{{"dtype":"F16","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
            .expect("a string can grow");
    };
    for (side, positions, attentions) in [
        ("encoder", 1500, &["self_attn"][..]),
        ("decoder", 448, &["self_attn", "encoder_attn"]),
    ] {
        tensor(&format!("{side}.embed_positions.weight"), &[positions, 64]);
        for part in ["weight", "bias"] {
            let matrix = |rows, columns| {
                if part == "weight" {
                    vec![rows, columns]
                } else {
                    vec![rows]
                }
            };
            let layer = format!("{side}.layers.0");
            for attention in attentions {
                for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    if (projection, part) != ("k_proj", "bias") {
                        tensor(
                            &format!("{layer}.{attention}.{projection}.{part}"),
                            &matrix(64, 64),
                        );
                    }
                }
                tensor(&format!("{layer}.{attention}_layer_norm.{part}"), &[64]);
            }
            tensor(&format!("{layer}.fc1.{part}"), &matrix(256, 64));
            tensor(&format!("{layer}.fc2.{part}"), &matrix(64, 256));
            tensor(&format!("{layer}.final_layer_norm.{part}"), &[64]);
            tensor(&format!("{side}.layer_norm.{part}"), &[64]);
        }
    }
    tensor("encoder.conv1.weight", &[64, 80, 3]);
    tensor("encoder.conv1.bias", &[64]);
    tensor("encoder.conv2.weight", &[64, 64, 3]);
    tensor("encoder.conv2.bias", &[64]);
    tensor("decoder.embed_tokens.weight", &[51865, 64]);
    header.push('}');
    (header.into_bytes(), end)
}
