//! Threads: the pool, output buffers that tasks write together, scratch memory per thread.

mod disjoint;
mod pool;
pub(crate) mod scratch;

pub(crate) use disjoint::Disjoint;
pub use pool::Pool;
