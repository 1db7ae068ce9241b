//! Token of the emulated instruction set: plain Rust, available on every machine.

/// Four lanes in plain Rust: what Miri can run, what stands in for a set that the machine lacks, and the vectors of the
/// packed kernels on the scalar set. Needs no proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emulated;
