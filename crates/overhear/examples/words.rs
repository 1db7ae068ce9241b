//! Cost of word timestamps: `cargo run --release --example words -- MODEL CLIP [RUNS]`.
//!
//! Transcribes with and without word timestamps in turn, greedily, and prints the median time per window of each. Times
//! are per window, since with words the next window begins at the end of the last word, and there may be more windows.

#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::time::Instant;

use overhear::transcribe::WordOptions;
use overhear::{Audio, Event, Language, Model, ModelOptions, Result, TranscribeOptions};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, clip, runs @ ..] = &arguments[..] else {
        return Err("usage: words MODEL CLIP [RUNS]".into());
    };
    let n_runs: usize = runs.first().map_or(Ok(5), |runs| runs.parse())?;
    let model = Model::open(model, &ModelOptions::default())?;
    let audio = Audio::open(clip)?;
    let mut times = [Vec::new(), Vec::new()];
    let mut windows = [0, 0];
    for _ in 0..n_runs.max(1) {
        for with_words in [false, true] {
            let (time_s, n_windows) = run(&model, &audio, with_words)?;
            times[usize::from(with_words)].push(time_s / n_windows as f64);
            windows[usize::from(with_words)] = n_windows;
        }
    }
    let [without, with] = times.map(|mut times| {
        times.sort_unstable_by(f64::total_cmp);
        (times[times.len() / 2], times[0], times[times.len() - 1])
    });
    let show = |name: &str, (median, least, most): (f64, f64, f64), n_windows: usize| {
        let [median, least, most] = [median, least, most].map(|time_s| 1e3 * time_s);
        println!("{name}: {median:.1} ms a window ({least:.1} to {most:.1}), {n_windows} windows");
    };
    show("without words", without, windows[0]);
    show("with words", with, windows[1]);
    println!("words add {:.1} %", 100.0 * (with.0 / without.0 - 1.0));
    println!(
        "{} threads, {}, {n_runs} runs in turn",
        model.threads(),
        model.isa()
    );
    Ok(())
}

/// Returns the time of a transcription in seconds, and the number of its windows.
fn run(model: &Model, audio: &Audio, word_timestamps: bool) -> Result<(f64, usize)> {
    let options = TranscribeOptions {
        temperatures: vec![0.0],
        language: Some(Language::ENGLISH),
        words: word_timestamps.then(WordOptions::default),
        ..TranscribeOptions::default()
    };
    let mut n_windows = 0;
    let start = Instant::now();
    model.transcribe_with(audio, &options, |event| {
        n_windows += usize::from(matches!(event, Event::Progress { .. }));
        ControlFlow::Continue(())
    })?;
    Ok((start.elapsed().as_secs_f64(), n_windows))
}
