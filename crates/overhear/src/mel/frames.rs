//! Computes frames of the spectrogram one after another, from samples that arrive in blocks.

use std::sync::Arc;

use overhear_kernels::{Kernels, Pool, Spectrogram};

use super::filters::mel_filters;
use super::loudness::Loudness;
use super::{HOP_LENGTH, N_FFT, largest};
use crate::{AudioReader, AudioWarning, Result};

/// `log10` of the power of a silent frame: the lower limit of the logarithm.
pub(super) const SILENCE: f32 = -10.0;

/// Number of frames that one thread transforms at a time: the lanes of a vector.
const CHUNK: usize = 16;

/// Transform of frames of samples to mel energies in decades (`log10` of the power).
pub(super) struct FrameTransform {
    kernels: Kernels,
    /// Threads to share the frames of a call.
    pool: Option<Arc<Pool>>,
    plan: Spectrogram,
}

impl FrameTransform {
    pub(super) fn new(n_mels: usize, kernels: Kernels, pool: Option<Arc<Pool>>) -> Self {
        let floor = 10f32.powf(SILENCE);
        Self {
            kernels,
            pool,
            plan: Spectrogram::new(hann(), HOP_LENGTH, mel_filters(n_mels), floor),
        }
    }

    pub(super) fn n_mels(&self) -> usize {
        self.plan.n_filters()
    }

    /// Computes frames. `decades`: output, `[n_frames, n_mels]`, `log10` of the mel energies, at least [`SILENCE`].
    /// `samples`: from the first sample of the first frame to the last sample of the last frame.
    pub(super) fn run(&self, samples: &[f32], decades: &mut [f32]) {
        let transform = |samples: &[f32], decades: &mut [f32]| {
            self.kernels.log_spectrogram(&self.plan, decades, samples)
        };
        let Some(pool) = &self.pool else {
            return transform(samples, decades);
        };
        let n_chunks = decades.len() / (CHUNK * self.n_mels());
        let (chunks, rest) = decades.split_at_mut(n_chunks * CHUNK * self.n_mels());
        let mut firsts: Vec<usize> = (0..n_chunks)
            .map(|chunk| chunk * CHUNK * HOP_LENGTH)
            .collect();
        pool.run_rows(chunks, &mut firsts, &|decades, first| {
            transform(&samples[*first..], decades);
        });
        transform(&samples[n_chunks * CHUNK * HOP_LENGTH..], rest);
    }
}

/// Returns the periodic Hann window, as `torch.hann_window`.
fn hann() -> Vec<f32> {
    let hann = |i: usize| {
        let phase = std::f64::consts::TAU * i as f64 / N_FFT as f64;
        (0.5 - 0.5 * phase.cos()) as f32
    };
    (0..N_FFT).map(hann).collect()
}

/// Reader of the frames of an audio stream in order, as if silence followed the stream; frames that contain only that
/// silence are not produced.
pub(super) struct FrameReader {
    reader: AudioReader,
    transform: FrameTransform,
    /// Created when only the largest value is needed.
    loudness: Option<Loudness>,
    /// Samples from the start of the next frame on.
    samples: Vec<f32>,
    n_samples: usize,
    begun: bool,
    ended: bool,
}

impl FrameReader {
    /// Number of samples read at a time: one second.
    const BLOCK: usize = super::SAMPLE_RATE;

    pub(super) fn new(reader: AudioReader, transform: FrameTransform) -> Self {
        Self {
            reader,
            transform,
            loudness: None,
            samples: Vec::new(),
            n_samples: 0,
            begun: false,
            ended: false,
        }
    }

    /// Returns the number of samples read so far: the audio's length once [`FrameReader::read`] has returned 0.
    pub(super) fn n_samples(&self) -> usize {
        self.n_samples
    }

    /// Returns the irregularities of the audio so far.
    pub(super) fn warnings(&self) -> &[AudioWarning] {
        self.reader.warnings()
    }

    /// Appends the next frames, `[n, n_mels]` in decades, to `frames` and returns `n`; 0 at the end.
    pub(super) fn read(&mut self, frames: &mut Vec<f32>) -> Result<usize> {
        let n_frames = self.fill()?;
        let n_mels = self.transform.n_mels();
        let start = frames.len();
        frames.resize(start + n_frames * n_mels, SILENCE);
        self.transform.run(&self.samples, &mut frames[start..]);
        self.samples.drain(..n_frames * HOP_LENGTH);
        Ok(n_frames)
    }

