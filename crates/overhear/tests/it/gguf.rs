//! GGUF files in candle's layout: the transcripts of the Hugging Face folders that they are made from, and damage.

#![allow(clippy::unwrap_used)]

use crate::common;

use std::fs;
use std::path::Path;

use half::f16;
use overhear::model::Dtype;
use overhear::{Audio, Model, TranscribeOptions};
use safetensors::SafeTensors;
use serde_json::Value;

/// Numbers of types of tensors.
const F16: u32 = 1;
const Q8_0: u32 = 8;
const Q6_K: u32 = 14;

/// Quantises blocks of 32, or 256, to `kind`: scales follow from the largest magnitude.
fn quantised(values: &[f32], kind: u32) -> Vec<u8> {
    let largest = |values: &[f32]| values.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    let mut bytes = Vec::new();
    if kind == Q8_0 {
        for block in values.chunks_exact(32) {
            let scale = f16::from_f32(largest(block) / 127.0);
            bytes.extend(scale.to_le_bytes());
            bytes.extend(
                block
                    .iter()
                    .map(|x| (x / scale.to_f32()).round() as i8 as u8),
            );
        }
        return bytes;
    }
    for block in values.chunks_exact(256) {
        let scale = f16::from_f32(largest(block) / 31.0 / 127.0);
        let scales: Vec<u8> = block
            .chunks_exact(16)
            .map(|part| (largest(part) / 31.0 / scale.to_f32()).ceil().min(127.0) as u8)
            .collect();
        let quant = |i: usize| {
            let step = scale.to_f32() * f32::from(scales[i / 16]);
            ((block[i] / step).round().clamp(-32.0, 31.0) + 32.0) as u8
        };
        for part in [0, 128] {
            bytes.extend((0..64).map(|i| quant(part + i) & 0xf | quant(part + i + 64) << 4));
        }
        for part in [0, 128] {
            let two = |i: usize| quant(part + i) >> 4;
            bytes.extend(
                (0..32).map(|i| two(i) | two(i + 32) << 2 | two(i + 64) << 4 | two(i + 96) << 6),
            );
        }
        bytes.extend(scales);
        bytes.extend(scale.to_le_bytes());
    }
    bytes
}

/// Converts the weights of the folder `from`, matrices with whole blocks to `kind`.
fn gguf(from: &Path, kind: u32) -> Vec<u8> {
    let file = fs::read(from.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(3_u64.to_le_bytes());
    out.extend(text("general.architecture"));
    out.extend(8_u32.to_le_bytes());
    out.extend(text("whisper"));
    out.extend(text("general.alignment"));
    out.extend([4_u32, 64].map(u32::to_le_bytes).concat());
    out.extend(text("an.array.of.texts"));
    out.extend([9_u32, 8].map(u32::to_le_bytes).concat());
    out.extend(2_u64.to_le_bytes());
    out.extend([text("a"), text("bc")].concat());
    let mut data: Vec<u8> = Vec::new();
    for (name, tensor) in &tensors {
        let shape = tensor.shape();
        let block = if kind == Q6_K { 256 } else { 32 };
        let is_quantised =
            kind != F16 && shape.len() == 2 && shape[1] % block == 0 && !name.contains("positions");
        let kind = if is_quantised { kind } else { F16 };
        let bytes = match kind {
            F16 => tensor.data().to_vec(),
            _ => {
                let values = tensor
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| f16::from_le_bytes(b).to_f32());
                quantised(&values.collect::<Vec<_>>(), kind)
            }
        };
        out.extend(text(name));
        out.extend((shape.len() as u32).to_le_bytes());
        out.extend(shape.iter().rev().flat_map(|&n| (n as u64).to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(64), 0);
    }
    out.resize(out.len().next_multiple_of(64), 0);
    [out, data].concat()
}

fn copy_others(from: &Path, to: &Path) {
    for name in ["config.json", "tokenizer.json", "generation_config.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn transcribe(model: &Path, clip: &str) -> Value {
    let model = Model::open(model, &common::exact()).unwrap();
    let audio = Audio::open(common::fixtures().join("audio").join(clip)).unwrap();
    serde_json::to_value(
        model
            .transcribe(&audio, &TranscribeOptions::default())
            .unwrap(),
    )
    .unwrap()
}

#[test]
fn a_gguf_file_gives_the_transcript_of_the_folder_that_it_is_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    copy_others(&common::nano(), folder);
    let file = folder.join("nano.gguf");
    fs::write(&file, gguf(&common::nano(), F16)).unwrap();
    let clip = "synth-en-05.flac";
    let expected = transcribe(&common::nano(), clip);
    assert_eq!(transcribe(folder, clip), expected, "the folder");
    assert_eq!(transcribe(&file, clip), expected, "the file");
    fs::copy(&file, folder.join("other.gguf")).unwrap();
    let error = Model::open(folder, &common::exact())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("one must be named: nano.gguf, other.gguf"),
        "{error}"
    );
    fs::remove_file(folder.join("config.json")).unwrap();
    let error = Model::open(&file, &common::exact())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("needs the model's config.json"), "{error}");
}

