//! What a step of decoding costs by the number of beams, everything included: network, rules, search.
//!
//! `cargo bench -p overhear --bench step -- MODEL_FOLDER..` (default: the bundled model). Each search decodes the first
//! window of a clip of connected speech three times in turn; a figure is the median over all its steps but the first,
//! which takes the prompt.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use overhear::decode::DecodingRules;
use overhear::{Audio, Event, Language, Model, ModelOptions, TranscribeOptions};

const RUNS: usize = 3;
/// 0 beams: the greedy search.
const BEAMS: [usize; 4] = [0, 1, 2, 5];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .map(PathBuf::from)
        .collect();
    if folders.is_empty() {
        folders.push(root.join("../../models/nano"));
    }
    let clip = root.join("tests/fixtures/audio/long-90s.flac");
    for folder in folders {
        let model = Model::open(&folder, &ModelOptions::default())?;
        println!(
            "{}: {}, {} threads",
            folder.display(),
            model.isa(),
            model.threads()
        );
        let mut steps = [const { Vec::new() }; BEAMS.len()];
        for _ in 0..RUNS {
            for (steps, beams) in steps.iter_mut().zip(BEAMS) {
                steps.extend(step_times(&model, &Audio::open(&clip)?, beams)?);
            }
        }
        let medians = steps.map(median);
        for (ms, beams) in medians.iter().zip(BEAMS) {
            println!(
                "{beams:3} beams {ms:8.2} ms a step, {:5.2} x greedy",
                ms / medians[0]
            );
        }
    }
    Ok(())
}

/// Milliseconds of each step of the first window.
fn step_times(model: &Model, audio: &Audio, beams: usize) -> overhear::Result<Vec<f64>> {
    let options = TranscribeOptions {
        language: Some(Language::ENGLISH),
        temperatures: vec![0.0],
        clip_timestamps: vec![0.0, 30.0],
        rules: DecodingRules {
            beam_size: (beams > 0).then_some(beams),
            ..DecodingRules::default()
        },
        ..TranscribeOptions::default()
    };
    let mut times = Vec::new();
    let mut last: Option<Instant> = None;
    let on_event = |event: Event<'_>| {
        match event {
            Event::Token => {
                let now = Instant::now();
                times.extend(last.map(|last| 1e3 * (now - last).as_secs_f64()));
                last = Some(now);
            }
            Event::Progress { .. } => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    match model.transcribe_with(audio, &options, on_event) {
        Ok(_) | Err(overhear::Error::Canceled) => Ok(times),
        Err(error) => Err(error),
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