    /// Reads the next frames and raises `max` to their largest value. Returns false at the end.
    pub(super) fn read_max(&mut self, max: &mut f32) -> Result<bool> {
        let n_frames = self.fill()?;
        let n_mels = self.transform.n_mels();
        let loudness = self.loudness.get_or_insert_with(|| {
            let filters = mel_filters(n_mels);
            let weight = |bin: usize| {
                let weights = filters
                    .iter()
                    .filter_map(|filter| filter.weights.get(bin.checked_sub(filter.first_bin)?));
                weights.copied().fold(0.0, f32::max)
            };
            Loudness::new(&hann(), weight)
        });
        let is_louder = loudness.louder(&self.samples, n_frames, *max);
        let mut decades = [SILENCE; CHUNK * 128];
        for (group, is_louder) in is_louder.chunks(CHUNK).enumerate() {
            if is_louder.contains(&true) {
                let samples = &self.samples[group * CHUNK * HOP_LENGTH..];
                let decades = &mut decades[..is_louder.len() * n_mels];
                self.transform.run(samples, decades);
                *max = largest(decades, *max);
            }
        }
        self.samples.drain(..n_frames * HOP_LENGTH);
        Ok(n_frames > 0)
    }

    /// Skips at most `n_frames` frames and returns their number; 0 at the end.
    pub(super) fn skip(&mut self, n_frames: usize) -> Result<usize> {
        let n_frames = self.fill()?.min(n_frames);
        self.samples.drain(..n_frames * HOP_LENGTH);
        Ok(n_frames)
    }

    /// Reads until `samples` hold a frame, and returns the number of frames that they hold; 0 at the end.
    fn fill(&mut self) -> Result<usize> {
        if !self.begun {
            self.begin()?;
        }
        while self.samples.len() < N_FFT && !self.ended {
            self.read_block()?;
        }
        Ok((self.samples.len() + HOP_LENGTH).saturating_sub(N_FFT) / HOP_LENGTH)
    }

    /// Reads the first frame, which is centred on sample 0: its left half is the reflection of its right half.
    fn begin(&mut self) -> Result<()> {
        const HALF: usize = N_FFT / 2;
        self.begun = true;
        while self.samples.len() <= HALF && !self.ended {
            self.read_block()?;
        }
        let reflection: Vec<f32> = (1..=HALF)
            .rev()
            .map(|i| self.samples.get(i).copied().unwrap_or(0.0))
            .collect();
        self.samples.splice(..0, reflection);
        Ok(())
    }

    fn read_block(&mut self) -> Result<()> {
        let start = self.samples.len();
        self.samples.resize(start + Self::BLOCK, 0.0);
        let n = self.reader.read(&mut self.samples[start..])?;
        self.samples.truncate(start + n);
        self.n_samples += n;
        if n == 0 {
            self.ended = true;
            // Pad with silence as long as a frame still contains a sample.
            self.samples.resize(start + N_FFT - 1, 0.0);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Audio;

    /// Signals whose energy lies in one bin, in all bins, at the edges of the band, in one sample, or nowhere.
    fn signals() -> Vec<Vec<f32>> {
        const N: usize = 40_000;
        let tone = |hz: f64, level: f32| -> Vec<f32> {
            let step = std::f64::consts::TAU * hz / 16_000.0;
            let loud = |i: usize| if i / 4_000 == 6 { level } else { 0.1 * level };
            (0..N)
                .map(|i| loud(i) * (step * i as f64).cos() as f32)
                .collect()
        };
        let mut state = 1_u32;
        let noise = (0..N).map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 * (i as f32 / 9_000.0).sin()
        });
        let mut signals = vec![noise.collect(), vec![0.0; N], vec![1.0; N]];
        signals.extend(
            [0.0, 20.0, 40.0, 250.0, 1_000.0, 3_333.0, 7_960.0, 8_000.0].map(|hz| tone(hz, 0.9)),
        );
        signals.push(tone(440.0, 1e-6));
        signals.push(
            (0..N)
                .map(|i| if i == 31_234 { 1.0 } else { 0.0 })
                .collect(),
        );
        signals
    }

    #[test]
    fn the_largest_value_is_the_same_to_the_bit_without_most_transforms() {
        for (i, signal) in signals().into_iter().enumerate() {
            for n_mels in [80, 128] {
                let audio = Audio::from_samples(signal.clone(), 16_000).unwrap();
                let pool = Arc::new(Pool::new(2));
                let transform =
                    || FrameTransform::new(n_mels, Kernels::detect(), Some(Arc::clone(&pool)));
                let reader = || FrameReader::new(audio.reader().unwrap(), transform());
                let (mut all, mut frames) = (reader(), Vec::new());
                while all.read(&mut frames).unwrap() > 0 {}
                let (mut quick, mut max) = (reader(), SILENCE);
                while quick.read_max(&mut max).unwrap() {}
                assert_eq!(max.to_bits(), largest(&frames, SILENCE).to_bits(), "{i}");
                assert_eq!(quick.n_samples(), signal.len());
            }
        }
    }
}
