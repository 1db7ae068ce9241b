//! Exponentials on f32 vectors.

use crate::simd::Simd;

/// `exp(x)`, relative error below 2e-7 for `-87 <= x <= 88`; 0 below -87.33 (where the result would be subnormal),
/// clamped above 88. NaN stays NaN.
///
/// `x = n ln 2 + r`: a polynomial of degree 6 in `r` (error 3e-9), `ln 2` in two parts so that `r` is exact enough.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LOWEST: f32 = -87.33;
    const HIGHEST: f32 = 88.0;
    /// The high part of `ln 2`: 9 bits, so that its product with `n` is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = s.min(s.splat(HIGHEST), s.max(s.splat(LOWEST), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(
        n,
        s.splat(-LN_2_LOW),
        s.fma(n, s.splat(-LN_2_HIGH), clamped),
    );
    let mut p = s.splat(0.001_381_454);
    for c in [
        0.008_368_745,
        0.041_668_39,
        0.166_665_21,
        0.499_999_94,
        1.0,
        1.0,
    ] {
        p = s.fma(p, r, s.splat(c));
    }
    // Lanes clamped from below underflow to 0.
    s.zero_if_below(s.scale_by_power(p, n), x, s.splat(LOWEST))
}

/// `2^x`, relative error below 1e-4, for `x` up to 0: softmax numerators that are rounded to 8 bits. Results below
/// 2^-126 are clamped there.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(x, s.splat(-126.0));
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(0.055_171_665);
    for c in [0.242_611_13, 0.693_260_97, 0.999_928_06] {
        p = s.fma(p, r, s.splat(c));
    }
    s.scale_by_power(p, n)
}
