//! The loop guard, on clips for which the bundled model loops: people's speech, which nano does not understand, and
//! silence with the end-of-text token forbidden.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use crate::common::{exact, fixtures, nano};
use overhear::decode::{DecodingRules, Suppress};
use overhear::transcribe::Thresholds;
use overhear::{Audio, Event, Language, Model, Segment, TranscribeOptions, Transcript};

/// Number of equal rounds in a row that a reader calls a loop.
const N_ROUNDS: usize = 4;
/// Minimum number of tokens of all rounds, more than people repeat.
const N_TOKENS: usize = 16;

fn model() -> Model {
    Model::open(nano(), &exact()).unwrap()
}

fn samples(clip: &str) -> Vec<f32> {
    let path = fixtures().join(format!("audio/{clip}.flac"));
    Audio::open(path).unwrap().samples().unwrap()
}

fn audio(clips: &[&str]) -> Audio {
    let samples: Vec<f32> = clips.iter().flat_map(|clip| samples(clip)).collect();
    Audio::from_samples(samples, 16_000).unwrap()
}

/// Returns 90 seconds of speech by people and by synthetic voices.
fn long() -> Audio {
    let looping = ["jfk", "synth-en-05", "jfk", "real-cv-ru", "synth-en-06"];
    let more = ["jfk", "synth-en-07", "jfk", "synth-en-00"];
    audio(&[&looping[..], &more].concat())
}

/// Greedy search at temperature 0 only.
fn plain() -> TranscribeOptions {
    TranscribeOptions {
        language: Some(Language::ENGLISH),
        temperatures: vec![0.0],
        ..TranscribeOptions::default()
    }
}

/// Options that forbid the end-of-text token: windows are filled, most of them with loops.
fn endless(loop_guard: bool) -> TranscribeOptions {
    TranscribeOptions {
        rules: DecodingRules {
            suppress_tokens: Suppress::NonSpeechAnd(vec![50_257]),
            loop_guard,
            ..plain().rules
        },
        thresholds: Thresholds {
            no_speech: None,
            ..plain().thresholds
        },
        ..plain()
    }
}

/// Returns the transcript, and the number of decoder steps.
fn transcribe(model: &Model, audio: &Audio, options: &TranscribeOptions) -> (Transcript, usize) {
    let mut n_steps = 0;
    let on_event = |event: Event<'_>| {
        n_steps += usize::from(matches!(event, Event::Token));
        ControlFlow::Continue(())
    };
    let transcript = model.transcribe_with(audio, options, on_event);
    (transcript.unwrap(), n_steps)
}

/// Returns whether text tokens anywhere in a window repeat as in a loop.
fn loops(model: &Model, segments: &[&Segment]) -> bool {
    let tokens = segments.iter().flat_map(|segment| &segment.tokens);
    let eot = model.tokenizer().eot();
    let text: Vec<u32> = tokens.copied().filter(|&token| token < eot).collect();
    (1..text.len()).any(|period| {
        let n_tokens = N_TOKENS.max(N_ROUNDS * period).next_multiple_of(period);
        let is_loop = |text: &[u32]| text[period..] == text[..n_tokens - period];
        text.windows(n_tokens).any(is_loop)
    })
}

/// Returns the number of windows with a loop.
fn n_looping(model: &Model, transcript: &Transcript) -> usize {
    let segments: Vec<&Segment> = transcript.segments.iter().collect();
    let windows = segments.chunk_by(|a, b| a.seek == b.seek);
    windows.filter(|window| loops(model, window)).count()
}

#[test]
fn every_loop_is_cut_as_it_forms() {
    let model = model();
    let (mut n_before, mut n_cut) = (0, 0);
    for clip in ["jfk", "real-cv-ru", "silence-10s"] {
        let audio = &audio(&[clip]);
        for (beam_size, without_timestamps) in [
            (None, true),
            (None, false),
            (Some(5), true),
            (Some(5), false),
        ] {
            let options = |loop_guard| TranscribeOptions {
                rules: DecodingRules {
                    beam_size,
                    without_timestamps,
                    ..endless(loop_guard).rules
                },
                ..endless(loop_guard)
            };
            let (loose, n_steps) = transcribe(&model, audio, &options(false));
            let (guarded, n_guarded) = transcribe(&model, audio, &options(true));
            n_before += n_looping(&model, &loose);
            assert_eq!(n_looping(&model, &guarded), 0, "{}", guarded.text);
            let is_cut = guarded.segments.iter().any(|s| s.loop_cut == Some(true));
            n_cut += usize::from(is_cut);
            assert!(n_guarded <= n_steps, "stopping early saves steps");
            assert!(loose.segments.iter().all(|s| s.loop_cut.is_none()));
        }
    }
    // All twelve transcripts loop, most of them only after the last timestamp, in text that the next window repeats.
    assert!(n_before > 0 && n_cut >= 10, "{n_before}, {n_cut}");
}

