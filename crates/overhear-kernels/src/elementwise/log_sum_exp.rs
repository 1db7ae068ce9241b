//! The logarithm of a sum of exponentials.

use super::maxima::{Maxima, largest, read_padded};
use crate::kernels::Kernels;
use crate::math::exp;
use crate::reference;
use crate::simd::{Simd, Vectorized};

impl Kernels {
    /// `ln(sum(exp(x)))`; negative infinity for an empty or all `-inf` row.
    #[must_use]
    pub fn log_sum_exp(&self, x: &[f32]) -> f32 {
        let call = LogSumExp { x, max: None };
        self.arch.run(call, || reference::log_sum_exp(x))
    }

    /// [`Kernels::log_sum_exp`], with the same bits, of a row whose maxima are known.
    #[must_use]
    pub fn log_sum_exp_below(&self, x: &[f32], maxima: &Maxima) -> f32 {
        let max = Some(maxima.largest());
        let call = LogSumExp { x, max };
        self.arch.run(call, || reference::log_sum_exp(x))
    }
}

/// Kernel of [`Kernels::log_sum_exp`].
struct LogSumExp<'a> {
    x: &'a [f32],
    /// Largest element, if it is known.
    max: Option<f32>,
}

impl Vectorized for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let max = self.max.unwrap_or_else(|| largest(s, self.x));
        if max == f32::NEG_INFINITY {
            return reference::log_sum_exp(self.x);
        }
        // Lanes add up to 64 terms in f32, blocks are added in f64: a vocabulary has 50,000 elements.
        let mut sum = 0.0f64;
        for block in self.x.chunks(64 * S::LANES) {
            let mut sums = s.splat(0.0);
            for x in block.chunks(S::LANES) {
                let x = read_padded(s, x);
                sums = s.add(sums, exp(s, s.sub(x, s.splat(max))));
            }
            sum += f64::from(s.sum(sums));
        }
        max + sum.ln() as f32
    }
}
