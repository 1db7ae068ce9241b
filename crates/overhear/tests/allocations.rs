//! A decoding step does not allocate after the first token of a window, except when a beam finishes.

#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::System;
use std::ops::ControlFlow;

use overhear::decode::DecodingRules;
use overhear::{Audio, ComputeType, Event, Model, ModelOptions, TranscribeOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the number of allocations up to each token of a clip of one window.
fn allocations_by_token(compute_type: ComputeType, options: &TranscribeOptions) -> Vec<usize> {
    let model_options = ModelOptions {
        compute_type,
        ..ModelOptions::default()
    };
    let model = Model::open(common::nano(), &model_options).unwrap();
    let audio = Audio::open(common::fixtures().join("audio/jfk.flac")).unwrap();
    let mut counts = Vec::with_capacity(1000);
    let on_event = |event: Event<'_>| {
        if let Event::Token = event {
            counts.push(ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations);
        }
        ControlFlow::Continue(())
    };
    model.transcribe_with(&audio, options, on_event).unwrap();
    counts
}

// One test, since the allocator counts for the whole process.
#[test]
fn steady_steps_allocate_nothing() {
    let greedy = TranscribeOptions {
        temperatures: vec![0.0],
        ..TranscribeOptions::default()
    };
    let sampled = TranscribeOptions {
        temperatures: vec![0.5],
        best_of: Some(3),
        ..TranscribeOptions::default()
    };
    let beams = TranscribeOptions {
        rules: DecodingRules {
            beam_size: Some(5),
            patience: Some(2.0),
            ..greedy.rules.clone()
        },
        ..greedy.clone()
    };
    let (auto, mixed) = (ComputeType::Auto, ComputeType::Int8Bfloat16);
    for (compute_type, options) in [
        (auto, &greedy),
        (auto, &sampled),
        (auto, &beams),
        (ComputeType::Int8Float32, &beams),
        (mixed, &beams),
    ] {
        let counts = allocations_by_token(compute_type, options);
        assert!(counts.len() > 10, "{} tokens", counts.len());
        // The second step may still grow reused buffers, and a finished beam is stored.
        let steps = counts[2..].windows(2);
        let n_allocating = steps.filter(|counts| counts[0] != counts[1]).count();
        let n_ends = if options.rules.beam_size.is_some() {
            10
        } else {
            0
        };
        assert!(n_allocating <= n_ends, "allocations by token: {counts:?}");
    }
}
