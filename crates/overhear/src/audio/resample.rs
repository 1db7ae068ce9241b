//! Resamples any rate to 16 kHz, without delay and without drift.
//!
//! rubato's FFT resampler is used: an exact rational ratio, a steep linear-phase filter (stop band below -120 dB). Its
//! delay, half a block, is removed at the start, so sample `i` of the output is at `i / 16000` s, and the output has
//! exactly `round(n * 16000 / rate)` samples. Rates with a small common divisor with 16000 would need blocks of a
//! second and more; they use rubato's interpolating sinc resampler instead.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, Fft, FixedAsync, FixedSync, SincInterpolationParameters, WindowFunction};

use super::SAMPLE_RATE;
use super::decode::{Attempt, Failure};

/// Maximum length of an FFT block, in input samples. 44 101 Hz, the worst of the common misdeclared rates, still fits.
const MAX_BLOCK: u32 = 1 << 17;
/// Number of output samples that a block should have: 64 ms. Longer blocks narrow the transition band of the filter
/// (7.8 kHz to 8 kHz here).
const BLOCK_OUT: u32 = 1024;

/// Maximum number of input samples per common period with 16 kHz of a rate whose resampler is made quickly. All usual
/// rates have fewer: 441 at 44.1 kHz.
const MAX_QUICK_BLOCK: u32 = 1 << 12;

/// Resampler of mono audio of one constant rate.
pub(super) struct Resampler {
    inner: Box<dyn rubato::Resampler<f32>>,
    rate: u32,
    /// Input that does not fill a block yet.
    pending: Vec<f32>,
    block_out: Vec<f32>,
    /// Number of output samples still to be dropped (delay).
    to_skip: usize,
    n_in: u64,
    n_out: u64,
}

impl Resampler {
    /// Creates a resampler. `rate`: within [`super::decode::RATES`].
    pub(super) fn new(rate: u32) -> Attempt<Self> {
        let divisor = gcd(rate, SAMPLE_RATE);
        let failed = |error| Failure::Audio(format!("{rate} Hz: {error}"));
        let (inner, to_skip): (Box<dyn rubato::Resampler<f32>>, usize) =
            if rate / divisor <= MAX_BLOCK {
                // Blocks of odd length would shift the filter's centre, and so the output, by half a sample.
                let unit = rate / divisor
                    * if (rate / divisor).is_multiple_of(2) {
                        1
                    } else {
                        2
                    };
                let block = (rate * BLOCK_OUT / SAMPLE_RATE)
                    .max(512)
                    .next_multiple_of(unit) as usize;
                // One block per call: `Fft::new` would split it into shorter, less steep ones.
                let (from, to, window) = (
                    rate as usize,
                    SAMPLE_RATE as usize,
                    WindowFunction::BlackmanHarris2,
                );
                let fft = Fft::new_custom(from, to, block, 1, 1, window, FixedSync::Both)
                    .map_err(failed)?;
                let delay = rubato::Resampler::output_delay(&fft);
                (Box::new(fft), delay)
            } else {
                // The filter's length is in input samples: lower output ratios need longer filters.
                let sinc_len = (256 * rate / SAMPLE_RATE).next_multiple_of(8) as usize;
                let parameters =
                    SincInterpolationParameters::new(sinc_len, WindowFunction::BlackmanHarris2);
                let ratio = f64::from(SAMPLE_RATE) / f64::from(rate);
                let sinc = Async::new_sinc(ratio, 1.0, &parameters, 1 << 15, 1, FixedAsync::Input)
                    .map_err(failed)?;
                // Half the filter, less one: the first output is one step after the first input.
                (
                    Box::new(sinc),
                    (sinc_len as f64 * ratio / 2.0).round() as usize - 1,
                )
            };
        let block_out = vec![0.0; inner.output_frames_max()];
        Ok(Self {
            inner,
            rate,
            pending: Vec::new(),
            block_out,
            to_skip,
            n_in: 0,
            n_out: 0,
        })
    }

    /// Returns whether the resampler of a rate takes long to make, up to tens of milliseconds: the FFT plan of a long
    /// block, or the table of a long filter.
    pub(super) fn is_slow_to_make(rate: u32) -> bool {
        rate / gcd(rate, SAMPLE_RATE) > MAX_QUICK_BLOCK
    }

