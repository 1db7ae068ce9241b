//! Tests of PyTorch files that torch.save wrote (`tests/fixtures/pytorch/make.py`), and of damage to them.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use overhear_kernels::Dtype;
use serde_json::json;

use super::super::Checkpoint;
use super::super::testing::{config, safetensors};
use super::{
    NORM, QUERY, contents, counting, error, expected, huggingface_names, tensors, widened,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pytorch")
        .join(name)
}

/// Returns a folder with `config.json`, and the fixture as `pytorch_model.bin`.
fn folder_of(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config().to_string()).unwrap();
    fs::copy(fixture(name), folder.path().join("pytorch_model.bin")).unwrap();
    folder
}

#[test]
fn files_of_torch_give_the_weights_in_the_dtype_stored() {
    for (name, dtype) in [("state_dict.bin", "F16"), ("parameters.bin", "F32")] {
        let folder = folder_of(name);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(contents(&checkpoint).unwrap(), expected(), "{name}");
        assert_eq!(checkpoint.dtype(), dtype);
    }
    let checkpoint = Checkpoint::open(&fixture("openai.pt")).unwrap();
    assert_eq!(contents(&checkpoint).unwrap(), expected());
    assert_eq!(checkpoint.dtype(), "F16");
    assert_eq!(checkpoint.dims().n_text_state, 4);
    assert_eq!(checkpoint.dims().n_vocab, 51865);
}

#[test]
fn shards_of_torch_are_read_and_safetensors_win() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("config.json"), config().to_string()).unwrap();
    let names = huggingface_names("model.");
    let shards = [1, 2].map(|shard| format!("pytorch_model-0000{shard}-of-00002.bin"));
    let file_of = |i: usize| &shards[usize::from(i >= 2)];
    for shard in &shards {
        fs::copy(fixture(shard), path(shard)).unwrap();
    }
    let map: serde_json::Map<_, _> = (0..5)
        .map(|i| (names[i].clone(), json!(file_of(i))))
        .collect();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(path("pytorch_model.bin.index.json"), index).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(contents(&checkpoint).unwrap(), expected());
    // Doubles are rounded.
    let query = checkpoint.matrix(&[QUERY], 4, 4).unwrap();
    assert_eq!(query.dtype(), Dtype::F32);

    let mut tensors = tensors(&names, "F16");
    tensors[3].3 = counting(4, 100);
    fs::write(path("model.safetensors"), safetensors(&tensors)).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.vector(NORM, 4).unwrap(), counting(4, 100));
    assert_eq!(
        widened(&checkpoint.matrix(&[QUERY], 4, 4).unwrap()),
        counting(16, 0)
    );
}

#[test]
fn what_is_not_read_is_named() {
    for (name, reason) in [
        (
            "transposed.bin",
            "tensor model.decoder.layers.0.self_attn.q_proj.weight is transposed or strided: save it after .contiguous()",
        ),
        (
            "legacy.bin",
            "a PyTorch file in the format of before torch 1.6: load it with torch.load(weights_only=True), and save that \
             with torch.save",
        ),
    ] {
        let folder = folder_of(name);
        let expected = format!("DIR/pytorch_model.bin: {reason}");
        assert_eq!(error(folder.path()), expected);
    }
    let folder = folder_of("state_dict.bin");
    assert_eq!(
        error(&folder.path().join("pytorch_model.bin"))
            .replace(&folder.path().display().to_string(), "DIR"),
        "DIR: weights without dimensions: pass the folder that they are in, which must hold config.json too"
    );
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    for name in ["state_dict.bin", "openai.pt"] {
        let folder = folder_of(name);
        let path = folder.path().join("pytorch_model.bin");
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        for len in (0..file.metadata().unwrap().len()).rev() {
            file.set_len(len).unwrap();
            let said = error(folder.path());
            let expected = match len {
                0..4 => "not a PyTorch file: it does not begin as a zip archive".to_owned(),
                _ => format!(
                    "file is {len} bytes, and the end of a zip archive is missing: it is cut or damaged"
                ),
            };
            assert_eq!(said, format!("DIR/pytorch_model.bin: {expected}"));
        }
    }
}

#[test]
fn any_flipped_bit_is_an_error_or_changes_no_weight_but_its_own() {
    let folder = folder_of("state_dict.bin");
    let path = folder.path().join("pytorch_model.bin");
    let whole = fs::read(&path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    let (mut n_harmless, mut n_changed) = (0, 0);
    for bit in 0..8 * whole.len() {
        put(bit / 8, whole[bit / 8] ^ 1 << (bit % 8));
        let found = Checkpoint::open(folder.path()).and_then(|checkpoint| contents(&checkpoint));
        match found {
            Ok(found) if found == expected() => n_harmless += 1,
            Ok(_) => n_changed += 1,
            Err(error) => assert!(!error.to_string().contains('\n'), "bit {bit}: {error}"),
        }
        put(bit / 8, whole[bit / 8]);
    }
    // Padding and dates may change; the 72 elements of 2 bytes have no other checksum than their being finite.
    assert!(n_changed <= 8 * 2 * 72, "{n_changed}");
    assert!(n_harmless > 0);
}
