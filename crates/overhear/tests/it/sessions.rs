//! Several transcriptions with one model, which do not share state.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use crate::common::{fixtures, nano};
use overhear::decode::{DecodingRules, Suppress};
use overhear::tokenizer::TokenId;
use overhear::{Audio, Error, Event, Model, ModelOptions, TranscribeOptions, Transcript};

/// A clip of 5 s, one of more than 30 s, and another short one.
const CLIPS: [&str; 3] = ["synth-en-05.flac", "long-90s.flac", "synth-es-00.flac"];

fn model() -> Model {
    Model::open(nano(), &ModelOptions::default()).unwrap()
}

fn clip(name: &str) -> Audio {
    Audio::open(fixtures().join("audio").join(name)).unwrap()
}

fn greedy() -> TranscribeOptions {
    TranscribeOptions {
        temperatures: vec![0.0],
        ..TranscribeOptions::default()
    }
}

fn transcribe_with_a_fresh_model(name: &str) -> Transcript {
    model().transcribe(&clip(name), &greedy()).unwrap()
}

#[test]
fn short_long_short_gives_the_same_as_each_alone() {
    let model = model();
    for name in [CLIPS[0], CLIPS[1], CLIPS[0], CLIPS[2]] {
        let found = model.transcribe(&clip(name), &greedy()).unwrap();
        assert_eq!(found, transcribe_with_a_fresh_model(name), "{name}");
    }
}

#[test]
fn interleaved_transcriptions_do_not_see_each_other() {
    let model = model();
    let found: Vec<Transcript> = std::thread::scope(|scope| {
        let spawn = |name| {
            let model = &model;
            scope.spawn(move || model.transcribe(&clip(name), &greedy()).unwrap())
        };
        let threads = CLIPS.map(spawn);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (found, name) in found.iter().zip(CLIPS) {
        assert_eq!(*found, transcribe_with_a_fresh_model(name), "{name}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let of_threads = |threads| {
        let model = Model::open(
            nano(),
            &ModelOptions {
                threads: NonZeroUsize::new(threads),
                ..ModelOptions::default()
            },
        )
        .unwrap();
        model.transcribe(&clip(CLIPS[1]), &greedy()).unwrap()
    };
    let one = of_threads(1);
    assert_eq!(of_threads(2), one);
    assert_eq!(of_threads(5), one);
}

#[test]
fn same_seed_same_text_and_another_seed_another() {
    let sampled = |seed| {
        let options = TranscribeOptions {
            temperatures: vec![1.0],
            best_of: Some(3),
            rules: DecodingRules {
                seed,
                ..DecodingRules::default()
            },
            ..TranscribeOptions::default()
        };
        model().transcribe(&clip("jfk.flac"), &options).unwrap()
    };
    assert_eq!(sampled(1), sampled(1));
    assert_ne!(sampled(1).text, sampled(2).text);
}

#[test]
fn canceling_at_any_event_ends_the_work() {
    let model = model();
    let n_events = {
        let mut n = 0;
        let count = |_: Event<'_>| {
            n += 1;
            ControlFlow::Continue(())
        };
        model
            .transcribe_with(&clip(CLIPS[0]), &greedy(), count)
            .unwrap();
        n
    };
    for last in [1, 2, 3, 10, n_events] {
        let mut n = 0;
        let cancel = |_: Event<'_>| {
            n += 1;
            if n == last {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let result = model.transcribe_with(&clip(CLIPS[0]), &greedy(), cancel);
        assert!(matches!(result, Err(Error::Canceled)), "{result:?}");
        assert_eq!(n, last);
    }
}

#[test]
fn events_report_the_transcript_in_order() {
    let mut segments = Vec::new();
    let mut progress = vec![0.0];
    let mut duration = None;
    let on_event = |event: Event<'_>| {
        match event {
            Event::Duration { duration_s } => duration = Some(duration_s),
            Event::Segment(segment) => segments.push(segment.clone()),
            Event::Progress { position_s } => progress.push(position_s),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let transcript = model()
        .transcribe_with(&clip(CLIPS[1]), &greedy(), on_event)
        .unwrap();
    assert_eq!(segments, transcript.segments);
    assert_eq!(duration, Some(transcript.duration_s));
    assert!(progress.is_sorted(), "{progress:?}");
    assert!(
        (progress.last().unwrap() - transcript.duration_s).abs() < 0.01,
        "{progress:?}"
    );
}

#[test]
fn audio_of_no_length_has_no_text() {
    for n_samples in [0, 1, 159] {
        let audio = Audio::from_samples(vec![0.1; n_samples], 16_000).unwrap();
        let transcript = model()
            .transcribe(&audio, &TranscribeOptions::default())
            .unwrap();
        assert!(
            transcript.segments.is_empty() && transcript.text.is_empty(),
            "{n_samples} samples"
        );
    }
}

#[test]
fn lengths_around_frames_and_windows_transcribe() {
    let model = model();
    for n_samples in [160, 400, 479_999, 480_000, 480_001] {
        let samples: Vec<f32> = (0..n_samples)
            .map(|i| (i as f32 * 0.1).sin() * 0.1)
            .collect();
        let audio = Audio::from_samples(samples, 16_000).unwrap();
        let first = model.transcribe(&audio, &greedy()).unwrap();
        assert_eq!(
            model.transcribe(&audio, &greedy()).unwrap(),
            first,
            "{n_samples} samples"
        );
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let refused = |options: TranscribeOptions| match model().transcribe(&clip(CLIPS[0]), &options) {
        Err(Error::Option { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let default = TranscribeOptions::default;
    assert_eq!(
        refused(TranscribeOptions {
            temperatures: vec![],
            ..default()
        }),
        "temperatures"
    );
    assert_eq!(
        refused(TranscribeOptions {
            temperatures: vec![f32::NAN],
            ..default()
        }),
        "temperatures"
    );
    assert_eq!(
        refused(TranscribeOptions {
            clip_timestamps: vec![-1.0],
            ..default()
        }),
        "clip_timestamps"
    );
    assert_eq!(
        refused(TranscribeOptions {
            rules: DecodingRules {
                suppress_tokens: Suppress::Tokens(vec![51865]),
                ..DecodingRules::default()
            },
            ..default()
        }),
        "suppress_tokens"
    );
    assert_eq!(
        refused(TranscribeOptions {
            rules: DecodingRules {
                suppress_tokens: Suppress::NonSpeechAnd(vec![TokenId::MAX]),
                ..DecodingRules::default()
            },
            ..default()
        }),
        "suppress_tokens"
    );
    assert_eq!(
        refused(TranscribeOptions {
            language: "yue".parse().ok(),
            ..default()
        }),
        "language"
    );
    let prefix = Some("word ".repeat(500));
    assert_eq!(
        refused(TranscribeOptions {
            prefix,
            ..default()
        }),
        "prefix"
    );
}

#[test]
fn clips_beyond_the_end_are_clamped() {
    let options = TranscribeOptions {
        clip_timestamps: vec![0.0, 1e6, 50.0, 100.0],
        ..greedy()
    };
    let transcript = model().transcribe(&clip(CLIPS[0]), &options).unwrap();
    assert_eq!(
        transcript.text,
        transcribe_with_a_fresh_model(CLIPS[0]).text
    );
}
