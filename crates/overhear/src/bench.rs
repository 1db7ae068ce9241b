//! What this machine can do, measured.

use std::num::NonZeroUsize;

use overhear_kernels::{Isa, Pool, probe};

/// Measures the limits that speed can be held against: each is the best rate on all threads, as of now, so it
/// belongs beside what was measured in the same run.
#[derive(Debug)]
pub struct MachineLimits {
    isa: Isa,
    pool: Pool,
}

impl MachineLimits {
    /// Limits of `n_threads` threads and of the instruction set in use. `None`: as many threads as the machine and its
    /// cgroup quota give.
    #[must_use]
    pub fn new(n_threads: Option<NonZeroUsize>) -> Self {
        let n_threads = n_threads.map_or_else(Pool::default_threads, NonZeroUsize::get);
        Self {
            isa: Isa::from_env().unwrap_or_else(|_| Isa::detect()),
            pool: Pool::new(n_threads),
        }
    }

    /// Single-precision operations per second, a multiply-add being two; `None` where there is no vector unit.
    #[must_use]
    pub fn f32_ops(&self) -> Option<f64> {
        probe::f32_fma(self.isa, &self.pool)
    }

    /// Operations per second of bf16 products; `None` where the machine has none.
    #[must_use]
    pub fn bf16_ops(&self) -> Option<f64> {
        probe::bf16_dot(self.isa, &self.pool)
    }

    /// Operations per second of int8 products; `None` where the machine has none.
    #[must_use]
    pub fn int8_ops(&self) -> Option<f64> {
        probe::int8_dot(self.isa, &self.pool)
    }

    /// Bytes per second of reading the same `n_bytes` again and again: memory, or the cache that holds them.
    #[must_use]
    pub fn read_bandwidth(&self, n_bytes: usize) -> f64 {
        probe::read_bandwidth(&self.pool, n_bytes)
    }

    /// Seconds that starting a kernel on all threads and waiting for the last of them costs, one right after the other.
    #[must_use]
    pub fn fork_join_s(&self) -> f64 {
        probe::fork_join(&self.pool)
    }
}
