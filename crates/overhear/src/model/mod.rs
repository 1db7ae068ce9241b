//! Properties of a model, and which folder a name means.

pub mod find;
pub(crate) mod handle;
mod types;

pub use crate::checkpoint::ModelDimensions;
pub use types::{Dtype, Isa};
