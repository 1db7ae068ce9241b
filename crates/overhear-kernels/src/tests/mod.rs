//! Elementary functions on every set. Whole kernels are tested in `tests/it`, through the public API.

mod exp2;
mod math;
