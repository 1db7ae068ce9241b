//! Steps of a transcription, for researchers: spectrogram, encoder output, a decoded window with its log-probabilities.
//!
//! `cargo run --release -p overhear --example window -- models/nano clips/synth-en-05.flac`

#![allow(clippy::print_stdout)]

use overhear::decode::{DecodingOptions, log_mel_spectrogram};
use overhear::{Audio, Model, ModelOptions};

/// Number of samples of a 30-second window.
const N_SAMPLES: usize = 480_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: window MODEL_FOLDER AUDIO_FILE".into());
    };
    let model = Model::open(model, &ModelOptions::default())?;
    let mut samples = Audio::open(file)?.samples()?;
    samples.resize(N_SAMPLES, 0.0); // pad or trim

    let mel = log_mel_spectrogram(&samples, model.dims().n_mels, 0);
    let features = model.embed_audio(&mel)?; // [n_audio_ctx, n_audio_state]
    println!(
        "spectrogram [{}, {}], features {}",
        mel.n_mels,
        mel.n_frames,
        features.len()
    );

    let result = model.decode(&mel, &DecodingOptions::default())?;
    for (token, logprob) in result.tokens.iter().zip(&result.token_logprobs) {
        println!(
            "{logprob:7.3}  {}",
            model.tokenizer().decode_with_timestamps(&[*token])
        );
    }
    println!(
        "no speech {:.4}, mean {:.3}",
        result.no_speech_prob, result.avg_logprob
    );
    Ok(())
}
