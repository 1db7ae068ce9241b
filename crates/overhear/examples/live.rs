//! Display of segments as they become final and of progress, and cancellation.
//!
//! `cargo run --release -p overhear --example live -- models/nano clips/synth-en-05.flac`

#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use overhear::{Audio, Error, Event, Model, ModelOptions, TranscribeOptions};

/// Time after which the transcription is canceled.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: live MODEL_FOLDER AUDIO_FILE".into());
    };
    let model = Model::open(model, &ModelOptions::default())?;
    let audio = Audio::open(file)?;
    let begun = Instant::now();
    let mut duration = 0.0;
    let result = model.transcribe_with(&audio, &TranscribeOptions::default(), |event| {
        match event {
            Event::Duration { duration_s } => duration = duration_s,
            Event::LanguageDetected {
                language,
                probability,
            } => {
                println!("{} ({:.0} %)", language.name(), 100.0 * probability);
            }
            Event::Segment(segment) => {
                println!(
                    "{:7.2} to {:7.2} s:{}",
                    segment.start, segment.end, segment.text
                );
            }
            Event::Progress { position_s } => println!("{position_s:.0} of {duration:.0} s"),
            _ => {}
        }
        if begun.elapsed() > PATIENCE {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    match result {
        Ok(transcript) => println!("{}", transcript.text.trim()),
        Err(Error::Canceled) => println!("out of patience"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
