//! Transcription of several files at the same time with one model: speed, and equality of the transcripts.
//!
//! `cargo run --release --example together -- MODEL_FOLDER COMPUTE_TYPE BEAM_SIZE ROUNDS N_FILES[,N_FILES..] AUDIO..`
//!
//! A beam size of 0 is the greedy search. Each round measures all numbers of files at a time. The output is the median
//! time of each in seconds, and the speed in multiples of real time.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use overhear::decode::DecodingRules;
use overhear::{Audio, ComputeType, Engine, Language, Model, ModelOptions, TranscribeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, compute_type, beam_size, rounds, n_files, audio @ ..] = &arguments[..] else {
        return Err(
            "usage: together MODEL_FOLDER COMPUTE_TYPE BEAM_SIZE ROUNDS N_FILES[,N_FILES..] AUDIO..".into(),
        );
    };
    let model_options = ModelOptions {
        compute_type: compute_type.parse::<ComputeType>()?,
        ..ModelOptions::default()
    };
    let model = Model::open(model, &model_options)?;
    let options = TranscribeOptions {
        language: Some(Language::ENGLISH),
        rules: DecodingRules {
            beam_size: Some(beam_size.parse()?).filter(|&n| n > 0),
            ..DecodingRules::default()
        },
        ..TranscribeOptions::default()
    };
    let n_files = n_files
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<usize>, _>>()?;
    let files = audio
        .iter()
        .map(Audio::open)
        .collect::<Result<Vec<_>, _>>()?;

    let mut seconds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let (mut expected, mut audio_s) = (None, 0.0);
    for _ in 0..rounds.parse()? {
        for &n in &n_files {
            let engine = Engine::new(&model, n, options.n_rows())?;
            let begun = Instant::now();
            let transcripts = transcribe(&engine, n, &files, &options)?;
            seconds
                .entry(n)
                .or_default()
                .push(begun.elapsed().as_secs_f64());
            audio_s = transcripts.iter().map(|(_, duration_s)| duration_s).sum();
            let texts: Vec<String> = transcripts.into_iter().map(|(text, _)| text).collect();
            if *expected.get_or_insert_with(|| texts.clone()) != texts {
                return Err(format!("{n} files at a time give other transcripts").into());
            }
        }
    }
    println!(
        "{} files, {audio_s:.0} s of audio, {} rows each",
        files.len(),
        options.n_rows()
    );
    for (n, mut seconds) in seconds {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        println!(
            "{n:3} at a time: {median:7.2} s, {:6.1} x real time",
            audio_s / median
        );
    }
    Ok(())
}

/// Returns the segments, as text, and the duration of each file, transcribed `n` at a time.
fn transcribe(
    engine: &Engine,
    n: usize,
    files: &[Audio],
    options: &TranscribeOptions,
) -> overhear::Result<Vec<(String, f64)>> {
    let next = AtomicUsize::new(0);
    let transcripts = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..n {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(audio) = files.get(i) else { return };
                    let goes_on = &mut |_: overhear::Event<'_>| ControlFlow::Continue(());
                    let transcript = engine.transcribe_with(audio, options, goes_on);
                    let transcript =
                        transcript.map(|t| (format!("{:?}", t.segments), t.duration_s));
                    if let Ok(mut transcripts) = transcripts.lock() {
                        transcripts.insert(i, transcript);
                    }
                }
            });
        }
    });
    transcripts
        .into_inner()
        .unwrap_or_default()
        .into_values()
        .collect()
}
