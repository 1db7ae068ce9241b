//! Conversion of checkpoints: to ggml and back the tensors and transcripts are the same, and nothing is overwritten.

#![allow(clippy::unwrap_used)]

use crate::common;
use crate::lora;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use overhear::convert::{Container, ElementType, convert};
use overhear::model::Isa;
use overhear::{Audio, ComputeType, Error, Model, ModelOptions, TranscribeOptions, Transcript};
use safetensors::SafeTensors;

fn converted(
    model: &Path,
    out: &Path,
    to: Container,
    element: Option<ElementType>,
) -> overhear::Result<()> {
    convert(model, None, out, to, element, || ControlFlow::Continue(()))
}

fn transcribe(model: &Path, clip: &str) -> Transcript {
    let model = Model::open(model, &common::exact()).unwrap();
    let audio = Audio::open(common::fixtures().join("audio").join(clip)).unwrap();
    let options = TranscribeOptions {
        words: Some(overhear::transcribe::WordOptions::default()),
        ..TranscribeOptions::default()
    };
    model.transcribe(&audio, &options).unwrap()
}

/// Asserts that two folders have the same tensors, to the bit; apart from a copy of the token embedding.
fn assert_same_tensors(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(|folder| fs::read(folder.join("model.safetensors")).unwrap());
    let [a, b] = [&a, &b].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let names = |file: &SafeTensors<'_>| {
        let mut names: Vec<String> = file.names().iter().map(|n| (**n).to_owned()).collect();
        names.retain(|name| name != "proj_out.weight");
        names.sort();
        names
    };
    assert_eq!(names(&a), names(&b));
    for name in names(&a) {
        let [a, b] = [&a, &b].map(|file| file.tensor(&name).unwrap());
        assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()), "{name}");
        assert!(a.data() == b.data(), "{name}");
    }
}

/// The adapter and its base must be one model.
#[test]
fn an_adapter_is_written_with_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let [adapter, out] = ["adapter", "out"].map(|name| folder.path().join(name));
    fs::create_dir(&adapter).unwrap();
    lora::write(&adapter, &lora::config(), &lora::adapter());
    let f32 = Some(ElementType::F32);
    converted(&adapter, &out, Container::Safetensors, f32).unwrap();
    let json = |path: &Path| serde_json::to_value(transcribe(path, "synth-en-05.flac")).unwrap();
    assert_eq!(json(&out), json(&adapter));
    assert_ne!(json(&out), json(&common::nano()));
}

#[test]
fn ggml_and_back_gives_the_same_tensors_and_transcripts() {
    let folder = tempfile::tempdir().unwrap();
    for (model, clip, name) in [
        (common::nano(), "synth-en-05.flac", "nano"),
        (common::tiny_en(), "jfk.flac", "tiny.en"),
    ] {
        let file = folder.path().join(format!("ggml-{name}.bin"));
        let back = folder.path().join(name);
        converted(&model, &file, Container::Ggml, None).unwrap();
        converted(&file, &back, Container::Safetensors, None).unwrap();
        assert_same_tensors(&model, &back);
        let json = |path: &Path| serde_json::to_value(transcribe(path, clip)).unwrap();
        let expected = json(&model);
        assert_eq!(json(&file), expected, "{name}");
        assert_eq!(json(&back), expected, "{name}");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        let is_temporary =
            |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
        assert!(!left.iter().any(is_temporary));
    }
}

#[test]
fn files_made_for_a_ggml_file_say_what_the_published_ones_say() {
    let folder = tempfile::tempdir().unwrap();
    for (model, name) in [(common::nano(), "nano"), (common::tiny_en(), "tiny.en")] {
        let file = folder.path().join(format!("ggml-{name}.bin"));
        let back = folder.path().join(name);
        converted(&model, &file, Container::Ggml, None).unwrap();
        converted(&file, &back, Container::Safetensors, None).unwrap();
        let read = |folder: &Path, file: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap()
        };
        for (file, left_out) in [
            (
                "config.json",
                &["suppress_tokens", "begin_suppress_tokens"][..],
            ),
            // nano has heads of its own, which a ggml file does not hold.
            ("generation_config.json", &["alignment_heads"][..]),
            ("preprocessor_config.json", &[]),
        ] {
            let (expected, found) = (read(&model, file), read(&back, file));
            for (field, value) in found.as_object().unwrap() {
                let expected = expected
                    .get(field)
                    .filter(|_| !left_out.contains(&&field[..]));
                assert!(
                    expected.is_none_or(|expected| expected == value),
                    "{name} {file}: {field}"
                );
            }
        }
        let (expected, found) = (
            read(&model, "tokenizer.json"),
            read(&back, "tokenizer.json"),
        );
        let (expected, found) = (&expected["model"], &found["model"]);
        assert!(merges(expected) == merges(found), "{name}");
        for (token, id) in found["vocab"].as_object().unwrap() {
            assert_eq!(&expected["vocab"][token], id);
        }
    }
}

