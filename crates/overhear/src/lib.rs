//! Whisper speech to text: audio in, transcript out, with the results of openai/whisper.
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
//! The root has the types of this example and of its results. The modules contain: [`audio`] options of opening audio,
//! [`transcribe`] details of transcripts, [`output`] file formats, [`model`] names and properties of models,
//! [`tokenizer`] tokens, [`mod@convert`] conversion of models, [`decode`] decoding of one window stage by stage, [`vad`] voice activity detection, [`eval`] error
//! rates, [`mod@bench`] the limits of the machine.
//!
//! The pipeline has one module per stage: `audio` decodes any format to 16 kHz mono, `mel` computes the log-mel
//! spectrogram, `backend` runs the network, `decode` converts one window to tokens, `align` computes word timestamps,
//! `transcribe` processes a file window by window, `output` writes the formats. Names are those of openai/whisper.
//!
//! Features: `download`, enabled by default, downloads models from the Hugging Face hub (module `hub`); `serde`
//! implements `Deserialize` for options. Transcripts always implement `Serialize`.

#![forbid(unsafe_code)]

mod align;
pub mod audio;
mod backend;
pub mod bench;
mod checkpoint;
pub mod convert;
pub mod decode;
mod engine;
mod error;
pub mod eval;
mod excerpt;
mod file;
mod host;
#[cfg(feature = "download")]
pub mod hub;
mod json;
mod mel;
pub mod model;
mod names;
pub mod output;
mod python;
mod task;
#[doc(hidden)]
pub mod temporary;
pub mod tokenizer;
pub mod transcribe;
pub mod vad;

pub use audio::input::Audio;
pub use backend::{ComputeType, Device};
pub use engine::{DraftStatistics, Engine};
pub use error::{Error, Result};
pub use model::handle::{Model, ModelOptions};
pub use task::Task;
pub use tokenizer::language::Language;
pub use transcribe::options::TranscribeOptions;
pub use transcribe::result::{Event, Segment, Transcript, Word};

// Short paths within the crate. Outside of it, each item has one path.
use audio::{AudioReader, AudioWarning};
use checkpoint::ModelDimensions;
use decode::{DecodingOptions, DecodingResult, Hypothesis, LanguageProbability};
use mel::LogMel;
use tokenizer::{TokenId, Tokenizer};
