//! Tests of what the public converters write of one small model (`tests/fixtures/converted/make.py`): every file has the
//! numbers of transformers' own, but for what its type rounds.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::Checkpoint;
use super::widened;

/// Files, and the types that they have.
const FILES: [(&str, &[&str]); 7] = [
    ("ggml-f16.bin", &["F16", "F32"]),
    ("ggml-q5_0.bin", &["F16", "F32", "Q5_0"]),
    ("ctranslate2-float16", &["F16"]),
    ("ctranslate2-int16", &["F32", "I16"]),
    ("ctranslate2-int8_float16", &["F16", "I8"]),
    ("ctranslate2-int8_bfloat16", &["BF16", "I8"]),
    (
        "gguf/mixed.gguf",
        &["BF16", "F16", "F32", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"],
    ),
];

/// Returns the largest error of a type as a share of the largest magnitude that shares its scale: half a step, or a whole one
/// where ggml clamps it, and some for scales in f16. Halves, which all numbers are, are exact in f32.
fn tolerance(dtype: &str) -> f32 {
    match dtype {
        "F32" | "F16" => 0.0,
        "BF16" => 1.0 / 256.0,
        "I16" => 0.51 / 1023.0,
        "I8" | "Q8_0" => 0.6 / 127.0,
        "Q5_0" | "Q5_1" => 1.01 / 16.0,
        "Q4_0" | "Q4_1" => 1.01 / 8.0,
        other => panic!("{other} is not converted"),
    }
}

/// A tensor as it is read: its type and shape in the file, and its elements.
struct Read {
    dtype: String,
    shape: Vec<usize>,
    elements: Vec<f32>,
}

/// Reads all tensors of a file or folder of the fixtures.
fn tensors(name: &str) -> BTreeMap<String, Read> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/converted");
    let checkpoint = Checkpoint::open(&folder.join(name)).unwrap();
    let read = checkpoint.tensors.iter().map(|(name, (_, tensor))| {
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        let elements = match shape[..] {
            [n_out, n_in, n_tap] => {
                widened(&checkpoint.convolution(name, n_out, n_in, n_tap).unwrap())
            }
            _ => {
                let n_elements = shape.iter().product();
                checkpoint.vector(name, n_elements).unwrap()
            }
        };
        let dtype = tensor.dtype.clone();
        (
            name.clone(),
            Read {
                dtype,
                shape,
                elements,
            },
        )
    });
    read.collect()
}

#[test]
fn what_public_converters_write_has_the_numbers_of_the_source() {
    let source = tensors("transformers");
    assert!(source.values().all(|tensor| tensor.dtype == "F16"));
    let matrices = source
        .iter()
        .filter(|(name, _)| !name.contains("positional"));
    let largest = matrices
        .flat_map(|(_, tensor)| &tensor.elements)
        .fold(0.0_f32, |max, x| max.max(x.abs()));
    for (file, dtypes) in FILES {
        let read = tensors(file);
        assert!(read.keys().eq(source.keys()), "{file}");
        let mut found: Vec<&str> = read.values().map(|tensor| &tensor.dtype[..]).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, dtypes, "{file}");
        for (name, tensor) in read {
            let Read {
                shape, elements, ..
            } = &source[&name];
            // The biases of convolutions are columns in ggml files.
            assert!(tensor.shape.starts_with(shape), "{file}: {name}");
            let tolerance = largest * tolerance(&tensor.dtype);
            for (found, expected) in tensor.elements.iter().zip(elements) {
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{file}: {name}: {found}, not {expected}"
                );
            }
        }
    }
}
