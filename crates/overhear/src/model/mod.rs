//! The model: opening, properties, and search by name.

pub mod find;
pub(crate) mod handle;
mod types;

pub use crate::checkpoint::ModelDimensions;
pub use types::{Dtype, Isa};
