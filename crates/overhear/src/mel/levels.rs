//! Loudness of frames, and the level up to which a file counts as silent. The level is relative to the file's own
//! quietest parts, as there is no absolute measure.

use super::frames::SILENCE;

/// Difference in decades of power between the quietest frames of a file and its loudest silence: 3 dB. Stationary noise
/// varies by less; speech exceeds it.
const MARGIN: f32 = 0.3;
/// Quantile of a file's frames that counts as its quietest: 5 %, as single frames may be truncated or faded.
const QUIETEST: f64 = 0.05;
/// Frames less than this many decades above the lower limit of the logarithm are digital silence: pauses edited into
/// recordings, relative to which all noise would be loud.
const DIGITAL_SILENCE: f32 = 0.5;

/// Histogram bin in decades, and number of bins from [`SILENCE`] on: up to 10 decades above full scale.
const STEP: f32 = 0.05;
const N_STEPS: usize = 400;

/// Returns the level of a frame in decades: the mean over its mel bins. The logarithm of the mean power would be
/// dominated by hum and rumble.
pub(super) fn level(decades: &[f32]) -> f32 {
    decades.iter().sum::<f32>() / decades.len() as f32
}

/// Histogram of the levels of a file's frames.
pub(super) struct Levels {
    counts: Vec<usize>,
}

impl Levels {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; N_STEPS],
        }
    }

    /// Adds `frames`, `[_, n_mels]` in decades.
    pub(super) fn count(&mut self, frames: &[f32], n_mels: usize) {
        for frame in frames.chunks_exact(n_mels) {
            let above = level(frame) - SILENCE;
            if above > DIGITAL_SILENCE {
                self.counts[((above / STEP) as usize).min(N_STEPS - 1)] += 1;
            }
        }
    }

    /// Returns the level, in decades, up to which frames count as silent.
    pub(super) fn silence(&self) -> f32 {
        let n_frames: usize = self.counts.iter().sum();
        let n_quietest = (n_frames as f64 * QUIETEST) as usize;
        let mut n_below = 0;
        let quietest = self.counts.iter().position(|count| {
            n_below += count;
            n_below > n_quietest
        });
        let quietest = quietest.map_or(0.0, |step| step as f32 * STEP);
        SILENCE + quietest.max(DIGITAL_SILENCE) + MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(frames: &[(f32, usize)]) -> f32 {
        let mut levels = Levels::new();
        for &(level, n) in frames {
            levels.count(&[level; 2].repeat(n), 2);
        }
        levels.silence()
    }

    #[test]
    fn silence_is_a_margin_above_the_quietest_frames_that_hold_anything() {
        let floor = SILENCE + DIGITAL_SILENCE + MARGIN;
        let cases: [(&[(f32, usize)], f32); 5] = [
            (&[], floor),
            (&[(SILENCE, 100)], floor),
            (&[(-4.0, 90), (-1.0, 10)], -4.0 + MARGIN),
            (&[(SILENCE, 500), (-4.0, 90), (-1.0, 10)], -4.0 + MARGIN),
            (&[(-6.0, 4), (-4.0, 96)], -4.0 + MARGIN),
        ];
        for (frames, expected) in cases {
            let found = silence(frames);
            assert!((found - expected).abs() <= STEP, "{frames:?}: {found}");
        }
    }
}
