//! Transcription of the speech of a file alone (`vad`).

#![allow(clippy::unwrap_used)]

use crate::common;
use std::ops::ControlFlow;

use overhear::eval::normalize::EnglishTextNormalizer;
use overhear::eval::score::{Errors, align};
use overhear::transcribe::WordOptions;
use overhear::vad::{Vad, VadOptions};
use overhear::{
    Audio, Engine, Error, Event, Language, Model, ModelOptions, Segment, TranscribeOptions,
    Transcript,
};
use serde_json::Value;

fn clip(name: &str) -> Audio {
    Audio::open(common::fixtures().join("audio").join(name)).unwrap()
}

/// Options with the VAD's defaults.
fn filtered() -> TranscribeOptions {
    TranscribeOptions {
        language: Some(Language::ENGLISH),
        vad: Some(VadOptions::default()),
        ..TranscribeOptions::default()
    }
}

/// Transcribes in `n_seats` seats. Checks that the events tell the transcript, and that times are in order and inside of
/// regions of speech.
fn transcribe(
    model: &Model,
    n_seats: usize,
    audio: &Audio,
    options: &TranscribeOptions,
) -> Transcript {
    let engine = Engine::new(model, n_seats, options.n_rows()).unwrap();
    let (mut segments, mut positions) = (Vec::<Segment>::new(), Vec::new());
    let mut duration_s = None;
    let on_event = |event: Event<'_>| {
        match event {
            Event::Segment(segment) => segments.push(segment.clone()),
            Event::Progress { position_s } => positions.push(position_s),
            Event::Duration { duration_s: s } => duration_s = Some(s),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let transcript = engine.transcribe_with(audio, options, on_event).unwrap();
    assert_eq!(segments, transcript.segments);
    assert_eq!(duration_s, Some(transcript.duration_s));
    assert!(positions.is_sorted(), "{positions:?}");
    let found = Vad::new(None).unwrap().probabilities(audio).unwrap();
    assert_eq!(transcript.duration_s, found.duration_s());
    let regions = found.regions(options.vad.as_ref().unwrap()).unwrap();
    let is_inside = |time_s: f64| {
        let mut regions = regions.iter();
        regions.any(|region| region.start_s() <= time_s && time_s <= region.end_s())
    };
    for segment in &transcript.segments {
        let words = segment.words.iter().flatten();
        let times = words.flat_map(|word| [word.start, word.end]);
        let times: Vec<f64> = times.chain([segment.start, segment.end]).collect();
        assert!(times.iter().all(|&s| is_inside(s)), "{times:?}");
        assert!(segment.start <= segment.end);
    }
    transcript
}

/// Joins clips with `gap_s` seconds of noise, as loud as `level`, before, between and after them. Returns the places of the
/// clips in seconds, too.
fn joined(names: &[&str], gap_s: usize, level: f32) -> (Audio, Vec<(f64, f64)>) {
    let mut state = 1_u32;
    let mut gap = || -> Vec<f32> {
        let sample = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 8_388_608.0 - 1.0) * level
        };
        (0..gap_s * 16_000).map(sample).collect()
    };
    let (mut samples, mut places) = (gap(), Vec::new());
    for name in names {
        let start_s = samples.len() as f64 / 16_000.0;
        samples.extend(clip(name).samples().unwrap());
        places.push((start_s, samples.len() as f64 / 16_000.0));
        samples.extend(gap());
    }
    (Audio::from_samples(samples, 16_000).unwrap(), places)
}

/// Words of a text as the reference's normaliser leaves them.
fn words(text: &str) -> Vec<String> {
    let normalized = EnglishTextNormalizer::new().normalize(text);
    normalized.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn no_word_of_two_voices_with_silence_or_noise_around_them_is_lost() {
    let model = Model::open(common::tiny_en(), &ModelOptions::default()).unwrap();
    let names = ["jfk.flac", "real-librispeech-0.flac"];
    let alone = names.map(|name| {
        let options = TranscribeOptions {
            vad: None,
            ..filtered()
        };
        words(&model.transcribe(&clip(name), &options).unwrap().text)
    });
    for level in [0.0, 0.003] {
        let (audio, places) = joined(&names, 10, level);
        for batched in [false, true] {
            let options = TranscribeOptions {
                words: Some(WordOptions::default()),
                batched,
                ..filtered()
            };
            let transcript = transcribe(&model, 2, &audio, &options);
            let errors = Errors::of(&align(&alone.concat(), &words(&transcript.text)));
            // One word may be another one: windows have moved.
            assert!(
                errors.deletions == 0 && errors.total() <= 1,
                "{level} {batched}: {errors:?} {}",
                transcript.text
            );
            // Each word is where its clip is: to the pad of 0.4 s.
            let all = transcript
                .segments
                .iter()
                .flat_map(|s| s.words.iter().flatten());
            for word in all {
                let is_at_home = |&(start_s, end_s): &(f64, f64)| {
                    start_s - 0.45 <= word.start && word.end <= end_s + 0.45
                };
                assert!(places.iter().any(is_at_home), "{word:?} {places:?}");
            }
        }
    }
}

#[test]
fn silence_and_audio_without_samples_have_empty_transcripts() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let empty = Audio::from_samples(Vec::new(), 16_000).unwrap();
    for audio in [clip("silence-10s.flac"), clip("noise-35s.flac"), empty] {
        for batched in [false, true] {
            let options = TranscribeOptions {
                batched,
                language: None,
                ..filtered()
            };
            let transcript = transcribe(&model, 2, &audio, &options);
            assert_eq!(
                (transcript.text.as_str(), &transcript.segments[..]),
                ("", &[][..])
            );
            let asked = TranscribeOptions {
                language: Some("de".parse().unwrap()),
                ..options
            };
            let transcript = transcribe(&model, 2, &audio, &asked);
            assert_eq!(transcript.language.code(), "de");
        }
    }
}

