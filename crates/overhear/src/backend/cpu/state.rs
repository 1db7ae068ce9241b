//! One decoding session on the CPU.

use std::sync::Arc;

use super::Shared;
use super::alignment::AlignmentScratch;
use super::cross_kv::CrossKvCache;
use super::decoder::{DecoderWorkspace, Step};
use super::encoder::EncoderWorkspace;
use super::self_kv::SelfKvCache;
use super::weight::{EncoderWeight, Weight};
use crate::backend::{AlignmentRequest, Batch, Capacity, GoesOn, OnHead, State};
use crate::mel::MelWindow;
use crate::{Error, Result};

/// Caches and buffers of one session: all are allocated here, but for alignment's.
pub(super) struct CpuState<E: EncoderWeight, D: Weight> {
    shared: Arc<Shared<E, D>>,
    capacity: Capacity,
    encoder: EncoderWorkspace<E>,
    /// Per slot, `[n_audio_ctx, n_audio_state]`: the encoder's output.
    audio_features: Vec<Vec<f32>>,
    decoder: DecoderWorkspace<D>,
    self_kv: SelfKvCache,
    cross_kv: CrossKvCache<E::CrossKv>,
    alignment: AlignmentScratch,
}

impl<E: EncoderWeight, D: Weight> CpuState<E, D> {
    pub(super) fn new(shared: Arc<Shared<E, D>>, capacity: Capacity) -> Self {
        let (dims, formats) = (&shared.dims, &shared.formats);
        let features = vec![0.0; dims.n_audio_ctx * dims.n_audio_state];
        Self {
            capacity,
            encoder: EncoderWorkspace::new(dims, formats.encoder),
            audio_features: vec![features; capacity.slots],
            decoder: DecoderWorkspace::new(dims, &capacity, formats.decoder),
            self_kv: SelfKvCache::new(dims, capacity.rows, formats.self_kv),
            cross_kv: CrossKvCache::new(dims, capacity.slots, formats.cross_kv),
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
            let n_tokens = self.self_kv.n_tokens(row.row) + row.n_tokens;
            Capacity::check("positions", n_tokens, self.shared.dims.n_text_ctx)?;
        }
        Ok(())
    }
}

impl<E: EncoderWeight, D: Weight> Shared<E, D> {
    /// A decoder call over `batch`.
    fn step<'a>(&'a self, batch: &'a Batch) -> Step<'a, D> {
        Step {
            host: &self.host,
            dims: &self.dims,
            decoder: &self.decoder,
            batch,
        }
    }
}

impl<E: EncoderWeight, D: Weight> State for CpuState<E, D> {
    fn encode(&mut self, windows: &[(usize, &MelWindow)], goes_on: GoesOn<'_>) -> Result<()> {
        let Shared {
            host,
            dims,
            encoder,
            cross_key_value,
            ..
        } = &*self.shared;
        let Some(encoder) = encoder else {
            return Err(Error::Device("the encoder was not opened".into()));
        };
        for &(slot, mel) in windows {
            Capacity::check("windows", slot + 1, self.capacity.slots)?;
            let features = &mut self.audio_features[slot];
            let kv = self.cross_kv.window_mut(slot);
            let workspace = &mut self.encoder;
            encoder.forward(host, dims, mel, features, workspace, goes_on)?;
            cross_key_value.project(host, dims, features, kv, workspace);
        }
        Ok(())
    }

    fn set_audio_features(&mut self, slot: usize, features: &[f32]) -> Result<()> {
        Capacity::check("windows", slot + 1, self.capacity.slots)?;
        self.audio_features[slot].copy_from_slice(features);
        let Shared {
            host,
            dims,
            cross_key_value,
            ..
        } = &*self.shared;
        let kv = self.cross_kv.window_mut(slot);
        cross_key_value.project(host, dims, features, kv, &mut self.encoder);
        Ok(())
    }

    fn decode(&mut self, batch: &Batch) -> Result<&mut [f32]> {
        self.check(batch)?;
        let step = self.shared.step(batch);
        Ok(step.decode(&mut self.self_kv, &self.cross_kv, &mut self.decoder))
    }

    fn align(&mut self, request: &AlignmentRequest<'_>, on_head: OnHead<'_>) -> Result<Vec<f32>> {
        let mut batch = Batch::default();
        batch.push(request.row, request.slot, request.tokens, &[]);
        Capacity::check("rows", request.row + 1, self.capacity.rows)?;
        self.self_kv.truncate(request.row, 0);
        self.check(&batch)?;
        Ok(self.alignment.run(
            &self.shared.step(&batch),
            request,
            &mut self.self_kv,
            &self.cross_kv,
            &mut self.decoder,
            on_head,
        ))
    }

    fn rearrange(&mut self, source: &[usize]) {
        self.self_kv.rearrange(source);
    }

    fn truncate(&mut self, row: usize, n_tokens: usize) {
        self.self_kv.truncate(row, n_tokens);
    }

    fn audio_features(&self, slot: usize) -> &[f32] {
        &self.audio_features[slot]
    }
}