    /// Returns the input's rate in Hz.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Takes more input and appends finished samples to `out`.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Attempt<()> {
        self.n_in += samples.len() as u64;
        self.pending.extend_from_slice(samples);
        self.run(out, u64::MAX)
    }

    /// Appends the remaining samples.
    pub(super) fn finish(&mut self, out: &mut Vec<f32>) -> Attempt<()> {
        let rate = u64::from(self.rate);
        let target = (self.n_in * u64::from(SAMPLE_RATE) + rate / 2) / rate;
        while self.n_out < target {
            let missing = self
                .inner
                .input_frames_next()
                .saturating_sub(self.pending.len());
            self.pending.resize(self.pending.len() + missing, 0.0);
            self.run(out, target)?;
        }
        Ok(())
    }

    /// Processes whole blocks; `n_out` grows to `target` at most.
    fn run(&mut self, out: &mut Vec<f32>, target: u64) -> Attempt<()> {
        let mut used = 0;
        loop {
            let input = &self.pending[used..];
            let n = self.inner.input_frames_next();
            if input.len() < n {
                break;
            }
            let failed = |error: &dyn std::fmt::Display| {
                Failure::Audio(format!("resampling failed: {error}"))
            };
            let from = InterleavedSlice::new(&input[..n], 1, n).map_err(|error| failed(&error))?;
            let room = self.block_out.len();
            let mut to = InterleavedSlice::new_mut(&mut self.block_out, 1, room)
                .map_err(|error| failed(&error))?;
            let (n_read, n_written) = self
                .inner
                .process_into_buffer(&from, &mut to, None)
                .map_err(|error| failed(&error))?;
            used += n_read;
            let skipped = self.to_skip.min(n_written);
            self.to_skip -= skipped;
            let wanted = usize::try_from(target - self.n_out)
                .unwrap_or(usize::MAX)
                .min(n_written - skipped);
            out.extend_from_slice(&self.block_out[skipped..skipped + wanted]);
            self.n_out += wanted as u64;
        }
        self.pending.drain(..used);
        Ok(())
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resample(samples: &[f32], rate: u32, block: usize) -> Vec<f32> {
        let (mut resampler, mut out) = (Resampler::new(rate).unwrap(), Vec::new());
        samples
            .chunks(block)
            .for_each(|samples| resampler.push(samples, &mut out).unwrap());
        resampler.finish(&mut out).unwrap();
        out
    }

    fn sine(frequency: f64, rate: u32, n: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        (0..n)
            .map(|i| (0.5 * (step * i as f64 + 0.3).sin()) as f32)
            .collect()
    }

    /// Compared with the sine itself at 16 kHz, so that any delay, gain or drift is detected.
    #[test]
    fn a_sine_stays_itself_at_every_rate() {
        for rate in [
            1_000, 8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 65_537, 96_000, 192_000, 384_000,
            655_350, 767_999, 768_000,
        ] {
            let frequency = if rate == 1_000 { 200.0 } else { 997.0 };
            let n = rate as usize * 3 / 2 + 7;
            let out = resample(&sine(frequency, rate, n), rate, 5_000);
            let expected = sine(frequency, SAMPLE_RATE, out.len());
            assert_eq!(
                out.len() as u64,
                (n as u64 * 16_000 + u64::from(rate) / 2) / u64::from(rate),
                "{rate}"
            );
            // The ends ring, as the sine starts abruptly there.
            let worst = out
                .iter()
                .zip(&expected)
                .skip(4_000)
                .take(out.len() - 8_000)
                .map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0, f32::max);
            // The sinc path is aligned to 2e-4 of a sample: 0.5 * 0.39 rad per sample * 2e-4.
            let tolerance = if rate == 767_999 { 4e-5 } else { 2e-5 };
            assert!(worst < tolerance, "{rate} Hz: off by {worst}");
        }
    }

    #[test]
    fn what_is_above_8_khz_does_not_fold_back() {
        for (rate, frequency) in [
            (48_000, 8_400.0),
            (44_100, 12_000.0),
            (96_000, 30_000.0),
            (767_999, 9_000.0),
        ] {
            let out = resample(&sine(frequency, rate, rate as usize * 2), rate, 4_096);
            let worst = out[4_000..out.len() - 4_000]
                .iter()
                .fold(0.0_f32, |worst, x| worst.max(x.abs()));
            assert!(worst < 1e-5, "{frequency} Hz at {rate} Hz leaves {worst}");
        }
    }

    #[test]
    fn the_size_of_the_blocks_does_not_matter() {
        let samples = sine(440.0, 44_100, 50_001);
        assert_eq!(
            resample(&samples, 44_100, 1),
            resample(&samples, 44_100, 50_001)
        );
    }

    #[test]
    fn short_inputs_have_the_right_length() {
        for n in 0..50 {
            assert_eq!(resample(&vec![0.1; n], 48_000, 7).len(), (n + 1) / 3, "{n}");
        }
    }
}