#[test]
fn a_region_of_the_whole_file_gives_the_transcript_without_vad() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let mut whole = VadOptions::default();
    (whole.threshold, whole.min_silence_duration_ms) = (0.0, u32::MAX);
    for (name, batched) in [
        ("long-90s.flac", false),
        ("long-90s.flac", true),
        ("jfk.flac", false),
    ] {
        let without = TranscribeOptions {
            vad: None,
            words: Some(WordOptions::default()),
            batched,
            n_best: 1,
            ..filtered()
        };
        let with = TranscribeOptions {
            vad: Some(whole.clone()),
            ..without.clone()
        };
        let audio = clip(name);
        let expected = model.transcribe(&audio, &without).unwrap();
        let found = transcribe(&model, 1, &audio, &with);
        assert_eq!(found.text, expected.text);
        assert_eq!(found.n_best, expected.n_best);
        for (found, expected) in found.segments.iter().zip(&expected.segments) {
            assert_eq!(
                (found.seek, &found.tokens),
                (expected.seek, &expected.tokens)
            );
        }
    }
}

#[test]
fn regions_longer_than_a_window_and_many_regions_are_no_special_cases() {
    let model = Model::open(common::tiny_en(), &ModelOptions::default()).unwrap();
    let audio = clip("real-pauses-172s.flac");
    let manifest = common::fixtures().join("audio/manifest.jsonl");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let lines = manifest
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let spoken = lines
        .filter(|line: &Value| line["file"] == "real-pauses-172s.flac")
        .map(|line| words(line["text"].as_str().unwrap()));
    let spoken: Vec<String> = spoken.flatten().collect();
    let errors = |transcript: &Transcript| Errors::of(&align(&spoken, &words(&transcript.text)));
    let whole = TranscribeOptions {
        vad: None,
        ..filtered()
    };
    let whole = errors(&model.transcribe(&audio, &whole).unwrap());
    for (min_silence_ms, max_speech_s) in [(2000, f64::INFINITY), (160, 30.0), (100, 3.0)] {
        let mut vad = VadOptions::default();
        vad.min_silence_duration_ms = min_silence_ms;
        vad.max_speech_duration_s = max_speech_s;
        let options = TranscribeOptions {
            vad: Some(vad),
            words: Some(WordOptions::default()),
            ..filtered()
        };
        let transcript = transcribe(&model, 1, &audio, &options);
        let starts = transcript.segments.iter().map(|segment| segment.start);
        assert!(starts.is_sorted(), "{min_silence_ms}");
        let found = errors(&transcript);
        assert!(
            found.total() <= whole.total() + spoken.len().div_ceil(50),
            "{min_silence_ms}: {found:?} instead of {whole:?}: {}",
            transcript.text
        );
    }
}

#[test]
fn vad_with_clips_is_refused() {
    let model = Model::open(common::nano(), &ModelOptions::default()).unwrap();
    let options = TranscribeOptions {
        clip_timestamps: vec![1.0, 2.0],
        ..filtered()
    };
    let refused = model.transcribe(&clip("jfk.flac"), &options);
    assert!(matches!(refused, Err(Error::Option { name: "vad", .. })));
    let mut vad = VadOptions::default();
    vad.threshold = 2.0;
    let options = TranscribeOptions {
        vad: Some(vad),
        ..filtered()
    };
    let refused = model.transcribe(&clip("jfk.flac"), &options);
    assert!(matches!(
        refused,
        Err(Error::Option {
            name: "threshold",
            ..
        })
    ));
}
