//! Regions of speech: `faster_whisper/vad.py::get_speech_timestamps` (1.2.1), after the network.

use super::{FRAME_SAMPLES, VadOptions};
use crate::Result;
use crate::audio::SAMPLE_RATE;

/// Samples per millisecond.
const SAMPLES_PER_MS: usize = SAMPLE_RATE as usize / 1000;
/// Minimum length in samples of a silence at which a region of maximum duration may be cut: 98 ms.
const MIN_SILENCE_AT_MAX_SPEECH: usize = 98 * SAMPLES_PER_MS;

/// A region of speech, in samples at 16 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First sample.
    pub start: usize,
    /// Sample after the last one.
    pub end: usize,
}

impl Region {
    /// Returns the start in seconds.
    #[must_use]
    pub fn start_s(&self) -> f64 {
        self.start as f64 / f64::from(SAMPLE_RATE)
    }

    /// Returns the end in seconds.
    #[must_use]
    pub fn end_s(&self) -> f64 {
        self.end as f64 / f64::from(SAMPLE_RATE)
    }
}

/// Returns the regions of speech in a recording of `n_samples` samples, in order and without overlap.
///
/// `probabilities`: `[n_samples / 512 + 1]`, one per frame, as of [`Vad::probabilities`](super::Vad::probabilities); more are
/// ignored. Equal to faster-whisper's regions for the same probabilities.
///
/// # Errors
/// [`Error::Option`](crate::Error::Option) if an option is invalid.
pub fn speech_regions(
    probabilities: &[f32],
    n_samples: usize,
    options: &VadOptions,
) -> Result<Vec<Region>> {
    options.verify()?;
    let n_frames = probabilities.len().min(n_samples / FRAME_SAMPLES + 1);
    let probabilities = &probabilities[..n_frames];
    let mut regions = unpadded(probabilities, n_samples, options);
    let pad = samples(options.speech_pad_ms);
    for i in 1..regions.len() {
        let gap = regions[i].start - regions[i - 1].end;
        let extension = pad.min(gap / 2);
        regions[i - 1].end += extension;
        regions[i].start -= extension;
    }
    if let Some(first) = regions.first_mut() {
        first.start = first.start.saturating_sub(pad);
    }
    if let Some(last) = regions.last_mut() {
        last.end = n_samples.min(last.end.saturating_add(pad));
    }
    Ok(regions)
}

/// Returns the regions before they are extended.
fn unpadded(probabilities: &[f32], n_samples: usize, options: &VadOptions) -> Vec<Region> {
    // As in the reference, whose probabilities are f32, thresholds are compared in f32.
    let threshold = options.threshold as f32;
    let silence_threshold = options.silence_threshold() as f32;
    let min_speech = samples(options.min_speech_duration_ms);
    let min_silence = samples(options.min_silence_duration_ms);
    let max_speech = f64::from(SAMPLE_RATE) * options.max_speech_duration_s
        - FRAME_SAMPLES as f64
        - 2.0 * samples(options.speech_pad_ms) as f64;

    let mut regions = Vec::new();
    // First sample of the current region.
    let mut begun = None;
    // The reference's names; 0 stands for none. Start of the current silence; start of the last silence of sufficient length
    // to cut at; and start of the speech after that.
    let (mut temp_end, mut prev_end, mut next_start) = (0, 0, 0);
    for (frame, &probability) in probabilities.iter().enumerate() {
        let here = frame * FRAME_SAMPLES;
        let is_speech = probability >= threshold;
        if is_speech && temp_end > 0 {
            temp_end = 0;
            if next_start < prev_end {
                next_start = here;
            }
        }
        let Some(start) = begun else {
            begun = is_speech.then_some(here);
            continue;
        };
        if (here - start) as f64 > max_speech {
            let end = if prev_end > 0 { prev_end } else { here };
            regions.push(Region { start, end });
            // After a cut at a silence the current region begins with the speech after it, if there was any.
            begun = (prev_end > 0 && next_start >= prev_end).then_some(next_start);
            let is_cut_here = prev_end == 0;
            (temp_end, prev_end, next_start) = (0, 0, 0);
            if is_cut_here {
                continue;
            }
        }
        let Some(start) = begun.filter(|_| probability < silence_threshold) else {
            continue;
        };
        if temp_end == 0 {
            temp_end = here;
        }
        if here - temp_end > MIN_SILENCE_AT_MAX_SPEECH {
            prev_end = temp_end;
        }
        if here - temp_end < min_silence {
            continue;
        }
        if temp_end - start > min_speech {
            let end = temp_end;
            regions.push(Region { start, end });
        }
        begun = None;
        (temp_end, prev_end, next_start) = (0, 0, 0);
    }
    if let Some(start) = begun.filter(|&start| n_samples.saturating_sub(start) > min_speech) {
        let end = n_samples;
        regions.push(Region { start, end });
    }
    regions
}

/// Converts milliseconds to samples.
pub(super) fn samples(ms: u32) -> usize {
    (ms as usize).saturating_mul(SAMPLES_PER_MS)
}
