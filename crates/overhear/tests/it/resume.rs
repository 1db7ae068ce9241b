//! Transcriptions that go on from the progress of an earlier one.

#![allow(clippy::unwrap_used)]

use crate::common;
use std::ops::ControlFlow;

use overhear::decode::DecodingRules;
use overhear::transcribe::{LanguageOptions, Progress, WordOptions};
use overhear::vad::VadOptions;
use overhear::{
    Audio, Engine, Error, Event, Language, Model, ModelOptions, Segment, TranscribeOptions,
    Transcript,
};

fn clip(name: &str) -> Audio {
    Audio::open(common::fixtures().join("audio").join(name)).unwrap()
}

/// What a transcription gave and reported.
struct Run {
    transcript: Transcript,
    segments: Vec<Segment>,
    detected: Vec<(Language, f32)>,
    positions: Vec<f64>,
    /// After each event: progress, and number of layers of the encoder until then.
    resumable: Vec<(Progress, usize)>,
    n_layers: usize,
}

fn run(engine: &Engine, audio: &Audio, options: &TranscribeOptions, from: Progress) -> Run {
    let mut run = Run {
        transcript: Transcript::default(),
        segments: Vec::new(),
        detected: Vec::new(),
        positions: Vec::new(),
        resumable: Vec::new(),
        n_layers: 0,
    };
    let mut progress = from.clone();
    let transcript = engine.resume(audio, options, from, |event| {
        match event {
            Event::Segment(segment) => run.segments.push(segment.clone()),
            Event::LanguageDetected {
                language,
                probability,
            } => run.detected.push((language, probability)),
            Event::Layer => run.n_layers += 1,
            Event::Progress { position_s } => run.positions.push(position_s),
            Event::Resumable(done) => {
                progress.add(done.clone());
                run.resumable.push((progress.clone(), run.n_layers));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    run.transcript = transcript.unwrap();
    run
}

#[test]
fn a_transcription_that_goes_on_ends_as_one_without_a_break() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let everything = TranscribeOptions {
        words: Some(WordOptions::default()),
        hallucination_guard: true,
        n_best: 2,
        initial_prompt: Some("Numbers.".to_owned()),
        rules: DecodingRules {
            beam_size: Some(2),
            alternatives: 2,
            loop_guard: true,
            ..DecodingRules::default()
        },
        ..TranscribeOptions::default()
    };
    // Times that overlap, and that go back.
    let clips = TranscribeOptions {
        clip_timestamps: vec![50.0, 85.0, 1.0, 4.0, 2.0, 40.0],
        carry_initial_prompt: true,
        temperatures: vec![0.8],
        ..everything.clone()
    };
    let multilingual = TranscribeOptions {
        languages: LanguageOptions {
            multilingual: true,
            ..LanguageOptions::default()
        },
        ..TranscribeOptions::default()
    };
    let with_vad = TranscribeOptions {
        vad: Some(VadOptions::default()),
        ..everything.clone()
    };
    let batched = TranscribeOptions {
        batched: true,
        ..everything.clone()
    };
    for (name, clip, options) in [
        ("sequential", "long-90s.flac", &everything),
        ("clips", "long-90s.flac", &clips),
        ("multilingual", "long-90s.flac", &multilingual),
        ("vad", "real-pauses-172s.flac", &with_vad),
        ("batched", "real-pauses-172s.flac", &batched),
    ] {
        let engine = Engine::new(&model, 1, options.n_rows()).unwrap();
        let audio = self::clip(clip);
        let whole = run(&engine, &audio, options, Progress::default());
        assert!(whole.resumable.len() >= 3, "{name}");
        for (done, (progress, n_layers)) in whole.resumable.iter().enumerate() {
            assert_eq!(progress.n_windows(), done, "{name}");
            let kept = serde_json::to_string(progress).unwrap();
            let progress = serde_json::from_str(&kept).unwrap();
            let rest = run(&engine, &audio, options, progress);
            assert_eq!(rest.transcript, whole.transcript, "{name} after {done}");
            assert_eq!(rest.segments, whole.segments, "{name} after {done}");
            assert_eq!(rest.detected, whole.detected, "{name} after {done}");
            assert_eq!(rest.positions.last(), whole.positions.last(), "{name}");
            assert_eq!(
                rest.resumable.len() + done + 1,
                whole.resumable.len(),
                "{name}"
            );
            if done > 0 && !options.batched {
                assert_eq!(
                    rest.n_layers + n_layers,
                    whole.n_layers,
                    "{name} after {done}"
                );
            }
        }
    }
}

#[test]
fn progress_of_other_audio_or_of_another_model_is_refused() {
    let options = TranscribeOptions::default();
    let nano = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let engine = Engine::new(&nano, 1, options.n_rows()).unwrap();
    let whole = run(&engine, &clip("jfk.flac"), &options, Progress::default());
    let (progress, _) = whole.resumable.last().unwrap();
    let refused = |engine: &Engine, name: &str, progress: Progress, part: &str| {
        let result = engine.resume(&clip(name), &options, progress, |_| {
            ControlFlow::Continue(())
        });
        assert!(
            matches!(&result, Err(Error::Option { name: "progress", reason }) if reason.contains(part)),
            "{result:?}"
        );
    };
    refused(&engine, "synth-es-00.flac", progress.clone(), "length");
    let json = serde_json::to_value(progress).unwrap();
    let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        edit(&mut json);
        serde_json::from_value::<Progress>(json).unwrap()
    };
    let unknown_token = edited(&|json| json["segments"][0]["tokens"][0] = 9_999_999.into());
    refused(&engine, "jfk.flac", unknown_token, "another model");
    let headless = edited(&|json| drop(json.as_object_mut().unwrap().remove("plan")));
    refused(&engine, "jfk.flac", headless, "beginning");
    // Positions that no transcription has give some transcript, and no panic.
    for (field, value) in [
        ("stretch", 7),
        ("seek", 7_000_000),
        ("prompt_reset_since", 7_000),
    ] {
        let progress = edited(&|json| json["position"][field] = value.into());
        let result = engine.resume(&clip("jfk.flac"), &options, progress, |_| {
            ControlFlow::Continue(())
        });
        assert!(result.is_ok(), "{field}: {result:?}");
    }
}
