//! schema/transcript.schema.json describes the JSON output completely.
#![allow(clippy::unwrap_used)]

use crate::common;
use overhear::decode::DecodingRules;
use overhear::output::{Format, write};
use overhear::transcribe::{LanguageOptions, WordOptions};
use overhear::{Audio, Model, ModelOptions, TranscribeOptions, Transcript};
use serde_json::{Value, json};

fn schema() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../schema/transcript.schema.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Checks `value` against `schema`. Supports the part of JSON Schema that the schema uses; other keywords fail.
/// Properties that the schema does not name fail, too, as it must describe the whole output.
fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |reason: String| Err(format!("{at}: {reason}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                check(root, root.pointer(pointer).unwrap(), value, at)?;
            }
            "type" => {
                let types = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                if !types
                    .iter()
                    .any(|name| is_of_type(value, name.as_str().unwrap()))
                {
                    return fail(format!("{value} is no {rule}"));
                }
            }
            "minimum" | "maximum" => {
                let (number, bound) = (value.as_f64(), rule.as_f64().unwrap());
                let fits = |x: f64| {
                    if keyword == "minimum" {
                        x >= bound
                    } else {
                        x <= bound
                    }
                };
                if !number.is_none_or(fits) {
                    return fail(format!("{value} is beyond the {keyword} {bound}"));
                }
            }
            "required" => {
                let names = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|name| name.as_str().unwrap());
                if let Some(name) = names.into_iter().find(|name| value.get(name).is_none()) {
                    return fail(format!("{name} is missing"));
                }
            }
            "properties" => {
                for (name, value) in value.as_object().unwrap() {
                    let Some(schema) = rule.get(name) else {
                        return fail(format!("{name} is not described"));
                    };
                    check(root, schema, value, &format!("{at}/{name}"))?;
                }
            }
            "items" => {
                for (i, value) in value.as_array().unwrap().iter().enumerate() {
                    check(root, rule, value, &format!("{at}/{i}"))?;
                }
            }
            other => panic!("{other} is not known here"),
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("type {name} is not known here"),
    }
}

fn written(transcript: &Transcript) -> Value {
    let mut bytes = Vec::new();
    write(Format::Json, transcript, &mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn the_schema_describes_all_that_is_written() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let schema = schema();
    for (clip, word_timestamps) in [
        ("synth-en-05", true),
        ("synth-en-05", false),
        ("noise-35s", true),
        ("silence-10s", false),
    ] {
        let path = common::fixtures().join(format!("audio/{clip}.flac"));
        let options = TranscribeOptions {
            temperatures: vec![0.0],
            hallucination_guard: word_timestamps,
            n_best: if word_timestamps { 2 } else { 0 },
            languages: LanguageOptions {
                multilingual: word_timestamps,
                ..LanguageOptions::default()
            },
            rules: DecodingRules {
                beam_size: word_timestamps.then_some(3),
                loop_guard: word_timestamps,
                alternatives: if word_timestamps { 3 } else { 0 },
                ..DecodingRules::default()
            },
            words: word_timestamps.then(WordOptions::default),
            ..TranscribeOptions::default()
        };
        let transcript = model
            .transcribe(&Audio::open(path).unwrap(), &options)
            .unwrap();
        let json = written(&transcript);
        assert_eq!(check(&schema, &schema, &json, ""), Ok(()), "{clip}");
        let serialised = serde_json::to_string(&transcript).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&serialised).unwrap(), json);
        if clip == "synth-en-05" {
            let segment = &json["segments"][0];
            for key in [
                "words",
                "language",
                "loop_cut",
                "token_probabilities",
                "alternatives",
            ] {
                assert_eq!(segment.get(key).is_some(), word_timestamps, "{key}");
            }
            assert_eq!(json["n_best"].is_array(), word_timestamps);
        }
    }
}

#[test]
fn the_schema_rejects_other_json() {
    let schema = schema();
    let word = json!({"word": " a", "start": 0.0, "end": 1.0, "probability": 0.5});
    let segment = json!({
        "id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": " a", "tokens": [1], "temperature": 0.0,
        "avg_logprob": -0.5, "compression_ratio": 1.0, "no_speech_prob": 0.1, "words": [word]
    });
    let good = json!({"text": "", "segments": [segment], "language": "en", "truncated": true});
    assert_eq!(check(&schema, &schema, &good, ""), Ok(()));
    for (pointer, wrong, reason) in [
        ("/text", json!(1), "/text: 1 is no \"string\""),
        (
            "/segments/0/id",
            json!(0.5),
            "/segments/0/id: 0.5 is no \"integer\"",
        ),
        (
            "/segments/0/start",
            json!(-1.0),
            "/segments/0/start: -1.0 is beyond the minimum 0",
        ),
        (
            "/segments/0/words/0/probability",
            json!(1.5),
            "/segments/0/words/0/probability: 1.5 is beyond the maximum 1",
        ),
        (
            "/segments/0/words/0",
            json!({}),
            "/segments/0/words/0: word is missing",
        ),
        (
            "/segments/0",
            json!({"mood": 1}),
            "/segments/0: mood is not described",
        ),
    ] {
        let mut bad = good.clone();
        let place = bad.pointer_mut(pointer).unwrap();
        match (place.as_object_mut(), wrong) {
            (Some(object), Value::Object(more)) if !more.is_empty() => object.extend(more),
            (_, wrong) => *place = wrong,
        }
        assert_eq!(check(&schema, &schema, &bad, ""), Err(reason.to_owned()));
    }
}
