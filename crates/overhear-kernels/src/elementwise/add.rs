//! Elementwise addition.

use super::TASK_ELEMENTS;
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool};

impl Kernels {
    /// `y += x`, element by element.
    ///
    /// # Panics
    /// If `x` and `y` differ in length.
    pub fn add(&self, pool: &Pool, y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "x and y differ in length");
        add(pool, y, x);
    }
}

/// Partitions the call into tasks and runs them; shapes have been checked.
pub(crate) fn add(pool: &Pool, y: &mut [f32], x: &[f32]) {
    let y = Disjoint::new(y);
    pool.run(x.len().div_ceil(TASK_ELEMENTS), &|task| {
        let first = task * TASK_ELEMENTS;
        let x = &x[first..x.len().min(first + TASK_ELEMENTS)];
        // SAFETY: the tasks' elements are disjoint.
        let y = unsafe { y.take(first, x.len()) };
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
}
