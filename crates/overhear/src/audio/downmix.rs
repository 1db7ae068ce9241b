//! Weights of the channels of a surround recording in the mono mix, as ffmpeg computes them with `-ac 1`, which
//! produces openai/whisper's input.
//!
//! The weights are those of libswresample's default matrix (its documentation: `center_mix_level` and
//! `surround_mix_level` of -3 dB, `lfe_mix_level` of 0), normalised to sum to 1 as for 16-bit output: left and right
//! 0.707, centre 1, surround channels 0.5, low-frequency and overhead channels 0. A plain mean would attenuate speech,
//! which is mostly in the centre channel. Channels of unknown position are mixed by their mean.

use std::sync::Arc;

/// A speaker by its bit in a WAVE channel mask (Microsoft, "Enhanced Multichannel Audio Files", 2007).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speaker(pub(super) u32);

impl Speaker {
    pub(super) const FRONT_LEFT: Self = Self(0);
    pub(super) const FRONT_RIGHT: Self = Self(1);
    pub(super) const FRONT_CENTER: Self = Self(2);
    pub(super) const LOW_FREQUENCY: Self = Self(3);
    pub(super) const BACK_LEFT: Self = Self(4);
    pub(super) const BACK_RIGHT: Self = Self(5);
    pub(super) const FRONT_LEFT_OF_CENTER: Self = Self(6);
    pub(super) const FRONT_RIGHT_OF_CENTER: Self = Self(7);
    pub(super) const BACK_CENTER: Self = Self(8);
    pub(super) const SIDE_LEFT: Self = Self(9);
    pub(super) const SIDE_RIGHT: Self = Self(10);

    /// Returns the weight of the speaker before normalisation.
    fn share(self) -> f32 {
        match self.0 {
            // Left, right, and left and right of centre.
            0 | 1 | 6 | 7 => std::f32::consts::FRAC_1_SQRT_2,
            2 => 1.0,
            // Rear and side speakers.
            4 | 5 | 8..=10 => 0.5,
            _ => 0.0,
        }
    }
}

/// Weights of the channels of a frame, in channel order; the mean by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Downmix(Option<Arc<[f32]>>);

impl Downmix {
    /// Creates the weights of channels that feed `speakers`, in this order.
    pub(super) fn new(speakers: &[Speaker]) -> Self {
        let sum: f32 = speakers.iter().map(|speaker| speaker.share()).sum();
        let weights: Arc<[f32]> = speakers
            .iter()
            .map(|speaker| speaker.share() / sum)
            .collect();
        // Mono and stereo must give exactly the bits of the mean.
        let is_mean = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self((sum > 0.0 && !is_mean).then_some(weights))
    }

    /// Creates the weights of channels in the order of the bits of a WAVE channel mask; the mean if the number of bits
    /// in the mask differs from `n_channels`.
    pub(super) fn from_mask(mask: u64, n_channels: usize) -> Self {
        let speakers: Vec<Speaker> = (0..u64::BITS)
            .filter(|bit| mask >> bit & 1 == 1)
            .map(Speaker)
            .collect();
        if speakers.len() == n_channels {
            Self::new(&speakers)
        } else {
            Self::default()
        }
    }

