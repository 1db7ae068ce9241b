//! Layer normalisation of one row, shared by the kernel and the packing of activations.

use crate::simd::Simd;

/// Term that layer normalisation adds to the variance.
pub(crate) const LAYER_NORM_EPSILON: f32 = 1e-5;

/// Layer normalisation of one row, `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta`.
///
/// The variance is computed about the mean in a second pass, because the difference of two sums would cancel.
#[inline(always)]
pub(crate) fn normalise<S: Simd>(s: S, y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32]) {
    let n_state = gamma.len();
    let mean = sum_of_powers::<S, 1>(s, x, 0.0) / n_state as f32;
    let variance = sum_of_powers::<S, 2>(s, x, mean) / n_state as f32;
    let scale = s.splat(1.0 / (variance + LAYER_NORM_EPSILON).sqrt());
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

/// Sum of `(x - mean)^P`, with `P` 1 or 2.
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
