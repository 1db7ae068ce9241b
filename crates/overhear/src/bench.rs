//! Measurement of the machine's limits, to compare the speed of models with.

use std::num::NonZeroUsize;

use overhear_kernels::{Isa, Pool, probe};

/// Probe of the machine's limits: each method measures the best rate on all threads at the time of the call, so it
/// should be called in the same run as the measurements that it is compared with.
#[derive(Debug)]
pub struct MachineLimits {
    isa: Isa,
    pool: Pool,
}

impl MachineLimits {
    /// Creates a probe for `n_threads` threads and the instruction set in use. `None`: the number of processors that
    /// the machine and the cgroup quota allow.
    #[must_use]
    pub fn new(n_threads: Option<NonZeroUsize>) -> Self {
        let n_threads = n_threads.map_or_else(Pool::default_threads, NonZeroUsize::get);
        Self {
            isa: Isa::from_env().unwrap_or_else(|_| Isa::detect()),
            pool: Pool::new(n_threads),
        }
    }

    /// Returns single-precision operations per second, a multiply-add counting as two; `None` without a vector unit.
    #[must_use]
    pub fn f32_ops(&self) -> Option<f64> {
        probe::f32_fma(self.isa, &self.pool)
    }

    /// Returns bf16 operations per second of dot products; `None` if the machine has no instructions for them.
    #[must_use]
    pub fn bf16_ops(&self) -> Option<f64> {
        probe::bf16_dot(self.isa, &self.pool)
    }

    /// Returns int8 operations per second of dot products; `None` if the machine has no instructions for them.
    #[must_use]
    pub fn int8_ops(&self) -> Option<f64> {
        probe::int8_dot(self.isa, &self.pool)
    }

    /// Returns the bytes per second of reading the same `n_bytes` repeatedly, from memory or from the cache that holds
    /// them.
    #[must_use]
    pub fn read_bandwidth(&self, n_bytes: usize) -> f64 {
        probe::read_bandwidth(&self.pool, n_bytes)
    }

    /// Returns the time in seconds to start a kernel on all threads and to wait for the last of them, when repeated
    /// without a pause.
    #[must_use]
    pub fn fork_join_s(&self) -> f64 {
        probe::fork_join(&self.pool)
    }
}
