//! Quantisation to 8 bits: scales, zero points, rounding.

/// What a row's bytes stand for: `scale * (q + zero_point)`. The centre is a whole number, so that zero is exact; rows that are
/// mostly on one side of zero, as GELU leaves them, are so up to twice as exact.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuantParams {
    pub(crate) scale: f32,
    pub(crate) zero_point: f32,
}

impl QuantParams {
    /// Bytes of a row, less one for the rounding of the centre.
    const STEPS: f32 = 253.0;

    /// That of the numbers of `x` and zero, and the inverse of its scale. Not finite if a number is not.
    #[inline(always)]
    pub(crate) fn of_row(x: &[f32]) -> (Self, f32) {
        // On bits, turned so that their order as whole numbers is that of the numbers, so that the loop becomes vectors.
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

/// The largest magnitude; on bits, whose order is that of magnitudes, so that the loop becomes vectors.
#[inline(always)]
pub(crate) fn max_abs(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |max, x| max.max(x.abs().to_bits())))
}

/// The step by which `steps` of them are `width`, and its inverse; zeros if that would be infinite. NaN stays NaN.
#[inline(always)]
pub(crate) fn scale_and_inverse(width: f32, steps: f32) -> (f32, f32) {
    // Below the smallest normal number the inverse would be infinite.
    if width <= steps * f32::MIN_POSITIVE {
        (0.0, 0.0)
    } else {
        (width / steps, steps / width)
    }
}

/// 1.5 * 2^23: the last bits of a sum with it are the whole number's.
pub(crate) const ROUND_MAGIC: f32 = 12_582_912.0;

/// `x * inverse`, which is within 2^22, to the nearest whole number, ties to even: the last 8 of its bits.
#[inline(always)]
pub(crate) fn quantize(x: f32, inverse: f32) -> u8 {
    (x * inverse + ROUND_MAGIC).to_bits() as u8
}
