//! Options from configuration: the feature `serde`.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;

use overhear::audio::{AudioOptions, Ffmpeg};
use overhear::decode::{BoostPhrase, DecodingOptions, Suppress};
use overhear::output::CaptionOptions;
use overhear::{ComputeType, Language, ModelOptions, Task, TranscribeOptions};
use serde_json::{from_str, from_value, json};

#[test]
fn options_that_are_left_out_have_their_defaults() {
    let defaults = format!("{:?}", TranscribeOptions::default());
    assert_eq!(
        format!("{:?}", from_str::<TranscribeOptions>("{}").unwrap()),
        defaults
    );
    let nested = json!({"rules": {}, "languages": {}, "thresholds": {}});
    let nested: TranscribeOptions = from_value(nested).unwrap();
    assert_eq!(format!("{nested:?}"), defaults);
    let decoding: DecodingOptions = from_str("{}").unwrap();
    let defaults = DecodingOptions::default();
    assert_eq!(format!("{decoding:?}"), format!("{defaults:?}"));
    let captions: CaptionOptions = from_str("{}").unwrap();
    assert_eq!(captions, CaptionOptions::default());
}

#[test]
fn values_are_read_by_name() {
    let options: TranscribeOptions = from_value(json!({
        "task": "translate",
        "language": "german",
        "languages": {"allowed": ["de", "en"]},
        "temperatures": [0.0],
        "rules": {
            "beam_size": 5,
            "suppress_tokens": {"non_speech_and": [7]},
            "boost": [{"text": "Ann"}, {"text": "Bo", "weight": 3.0}],
        },
        "thresholds": {"no_speech": null},
        "words": {"append_punctuations": "."},
        "vad": {"threshold": 0.25, "speech_pad_ms": 100},
    }))
    .unwrap();
    assert_eq!(options.task, Task::Translate);
    assert_eq!(options.language.unwrap().code(), "de");
    assert_eq!(options.languages.allowed[1], Language::ENGLISH);
    assert_eq!(options.rules.beam_size, Some(5));
    let suppressed = Suppress::NonSpeechAnd(vec![7]);
    assert_eq!(options.rules.suppress_tokens, suppressed);
    assert_eq!(options.rules.boost[0], BoostPhrase::new("Ann"));
    assert_eq!(options.rules.boost[1].weight, 3.0);
    assert_eq!(options.thresholds.no_speech, None);
    assert_eq!(options.thresholds.logprob, Some(-1.0));
    assert_eq!(options.words.unwrap().append_punctuations, ".");
    let vad = options.vad.unwrap();
    assert_eq!((vad.threshold, vad.speech_pad_ms), (0.25, 100));
    assert_eq!(vad.min_silence_duration_ms, 2000);

    let model = json!({"device": "cpu", "compute_type": "int8", "threads": 4});
    let model: ModelOptions = from_value(model).unwrap();
    assert_eq!(model.compute_type, ComputeType::Int8);
    assert_eq!(model.threads, NonZeroUsize::new(4));
    let audio: AudioOptions = from_value(json!({"track": 2, "ffmpeg": "auto"})).unwrap();
    assert_eq!((audio.track, audio.ffmpeg), (Some(2), Ffmpeg::Auto));
}

#[test]
fn unknown_options_and_values_are_errors() {
    for (json, expected) in [
        (json!({"beam_size": 5}), "unknown field `beam_size`"),
        (json!({"task": "sing"}), "task: unknown task `sing`"),
        (json!({"language": "xx"}), "language: unknown language `xx`"),
        (json!({"rules": {"sample_len": 0}}), "nonzero"),
    ] {
        let error = from_value::<TranscribeOptions>(json).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
