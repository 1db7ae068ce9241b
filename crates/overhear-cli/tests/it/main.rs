//! Tests of the real binary, a module a subject.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod at_once;
mod bench;
mod cli;
mod convert;
mod endings;
mod eval;
mod ffmpeg;
mod hub;
mod journal;
mod limits;
mod odd_inputs;
mod vad;
