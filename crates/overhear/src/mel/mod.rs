//! The log-mel spectrogram: `whisper/audio.py::log_mel_spectrogram`.
//!
//! The reference computes the spectrogram of the whole file at once, and clamps it 8 decades below its file-wide
//! maximum, so no window is final before the last sample has been read. [`MelStream`] therefore reads a file twice: the
//! first pass measures its length and maximum, the second one computes the windows, and memory use is constant. Files
//! of up to ten minutes keep the frames of their first pass instead.

mod filters;
mod frames;
mod levels;
mod loudness;
mod piece;
mod stream;

pub(crate) use filters::{N_BINS, filterbank};
pub(crate) use piece::MelPiece;
pub(crate) use stream::MelStream;

use overhear_kernels::Kernels;

use crate::{Error, Result};
use frames::{FrameTransform, SILENCE};

/// Samples per second.
const SAMPLE_RATE: usize = crate::audio::SAMPLE_RATE as usize;
/// Samples per Fourier transform: 25 ms.
const N_FFT: usize = 400;
/// Samples per frame: 10 ms.
const HOP_LENGTH: usize = 160;
/// Frames per window: 30 s.
pub(crate) const N_FRAMES: usize = 3000;
/// Frames per second.
pub(crate) const FRAMES_PER_SECOND: f64 = 100.0;

/// A log-mel spectrogram `[n_mels, n_frames]`, row-major, one frame per 10 ms.
#[derive(Clone, Debug, PartialEq)]
pub struct LogMel {
    /// Mel bins: 80, or 128 for large-v3 and turbo.
    pub n_mels: usize,
    /// Frames of 10 ms.
    pub n_frames: usize,
    /// `[n_mels, n_frames]`, row-major.
    pub data: Vec<f32>,
}

impl LogMel {
    /// Creates a spectrogram of zeros, the padding value of the reference's windows.
    fn zeros(n_mels: usize, n_frames: usize) -> Self {
        Self {
            n_mels,
            n_frames,
            data: vec![0.0; n_mels * n_frames],
        }
    }

    /// Writes frames from index `first` on. `decades`: `log10` of power, `[n, n_mels]`; they are clamped 8 below `max`
    /// and scaled.
    fn set_frames(&mut self, first: usize, decades: &[f32], max: f32) {
        /// Number of frames processed together: a cache line of each mel bin's row.
        const BLOCK: usize = 16;
        let (n_mels, n_frames) = (self.n_mels, self.n_frames);
        for (block, decades) in decades.chunks(BLOCK * n_mels).enumerate() {
            let rows = self.data[first + block * BLOCK..].chunks_mut(n_frames);
            for (mel, row) in rows.enumerate() {
                let values = decades[mel..].iter().step_by(n_mels);
                for (out, value) in row.iter_mut().zip(values) {
                    *out = scaled(*value, max);
                }
            }
        }
    }
}

/// Window of the log-mel spectrogram in the encoder's layout, time-major: `[N_FRAMES, n_mels]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MelWindow {
    n_mels: usize,
    /// `[N_FRAMES, n_mels]`, row-major.
    pub(crate) data: Vec<f32>,
}

impl MelWindow {
    /// Returns a window of zeros, the padding value of the reference.
    pub(crate) fn zeros(n_mels: usize) -> Self {
        Self {
            n_mels,
            data: vec![0.0; N_FRAMES * n_mels],
        }
    }

    /// Transposes `mel` to a window for a model of `n_mels` mel bins.
    ///
    /// # Errors
    /// [`Error::Option`] if `mel` is not `[n_mels, N_FRAMES]`.
    pub(crate) fn of(mel: &LogMel, n_mels: usize) -> Result<Self> {
        if (mel.n_mels, mel.n_frames, mel.data.len()) != (n_mels, N_FRAMES, n_mels * N_FRAMES) {
            return Err(Error::Option {
                name: "mel",
                reason: format!(
                    "a spectrogram of {} mel bins by {} frames ({} numbers), but the model takes {n_mels} by {N_FRAMES}",
                    mel.n_mels,
                    mel.n_frames,
                    mel.data.len()
                ),
            });
        }
        let mut window = Self::zeros(n_mels);
        for (bin, row) in mel.data.chunks_exact(N_FRAMES).enumerate() {
            let to = window.data[bin..].iter_mut().step_by(n_mels);
            to.zip(row).for_each(|(to, from)| *to = *from);
        }
        Ok(window)
    }

    /// Returns the levels of the first `n_frames` frames in decades, each the mean of a frame's mel bins.
    pub(crate) fn levels(&self, n_frames: usize) -> Vec<f32> {
        let frames = self.data.chunks_exact(self.n_mels).take(n_frames);
        frames.map(|frame| 4.0 * levels::level(frame)).collect()
    }

    /// Writes frames from index `first` on. `decades`: `log10` of power, `[n, n_mels]`; they are clamped 8 below `max`
    /// and scaled.
    fn set_frames(&mut self, first: usize, decades: &[f32], max: f32) {
        for (out, value) in self.data[first * self.n_mels..].iter_mut().zip(decades) {
            *out = scaled(*value, max);
        }
    }
}

/// Scales a value in decades as the reference does: clamped 8 decades below the maximum, then `(x + 4) / 4`.
fn scaled(decades: f32, max: f32) -> f32 {
    (decades.max(max - 8.0) + 4.0) / 4.0
}

/// Returns the larger of `max` and the largest of `values`, which must not be NaN.
fn largest(values: &[f32], max: f32) -> f32 {
    // Independent lanes: a single maximum would make every comparison wait for the previous one.
    let mut lanes = [max; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = if value > lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(max, f32::max)
}

/// Computes the log-mel spectrogram of 16 kHz mono audio held in memory.
///
/// `samples`: `[n_samples]` in `[-1, 1]`; `padding` zeros are put after them. Returns
/// `[n_mels, (n_samples + padding) / 160]`, row-major, one frame per 10 ms. Matches
/// `whisper/audio.py::log_mel_spectrogram` (c0d2f62) within 1e-4, except that audio shorter than the 200
/// samples of reflection at its ends, which the reference refuses, is taken as followed by silence.
///
/// # Panics
/// If `n_mels` is neither 80 nor 128.
#[must_use]
pub fn log_mel_spectrogram(samples: &[f32], n_mels: usize, padding: usize) -> LogMel {
    let n_samples = samples.len() + padding;
    let n_frames = n_samples / HOP_LENGTH;
    // A wrong OVERHEAR_ISA is an error when a model is opened.
    let kernels = Kernels::from_env().unwrap_or_else(|_| Kernels::detect());
    let transform = FrameTransform::new(n_mels, kernels, None);
    let mut decades = vec![SILENCE; n_frames * n_mels];
    transform.run(&reflected(samples, n_samples), &mut decades);
    let max = largest(&decades, SILENCE);
    let mut mel = LogMel::zeros(n_mels, n_frames);
    mel.set_frames(0, &decades, max);
    mel
}

/// Returns `samples`, padded with zeros to `n_samples`, with the reflection of half a frame at both ends.
fn reflected(samples: &[f32], n_samples: usize) -> Vec<f32> {
    const HALF: usize = N_FFT / 2;
    let sample = |i: usize| samples.get(i).copied().unwrap_or(0.0);
    let mut all: Vec<f32> = (1..=HALF).rev().map(sample).collect();
    all.extend_from_slice(samples);
    all.resize(HALF + n_samples, 0.0);
    all.extend(
        (n_samples..n_samples + HALF).map(|i| sample((2 * n_samples).saturating_sub(i + 2))),
    );
    all
}
