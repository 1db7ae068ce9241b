//! Threads and their memory.

mod disjoint;
mod pool;
pub(crate) mod scratch;

pub(crate) use disjoint::Split;
pub use pool::Pool;
