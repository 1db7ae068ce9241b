//! Tests of the library, a module a subject. What measures its own process has a binary of its own beside this folder:
//! allocations, peak memory.

#![allow(clippy::unwrap_used)]

#[path = "../audio_support/mod.rs"]
mod audio_support;
#[path = "../common/mod.rs"]
mod common;

mod audio_bad_input;
mod audio_containers;
mod audio_ffmpeg;
mod audio_formats;
mod audio_sources;
mod audio_streams;
mod batched;
mod compute_types;
mod convert;
mod ctranslate2;
mod fine_tunes;
mod ggml;
mod gguf;
mod hallucinations;
mod language;
mod loops;
mod lora;
mod normalize;
mod options;
mod output;
mod parity;
mod published;
mod pytorch;
mod resume;
mod schema;
mod search;
mod sessions;
mod speech;
mod tokenizer;
mod vad;
mod words;
