//! ggml files of whisper.cpp: the transcripts of the Hugging Face folders that they are made from, and damage.

#![allow(clippy::unwrap_used)]

use crate::common;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use half::f16;
use overhear::{Audio, Model, TranscribeOptions};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// Numbers of types of tensors.
const F32: i32 = 0;
const F16: i32 = 1;
const Q5_0: i32 = 6;
const Q8_0: i32 = 8;

/// Quantises blocks of 32 to `kind`: scales follow from the largest magnitude.
fn quantised(values: &[f32], kind: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in values.chunks_exact(32) {
        let largest = block.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let scale = f16::from_f32(largest / if kind == Q8_0 { 127.0 } else { 15.0 });
        let step = |x: f32| match scale.to_f32() {
            0.0 => 0,
            scale => (x / scale).round() as i32,
        };
        bytes.extend(scale.to_le_bytes());
        if kind == Q8_0 {
            bytes.extend(block.iter().map(|&x| step(x) as i8 as u8));
            continue;
        }
        let fives: Vec<u32> = block
            .iter()
            .map(|&x| (step(x) + 16).clamp(0, 31) as u32)
            .collect();
        let fifth = fives.iter().enumerate().map(|(i, five)| (five >> 4) << i);
        bytes.extend(fifth.sum::<u32>().to_le_bytes());
        bytes.extend((0..16).map(|i| (fives[i] & 15 | (fives[i + 16] & 15) << 4) as u8));
    }
    bytes
}

/// Returns the elements of an f16 tensor.
fn elements(tensor: &TensorView<'_>) -> Vec<f32> {
    let halves = tensor.data().chunks_exact(2);
    halves
        .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
        .collect()
}

/// Writes the checkpoint in `folder` as a ggml file with matrices of type `kind`, as
/// `whisper.cpp/models/convert-pt-to-ggml.py` and `examples/quantize` do.
fn write(folder: &Path, kind: i32, to: &Path) {
    let model = Model::open(folder, &common::exact()).unwrap();
    let dims = model.dims();
    let mut out: Vec<u8> = b"lmgg".to_vec();
    let mut put = |numbers: &[usize]| {
        let bytes = numbers.iter().flat_map(|&n| (n as i32).to_le_bytes());
        out.extend(bytes);
    };
    let n_vocab = if dims.n_vocab > 51865 {
        51866
    } else {
        dims.n_vocab
    };
    put(&[
        n_vocab,
        dims.n_audio_ctx,
        dims.n_audio_state,
        dims.n_audio_head,
        dims.n_audio_layer,
    ]);
    put(&[
        dims.n_text_ctx,
        dims.n_text_state,
        dims.n_text_head,
        dims.n_text_layer,
        dims.n_mels,
        1,
    ]);
    put(&[dims.n_mels, 201]);
    out.extend(vec![0; dims.n_mels * 201 * 4]);
    let n_text = model.tokenizer().eot();
    out.extend((n_text as i32).to_le_bytes());
    for bytes in token_bytes(folder).into_iter().take(n_text as usize) {
        out.extend((bytes.len() as i32).to_le_bytes());
        out.extend(bytes);
    }
    let file = fs::read(folder.join("model.safetensors")).unwrap();
    for (name, tensor) in SafeTensors::deserialize(&file).unwrap().tensors() {
        let name = common::openai_name(&name);
        let mut shape = tensor.shape().to_vec();
        if name.ends_with("conv1.bias") || name.ends_with("conv2.bias") {
            shape.push(1);
        }
        let is_matrix = tensor.shape().len() == 2 && !name.ends_with("positional_embedding");
        let values = elements(&tensor);
        let (kind, data) = match (is_matrix, tensor.shape().len()) {
            (true, _) if kind != F16 => (kind, quantised(&values, kind)),
            (true, _) | (_, 3) => (F16, tensor.data().to_vec()),
            _ => (F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        };
        for number in [shape.len() as i32, name.len() as i32, kind] {
            out.extend(number.to_le_bytes());
        }
        for size in shape.iter().rev() {
            out.extend((*size as i32).to_le_bytes());
        }
        out.extend(name.as_bytes());
        out.extend(data);
    }
    fs::write(to, out).unwrap();
}

/// Returns the bytes of the text tokens by `tokenizer.json`, in the order of their ids.
fn token_bytes(folder: &Path) -> Vec<Vec<u8>> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255).filter(|&byte| !printable(byte)).enumerate();
    let mut alphabet: HashMap<char, u8> = others
        .map(|(i, byte)| (char::from_u32(256 + i as u32).unwrap(), byte))
        .collect();
    let printable = (0..=255).filter(|&byte| printable(byte));
    alphabet.extend(printable.map(|byte| (byte as char, byte)));
    let text = fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let vocabulary = file["model"]["vocab"].as_object().unwrap();
    let tokens = vocabulary.iter().map(|(text, id)| {
        let bytes = text
            .chars()
            .map(|c| alphabet.get(&c).copied().unwrap_or(b'?'));
        (id.as_u64().unwrap(), bytes.collect())
    });
    tokens.collect::<BTreeMap<_, _>>().into_values().collect()
}

