//! GELU from a table, for AMX: tile instructions leave vectors one of two ports for multiply-adds, and the other for
//! table look-ups. Half the instructions of [`gelu_bf16`](crate::math::gelu_bf16), and a quarter of its error.
//!
//! Computed as `max(x, 0) - z (1 - phi(z))`, `z = |x|`. The factor of `z` is a parabola per segment of 1/7 (minimax
//! fits of the product; the last one reaches zero, where it stays).

/// Segments per unit of `|x|`.
pub(crate) const SEGMENTS_PER_UNIT: f32 = 7.0;
/// End of the last segment.
pub(crate) const END: f32 = 31.49 / SEGMENTS_PER_UNIT;

/// Coefficients that vectors load, one per segment.
#[repr(C, align(64))]
pub(crate) struct Table(pub(crate) [f32; 32]);

/// Coefficients of `z^2`, `z` and 1.
#[rustfmt::skip]
pub(crate) static COEFFICIENTS: [Table; 3] = [
Table([
    -0.009_110_726, -0.029_411_31, -0.055_159_025, -0.078_166_25, -0.096_846_53, -0.110_342_7, -0.118_306_3,
    -0.120_881_915, -0.118_515_2, -0.112_101_18, -0.102_615_91, -0.091_119_58, -0.078_624_59, -0.066_013_105,
    -0.053_985_19, -0.043_037_47, -0.033_468_228, -0.025_401_939, -0.018_825_356, -0.013_627_755, -0.009_639_352,
    -0.006_663_940_4, -0.004_503_760_5, -0.002_976_24, -0.001_923_470_1, -0.001_215_891_6, -7.518917e-4, -4.549035e-4,
    -2.692_982_4e-4, -1.560_054_8e-4, -8.844551e-5, 2.928_527_8e-4,
]),
Table([
    0.399_319_23, 0.403_068_45, 0.414_285_6, 0.430_748_22, 0.449_384_7, 0.466_651_44, 0.479_059_25, 0.483_734_46,
    0.478_561_76, 0.462_895_75, 0.437_081_43, 0.402_546_23, 0.361_466_56, 0.316_419_54, 0.270_034_97, 0.224_699_33,
    0.182_346_72, 0.144_347_98, 0.111_492_92, 0.084_045_58, 0.061_846_89, 0.044_438_12, 0.031_183_317, 0.021_374_976,
    0.014_314_878, 0.009_367_945, 0.005_991_644_7, 0.003_745_916, 0.002_289_499_4, 0.001_368_199, 7.995319e-4,
    -0.002_546_834_8,
]),
Table([
    -0.500_004_4, -0.500_179_77, -0.501_411_8, -0.504_366_3, -0.509_022_2, -0.514_550_3, -0.519_386_35, -0.521_507_86,
    -0.518_681_47, -0.509_113_13, -0.491_545_7, -0.465_604_78, -0.431_835_17, -0.391_603_95, -0.346_879_33,
    -0.299_939_87, -0.253_073_57, -0.208319, -0.167_282_2, -0.131_044_27, -0.100_154_17, -0.074_688_785,
    -0.054_355_115, -0.038_609_438, -0.026_772_372, -0.018_125_638, -0.011_983_53, -0.007_738_041, -0.004_880_896,
    -0.003_007_839_2, -0.001_811_162_9, 0.005_530_614,
]),
];

/// GELU with an absolute error below 2e-5, the emulated twin of the vector code. NaN stays NaN.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn gelu(x: f32) -> f32 {
    use super::quantize::ROUND_MAGIC;
    let z = x.abs();
    let z = if z < END { z } else { END };
    let at = (z.mul_add(SEGMENTS_PER_UNIT, ROUND_MAGIC).to_bits() & 31) as usize;
    let above = if 0.0 > x { 0.0 } else { x };
    let p = COEFFICIENTS
        .iter()
        .fold(0.0f32, |p, table| p.mul_add(z, table.0[at]));
    p.mul_add(z, above)
}

#[cfg(test)]
mod tests {
    use super::gelu;

    #[test]
    fn the_table_is_gelu() {
        for i in -600_000..=600_000 {
            let x = i as f32 * 1e-5;
            let error = f64::from(gelu(x)) - f64::from(crate::reference::gelu(x));
            assert!(error.abs() < 2e-5, "{x}: off by {error}");
        }
        assert_eq!(gelu(0.0), 0.0);
        assert_eq!(gelu(1e30), 1e30);
        assert!(gelu(-1e30).abs() < 1e-6);
        assert_eq!(gelu(f32::INFINITY), f32::INFINITY);
        assert!(gelu(f32::NEG_INFINITY).abs() < 1e-6);
        assert!(gelu(f32::NAN).is_nan());
    }
}