#[test]
fn the_text_up_to_a_loop_is_that_without_the_guard_and_its_first_round_stays() {
    let model = model();
    let options = |loop_guard| TranscribeOptions {
        rules: DecodingRules {
            without_timestamps: true,
            ..endless(loop_guard).rules
        },
        ..endless(loop_guard)
    };
    let audio = audio(&["jfk"]);
    let (loose, _) = transcribe(&model, &audio, &options(false));
    let (guarded, n_steps) = transcribe(&model, &audio, &options(true));
    let rest = loose.text.strip_prefix(&guarded.text).unwrap();
    assert!(guarded.text.ends_with(" Six. Snowboy."), "{}", guarded.text);
    assert!(rest.starts_with(&" Six. Snowboy.".repeat(3)), "{rest}");
    assert!(n_steps < 60, "{n_steps} of 224");
}

#[test]
fn a_short_loop_too_fast_to_be_spoken_is_cut() {
    let model = model();
    let audio = audio(&["real-cv-ru"]);
    let (loose, _) = transcribe(&model, &audio, &endless(false));
    let (guarded, _) = transcribe(&model, &audio, &endless(true));
    // 26 words in 0.08 s at the end of the window.
    let round = " early.";
    assert!(loose.text.contains(&round.repeat(5)), "{}", loose.text);
    assert!(!guarded.text.contains(&round.repeat(2)), "{}", guarded.text);
    assert!(loose.text.starts_with(&guarded.text), "{}", guarded.text);
    assert!(
        guarded.text.contains(" in front of the museum"),
        "{}",
        guarded.text
    );
    assert!(guarded.segments.iter().all(|s| s.loop_cut == Some(true)));
}

#[test]
fn the_next_temperature_continues_where_the_loop_was_cut() {
    let model = model();
    let options = |temperature: &[f32]| TranscribeOptions {
        temperatures: temperature.to_vec(),
        rules: DecodingRules {
            without_timestamps: true,
            ..endless(true).rules
        },
        thresholds: Thresholds {
            // A window fails because of the loop only.
            logprob: None,
            compression_ratio: None,
            ..endless(true).thresholds
        },
        ..endless(true)
    };
    let audio = audio(&["jfk"]);
    let (cut, _) = transcribe(&model, &audio, &options(&[0.0]));
    let (resumed, _) = transcribe(&model, &audio, &options(&[0.0, 0.4]));
    let (cut, resumed) = (&cut.segments[0], &resumed.segments[0]);
    assert_eq!((resumed.temperature, resumed.loop_cut), (0.4, Some(true)));
    let n_kept = cut.tokens.len();
    assert_eq!(resumed.tokens[..n_kept], cut.tokens);
    assert_eq!(
        resumed.token_probabilities[..n_kept],
        cut.token_probabilities
    );
    assert!(resumed.tokens.len() > n_kept, "{}", resumed.text);
    let round = &cut.text[cut.text.len() - " Six. Snowboy.".len()..];
    assert!(!resumed.text[cut.text.len()..].starts_with(round));
}

#[test]
fn a_window_after_a_loop_is_decoded_without_a_prompt() {
    let model = model();
    let audio = long();
    let (whole, _) = transcribe(&model, &audio, &endless(true));
    assert_eq!(n_looping(&model, &whole), 0);
    let windows: Vec<&[Segment]> = whole.segments.chunk_by(|a, b| a.seek == b.seek).collect();
    let mut n_tested = 0;
    for pair in windows.windows(2) {
        if pair[0][0].loop_cut != Some(true) {
            continue;
        }
        let from_there = TranscribeOptions {
            clip_timestamps: vec![pair[1][0].seek as f64 / 100.0],
            ..endless(true)
        };
        let (alone, _) = transcribe(&model, &audio, &from_there);
        let n = pair[1].len();
        let said = |segments: &[Segment]| -> Vec<(f64, Vec<u32>)> {
            let said = segments.iter().map(|s| (s.start, s.tokens.clone()));
            said.collect()
        };
        assert_eq!(said(&alone.segments[..n]), said(pair[1]));
        n_tested += 1;
    }
    assert!(n_tested > 0);
}

#[test]
fn text_that_does_not_loop_is_the_same_with_the_guard() {
    let model = model();
    for clip in ["synth-en-05", "synth-de-00", "real-digits-0", "long-90s"] {
        for beam_size in [None, Some(5)] {
            let options = |loop_guard| TranscribeOptions {
                rules: DecodingRules {
                    beam_size,
                    loop_guard,
                    ..plain().rules
                },
                ..plain()
            };
            let audio = audio(&[clip]);
            let (loose, _) = transcribe(&model, &audio, &options(false));
            let (mut guarded, _) = transcribe(&model, &audio, &options(true));
            for segment in &mut guarded.segments {
                assert_eq!(segment.loop_cut.take(), Some(false), "{clip}");
            }
            assert_eq!(guarded, loose, "{clip}");
        }
    }
}