fn transcribe(model: &Path, clip: &str) -> overhear::Transcript {
    let model = Model::open(model, &common::exact()).unwrap();
    let audio = Audio::open(common::fixtures().join("audio").join(clip)).unwrap();
    let options = TranscribeOptions {
        words: Some(overhear::transcribe::WordOptions::default()),
        ..TranscribeOptions::default()
    };
    model.transcribe(&audio, &options).unwrap()
}

#[test]
fn a_ggml_file_gives_the_transcript_of_the_folder_that_it_is_made_from() {
    let folder = tempfile::tempdir().unwrap();
    for (model, clip, name) in [
        (common::nano(), "synth-en-05.flac", "ggml-nano.bin"),
        (common::tiny_en(), "jfk.flac", "ggml-tiny.en.bin"),
    ] {
        let path = folder.path().join(name);
        write(&model, F16, &path);
        let (found, expected) = (transcribe(&path, clip), transcribe(&model, clip));
        let json = |transcript| serde_json::to_value(transcript).unwrap();
        assert_eq!(json(found), json(expected), "{name}");
    }
}

#[test]
fn a_folder_with_one_ggml_file_is_that_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&common::nano(), F16, &folder.join("ggml-nano.bin"));
    fs::write(folder.join("README.md"), "nano").unwrap();
    let json = |transcript| serde_json::to_value(transcript).unwrap();
    let [found, expected] =
        [folder, &common::nano()].map(|model| json(transcribe(model, "synth-en-05.flac")));
    assert_eq!(found, expected);
    fs::copy(folder.join("ggml-nano.bin"), folder.join("ggml-other.bin")).unwrap();
    let said = Model::open(folder, &common::exact())
        .err()
        .unwrap()
        .to_string();
    assert!(
        said.contains("one must be named: ggml-nano.bin, ggml-other.bin"),
        "{said}"
    );
}

#[test]
fn quantised_weights_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, name) in [
        (Q8_0, "ggml-tiny.en-q8_0.bin"),
        (Q5_0, "ggml-tiny.en-q5_0.bin"),
    ] {
        let path = folder.path().join(name);
        write(&common::tiny_en(), kind, &path);
        let text = transcribe(&path, "jfk.flac").text;
        let letters: String = text.chars().filter(|c| c.is_alphabetic()).collect();
        let expected =
            "AndsomyfellowAmericansasknotwhatyourcountrycandoforyouaskwhatyoucandoforyourcountry";
        assert_eq!(letters, expected, "{name}");
    }
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ggml-nano.bin");
    write(&common::nano(), F16, &path);
    let whole = fs::read(&path).unwrap();
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Model::open(&path, &common::exact()).err().unwrap();
        let said = error.to_string();
        assert!(said.contains("ggml-nano.bin: "), "{said}");
        said
    };
    // Cut anywhere: in the header, the filters, the vocabulary, a tensor's header and data.
    for at in [
        4,
        20,
        48,
        60,
        64_000,
        65_000,
        400_000,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        let said = error(&whole[..at]);
        assert!(
            said.contains("file is") || said.contains("no tensor"),
            "{at}: {said}"
        );
    }
    // Every field of the header, damaged.
    for at in (4..56).step_by(4) {
        for number in [-1_i32, 0, 7, i32::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            fs::write(&path, bytes).unwrap();
            // The type of most tensors at byte 44 says nothing.
            let opened = Model::open(&path, &common::exact());
            assert_eq!(
                opened.is_ok(),
                at == 44 && number >= 0,
                "{number} at byte {at}"
            );
        }
    }
    // Fewer layers than there are: of the encoder, of the decoder.
    for at in [20, 36] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&2_i32.to_le_bytes());
        let said = error(&bytes);
        assert!(
            said.contains("of a layer beyond the 2 that the header counts"),
            "{said}"
        );
    }
    // Number of tokens, and the length of the first.
    let filters_end = 4 + 44 + 8 + 80 * 201 * 4;
    for at in [filters_end, filters_end + 4] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&i32::MAX.to_le_bytes());
        error(&bytes);
    }
}
