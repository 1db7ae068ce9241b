//! Tests of reading checkpoints: every naming, dtype and layout. Damaged files are in `damage`.

mod adapter;
mod converted;
mod damage;
mod pytorch;

use std::fs;
use std::path::Path;

use overhear_kernels::{Dtype, Matrix, MatrixData};
use serde_json::{Value, json};

use super::testing::{TestTensor, config, safetensors, write};
use super::{Checkpoint, ModelDimensions};

fn nano() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")
}

/// Returns all elements, widened to f32.
fn widened(matrix: &Matrix) -> Vec<f32> {
    let mut out = vec![0.0; matrix.n_rows() * matrix.n_cols()];
    out.chunks_exact_mut(matrix.n_cols())
        .enumerate()
        .for_each(|(row, out)| matrix.copy_row(row, out));
    out
}

fn counting(n: usize, from: usize) -> Vec<f32> {
    (from..from + n).map(|i| i as f32).collect()
}

const QUERY: &str = "decoder.blocks.0.attn.query.weight";
const KEY: &str = "decoder.blocks.0.attn.key.weight";
const CONV: &str = "encoder.conv1.weight";
const NORM: &str = "decoder.ln.bias";
const POSITIONS: &str = "decoder.positional_embedding";

/// Returns two projections, a convolution, a bias and positions under `names`.
fn tensors<'a>(names: &'a [String; 5], dtype: &'a str) -> [TestTensor<'a>; 5] {
    [
        TestTensor(&names[0], dtype, &[4, 4], counting(16, 0)),
        TestTensor(&names[1], dtype, &[4, 4], counting(16, 16)),
        TestTensor(&names[2], dtype, &[4, 2, 3], counting(24, 32)),
        TestTensor(&names[3], dtype, &[4], counting(4, 56)),
        TestTensor(&names[4], dtype, &[3, 4], counting(12, 60)),
    ]
}

fn huggingface_names(prefix: &str) -> [String; 5] {
    [
        "decoder.layers.0.self_attn.q_proj.weight",
        "decoder.layers.0.self_attn.k_proj.weight",
        "encoder.conv1.weight",
        "decoder.layer_norm.bias",
        "decoder.embed_positions.weight",
    ]
    .map(|name| format!("{prefix}{name}"))
}

/// Reads all tensors of such a checkpoint: the stacked projections, the convolution, the bias and the positions.
fn contents(checkpoint: &Checkpoint) -> crate::Result<[Vec<f32>; 4]> {
    Ok([
        widened(&checkpoint.matrix(&[QUERY, KEY], 4, 4)?),
        widened(&checkpoint.convolution(CONV, 4, 2, 3)?),
        checkpoint.vector(NORM, 4)?,
        checkpoint.vector(POSITIONS, 12)?,
    ])
}

fn expected() -> [Vec<f32>; 4] {
    let filter = |out: usize| [0, 3, 1, 4, 2, 5].map(|at| (32 + 6 * out + at) as f32);
    [
        counting(32, 0),
        (0..4).flat_map(filter).collect(),
        counting(4, 56),
        counting(12, 60),
    ]
}

#[test]
fn every_naming_and_dtype_gives_the_same_weights_in_the_dtype_stored() {
    let openai = [QUERY, KEY, CONV, NORM, POSITIONS].map(str::to_owned);
    for names in [huggingface_names("model."), huggingface_names(""), openai] {
        for (name, dtype) in [
            ("F16", Dtype::F16),
            ("BF16", Dtype::Bf16),
            ("F32", Dtype::F32),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(
                folder.path(),
                &config(),
                &safetensors(&tensors(&names, name)),
            );
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            assert_eq!(
                contents(&checkpoint).unwrap(),
                expected(),
                "{names:?} {name}"
            );
            assert_eq!(checkpoint.dtype(), name);
            assert_eq!(
                checkpoint.matrix(&[QUERY, KEY], 4, 4).unwrap().dtype(),
                dtype
            );
            assert_eq!(
                checkpoint.convolution(CONV, 4, 2, 3).unwrap().dtype(),
                dtype
            );
        }
    }
}

#[test]
fn rows_of_a_stack_are_read_across_its_matrices() {
    let folder = tempfile::tempdir().unwrap();
    let names = huggingface_names("model.");
    let file = safetensors(&tensors(&names, "F32"));
    write(folder.path(), &config(), &file);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let rows = checkpoint.rows(&[QUERY, KEY], 4, 4).unwrap();
    assert_eq!((rows.shape(), rows.dtype()), ((8, 4), Some(Dtype::F32)));
    for first in 0..8 {
        for n in 0..=8 - first {
            let mut found = vec![0.0f32; 4 * n];
            rows.read(first, bytemuck::cast_slice_mut(&mut found))
                .unwrap();
            assert_eq!(found, counting(4 * n, 4 * first));
        }
    }
}

