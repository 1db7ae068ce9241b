//! Quantisation to 8 bits: scales, zero points, rounding.

/// What a row's bytes stand for: `scale * (q + centre)`. The centre is a whole number, so that zero is exact; rows that are
/// mostly on one side of zero, as GELU leaves them, are so up to twice as exact.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    pub(crate) scale: f32,
    pub(crate) centre: f32,
}

impl Range {
    /// Bytes of a row, less one for the rounding of the centre.
    const STEPS: f32 = 253.0;

    /// That of the numbers of `x` and zero, and the inverse of its scale. Not finite if a number is not.
    #[inline(always)]
    pub(crate) fn of(x: &[f32]) -> (Self, f32) {
        // On bits, turned so that their order as whole numbers is that of the numbers, so that the loop becomes vectors.
        let turned = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
        let number = |key: i32| f32::from_bits(turned(key) as u32);
        let (lowest, highest) = x.iter().fold((0, 0), |(lowest, highest), x| {
            let key = turned(x.to_bits() as i32);
            (key.min(lowest), key.max(highest))
        });
        let (lowest, highest) = (number(lowest), number(highest));
        let (scale, inverse) = step_and_inverse(highest - lowest, Self::STEPS);
        let range = Self {
            scale,
            centre: ((lowest + highest) * 0.5 * inverse).round_ties_even(),
        };
        (range, inverse)
    }
}

/// The largest magnitude; on bits, whose order is that of magnitudes, so that the loop becomes vectors.
#[inline(always)]
pub(crate) fn max_magnitude(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |max, x| max.max(x.abs().to_bits())))
}

/// The step by which `steps` of them are `width`, and its inverse; zeros if that would be infinite. NaN stays NaN.
#[inline(always)]
pub(crate) fn step_and_inverse(width: f32, steps: f32) -> (f32, f32) {
    // Below the smallest normal number the inverse would be infinite.
    if width <= steps * f32::MIN_POSITIVE {
        (0.0, 0.0)
    } else {
        (width / steps, steps / width)
    }
}

/// 1.5 * 2^23: the last bits of a sum with it are the whole number's.
pub(crate) const MAGIC: f32 = 12_582_912.0;

/// `x * inverse`, which is within 2^22, to the nearest whole number, ties to even: the last 8 of its bits.
#[inline(always)]
pub(crate) fn quantised(x: f32, inverse: f32) -> u8 {
    (x * inverse + MAGIC).to_bits() as u8
}
