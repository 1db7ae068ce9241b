//! Dynamic quantisation to 8 bits: scales, zero points, rounding.

/// Quantisation parameters of a row of activations, dynamic and asymmetric: `x = scale * (q + zero_point)` (the zero
/// point is added, unlike oneDNN's). The zero point is an integer, so that zero is exact. Rows mostly on one side of
/// zero, as GELU leaves them, get up to twice the accuracy of a symmetric scale.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuantParams {
    pub(crate) scale: f32,
    pub(crate) zero_point: f32,
}

impl QuantParams {
    /// Quantisation steps of a row: those of a byte, less one for the rounding of the zero point.
    const STEPS: f32 = 253.0;

    /// Parameters for the range of `x` and zero, and the reciprocal of the scale. Not finite if an element is not.
    #[inline(always)]
    pub(crate) fn of_row(x: &[f32]) -> (Self, f32) {
        // Comparisons are on the bits, transformed so that their integer order is the order of the numbers, so that
        // the loop is vectorised.
        let ordered = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
        let number = |key: i32| f32::from_bits(ordered(key) as u32);
        let (lowest, highest) = x.iter().fold((0, 0), |(lowest, highest), x| {
            let key = ordered(x.to_bits() as i32);
            (key.min(lowest), key.max(highest))
        });
        let (lowest, highest) = (number(lowest), number(highest));
        let (scale, inverse) = scale_and_inverse(highest - lowest, Self::STEPS);
        let params = Self {
            scale,
            zero_point: ((lowest + highest) * 0.5 * inverse).round_ties_even(),
        };
        (params, inverse)
    }
}

/// Largest magnitude. Compares bits, whose order is that of magnitudes, so that the loop is vectorised.
#[inline(always)]
pub(crate) fn max_abs(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |max, x| max.max(x.abs().to_bits())))
}

/// Scale `width / steps` and its reciprocal; zeros if the reciprocal would be infinite. NaN stays NaN.
#[inline(always)]
pub(crate) fn scale_and_inverse(width: f32, steps: f32) -> (f32, f32) {
    // Below the smallest normal number the reciprocal would be infinite.
    if width <= steps * f32::MIN_POSITIVE {
        (0.0, 0.0)
    } else {
        (width / steps, steps / width)
    }
}

/// 1.5 * 2^23: adding it rounds to an integer, which the low bits of the sum hold.
pub(crate) const ROUND_MAGIC: f32 = 12_582_912.0;

/// Rounds `x * inverse`, whose magnitude must be below 2^22, to the nearest integer, ties to even. Returns its low 8
/// bits.
#[inline(always)]
pub(crate) fn quantize(x: f32, inverse: f32) -> u8 {
    (x * inverse + ROUND_MAGIC).to_bits() as u8
}
