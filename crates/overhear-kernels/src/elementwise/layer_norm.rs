//! Layer normalisation.

use super::TASK_ELEMENTS;
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool};
use crate::reference;
use crate::simd::{Simd, Vectorized};

impl Kernels {
    /// Layer normalisation over rows of `gamma.len()` elements, epsilon 1e-5, the variance biased.
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

/// See [`crate::Kernels::layer_norm`]; shapes have been checked.
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

/// One row of [`crate::Kernels::layer_norm`].
///
/// The variance is taken about the mean in a second pass, as the difference of two sums would cancel.
#[inline(always)]
pub(crate) fn normalise<S: Simd>(s: S, y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32]) {
    let n_state = gamma.len();
    let mean = sum_of_powers::<S, 1>(s, x, 0.0) / n_state as f32;
    let variance = sum_of_powers::<S, 2>(s, x, mean) / n_state as f32;
    let scale = s.splat(1.0 / (variance + reference::LAYER_NORM_EPSILON).sqrt());
    let mean = s.splat(mean);
    let parameters = gamma.chunks(S::LANES).zip(beta.chunks(S::LANES));
    for ((y, x), (gamma, beta)) in y
        .chunks_mut(S::LANES)
        .zip(x.chunks(S::LANES))
        .zip(parameters)
    {
        let normal = s.mul(s.sub(s.read(x), mean), scale);
        s.write(y, s.fma(normal, s.read(gamma), s.read(beta)));
    }
}

/// The sum of `(x - mean)^P`, `P` 1 or 2, by lanes.
#[inline(always)]
fn sum_of_powers<S: Simd, const P: u32>(s: S, x: &[f32], mean: f32) -> f32 {
    let mut sums = s.splat(0.0);
    let whole = x.chunks_exact(S::LANES);
    let tail: f32 = whole
        .remainder()
        .iter()
        .map(|x| (x - mean).powi(P as i32))
        .sum();
    for x in whole {
        let d = s.sub(s.read(x), s.splat(mean));
        sums = if P == 2 {
            s.fma(d, d, sums)
        } else {
            s.add(sums, d)
        };
    }
    s.sum(sums) + tail
}
