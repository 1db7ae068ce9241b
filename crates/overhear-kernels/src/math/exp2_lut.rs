//! `2^x` as bf16 from a 16-bit fixed point and a table: softmax numerators on AMX.
//!
//! `x + 127` in fixed point, steps of 2^-7, has exponent and fraction where a bf16 has them, and would be the result
//! if `2^f` were `1 + f` (Schraudolph, "A fast, compact approximation of the exponential function", 1999). In steps
//! of 2^-8, the average with a table entry is the result: half a step changes `2^f` by less than one step of bf16, so
//! one entry serves two neighbouring fractions. The relative error is at most 0.53 %: 0.14 % from rounding `x`, 0.39
//! % from rounding to bf16. Tile products treat results below 2^-126 as zero.

/// One in fixed point.
pub(crate) const ONE: f32 = 256.0;
/// Bias subtracted from the fixed-point exponent so that all table entries are non-negative.
pub(crate) const BIAS: f32 = 24.0;
/// Bits that only results of 2 and more have: the upper half of the exponents, and saturation.
pub(crate) const OVERFLOW: u16 = 0xc000;

/// Table that vectors load.
#[repr(C, align(64))]
pub(crate) struct Table(pub(crate) [u8; 128]);

/// Entry that is averaged with the fixed point, by the upper 7 bits of its fraction: [`BIAS`], plus one for the
/// rounding of `vpavgw`, plus twice `2^f - 1 - f`, which is negative.
#[rustfmt::skip]
pub(crate) static TABLE: Table = Table([
    17, 16, 15, 15, 15, 14, 13, 13, 13, 12, 12, 11, 11, 11, 10, 10, 9, 9, 9, 8, 8, 7, 7, 7, 7, 6, 6, 6, 5, 5, 5, 5,
    4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 8, 8, 8, 9, 9, 10, 10, 10,
    11, 12, 12, 12, 13, 14, 14, 15, 16, 16, 17, 17, 18, 18, 19, 20, 21, 22, 22, 23, 23, 23, 22, 21, 21, 21, 20, 19, 19, 18, 17, 17,
]);

/// `2^(scale * score + offset - 127)`, the emulated twin of the vector code. Results below 2^-126 are as good as
/// zero; from 2 on they are wrong, but have one of the bits of [`OVERFLOW`].
#[cfg(any(test, feature = "testing"))]
pub(crate) fn exp2_bf16(score: f32, scale: f32, offset: f32) -> u16 {
    let x = score.mul_add(scale * ONE, offset.mul_add(ONE, -BIAS));
    let x = x.round_ties_even();
    // Conversion of NaN and of values out of range gives the least integer, as `vcvtps2dq` does.
    let x = if x.abs() < 2f32.powi(31) {
        x as i32
    } else {
        i32::MIN
    };
    let x = x.clamp(0, i32::from(u16::MAX)) as u32;
    ((x + u32::from(TABLE.0[(x >> 1 & 127) as usize]) + 1) >> 1) as u16
}

#[cfg(test)]
mod tests {
    use super::{OVERFLOW, exp2_bf16};

    fn widened(bits: u16) -> f64 {
        f64::from(f32::from_bits(u32::from(bits) << 16))
    }

    #[test]
    fn fractions_become_the_nearest_bfloat16() {
        for i in 0..256 {
            let f = i as f32 / 256.0;
            let nearest = half::bf16::from_f64(f64::from(f).exp2() * 0.25).to_bits();
            assert_eq!(exp2_bf16(f, 1.0, 125.0), nearest, "{i}");
        }
    }

    #[test]
    fn weights_are_powers_of_two_but_for_their_rounding() {
        for i in -126 * 1000..=1000 {
            let x = i as f32 / 1000.0;
            let error = widened(exp2_bf16(2.0 * x, 0.5, 127.0)) / f64::from(x).exp2() - 1.0;
            assert!(error.abs() < 0.0053, "2^{x}: off by {error}");
        }
    }

    #[test]
    fn weights_from_2_on_are_told_and_none_below() {
        for x in [f32::NEG_INFINITY, f32::NAN, -1e9, -127.0, -1.0, 0.0, 0.99] {
            assert_eq!(exp2_bf16(x, 1.0, 127.0) & OVERFLOW, 0, "2^{x}");
        }
        for x in [1.0, 2.0, 127.0, 128.0, 300.0, 513.0, 1e6, 8e6] {
            assert_ne!(exp2_bf16(x, 1.0, 127.0) & OVERFLOW, 0, "2^{x}");
        }
        // Below the smallest normal number.
        assert!(exp2_bf16(f32::NEG_INFINITY, 1.0, 127.0) < 1 << 7);
    }
}
