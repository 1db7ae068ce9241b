//! Checkpoints: configuration and named tensors of a model, read and checked.

mod blocks;
mod config;
mod ctranslate2;
mod cursor;
mod delta;
mod dims;
mod elements;
mod fields;
mod folder;
mod foreign;
mod generation;
mod ggml;
mod gguf;
mod load;
mod lora;
mod names;
mod pickle;
mod pytorch;
mod safetensors;
mod shards;
mod stacked;
mod super_blocks;
mod tensor_file;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod zip;

pub use dims::ModelDimensions;
pub(crate) use generation::GenerationConfig;
pub(crate) use load::{Checkpoint, OUTPUT, TOKEN_EMBEDDING, TextTokens};
#[cfg(feature = "download")]
pub(crate) use lora::ADAPTER_CONFIG;
pub(crate) use lora::{ADAPTER_WEIGHTS, base_of_adapter, is_adapter};
pub(crate) use names::huggingface_name;
pub(crate) use shards::WEIGHTS;
pub(crate) use stacked::Stacked;
