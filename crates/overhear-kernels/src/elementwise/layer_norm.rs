//! Layer normalisation.

use super::TASK_ELEMENTS;
use super::normalise::normalise;
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool};
use crate::reference;
use crate::simd::{Simd, Vectorized};

impl Kernels {
    /// Layer normalisation of rows of `gamma.len()` elements, with epsilon 1e-5 and the biased variance.
    ///
    /// `x`, `y`: `[n, n_state]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn layer_norm(&self, pool: &Pool, y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32]) {
        let n_state = gamma.len();
        assert!(
            y.len() == x.len() && beta.len() == n_state,
            "x and y, or gamma and beta, differ in length"
        );
        assert!(
            x.is_empty() || n_state > 0 && x.len().is_multiple_of(n_state),
            "x is not rows of {n_state}"
        );
        match self.arch {
            _ if x.is_empty() => {}
            Arch::Scalar => reference::layer_norm(y, x, gamma, beta),
            arch => layer_norm(arch, pool, y, x, gamma, beta),
        }
    }
}

/// Partitions the call into tasks and runs them; shapes have been checked.
pub(crate) fn layer_norm(
    arch: Arch,
    pool: &Pool,
    y: &mut [f32],
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
) {
    let n_state = gamma.len().max(1);
    let len = TASK_ELEMENTS.div_ceil(n_state) * n_state;
    let y = Disjoint::new(y);
    pool.run(x.len().div_ceil(len), &|task| {
        let x = &x[task * len..x.len().min((task + 1) * len)];
        // SAFETY: the tasks' rows are disjoint.
        let y = unsafe { y.take(task * len, x.len()) };
        let mut call = LayerNorm { y, x, gamma, beta };
        arch.run(&mut call, || unreachable!("the scalar set has no vectors"));
    });
}

struct LayerNorm<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
}

impl Vectorized for &mut LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n_state = self.gamma.len();
        for (y, x) in self
            .y
            .chunks_exact_mut(n_state)
            .zip(self.x.chunks_exact(n_state))
        {
            normalise(s, y, x, self.gamma, self.beta);
        }
    }
}
