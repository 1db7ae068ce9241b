//! The model: opening, properties, and search by name.

pub(crate) mod draft;
pub mod find;
pub(crate) mod handle;
mod types;

pub use crate::checkpoint::ModelDimensions;
pub use draft::Draft;
pub use types::{Dtype, Isa};
