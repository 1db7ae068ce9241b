//! Whisper speech to text: audio in, exact transcript out.
//!
//! ```no_run
//! use overhear::{Audio, Model, ModelOptions, TranscribeOptions};
//!
//! let model = Model::open("models/nano", &ModelOptions::default())?;
//! let audio = Audio::open("speech.flac")?;
//! let transcript = model.transcribe(&audio, &TranscribeOptions::default())?;
//! println!("{}", transcript.text);
//! # Ok::<(), overhear::Error>(())
//! ```
//!
//! The pipeline has one module per stage: [`audio`] decodes any format to 16 kHz mono, `mel` computes the log-mel
//! spectrogram, `backend` runs the network, `decode` converts one window to tokens, `align` computes word timestamps,
//! `transcribe` processes a file window by window, [`output`] writes the formats. Names are openai/whisper's.

#![forbid(unsafe_code)]

mod align;
pub mod audio;
mod backend;
mod checkpoint;
mod decode;
mod engine;
mod error;
mod excerpt;
mod file;
mod host;
#[cfg(feature = "download")]
pub mod hub;
mod json;
mod limits;
mod mel;
pub mod model;
mod names;
pub mod normalize;
pub mod output;
mod python;
pub mod score;
mod session;
pub mod tokenizer;
mod transcribe;

pub use audio::{Audio, AudioOptions, AudioReader, AudioWarning, Ffmpeg};
pub use backend::{ComputeType, Device};
pub use checkpoint::ModelDimensions;
pub use decode::{
    BoostPhrase, DecodingOptions, DecodingResult, Hypothesis, LanguageProbability, Suppress, Task,
    TokenProbability,
};
pub use engine::Engine;
pub use error::{Error, Result};
pub use limits::MachineLimits;
pub use mel::{LogMel, log_mel_spectrogram};
pub use model::{Model, ModelOptions};
pub use session::Session;
pub use tokenizer::{Language, TokenId, Tokenizer};
pub use transcribe::{
    Alternative, Event, Segment, Silence, TranscribeOptions, Transcript, WindowHypotheses, Word,
};
