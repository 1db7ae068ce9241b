//! Kernels and threads of the processor, for the work that runs there whatever the device of the network.

use std::sync::Arc;

use overhear_kernels::{Kernels, Pool};

/// The processor's kernels and threads, chosen once when a model is opened: search and spectrograms run on them.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) kernels: Kernels,
    pub(crate) pool: Arc<Pool>,
}
