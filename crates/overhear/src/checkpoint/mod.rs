//! Checkpoints: configuration and named tensors of a model folder, read and checked.

mod config;
mod dims;
mod elements;
mod foreign;
mod generation;
mod load;
mod names;
mod safetensors;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use dims::ModelDimensions;
pub(crate) use generation::GenerationConfig;
pub(crate) use load::{Checkpoint, OUTPUT, Stacked, TOKEN_EMBEDDING};
