//! Selects the frames of a signal that can hold its largest mel energy, without computing their Fourier transforms.
//!
//! By Parseval's theorem the power in all bins of a frame follows from its samples, and a mel energy is at most that
//! power times the largest weight of a filter. So a frame whose windowed energy is too low for the largest mel energy
//! so far cannot exceed it. In speech few frames remain.

use super::{HOP_LENGTH, N_FFT};

/// Number of samples whose energy is summed together; a frame is 5 of these, a hop 2.
const STEP: usize = 80;
const STEPS_PER_FRAME: usize = N_FFT / STEP;
const STEPS_PER_HOP: usize = HOP_LENGTH / STEP;
/// Relative error by which rounding may change a mel energy, or the sums here. `f32` rounds to 6e-8, and both sum at
/// most some hundred numbers of one sign.
const ROUNDING: f64 = 1e-3;

/// Upper bounds of the mel energies of frames.
pub(super) struct Loudness {
    /// Upper bound of a mel energy, per windowed energy of its frame.
    gain: f64,
    /// The largest square of the window in each step of a frame.
    window: [f32; STEPS_PER_FRAME],
    steps: Vec<f32>,
}

impl Loudness {
    /// Creates the bounds. `window`: `[N_FFT]`. `weight`: the largest weight that a filter has for bin `0..=N_FFT / 2`.
    pub(super) fn new(window: &[f32], weight: impl Fn(usize) -> f32) -> Self {
        // Every bin except the first and the last represents two of the full transform, whose power is N_FFT times the
        // windowed energy.
        let half = |bin: usize| {
            let is_edge = bin == 0 || bin == N_FFT / 2;
            f64::from(weight(bin)) * if is_edge { 1.0 } else { 0.5 }
        };
        let largest = (0..=N_FFT / 2).map(half).fold(0.0, f64::max);
        let mut squares = [0.0; STEPS_PER_FRAME];
        for (square, window) in squares.iter_mut().zip(window.chunks(STEP)) {
            *square = window.iter().fold(0.0, |most, w| w.powi(2).max(most));
        }
        Self {
            gain: largest * N_FFT as f64 * (1.0 + ROUNDING),
            window: squares,
            steps: Vec::new(),
        }
    }

    /// Returns, for each of the `n_frames` frames that begin in `samples`, whether it may hold a mel energy above
    /// `decades`.
    pub(super) fn louder(&mut self, samples: &[f32], n_frames: usize, decades: f32) -> Vec<bool> {
        let energy = |step: &[f32]| step.iter().map(|sample| sample * sample).sum::<f32>();
        self.steps.clear();
        self.steps.extend(samples.chunks(STEP).map(energy));
        let least = 10f64.powf(f64::from(decades)) / self.gain;
        (0..n_frames)
            .map(|frame| {
                let steps = &self.steps[frame * STEPS_PER_HOP..][..STEPS_PER_FRAME];
                let parts = steps.iter().zip(&self.window);
                let most: f32 = parts.map(|(energy, square)| energy * square).sum();
                f64::from(most) >= least
            })
            .collect()
    }
}