#[test]
fn quantised_weights_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    copy_others(&common::tiny_en(), folder);
    for (kind, dtype) in [(Q8_0, Dtype::Q8_0), (Q6_K, Dtype::F16)] {
        fs::write(folder.join("tiny.gguf"), gguf(&common::tiny_en(), kind)).unwrap();
        let transcript = transcribe(folder, "jfk.flac");
        let text = transcript["text"].as_str().unwrap();
        let letters: String = text.chars().filter(|c| c.is_alphabetic()).collect();
        let expected =
            "AndsomyfellowAmericansasknotwhatyourcountrycandoforyouaskwhatyoucandoforyourcountry";
        assert_eq!(letters, expected, "{kind}");
        // Rows of 384 are no whole super-blocks: only the matrices of 1536 columns are.
        assert_eq!(
            Model::open(folder, &common::exact()).unwrap().dtype(),
            dtype
        );
    }
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    copy_others(&common::nano(), folder);
    let path = folder.join("nano.gguf");
    let whole = gguf(&common::nano(), F16);
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Model::open(&path, &common::exact())
            .err()
            .map(|error| error.to_string());
        let said = error.unwrap_or_default();
        assert!(said.contains("nano.gguf: ") && said.len() < 500, "{said}");
        said
    };
    // Cut anywhere: in the header, the metadata, the descriptions, the tensors.
    for at in [
        4,
        7,
        12,
        20,
        30,
        100,
        1000,
        10_000,
        whole.len() / 2,
        whole.len() - 100,
    ] {
        let said = error(&whole[..at]);
        assert!(said.contains("file is"), "{at}: {said}");
    }
    let with = |at: usize, new: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        error(&bytes)
    };
    let find = |text: &str| {
        whole
            .windows(text.len())
            .position(|w| w == text.as_bytes())
            .unwrap()
    };
    let max = u64::MAX.to_le_bytes();
    assert!(with(4, &9_u32.to_le_bytes()).contains("version 9"));
    assert!(with(4, &3_u32.to_be_bytes()).contains("big-endian"));
    for at in [8, 16] {
        assert!(with(at, &max).contains("entries of metadata"));
        with(at, &5_000_u64.to_le_bytes());
    }
    // The length of the first key; the type of its value; the alignment; the type and length of an array.
    assert!(with(24, &max).contains("file is"));
    assert!(
        with(find("general.architecture") + 20, &77_u32.to_le_bytes())
            .contains("metadata of type 77")
    );
    let alignment = find("general.alignment") + 17 + 4;
    for bad in [0_u32, 48, 1 << 30] {
        assert!(with(alignment, &bad.to_le_bytes()).contains(&format!("an alignment of {bad}")));
    }
    let array = find("an.array.of.texts") + 17 + 4;
    assert!(with(array, &13_u32.to_le_bytes()).contains("metadata of type 13"));
    assert!(with(array + 4, &max).contains("file is"));
    // A tensor: its rank, dimensions, type and place.
    let tensor = find("model.decoder.embed_tokens.weight") + 33;
    assert!(with(tensor, &u32::MAX.to_le_bytes()).contains("4294967295 dimensions"));
    assert!(with(tensor + 4, &max).contains("embed_tokens"));
    assert!(with(tensor + 4, &0_u64.to_le_bytes()).contains("embed_tokens"));
    assert!(
        with(tensor + 20, &10_u32.to_le_bytes()).contains("is Q2_K [51865, 128]: supported are")
    );
    assert!(
        with(tensor + 20, &14_u32.to_le_bytes()).contains("is Q6_K [51865, 128]: supported are")
    );
    assert!(with(tensor + 20, &99_u32.to_le_bytes()).contains("is type 99"));
    assert!(with(tensor + 24, &max).contains("embed_tokens"));
    assert!(with(tensor + 24, &64_u64.to_le_bytes()).contains("overlap"));
}
