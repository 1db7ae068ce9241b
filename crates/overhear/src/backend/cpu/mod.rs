//! The network on the CPU: Whisper's forward pass over `overhear-kernels`.

mod alignment;
mod cache;
mod decoder;
mod encoder;
mod layers;
mod packed;
mod state;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Arc;

use overhear_kernels::{Kernels, Pool};

pub(crate) use weights::{Format, Packer, Weights};

use super::{Backend, State};
use crate::ModelDimensions;

/// The CPU backend: weights, the kernels chosen for this machine, and the threads they run on.
pub(crate) struct CpuBackend {
    shared: Arc<Shared>,
}

/// What the backend and its states share.
struct Shared {
    dims: ModelDimensions,
    weights: Weights,
    kernels: Kernels,
    pool: Arc<Pool>,
}

impl CpuBackend {
    pub(crate) fn new(
        dims: ModelDimensions,
        weights: Weights,
        kernels: Kernels,
        pool: Arc<Pool>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                dims,
                weights,
                kernels,
                pool,
            }),
        }
    }
}

impl Backend for CpuBackend {
    fn new_state(&self, n_slots: usize, n_rows: usize) -> Box<dyn State> {
        Box::new(state::CpuState::new(
            Arc::clone(&self.shared),
            n_slots,
            n_rows,
        ))
    }
}
