//! The network on the CPU: Whisper's forward pass over `overhear-kernels`.

mod alignment;
mod cross_kv;
mod decoder;
mod encoder;
mod format;
mod grouped;
mod layers;
mod packed;
mod read;
mod self_kv;
mod state;
mod stored;
#[cfg(test)]
mod tests;
mod weight;

use std::sync::Arc;

use cross_kv::CrossKv;
use decoder::Decoder;
use encoder::{CrossKeyValue, Encoder};
use format::{Formats, Network, resolve};
use read::Reader;
use state::CpuState;
use weight::{EncoderWeight, Weight};

use super::{Backend, Capacity, ComputeType, Parts, State};
use crate::checkpoint::Checkpoint;
use crate::host::Host;
use crate::{ModelDimensions, Result};

/// The CPU backend: an encoder with weights `E`, a decoder with weights `D`.
struct CpuBackend<E: EncoderWeight, D: Weight> {
    compute_type: ComputeType,
    shared: Arc<Shared<E, D>>,
}

/// What the backend and its states share.
struct Shared<E: EncoderWeight, D: Weight> {
    dims: ModelDimensions,
    formats: Formats<E, D>,
    /// `None`: [`Parts::Decoder`].
    encoder: Option<Encoder<E>>,
    cross_key_value: CrossKeyValue<E>,
    decoder: Decoder<D>,
    host: Host,
}

/// Reads the weights of `checkpoint` in the formats of `compute_type`: [`super::open`].
pub(super) fn open(
    checkpoint: &Checkpoint,
    dims: &ModelDimensions,
    parts: Parts,
    compute_type: ComputeType,
    host: &Host,
) -> Result<Box<dyn Backend>> {
    let in_file = checkpoint.decoder_dtype();
    let compute_type = resolve(compute_type, &host.kernels, dims, in_file)?;
    let what = (dims, parts, compute_type);
    match Network::of(compute_type) {
        Network::Stored(formats) => CpuBackend::read(checkpoint, what, formats, host),
        Network::Packed(formats) => CpuBackend::read(checkpoint, what, formats, host),
        Network::Grouped(formats) => CpuBackend::read(checkpoint, what, formats, host),
        Network::Mixed(formats) => CpuBackend::read(checkpoint, what, formats, host),
    }
}

impl<E: EncoderWeight + 'static, D: Weight + 'static> CpuBackend<E, D> {
    fn read(
        checkpoint: &Checkpoint,
        (dims, parts, compute_type): (&ModelDimensions, Parts, ComputeType),
        formats: Formats<E, D>,
        host: &Host,
    ) -> Result<Box<dyn Backend>> {
        let encoder = Reader::<E> {
            checkpoint,
            dims,
            host,
            format: formats.encoder,
        };
        let decoder = Reader::<D> {
            checkpoint,
            dims,
            host,
            format: formats.decoder,
        };
        let shared = Shared {
            dims: *dims,
            encoder: match parts {
                Parts::All => Some(encoder.encoder()?),
                Parts::Decoder => None,
            },
            cross_key_value: encoder.cross_key_value()?,
            decoder: decoder.decoder()?,
            formats,
            host: host.clone(),
        };
        Ok(Box::new(Self {
            compute_type,
            shared: Arc::new(shared),
        }))
    }
}

impl<E: EncoderWeight + 'static, D: Weight + 'static> Backend for CpuBackend<E, D> {
    fn compute_type(&self) -> ComputeType {
        self.compute_type
    }

    fn bytes_per_seat(&self, n_rows: usize) -> u64 {
        let (dims, formats) = (&self.shared.dims, &self.shared.formats);
        let cross_kv = dims.n_text_layer * dims.n_audio_ctx * 2 * dims.n_text_state;
        let cross_kv = cross_kv * E::CrossKv::element_size(formats.cross_kv);
        let self_kv = dims.n_text_layer * dims.n_text_ctx * 2 * dims.n_text_state;
        let self_kv = self_kv * formats.self_kv.size();
        let features = dims.n_audio_ctx * dims.n_audio_state * size_of::<f32>();
        let logits = dims.n_vocab * size_of::<f32>();
        (cross_kv + features + n_rows * (self_kv + logits)) as u64
    }

    fn new_state(&self, capacity: Capacity) -> Result<Box<dyn State>> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(CpuState::new(shared, capacity)))
    }
}
