//! One decoding session on the CPU.

use std::sync::Arc;

use super::Shared;
use super::alignment::AlignmentScratch;
use super::cache::{CrossCache, SelfCache};
use super::decoder::{DecoderScratch, Step};
use super::encoder::EncoderScratch;
use super::layers::Compute;
use crate::LogMel;
use crate::backend::{AlignmentRequest, Batch, OnHead, State};

/// Caches and scratch of one session: everything is allocated here, nothing later.
pub(super) struct CpuState {
    shared: Arc<Shared>,
    encoder: EncoderScratch,
    decoder: DecoderScratch,
    self_cache: SelfCache,
    cross_cache: CrossCache,
    alignment: AlignmentScratch,
}

impl CpuState {
    pub(super) fn new(shared: Arc<Shared>, n_slots: usize, n_rows: usize) -> Self {
        let (dims, format) = (&shared.dims, shared.weights.format);
        Self {
            encoder: EncoderScratch::new(dims, format.encoder_packing()),
            decoder: DecoderScratch::new(dims, n_rows, format.decoder_packing()),
            self_cache: SelfCache::new(dims, n_rows),
            cross_cache: CrossCache::new(dims, n_slots, format.cross),
            alignment: AlignmentScratch::default(),
            shared,
        }
    }
}

impl Shared {
    /// A decoder call over `batch`.
    fn step<'a>(&'a self, batch: &'a Batch) -> Step<'a> {
        Step {
            compute: Compute {
                kernels: &self.kernels,
                pool: &self.pool,
            },
            dims: &self.dims,
            decoder: &self.weights.decoder,
            batch,
        }
    }
}

impl State for CpuState {
    fn encode(&mut self, slot: usize, mel: &LogMel) {
        let Shared {
            dims,
            weights,
            kernels,
            pool,
        } = &*self.shared;
        let compute = Compute { kernels, pool };
        self.encoder.encode(compute, dims, &weights.encoder, mel);
        self.cross_cache.fill(
            compute,
            &weights.decoder,
            slot,
            self.encoder.audio_features_and_scratch(),
        );
    }

    fn decode(&mut self, batch: &Batch) -> &mut [f32] {
        self.shared
            .step(batch)
            .run(&mut self.self_cache, &self.cross_cache, &mut self.decoder)
    }

    fn align(&mut self, request: &AlignmentRequest<'_>, on_head: OnHead<'_>) -> Vec<f32> {
        let mut batch = Batch::default();
        batch.push(0, request.slot, request.tokens, &[]);
        self.self_cache.truncate(0, 0);
        self.alignment.run(
            &self.shared.step(&batch),
            request,
            &mut self.self_cache,
            &self.cross_cache,
            &mut self.decoder,
            on_head,
        )
    }

    fn rearrange(&mut self, source: &[usize]) {
        self.self_cache.rearrange(source);
    }

    fn truncate(&mut self, row: usize, n_tokens: usize) {
        self.self_cache.truncate(row, n_tokens);
    }

    fn audio_features(&self) -> &[f32] {
        self.encoder.audio_features()
    }
}
