//! Input of the benchmark: the same sound on every machine.

/// Samples per second, and number of samples of a window.
pub(super) const SAMPLE_RATE: u32 = 16_000;
const N_SAMPLES: usize = 30 * SAMPLE_RATE as usize;

/// Generates 30 seconds of gliding tones in syllables of a quarter of a second, with a little noise.
pub(super) fn samples() -> Vec<f32> {
    let mut seed = 1_u32;
    let mut phase = 0.0_f64;
    (0..N_SAMPLES)
        .map(|i| {
            let time_s = i as f64 / f64::from(SAMPLE_RATE);
            // Linear congruential generator of "Numerical Recipes": good enough for noise.
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(seed >> 8) / f64::from(1 << 23) - 1.0;
            let pitch_hz = 160.0 + 60.0 * (1.3 * time_s).sin();
            phase += std::f64::consts::TAU * pitch_hz / f64::from(SAMPLE_RATE);
            let voice: f64 = (1..=8)
                .map(|n| (phase * f64::from(n)).sin() / f64::from(n))
                .sum();
            let loudness = (std::f64::consts::TAU * 2.0 * time_s).sin().max(0.0);
            (0.2 * loudness * voice + 0.005 * noise) as f32
        })
        .collect()
}
