//! One decoding session on the CPU.

use std::sync::Arc;

use super::Shared;
use super::alignment::AlignmentScratch;
use super::cache::{CrossCache, SelfCache};
use super::decoder::{DecoderScratch, Step};
use super::encoder::EncoderScratch;
use super::layers::Compute;
use crate::Result;
use crate::backend::{AlignmentRequest, Batch, Capacity, GoesOn, OnHead, State};
use crate::mel::MelWindow;

/// Caches and scratch memory of one session: everything is allocated here, nothing later.
pub(super) struct CpuState {
    shared: Arc<Shared>,
    capacity: Capacity,
    encoder: EncoderScratch,
    /// Per slot, `[n_audio_ctx, n_audio_state]`: the encoder's output.
    audio_features: Vec<Vec<f32>>,
    decoder: DecoderScratch,
    self_cache: SelfCache,
    cross_cache: CrossCache,
    alignment: AlignmentScratch,
}

impl CpuState {
    pub(super) fn new(shared: Arc<Shared>, capacity: Capacity) -> Self {
        let (dims, format) = (&shared.dims, shared.weights.format);
        let features = vec![0.0; dims.n_audio_ctx * dims.n_audio_state];
        Self {
            capacity,
            encoder: EncoderScratch::new(dims, format.encoder_packing()),
            audio_features: vec![features; capacity.slots],
            decoder: DecoderScratch::new(dims, &capacity, format.decoder_packing()),
            self_cache: SelfCache::new(dims, capacity.rows),
            cross_cache: CrossCache::new(dims, capacity.slots, format.cross),
            alignment: AlignmentScratch::default(),
            shared,
        }
    }

    /// Fails if a row or a slot of `batch` does not exist, or a row would grow beyond the decoder's positions, or there
    /// are too many tokens or logits.
    fn check(&self, batch: &Batch) -> Result<()> {
        Capacity::check("tokens", batch.tokens.len(), self.capacity.tokens)?;
        Capacity::check("logits", batch.logits_at.len(), self.capacity.logits)?;
        for row in &batch.rows {
            Capacity::check("rows", row.row + 1, self.capacity.rows)?;
            Capacity::check("windows", row.slot + 1, self.capacity.slots)?;
            let n_tokens = self.self_cache.n_tokens(row.row) + row.n_tokens;
            Capacity::check("positions", n_tokens, self.shared.dims.n_text_ctx)?;
        }
        Ok(())
    }
}

impl Shared {
    fn compute(&self) -> Compute<'_> {
        Compute {
            kernels: &self.host.kernels,
            pool: &self.host.pool,
        }
    }

    /// A decoder call over `batch`.
    fn step<'a>(&'a self, batch: &'a Batch) -> Step<'a> {
        Step {
            compute: self.compute(),
            dims: &self.dims,
            decoder: &self.weights.decoder,
            batch,
        }
    }
}

impl State for CpuState {
    fn encode(&mut self, windows: &[(usize, &MelWindow)], goes_on: GoesOn<'_>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (compute, weights) = (shared.compute(), &shared.weights);
        for &(slot, mel) in windows {
            Capacity::check("windows", slot + 1, self.capacity.slots)?;
            let features = &mut self.audio_features[slot];
            self.encoder.encode(
                compute,
                &shared.dims,
                &weights.encoder,
                mel,
                features,
                goes_on,
            )?;
            let scratch = self.encoder.scratch();
            self.cross_cache
                .fill(compute, &weights.decoder, slot, features, scratch);
        }
        Ok(())
    }

    fn decode(&mut self, batch: &Batch) -> Result<&mut [f32]> {
        self.check(batch)?;
        let step = self.shared.step(batch);
        Ok(step.run(&mut self.self_cache, &self.cross_cache, &mut self.decoder))
    }

    fn align(&mut self, request: &AlignmentRequest<'_>, on_head: OnHead<'_>) -> Result<Vec<f32>> {
        let mut batch = Batch::default();
        batch.push(request.row, request.slot, request.tokens, &[]);
        Capacity::check("rows", request.row + 1, self.capacity.rows)?;
        self.self_cache.truncate(request.row, 0);
        self.check(&batch)?;
        Ok(self.alignment.run(
            &self.shared.step(&batch),
            request,
            &mut self.self_cache,
            &self.cross_cache,
            &mut self.decoder,
            on_head,
        ))
    }

    fn rearrange(&mut self, source: &[usize]) {
        self.self_cache.rearrange(source);
    }

    fn truncate(&mut self, row: usize, n_tokens: usize) {
        self.self_cache.truncate(row, n_tokens);
    }

    fn audio_features(&self, slot: usize) -> &[f32] {
        &self.audio_features[slot]
    }
}