/// Returns the merges, which older files have as strings.
fn merges(model: &serde_json::Value) -> Vec<String> {
    let merge = |merge: &serde_json::Value| match merge {
        serde_json::Value::String(text) => text.clone(),
        pair => format!(
            "{} {}",
            pair[0].as_str().unwrap(),
            pair[1].as_str().unwrap()
        ),
    };
    model["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(merge)
        .collect()
}

#[test]
fn a_folder_can_be_converted_to_another_dtype() {
    let folder = tempfile::tempdir().unwrap();
    let (wide, narrow) = (folder.path().join("f32"), folder.path().join("f16"));
    let model = common::nano();
    converted(
        &model,
        &wide,
        Container::Safetensors,
        Some(ElementType::F32),
    )
    .unwrap();
    let config = fs::read_to_string(wide.join("config.json")).unwrap();
    assert!(config.contains("\"torch_dtype\": \"float32\""), "{config}");
    let bytes = |path: &Path| fs::metadata(path.join("model.safetensors")).unwrap().len();
    assert!(bytes(&wide) > 19 * bytes(&model) / 10);
    converted(
        &wide,
        &narrow,
        Container::Safetensors,
        Some(ElementType::F16),
    )
    .unwrap();
    assert_same_tensors(&model, &narrow);
    for file in ["tokenizer.json", "generation_config.json", "vocab.json"] {
        let [a, b] = [&model, &narrow].map(|folder| fs::read(folder.join(file)).unwrap());
        assert!(a == b, "{file} is copied");
    }
}

#[test]
fn block_types_are_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let blocks = ElementType::ALL
        .into_iter()
        .filter(|e| e.name().starts_with('q'));
    for element in blocks {
        let file = folder.path().join(format!("ggml-tiny.en-{element}.bin"));
        converted(&common::tiny_en(), &file, Container::Ggml, Some(element)).unwrap();
        let text = transcribe(&file, "jfk.flac").text;
        let letters: String = text.chars().filter(|c| c.is_alphabetic()).collect();
        let expected =
            "andsomyfellowamericansasknotwhatyourcountrycandoforyouaskwhatyoucandoforyourcountry";
        assert_eq!(letters.to_lowercase(), expected, "{element}");
        let kept = match element {
            ElementType::Q5_0 => Some(ComputeType::Q5),
            ElementType::Q4_0 => Some(ComputeType::Q4),
            _ => None,
        };
        let auto = Model::open(&file, &ModelOptions::default()).unwrap();
        let usual = [ComputeType::Bf16, ComputeType::F16, ComputeType::F32];
        let found = auto.compute_type();
        match kept.filter(|_| matches!(auto.isa(), Isa::Avx2 | Isa::Avx512 | Isa::Amx)) {
            Some(kept) => assert_eq!(found, kept, "{element}"),
            None => assert!(usual.contains(&found), "{element}: {found}"),
        }
        // Blocks are the same again, as their scales are.
        let again = folder.path().join(format!("again-{element}.bin"));
        converted(&file, &again, Container::Ggml, Some(element)).unwrap();
        assert!(
            fs::read(&file).unwrap() == fs::read(&again).unwrap(),
            "{element}"
        );
    }
}

#[test]
fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nano = common::nano();
    let out = folder.path().join("out");
    fs::write(&out, "mine").unwrap();
    for to in Container::ALL {
        let error = converted(&nano, &out, to, None).unwrap_err();
        assert!(matches!(error, Error::Cache { .. }), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("out: it exists, and is not overwritten"),
            "{error}"
        );
    }
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    fs::remove_file(&out).unwrap();

    let blocks = converted(&nano, &out, Container::Safetensors, Some(ElementType::Q5_0));
    let said = blocks.unwrap_err().to_string();
    assert_eq!(
        said,
        "dtype: a Hugging Face folder has no q5_0: choose f32, f16 or bf16"
    );
    let gone = folder.path().join("gone").join("out");
    for to in Container::ALL {
        let error = converted(&nano, &gone, to, None).unwrap_err();
        assert!(matches!(error, Error::Cache { .. }), "{error}");
        let mut n_tensors = 0;
        let canceled = convert(&nano, None, &out, to, None, || {
            n_tensors += 1;
            match n_tensors {
                10 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        assert!(matches!(canceled, Err(Error::Canceled)));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
