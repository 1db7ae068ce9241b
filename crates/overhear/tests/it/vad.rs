//! Voice activity detection: the network beside onnxruntime, the rules beside faster-whisper.

#![allow(clippy::unwrap_used)]

use crate::common;
use overhear::vad::{FRAME_SAMPLES, Region, Vad, VadOptions, speech_regions};
use overhear::{Audio, Error};
use serde_json::Value;

/// Largest difference from onnxruntime's probabilities: its sums have another order, and the LSTM carries differences on.
const TOLERANCE: f32 = 1e-4;

fn clip(name: &str) -> Audio {
    Audio::open(common::fixtures().join("audio").join(name)).unwrap()
}

fn golden(name: &str) -> Value {
    let path = common::fixtures().join("vad").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn floats(json: &Value) -> Vec<f32> {
    let numbers = json.as_array().unwrap().iter();
    numbers.map(|p| p.as_f64().unwrap() as f32).collect()
}

fn vad() -> Vad {
    Vad::new(None).unwrap()
}

#[test]
fn probabilities_equal_those_of_onnxruntime() {
    let golden = golden("probabilities.json");
    for (name, expected) in golden.as_object().unwrap() {
        let found = vad().probabilities(&clip(name)).unwrap();
        assert_eq!(
            found.probabilities.len(),
            found.n_samples / FRAME_SAMPLES + 1
        );
        common::assert_close(&found.probabilities, &floats(expected), TOLERANCE, name);
    }
}

#[test]
fn a_stream_in_pieces_of_any_length_has_the_bits_of_the_whole() {
    let audio = clip("jfk.flac");
    let samples = audio.samples().unwrap();
    let whole = vad().probabilities(&audio).unwrap().probabilities;
    for lengths in [&[1, 511, 3, 512, 513][..], &[64], &[7_777], &[200_000]] {
        let (mut stream, mut found) = (vad().stream(), Vec::new());
        let (mut rest, mut lengths) = (&samples[..], lengths.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
            stream.push(piece, &mut found);
            rest = later;
        }
        stream.finish(&mut found);
        assert_eq!(found, whole);
    }
    for n_threads in [1, 2] {
        let vad = Vad::new(std::num::NonZeroUsize::new(n_threads)).unwrap();
        let found = vad.probabilities(&audio).unwrap().probabilities;
        assert_eq!(found, whole, "{n_threads} threads");
    }
}

#[test]
fn the_last_frame_is_completed_with_zeros_or_consists_of_them() {
    for (n_samples, n_frames) in [(0, 1), (1, 1), (511, 1), (512, 2), (513, 2), (1024, 3)] {
        let audio = Audio::from_samples(vec![0.1; n_samples], 16_000).unwrap();
        let found = vad().probabilities(&audio).unwrap();
        assert_eq!(found.probabilities.len(), n_frames, "{n_samples}");
        assert_eq!(found.n_samples, n_samples);
        let is_probability = |p: &f32| (0.0..=1.0).contains(p);
        assert!(found.probabilities.iter().all(is_probability));
    }
}

/// Returns the options that a golden describes.
fn options(json: &Value) -> VadOptions {
    let mut options = VadOptions::default();
    for (name, value) in json.as_object().unwrap() {
        let number = value.as_f64().unwrap();
        match name.as_str() {
            "threshold" => options.threshold = number,
            "neg_threshold" => options.neg_threshold = Some(number),
            "min_speech_duration_ms" => options.min_speech_duration_ms = number as u32,
            "max_speech_duration_s" => options.max_speech_duration_s = number,
            "min_silence_duration_ms" => options.min_silence_duration_ms = number as u32,
            "speech_pad_ms" => options.speech_pad_ms = number as u32,
            name => panic!("{name}"),
        }
    }
    options
}

#[test]
fn regions_equal_those_of_faster_whisper() {
    let golden = golden("timestamps.json");
    let mut n_regions = 0;
    for case in golden["cases"].as_array().unwrap() {
        let probabilities = floats(&case["probabilities"]);
        let n_samples = case["n_samples"].as_u64().unwrap() as usize;
        let options_of = golden["options"].as_array().unwrap();
        for (json, expected) in options_of.iter().zip(case["regions"].as_array().unwrap()) {
            let regions = speech_regions(&probabilities, n_samples, &options(json)).unwrap();
            let pair = |region: &Region| vec![region.start as u64, region.end as u64];
            let found: Vec<_> = regions.iter().map(pair).collect();
            let expected: Vec<Vec<u64>> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(found, expected, "{json} in {n_samples} samples");
            n_regions += found.len();
        }
    }
    assert!(n_regions > 200, "{n_regions}");
}

#[test]
fn options_out_of_range_are_refused() {
    let with = |change: &dyn Fn(&mut VadOptions)| {
        let mut options = VadOptions::default();
        change(&mut options);
        options
    };
    for (name, options) in [
        ("threshold", with(&|o| o.threshold = 1.5)),
        ("threshold", with(&|o| o.threshold = f64::NAN)),
        ("neg_threshold", with(&|o| o.neg_threshold = Some(-0.1))),
        (
            "max_speech_duration_s",
            with(&|o| o.max_speech_duration_s = 0.0),
        ),
        (
            "max_speech_duration_s",
            with(&|o| o.max_speech_duration_s = f64::NAN),
        ),
    ] {
        match speech_regions(&[0.0], 100, &options) {
            Err(Error::Option { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    // Extreme values that are valid.
    let extreme = with(&|o| {
        o.min_silence_duration_ms = u32::MAX;
        o.speech_pad_ms = u32::MAX;
        o.min_speech_duration_ms = u32::MAX;
        o.max_speech_duration_s = 1e-9;
    });
    assert!(speech_regions(&[1.0; 100], 99 * FRAME_SAMPLES, &extreme).is_ok());
}

/// Seconds of the longest piece of the regions `expected` that is in none of `found`.
fn longest_missing_s(expected: &[Region], found: &[Region]) -> f64 {
    let mut longest = 0;
    for region in expected {
        let mut start = region.start;
        for other in found.iter().filter(|other| other.end > region.start) {
            longest = longest.max(other.start.min(region.end).saturating_sub(start));
            start = start.max(other.end);
        }
        longest = longest.max(region.end.saturating_sub(start));
    }
    longest as f64 / 16_000.0
}

#[test]
fn energy_finds_the_speech_of_the_clips_and_none_in_silence() {
    let mut options = VadOptions::default();
    options.min_silence_duration_ms = 500;
    let golden = golden("probabilities.json");
    let mut n_regions = 0;
    for name in golden.as_object().unwrap().keys() {
        let regions = |vad: Vad| {
            let found = vad.probabilities(&clip(name)).unwrap();
            found.regions(&options).unwrap()
        };
        let (expected, found) = (regions(vad()), regions(Vad::energy()));
        let missing_s = longest_missing_s(&expected, &found);
        assert!(
            missing_s < 1.0,
            "{name}: {missing_s} s of speech are missing"
        );
        n_regions += found.len();
    }
    assert!(n_regions > 1);
    let silence = Audio::from_samples(vec![0.0; 160_000], 16_000).unwrap();
    let found = Vad::energy().probabilities(&silence).unwrap();
    assert_eq!(found.regions(&options).unwrap(), []);
}

#[test]
fn energy_in_pieces_of_any_length_has_the_bits_of_the_whole() {
    let audio = clip("jfk.flac");
    let whole = Vad::energy().probabilities(&audio).unwrap().probabilities;
    let (mut stream, mut found) = (Vad::energy().stream(), Vec::new());
    for piece in audio.samples().unwrap().chunks(777) {
        stream.push(piece, &mut found);
    }
    stream.finish(&mut found);
    assert_eq!(found, whole);
}
