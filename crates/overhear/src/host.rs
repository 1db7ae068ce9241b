//! Kernels and threads of the processor, for the work that runs there on any device: search and spectrograms.

use std::sync::Arc;

use overhear_kernels::{Kernels, Pool};

/// Kernels and threads of the processor, selected when a model is opened.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) kernels: Kernels,
    pub(crate) pool: Arc<Pool>,
}