    /// Appends the mix of each frame of `samples` (`[n_frames, n_channels]`) to `mono`. A single channel is copied
    /// unchanged, bit for bit.
    pub(super) fn mix(&self, samples: &[f32], n_channels: usize, mono: &mut Vec<f32>) {
        let frames = samples.chunks_exact(n_channels);
        match (&self.0, n_channels) {
            (_, 1) => mono.extend_from_slice(samples),
            (Some(weights), n) if n == weights.len() => mono.extend(frames.map(|frame| {
                let parts = frame.iter().zip(weights.iter());
                parts.map(|(sample, weight)| sample * weight).sum::<f32>()
            })),
            (_, 2) => {
                let (pairs, _) = samples.as_chunks::<2>();
                mono.extend(pairs.iter().map(|[left, right]| (left + right) / 2.0));
            }
            (_, n) => mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / n as f32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights that ffmpeg 5.1 gives to one channel at a time (`ffmpeg -channel_layout L -i ... -ac 1 -acodec
    /// pcm_s16le`).
    #[test]
    fn weights_are_those_of_ffmpeg_for_every_layout_of_a_wave_mask() {
        let cases: [(&str, u64, &[f32]); 26] = [
            ("mono", 0x4, &[1.0]),
            ("stereo", 0x3, &[0.5, 0.5]),
            ("2.1", 0xB, &[0.5, 0.5, 0.0]),
            ("3.0", 0x7, &[0.2929, 0.2929, 0.4142]),
            ("3.0(back)", 0x103, &[0.3694, 0.3694, 0.2612]),
            ("4.0", 0x107, &[0.2426, 0.2426, 0.3431, 0.1716]),
            ("quad", 0x33, &[0.2929, 0.2929, 0.2071, 0.2071]),
            ("quad(side)", 0x603, &[0.2929, 0.2929, 0.2071, 0.2071]),
            ("3.1", 0xF, &[0.2929, 0.2929, 0.4142, 0.0]),
            ("5.0", 0x37, &[0.2071, 0.2071, 0.2929, 0.1464, 0.1464]),
            (
                "5.0(side)",
                0x607,
                &[0.2071, 0.2071, 0.2929, 0.1464, 0.1464],
            ),
            ("4.1", 0x10F, &[0.2426, 0.2426, 0.3431, 0.0, 0.1716]),
            ("5.1", 0x3F, &[0.2071, 0.2071, 0.2929, 0.0, 0.1464, 0.1464]),
            (
                "5.1(side)",
                0x60F,
                &[0.2071, 0.2071, 0.2929, 0.0, 0.1464, 0.1464],
            ),
            (
                "6.0",
                0x707,
                &[0.1807, 0.1807, 0.2555, 0.1277, 0.1277, 0.1277],
            ),
            (
                "6.0(front)",
                0x6C3,
                &[0.1847, 0.1847, 0.1847, 0.1847, 0.1306, 0.1306],
            ),
            (
                "hexagonal",
                0x137,
                &[0.1807, 0.1807, 0.2555, 0.1277, 0.1277, 0.1277],
            ),
            (
                "6.1",
                0x70F,
                &[0.1807, 0.1807, 0.2555, 0.0, 0.1277, 0.1277, 0.1277],
            ),
            (
                "6.1(back)",
                0x13F,
                &[0.1807, 0.1807, 0.2555, 0.0, 0.1277, 0.1277, 0.1277],
            ),
            (
                "6.1(front)",
                0x6CB,
                &[0.1847, 0.1847, 0.0, 0.1847, 0.1847, 0.1306, 0.1306],
            ),
            (
                "7.0",
                0x637,
                &[0.1602, 0.1602, 0.2266, 0.1133, 0.1133, 0.1133, 0.1133],
            ),
            (
                "7.0(front)",
                0x6C7,
                &[0.1464, 0.1464, 0.2071, 0.1464, 0.1464, 0.1036, 0.1036],
            ),
            (
                "7.1",
                0x63F,
                &[0.1602, 0.1602, 0.2266, 0.0, 0.1133, 0.1133, 0.1133, 0.1133],
            ),
            (
                "7.1(wide)",
                0xFF,
                &[0.1464, 0.1464, 0.2071, 0.0, 0.1036, 0.1036, 0.1464, 0.1464],
            ),
            (
                "7.1(wide-side)",
                0x6CF,
                &[0.1464, 0.1464, 0.2071, 0.0, 0.1464, 0.1464, 0.1036, 0.1036],
            ),
            (
                "octagonal",
                0x737,
                &[
                    0.1439, 0.1439, 0.2035, 0.1017, 0.1017, 0.1017, 0.1017, 0.1017,
                ],
            ),
        ];
        for (layout, mask, expected) in cases {
            let n = expected.len();
            let downmix = Downmix::from_mask(mask, n);
            for (channel, weight) in expected.iter().enumerate() {
                let mut frame = vec![0.0; n];
                frame[channel] = 1.0;
                let mut mono = Vec::new();
                downmix.mix(&frame, n, &mut mono);
                // The weights were recorded with four digits.
                assert!((mono[0] - weight).abs() < 1e-4, "{layout}, {channel}");
            }
        }
    }

    #[test]
    fn masks_that_cannot_be_and_speakers_overhead_alone_give_the_mean() {
        for (mask, n_channels) in [(0, 6), (0x3F, 4), (0x3F, 8), (u64::MAX, 2), (0x5000, 2)] {
            assert_eq!(Downmix::from_mask(mask, n_channels), Downmix::default());
        }
    }
}
