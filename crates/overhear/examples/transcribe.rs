//! Transcription of a file, in the fewest lines.
//!
//! `cargo run --release -p overhear --example transcribe -- models/nano clips/synth-en-05.flac`

#![allow(clippy::print_stdout)]

use overhear::{Audio, Model, ModelOptions, TranscribeOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: transcribe MODEL_FOLDER AUDIO_FILE".into());
    };
    let model = Model::open(model, &ModelOptions::default())?;
    let transcript = model.transcribe(&Audio::open(file)?, &TranscribeOptions::default())?;
    println!("{}", transcript.text.trim());
    Ok(())
}
