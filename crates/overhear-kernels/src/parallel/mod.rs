//! Threads and their memory.

mod disjoint;
mod pool;
pub(crate) mod scratch;

pub(crate) use disjoint::Disjoint;
pub use pool::Pool;
