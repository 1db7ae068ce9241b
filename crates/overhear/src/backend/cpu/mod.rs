//! The network on the CPU: Whisper's forward pass over `overhear-kernels`.

mod alignment;
mod cache;
mod decoder;
mod encoder;
mod format;
mod layers;
mod packed;
mod state;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Arc;

use format::{Format, resolve};
use weights::{Packer, Weights};

use super::{Backend, Capacity, ComputeType, State};
use crate::checkpoint::Checkpoint;
use crate::host::Host;
use crate::{ModelDimensions, Result};

/// The CPU backend: weights, the kernels chosen for this machine, and the threads they run on.
pub(crate) struct CpuBackend {
    compute_type: ComputeType,
    shared: Arc<Shared>,
}

/// What the backend and its states share.
struct Shared {
    dims: ModelDimensions,
    weights: Weights,
    host: Host,
}

/// Reads the weights of `checkpoint` in the formats of `compute_type`: [`super::open`].
pub(super) fn open(
    checkpoint: &Checkpoint,
    dims: &ModelDimensions,
    compute_type: ComputeType,
    host: &Host,
) -> Result<Box<dyn Backend>> {
    let (compute_type, format) = resolve(compute_type, &host.kernels, dims)?;
    let backend = CpuBackend::read(checkpoint, dims, (compute_type, format), host)?;
    Ok(Box::new(backend))
}

impl CpuBackend {
    fn read(
        checkpoint: &Checkpoint,
        dims: &ModelDimensions,
        (compute_type, format): (ComputeType, Format),
        host: &Host,
    ) -> Result<Self> {
        let packer = Packer {
            kernels: &host.kernels,
            pool: &host.pool,
            format,
        };
        let weights = Weights::read(checkpoint, dims, packer)?;
        Ok(Self {
            compute_type,
            shared: Arc::new(Shared {
                dims: *dims,
                weights,
                host: host.clone(),
            }),
        })
    }
}

impl Backend for CpuBackend {
    fn compute_type(&self) -> ComputeType {
        self.compute_type
    }

    fn bytes_per_seat(&self, n_rows: usize) -> u64 {
        let (dims, format) = (&self.shared.dims, self.shared.weights.format);
        let cross_kv = dims.n_text_layer * dims.n_audio_ctx * 2 * dims.n_text_state;
        let self_kv =
            dims.n_text_layer * dims.n_text_ctx * 2 * dims.n_text_state * size_of::<f32>();
        let features = dims.n_audio_ctx * dims.n_audio_state * size_of::<f32>();
        let logits = dims.n_vocab * size_of::<f32>();
        let bytes = cross_kv * format.cross.element_size() + features + n_rows * (self_kv + logits);
        bytes as u64
    }

    fn new_state(&self, capacity: Capacity) -> Result<Box<dyn State>> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(state::CpuState::new(shared, capacity)))
    }
}