#[test]
fn a_stack_of_several_dtypes_is_widened() {
    let folder = tempfile::tempdir().unwrap();
    let names = huggingface_names("model.");
    let mut tensors = tensors(&names, "F16");
    tensors[1].1 = "F32";
    write(folder.path(), &config(), &safetensors(&tensors));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(contents(&checkpoint).unwrap(), expected());
    assert_eq!(checkpoint.dtype(), "F16");
    assert_eq!(checkpoint.rows(&[QUERY, KEY], 4, 4).unwrap().dtype(), None);
    assert_eq!(
        checkpoint.matrix(&[QUERY, KEY], 4, 4).unwrap().dtype(),
        Dtype::F32
    );
}

#[test]
fn shards_give_the_same_weights_as_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let names = huggingface_names("model.");
    let tensors = tensors(&names, "F16");
    fs::write(folder.path().join("config.json"), config().to_string()).unwrap();
    let shards = [
        ("model-00001-of-00002.safetensors", &tensors[..2]),
        ("model-00002-of-00002.safetensors", &tensors[2..]),
    ];
    let mut map = serde_json::Map::new();
    for (shard, tensors) in shards {
        fs::write(folder.path().join(shard), safetensors(tensors)).unwrap();
        map.extend(
            tensors
                .iter()
                .map(|tensor| (tensor.0.to_owned(), json!(shard))),
        );
    }
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(
        &index,
        json!({"metadata": {"total_size": 144}, "weight_map": map}).to_string(),
    )
    .unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(contents(&checkpoint).unwrap(), expected());
    assert!(
        checkpoint
            .vector("decoder.ln.weight", 4)
            .unwrap_err()
            .to_string()
            .ends_with("index.json: no tensor decoder.ln.weight")
    );

    let cases = [
        (
            json!({"a": "../model-00001-of-00002.safetensors"}),
            "\"../model-00001-of-00002.safetensors\" is not the name of a file in this folder",
        ),
        (
            json!({"a": "model-00001-of-00002.safetensors"}),
            "tensor \"a\" is not in model-00001-of-00002.safetensors",
        ),
        (
            json!({"a": ".."}),
            "\"..\" is not the name of a file in this folder",
        ),
        (json!({}), "lists 0 files"),
    ];
    for (map, reason) in cases {
        fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
        assert_eq!(
            error(folder.path()),
            format!("DIR/model.safetensors.index.json: {reason}")
        );
    }
    fs::write(
        &index,
        json!({"weight_map": {"a": "gone.safetensors"}}).to_string(),
    )
    .unwrap();
    assert_eq!(
        error(folder.path()),
        "DIR/gone.safetensors: cannot read: No such file or directory (os error 2)"
    );
}

#[test]
fn nano_has_the_same_values_as_read_by_numpy() {
    let checkpoint = Checkpoint::open(&nano()).unwrap();
    let dims = ModelDimensions {
        n_mels: 80,
        n_audio_ctx: 1500,
        n_audio_state: 128,
        n_audio_head: 2,
        n_audio_layer: 4,
        n_vocab: 51865,
        n_text_ctx: 448,
        n_text_state: 128,
        n_text_head: 2,
        n_text_layer: 4,
    };
    assert_eq!(*checkpoint.dims(), dims);
    assert_eq!(checkpoint.dtype(), "F16");
    let names =
        ["query", "key", "value"].map(|part| format!("decoder.blocks.2.attn.{part}.weight"));
    let qkv = widened(
        &checkpoint
            .matrix(&names.each_ref().map(String::as_str), 128, 128)
            .unwrap(),
    );
    let conv = widened(
        &checkpoint
            .convolution("encoder.conv1.weight", 128, 80, 3)
            .unwrap(),
    );
    let tap = |out: usize, input: usize| [0, 1, 2].map(|tap| conv[out * 240 + tap * 80 + input]);
    assert_eq!(
        [qkv[128 + 2], qkv[128 * 128 - 1]],
        [0.048_400_88, -0.132_812_5]
    );
    assert_eq!(
        [qkv[129 * 128 + 2], qkv[256 * 128 - 1]],
        [-0.030_578_613, -0.030_441_284]
    );
    assert_eq!(
        [qkv[257 * 128 + 2], qkv[384 * 128 - 1]],
        [0.074_768_07, 0.017_028_809]
    );
    assert_eq!(tap(127, 79), [0.090_332_03, 0.023_376_465, -0.022_674_56]);
    assert_eq!(tap(1, 2), [0.192_016_6, 0.118_896_484, 0.138_549_8]);
    let positions = checkpoint
        .vector("encoder.positional_embedding", 1500 * 128)
        .unwrap();
    assert_eq!(
        [positions[2], positions[1500 * 128 - 1]],
        [0.0, 0.988_769_53]
    );
    let bias = checkpoint.vector("decoder.ln.bias", 128).unwrap();
    assert_eq!([bias[2], bias[127]], [-0.094_238_28, 0.054_962_16]);
    let embedding = checkpoint
        .matrix(&["decoder.token_embedding.weight"], 51865, 128)
        .unwrap();
    let MatrixData::F16(embedding) = embedding.data() else {
        panic!("stored as f16")
    };
    assert_eq!(
        [
            embedding[128 + 2].to_f32(),
            embedding[51865 * 128 - 1].to_f32()
        ],
        [-2.833_984_4, 0.018_295_288]
    );
}

