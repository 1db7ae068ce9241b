//! Frames of the spectrogram one after the other, from samples that arrive in blocks.

use overhear_kernels::{Kernels, Spectrogram};

use super::filters::mel_filters;
use super::{HOP_LENGTH, N_FFT};
use crate::{AudioReader, AudioWarning, Result};

/// `log10` of the power of a silent frame: the floor under the logarithm.
pub(super) const SILENCE: f32 = -10.0;

/// Frames of samples to their mel energies in decades.
pub(super) struct FrameTransform {
    kernels: Kernels,
    plan: Spectrogram,
}

impl FrameTransform {
    pub(super) fn new(n_mels: usize) -> Self {
        // The periodic Hann window, as torch.hann_window.
        let hann = |i: usize| {
            let phase = std::f64::consts::TAU * i as f64 / N_FFT as f64;
            (0.5 - 0.5 * phase.cos()) as f32
        };
        let window = (0..N_FFT).map(hann).collect();
        let floor = 10f32.powf(SILENCE);
        Self {
            // A wrong OVERHEAR_ISA is told when a model is opened.
            kernels: Kernels::from_env().unwrap_or_else(|_| Kernels::detect()),
            plan: Spectrogram::new(window, HOP_LENGTH, mel_filters(n_mels), floor),
        }
    }

    pub(super) fn n_mels(&self) -> usize {
        self.plan.n_filters()
    }

    /// `decades`: `[n_frames, n_mels]`, `log10` of the mel energies, at least [`SILENCE`]. `samples`: from the first
    /// frame's first to the last one's last.
    pub(super) fn run(&self, samples: &[f32], decades: &mut [f32]) {
        self.kernels.log_spectrogram(&self.plan, decades, samples);
    }
}

/// The frames of an audio stream in order, as if silence followed it; those that hold nothing but that
/// silence are not produced.
pub(super) struct FrameReader {
    reader: AudioReader,
    transform: FrameTransform,
    /// Samples from the start of the next frame on.
    samples: Vec<f32>,
    n_samples: usize,
    begun: bool,
    ended: bool,
}

impl FrameReader {
    /// Samples read at a time: one second.
    const BLOCK: usize = super::SAMPLE_RATE;

    pub(super) fn new(reader: AudioReader, n_mels: usize) -> Self {
        let transform = FrameTransform::new(n_mels);
        Self {
            reader,
            transform,
            samples: Vec::new(),
            n_samples: 0,
            begun: false,
            ended: false,
        }
    }

    /// Samples seen so far: the audio's length once [`FrameReader::read`] has returned 0.
    pub(super) fn n_samples(&self) -> usize {
        self.n_samples
    }

    /// What was odd about the audio so far.
    pub(super) fn warnings(&self) -> &[AudioWarning] {
        self.reader.warnings()
    }

    /// Appends the next frames, `[n, n_mels]` in decades, to `frames` and returns `n`; 0 at the end.
    pub(super) fn read(&mut self, frames: &mut Vec<f32>) -> Result<usize> {
        if !self.begun {
            self.begin()?;
        }
        while self.samples.len() < N_FFT && !self.ended {
            self.read_block()?;
        }
        let n_frames = (self.samples.len() + HOP_LENGTH).saturating_sub(N_FFT) / HOP_LENGTH;
        let n_mels = self.transform.n_mels();
        let start = frames.len();
        frames.resize(start + n_frames * n_mels, SILENCE);
        self.transform.run(&self.samples, &mut frames[start..]);
        self.samples.drain(..n_frames * HOP_LENGTH);
        Ok(n_frames)
    }

    /// The first frame is centred on sample 0: its left half is the reflection of what follows.
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
            // Silence for as long as a frame still holds a sample.
            self.samples.resize(start + N_FFT - 1, 0.0);
        }
        Ok(())
    }
}
