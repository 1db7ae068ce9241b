//! Energy as voice activity: how far a frame is above the noise floor, which follows the quietest frames.
//!
//! It takes no network, and tells sound from silence, not speech from other sounds: music, keyboards and a fan that is switched
//! on count as speech, and speech below the noise does not.

/// Lowest noise floor, in dB of full scale: what is as quiet is silence, whatever is around it.
const LOWEST_DB: f32 = -60.0;
/// Highest noise floor at the beginning, which may be speech.
const FIRST_DB: f32 = -40.0;
/// Change of the noise floor from frame to frame, in dB: it falls in a pause between words, and not to the bottom in a dropout
/// of a frame or two. It rises by 2 dB a second.
const FALL_DB: f32 = 3.0;
const RISE_DB: f32 = 0.064;
/// Level above the noise floor at which the probability is 0.5, and by which its odds grow e-fold, in dB. The level of a frame
/// of white noise varies by 0.3 dB.
const EVEN_DB: f32 = 9.0;
const SCALE_DB: f32 = 3.0;

/// The noise floor so far, in dB of full scale.
#[derive(Default)]
pub(super) struct NoiseFloor(Option<f32>);

impl NoiseFloor {
    /// Returns the probability of speech in the next frame, by its level.
    pub(super) fn probability(&mut self, frame: &[f32]) -> f32 {
        let squares: f64 = frame.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        let level = 10.0 * (squares / frame.len().max(1) as f64 + 1e-10).log10() as f32;
        let floor = self.0.get_or_insert(level.min(FIRST_DB));
        *floor = (*floor + (level - *floor).clamp(-FALL_DB, RISE_DB)).max(LOWEST_DB);
        1.0 / (1.0 + ((EVEN_DB - (level - *floor)) / SCALE_DB).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FRAME_SAMPLES;
    use super::*;

    /// Returns the probabilities of frames of a square wave with these levels in dB.
    fn probabilities(levels: impl Iterator<Item = f32>) -> Vec<f32> {
        let mut floor = NoiseFloor::default();
        let frame = |level: f32| [10_f32.powf(level / 20.0); FRAME_SAMPLES];
        levels
            .map(|level| floor.probability(&frame(level)))
            .collect()
    }

    #[test]
    fn silence_and_steady_noise_are_no_speech_and_what_is_above_them_is() {
        let is_silence = |found: &[f32]| found.iter().all(|&p| p < 0.35);
        assert!(is_silence(&probabilities([-200.0; 100].into_iter())));
        assert!(is_silence(&probabilities([-58.0; 100].into_iter())));
        assert!(is_silence(&probabilities([-35.0; 100].into_iter())));
        // Speech is 20 dB above noise, with pauses.
        let speech = (0..1000).map(|i| if i % 50 < 40 { -20.0 } else { -40.0 });
        let found = probabilities(speech);
        for (i, p) in found.iter().enumerate() {
            let expected = if i % 50 < 40 { 0.9..=1.0 } else { 0.0..=0.1 };
            assert!(expected.contains(p), "{i}: {p}");
        }
        // Noise that begins counts as speech until the floor has risen to it.
        let found = probabilities((0..600).map(|i| if i < 100 { -60.0 } else { -40.0 }));
        assert!(found[150] > 0.9 && is_silence(&found[350..]));
        // A dropout does not make speech of the noise around it.
        let found = probabilities((0..200).map(|i| if i == 100 { -200.0 } else { -35.0 }));
        assert!(is_silence(&found));
    }
}
