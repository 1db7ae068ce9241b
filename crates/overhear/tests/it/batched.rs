//! Batched long form: pieces of a file decoded at the same time.

#![allow(clippy::unwrap_used)]

use crate::common;
use std::ops::ControlFlow;

use overhear::decode::DecodingRules;
use overhear::eval::normalize::EnglishTextNormalizer;
use overhear::eval::score::{Errors, align};
use overhear::transcribe::WordOptions;
use overhear::{
    Audio, Engine, Error, Event, Language, Model, ModelOptions, Segment, TranscribeOptions,
    Transcript,
};
use serde_json::Value;

fn clip(name: &str) -> Audio {
    Audio::open(common::fixtures().join("audio").join(name)).unwrap()
}

fn batched() -> TranscribeOptions {
    TranscribeOptions {
        language: Some(Language::ENGLISH),
        batched: true,
        ..TranscribeOptions::default()
    }
}

/// Transcribes `clip` in `n_seats` seats. Checks that the events tell the transcript, in order.
fn transcribe(
    model: &Model,
    n_seats: usize,
    clip: &str,
    options: &TranscribeOptions,
) -> Transcript {
    let engine = Engine::new(model, n_seats, options.n_rows()).unwrap();
    let (mut segments, mut positions) = (Vec::<Segment>::new(), vec![0.0]);
    let on_event = |event: Event<'_>| {
        match event {
            Event::Segment(segment) => segments.push(segment.clone()),
            Event::Progress { position_s } => positions.push(position_s),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let audio = self::clip(clip);
    let transcript = engine.transcribe_with(&audio, options, on_event).unwrap();
    assert_eq!(segments, transcript.segments);
    assert!(positions.is_sorted(), "{positions:?}");
    let ids = transcript.segments.iter().map(|segment| segment.id);
    assert!(ids.eq(0..transcript.segments.len()));
    let starts = transcript.segments.iter().map(|segment| segment.seek);
    assert!(starts.is_sorted(), "segments in the order of the file");
    transcript
}

#[test]
fn a_transcript_does_not_depend_on_how_many_pieces_are_decoded_at_the_same_time() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let greedy = batched();
    let everything = TranscribeOptions {
        words: Some(WordOptions::default()),
        hallucination_guard: true,
        n_best: 2,
        initial_prompt: Some("Numbers.".to_owned()),
        rules: DecodingRules {
            loop_guard: true,
            ..DecodingRules::default()
        },
        ..batched()
    };
    for (name, options) in [
        ("long-90s.flac", &greedy),
        ("real-pauses-172s.flac", &everything),
    ] {
        let alone = transcribe(&model, 1, name, options);
        let seeks = alone.segments.iter().map(|segment| segment.seek);
        assert!(seeks.filter(|&seek| seek > 0).count() > 0, "several pieces");
        for n_seats in [2, 5] {
            assert_eq!(transcribe(&model, n_seats, name, options), alone, "{name}");
        }
    }
}

/// Words of a text as the reference's normaliser leaves them.
fn words(text: &str) -> Vec<String> {
    let normalized = EnglishTextNormalizer::new().normalize(text);
    normalized.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn batched_loses_no_words_of_the_sequential_transcription() {
    let model = Model::open(common::tiny_en(), &ModelOptions::default()).unwrap();
    let manifest = common::fixtures().join("audio/manifest.jsonl");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    for line in manifest.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = line["file"].as_str().unwrap();
        if !["real-long-80s.flac", "real-pauses-172s.flac"].contains(&name) {
            continue;
        }
        let spoken = words(line["text"].as_str().unwrap());
        let errors =
            |transcript: &Transcript| Errors::of(&align(&spoken, &words(&transcript.text))).total();
        let sequential = TranscribeOptions {
            batched: false,
            ..batched()
        };
        let sequential = transcribe(&model, 1, name, &sequential);
        let batched = transcribe(&model, 4, name, &batched());
        let (expected, found) = (errors(&sequential), errors(&batched));
        // Two words in a hundred: cuts move windows, and windows move words.
        assert!(
            found <= expected + spoken.len().div_ceil(50),
            "{name}: {found} instead of {expected} of {}: {}",
            spoken.len(),
            batched.text
        );
    }
}

#[test]
fn the_rest_of_a_piece_is_transcribed_in_the_window_of_the_piece() {
    let model = Model::open(common::tiny_en(), &ModelOptions::default()).unwrap();
    let transcript = transcribe(&model, 2, "real-long-80s.flac", &batched());
    let mut windows: Vec<usize> = transcript.segments.iter().map(|s| s.seek).collect();
    windows.dedup();
    assert_eq!(
        windows.len(),
        3,
        "pieces of 28.57, 26.53 and 25 s: {windows:?}"
    );
    // The text of the first window ends with the start of a segment at 24.76 s.
    let rest = transcript
        .segments
        .iter()
        .filter(|s| s.seek == 0 && s.start > 24.0);
    let rest: String = rest.map(|segment| segment.text.as_str()).collect();
    let text = "The greater part of these Italian printers";
    assert!(rest.contains(text), "{rest:?}");
}

#[test]
fn audio_without_speech_or_shorter_than_a_piece_is_no_special_case() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let engine = Engine::new(&model, 3, batched().n_rows()).unwrap();
    let empty = Audio::from_samples(Vec::new(), 16_000).unwrap();
    assert_eq!(engine.transcribe(&empty, &batched()).unwrap().segments, []);
    // One piece is the sequential transcription.
    let sequential = TranscribeOptions {
        batched: false,
        ..batched()
    };
    let jfk = clip("jfk.flac");
    assert_eq!(
        engine.transcribe(&jfk, &batched()).unwrap(),
        engine.transcribe(&jfk, &sequential).unwrap()
    );
    // Clips are transcribed, what is between them is not.
    let options = TranscribeOptions {
        clip_timestamps: vec![1.0, 4.0, 40.0],
        ..batched()
    };
    let transcript = engine.transcribe(&clip("long-90s.flac"), &options).unwrap();
    assert!(!transcript.segments.is_empty());
    for segment in &transcript.segments {
        let start = segment.seek;
        assert!((100..400).contains(&start) || start >= 4000, "{start}");
    }
    // Neither a clip after the end of the file nor one that ends where it begins has a piece.
    let options = TranscribeOptions {
        clip_timestamps: vec![3.0, 3.0, 100.0, 200.0],
        ..batched()
    };
    assert_eq!(engine.transcribe(&jfk, &options).unwrap().segments, []);
}

#[test]
fn a_batched_transcription_can_be_canceled_and_its_seats_are_free_again() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let engine = Engine::new(&model, 3, batched().n_rows()).unwrap();
    let audio = clip("long-90s.flac");
    let canceled = engine.transcribe_with(&audio, &batched(), |event| match event {
        Event::Segment(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(canceled, Err(Error::Canceled)), "{canceled:?}");
    assert!(engine.transcribe(&audio, &batched()).is_ok());
}