#[test]
fn a_missing_or_misshapen_tensor_is_named_with_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let names = huggingface_names("model.");
    let mut tensors = tensors(&names, "F16").to_vec();
    tensors.push(TestTensor("decoder.ln.weight", "I64", &[4], counting(4, 0)));
    write(folder.path(), &config(), &safetensors(&tensors));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let cases = [
        (
            checkpoint
                .matrix(&[QUERY, "decoder.blocks.1.attn.key.weight"], 4, 4)
                .err(),
            "no tensor decoder.blocks.1.attn.key.weight",
        ),
        (
            checkpoint.matrix(&[QUERY], 4, 5).err(),
            "tensor model.decoder.layers.0.self_attn.q_proj.weight is [4, 4], not [4, 5]",
        ),
        (
            checkpoint.matrix(&[NORM], 1, 4).err(),
            "tensor model.decoder.layer_norm.bias is [4], not [1, 4]",
        ),
        (
            checkpoint.convolution(CONV, 4, 3, 2).err(),
            "tensor model.encoder.conv1.weight is [4, 2, 3], not [4, 3, 2]",
        ),
        (
            checkpoint.vector(NORM, 5).err(),
            "tensor model.decoder.layer_norm.bias is [4], not 5 elements",
        ),
        (
            checkpoint.vector(CONV, 24).err(),
            "tensor model.encoder.conv1.weight is [4, 2, 3], not 24 elements",
        ),
        (
            checkpoint.vector("decoder.ln.weight", 4).err(),
            "tensor decoder.ln.weight is I64, not F16, BF16, F32 or F64",
        ),
    ];
    for (error, reason) in cases {
        assert_eq!(
            in_folder(&error.unwrap(), folder.path()),
            format!("DIR/model.safetensors: {reason}")
        );
    }
}

#[test]
fn a_configuration_that_does_not_fit_the_weights_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let nano_with = |field: &str, value: usize| {
        let mut config: Value =
            serde_json::from_slice(&fs::read(nano().join("config.json")).unwrap()).unwrap();
        config[field] = json!(value);
        let weights = fs::read(nano().join("model.safetensors")).unwrap();
        write(folder.path(), &config, &weights);
    };
    nano_with("num_mel_bins", 128);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let dims = checkpoint.dims();
    let conv = checkpoint
        .convolution("encoder.conv1.weight", dims.n_audio_state, dims.n_mels, 3)
        .unwrap_err();
    assert_eq!(
        in_folder(&conv, folder.path()),
        "DIR/model.safetensors: tensor model.encoder.conv1.weight is [128, 80, 3], not [128, 128, 3]"
    );
    nano_with("vocab_size", 51866);
    assert_eq!(
        error(folder.path()),
        "DIR/config.json: vocab_size is 51866, but the token embedding has 51865 rows"
    );
}

#[test]
fn the_tied_output_matrix_is_ignored_and_a_tensor_under_two_names_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let names = huggingface_names("model.");
    let mut tensors = tensors(&names, "F16").to_vec();
    for name in ["model.decoder.embed_tokens.weight", "proj_out.weight"] {
        let rows = vec![0.5; 51865 * 4];
        tensors.push(TestTensor(name, "F16", &[51865, 4], rows));
    }
    write(folder.path(), &config(), &safetensors(&tensors));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(!checkpoint.has_own_output());
    assert_eq!(contents(&checkpoint).unwrap(), expected());
    tensors.push(TestTensor("decoder.ln.bias", "F16", &[4], counting(4, 0)));
    write(folder.path(), &config(), &safetensors(&tensors));
    let message = error(folder.path());
    assert!(
        message.starts_with("DIR/model.safetensors: tensors ")
            && message.ends_with(" have the same meaning"),
        "{message}"
    );
}

fn error(folder: &Path) -> String {
    in_folder(&Checkpoint::open(folder).err().unwrap(), folder)
}

/// Returns the message, which must be one line, with the folder replaced by `DIR`.
fn in_folder(error: &crate::Error, folder: &Path) -> String {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message.replace(&folder.display().to_string(), "DIR")
}
