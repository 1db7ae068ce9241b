//! Tests of damaged and inconsistent files: each is an error with one clear message, and costs little time and memory.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use super::super::Checkpoint;
use super::super::testing::{config, file, safetensors, write};
use super::{POSITIONS, contents, error, expected, huggingface_names, in_folder, tensors};

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = safetensors(&tensors(&huggingface_names("model."), "F16"));
    write(folder.path(), &config(), &bytes);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(bytes.len() as u64 - 1)
        .unwrap();
    let error = checkpoint.vector(POSITIONS, 12).unwrap_err();
    assert_eq!(
        in_folder(&error, folder.path()),
        "DIR/model.safetensors: became shorter while tensor model.decoder.embed_positions.weight was read"
    );
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let whole = safetensors(&tensors(&huggingface_names("model."), "F16"));
    write(folder.path(), &config(), &whole);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join("model.safetensors"))
        .unwrap();
    for len in (0..whole.len()).rev() {
        file.set_len(len as u64).unwrap();
        let needed = match len {
            0..8 => 8,
            _ if len < whole.len() - 144 => whole.len() - 144,
            _ => whole.len(),
        };
        assert_eq!(
            error(folder.path()),
            format!("DIR/model.safetensors: file is {len} bytes, header needs {needed}")
        );
    }
    write(folder.path(), &config(), &[&whole[..], &[0]].concat());
    let len = whole.len();
    assert_eq!(
        error(folder.path()),
        format!(
            "DIR/model.safetensors: file is {} bytes, header needs {len}",
            len + 1
        )
    );
    write(folder.path(), &config(), &vec![0; len]);
    assert_eq!(
        error(folder.path()),
        "DIR/model.safetensors: malformed header: EOF while parsing a value at line 1 column 0"
    );
}

#[test]
fn any_flipped_bit_of_the_header_is_an_error_or_changes_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    let whole = safetensors(&tensors(&huggingface_names("model."), "F16"));
    write(folder.path(), &config(), &whole);
    // Changed in place and restored: rewriting the file for each bit is thirty times slower.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join("model.safetensors"))
        .unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    let mut n_harmless = 0;
    for bit in 0..8 * (whole.len() - 144) {
        put(bit / 8, whole[bit / 8] ^ 1 << (bit % 8));
        if let Ok(found) =
            Checkpoint::open(folder.path()).and_then(|checkpoint| contents(&checkpoint))
        {
            assert_eq!(found, expected(), "bit {bit}");
            n_harmless += 1;
        }
        put(bit / 8, whole[bit / 8]);
    }
    // Only the 24 bytes of the metadata can change without an error.
    assert!((1..8 * 32).contains(&n_harmless), "{n_harmless}");
}

#[test]
fn a_header_that_does_not_fit_its_file_is_an_error() {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{}}}"#, tensor(dtype, shape, offsets))
    };
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{},"b":{}}}"#,
            tensor("F16", "[2]", a),
            tensor("F16", "[2]", b)
        )
    };
    let cases = [
        (two("[0,4]", "[2,6]"), "tensor b overlaps the one before"),
        (two("[0,4]", "[0,4]"), "tensor b overlaps the one before"),
        (
            two("[0,4]", "[6,10]"),
            "bytes 4 to 6, before tensor b, belong to no tensor",
        ),
        (
            one("F16", "[2]", "[4,8]"),
            "bytes 0 to 4, before tensor a, belong to no tensor",
        ),
        (
            one("F16", "[2]", "[4,0]"),
            "tensor a, F16 [2], does not fill bytes 4 to 0",
        ),
        (
            one("F16", "[3]", "[0,4]"),
            "tensor a, F16 [3], does not fill bytes 0 to 4",
        ),
        (
            one("F16", "[4294967296,4294967296]", "[0,0]"),
            "tensor a, F16 [4294967296, 4294967296], does not fill bytes 0 to 0",
        ),
        (
            one("F7", "[2]", "[0,4]"),
            "tensor a has unknown dtype \"F7\"",
        ),
        (
            one("U8", "[18446744073709551615]", "[0,18446744073709551615]"),
            "file is LEN bytes, header needs 18446744073709551",
        ),
        (
            one("F16", "[-1]", "[0,4]"),
            "malformed header: invalid value: integer `-1`, expected u64 at line 1 column 31",
        ),
        (
            one("F16", "[18446744073709551616]", "[0,4]"),
            "malformed header: ",
        ),
        (one("F16", "[2]", "[0]"), "malformed header: "),
        (r#"{"a":1}"#.into(), "malformed header: "),
        (
            one("F\\n7", "[2]", "[0,4]"),
            "malformed header: tensor a has no plausible dtype and shape",
        ),
        (
            one("F16", "[1,1,1,1,1,1,1,1,2]", "[0,4]"),
            "malformed header: tensor a has no plausible dtype and shape",
        ),
        (
            two("[0,4]", "[4,8]").replace("\"b\"", "\"\\u001b[31m\""),
            "malformed header: a tensor's name is very long or cannot be printed",
        ),
        (
            "[]".into(),
            "malformed header: invalid type: sequence, expected an object of tensors at line 1 column 0",
        ),
        (
            format!("{}{}", r#"{"__metadata__":"#, "[".repeat(10_000)),
            "malformed header: EOF while parsing a list at line 1 column 10016",
        ),
        (format!("{}]", "{"), "malformed header: "),
        ("{}".into(), "file is LEN bytes, header needs 10"),
        (
            two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""),
            "malformed header: two tensors are called \"a\"",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (header, reason) in cases {
        let bytes = file(&header, &[0; 8]);
        write(folder.path(), &config(), &bytes);
        let expected = format!(
            "DIR/model.safetensors: {}",
            reason.replace("LEN", &bytes.len().to_string())
        );
        let message = error(folder.path());
        assert!(message.starts_with(&expected), "{header}: {message}");
    }
    for (length, reason) in [
        (
            u64::MAX,
            "not a safetensors file: a header of 18446744073709551615 bytes",
        ),
        (
            (32 << 20) + 1,
            "not a safetensors file: a header of 33554433 bytes",
        ),
        (32 << 20, "file is 16 bytes, header needs 33554440"),
        (9, "file is 16 bytes, header needs 17"),
    ] {
        write(
            folder.path(),
            &config(),
            &[length.to_le_bytes(), [b' '; 8]].concat(),
        );
        assert_eq!(
            error(folder.path()),
            format!("DIR/model.safetensors: {reason}")
        );
    }
}

#[test]
fn a_file_without_weights_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &config(), &file("{}", &[]));
    assert_eq!(
        error(folder.path()),
        "DIR/model.safetensors: no tensor of F16, BF16, F32 or F64"
    );
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(
        error(folder.path()),
        "DIR: no model.safetensors, pytorch_model.bin or index of shards in this folder"
    );
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(error(folder.path()), "DIR/model.safetensors: not a file");
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_eq!(error(folder.path()), "DIR: no config.json in this folder");
    assert_eq!(
        error(&folder.path().join("gone")),
        "DIR: no such model folder"
    );
}
