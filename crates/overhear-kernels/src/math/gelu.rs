//! GELU on f32 vectors.

use super::exp::exp;
use crate::simd::Simd;

/// `0.5 x (1 + erf(x / sqrt 2))`, absolute error below 5e-7 (for `|x| > 4`, relative).
///
/// As `max(x, 0) - |x| / 2 * erfc(|x| / sqrt 2)`, which cancels nothing, with
/// `erfc(z) = t q(t) exp(-z^2)`, `t = 1 / (1 + z / 2)`: the form of Abramowitz and Stegun 7.1.26 with more terms.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    /// Where the tail is 0, so that no infinity is multiplied by it.
    const TAIL_END: f32 = 20.0;
    let zero = s.splat(0.0);
    let magnitude = s.max(x, s.sub(zero, x));
    let t = s.div(
        s.splat(1.0),
        s.fma(
            magnitude,
            s.splat(0.5 * std::f32::consts::FRAC_1_SQRT_2),
            s.splat(1.0),
        ),
    );
    let mut q = s.splat(0.095_301_73);
    for c in [
        -0.382_057_96,
        0.425_330_76,
        0.011_668_491,
        0.291_686_36,
        0.275_585_53,
        0.282_485_43,
    ] {
        q = s.fma(q, t, s.splat(c));
    }
    let magnitude = s.min(s.splat(TAIL_END), magnitude);
    let half = s.mul(magnitude, s.splat(0.5));
    let gauss = exp(s, s.sub(zero, s.mul(half, magnitude)));
    let tail = s.mul(s.mul(q, t), s.mul(gauss, half));
    s.sub(s.max(x, zero), tail)
}

/// GELU with an absolute error below 6e-5, in half the instructions: for products whose operands are rounded to 8
/// bits.
///
/// Computed as `x (1/2 + x p(x^2))`. The polynomial is fitted for `|x| <= 4.5`, where the result meets 0 and `x`, and
/// is clamped beyond.
#[inline(always)]
pub(crate) fn gelu_bf16<S: Simd>(s: S, x: S::V) -> S::V {
    const END: f32 = 4.5;
    let clamped = s.min(s.splat(END), s.max(s.splat(-END), x));
    let square = s.mul(clamped, clamped);
    let mut p = s.splat(3.000_006e-11);
    for c in [
        -3.283_911_3e-9,
        1.580_256_9e-7,
        -4.431_684e-6,
        8.120_970_6e-5,
        -0.001_036_253_3,
        0.009_580_653,
        -0.065_977_27,
        0.398_708_58,
    ] {
        p = s.fma(p, square, s.splat(c));
    }
    s.mul(x, s.fma(clamped, p, s.splat(0.5)))
}
