//! Any bytes as one file of a model folder whose other files are valid, or as a ggml or PyTorch file: a model, or an error.
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

fuzz_target!(init: initialize(), |bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let (header, n_weight_bytes) = &*HEADER;
    let single = match which % 8 {
        5 => Some(splice(&GGML, bytes)),
        6 => Some(splice(PYTORCH, bytes)),
        7 => Some(archive(&splice(pickle(), bytes))),
        _ => None,
    };
    if let Some(bytes) = single {
        let _ = open_file(&bytes);
        return;
    }
    let _ = open(|folder| match which % 8 {
        0 => write(folder, "config.json", &splice(CONFIG, bytes)),
        1 => write_weights(folder, &splice(header, bytes), *n_weight_bytes),
        2 => write(folder, "model.safetensors", bytes),
        3 => {
            let whole = folder.join("model.safetensors");
            std::fs::rename(whole, folder.join("a.safetensors")).expect("a file can be renamed");
            write(folder, "model.safetensors.index.json", &splice(INDEX, bytes));
        }
        _ => write(folder, "generation_config.json", &splice(&GENERATION, bytes)),
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
    let options = ModelOptions {
        threads: NonZeroUsize::new(1),
        ..ModelOptions::default()
    };
    Model::open(folder, &options)
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
