//! Kernels over rows and elements: layer normalisation, sums, transposition, and the reductions of decoding.

mod add;
mod layer_norm;
mod log_sum_exp;
mod maxima;
mod normalise;
mod transpose;

pub use maxima::Maxima;
pub(crate) use normalise::{LAYER_NORM_EPSILON, normalise};

/// Elements of a task: a few microseconds of work.
const TASK_ELEMENTS: usize = 16 << 10;
