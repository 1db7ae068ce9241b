//! One pass over an audio input: decode, mix to mono, replace non-finite samples, resample, clamp.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use super::decode::{Attempt, Block, Decode, Failure, check_shape};
use super::downmix::Downmix;
use super::regions::RegionFilter;
use super::resample::Resampler;
use super::spool::SpoolReader;
use super::{AudioWarning, SAMPLE_RATE};
use crate::{Error, Result};

/// Maximum length of decoded audio that is kept after the first full pass, so that the next pass need not decode: 5
/// min.
const KEEP_SAMPLES: usize = 5 * 60 * SAMPLE_RATE as usize;
/// Limit to which samples are clamped before resampling. Decoders of lossy formats slightly exceed 1.0, which is
/// clamped after resampling. Much larger values are damage, and would ring through the resampler's whole window.
const HEADROOM: f32 = 2.0;

/// Result of a full pass.
#[derive(Clone)]
pub(super) struct Decoded {
    pub(super) samples: Samples,
    pub(super) warnings: Vec<AudioWarning>,
}

#[derive(Clone)]
pub(super) enum Samples {
    Memory(Arc<[f32]>),
    Spooled(super::spool::Spool),
}

/// One pass over the samples of an [`Audio`](super::Audio).
pub struct AudioReader {
    name: Arc<str>,
    state: State,
    warnings: Vec<AudioWarning>,
    /// Set if only some regions are read.
    regions: Option<RegionFilter>,
}

enum State {
    Memory { samples: Arc<[f32]>, at: usize },
    Spooled(SpoolReader),
    Decoding(Box<Pipeline>),
    Ended,
}

impl AudioReader {
    /// Creates a reader of what an earlier pass decoded.
    pub(super) fn from_decoded(name: Arc<str>, decoded: Decoded) -> Self {
        let state = match decoded.samples {
            Samples::Memory(samples) => State::Memory { samples, at: 0 },
            Samples::Spooled(spool) => State::Spooled(spool.reader()),
        };
        Self {
            name,
            state,
            warnings: decoded.warnings,
            regions: None,
        }
    }

    /// Creates a reader that decodes; a full pass over short audio stores its result in `keep`.
    pub(super) fn decoding(
        name: Arc<str>,
        decoder: Box<dyn Decode>,
        keep: Arc<OnceLock<Decoded>>,
    ) -> Self {
        Self {
            name,
            state: State::Decoding(Box::new(Pipeline::new(decoder, keep))),
            warnings: Vec::new(),
            regions: None,
        }
    }

    /// Limits the pass to some regions.
    pub(super) fn only(self, regions: RegionFilter) -> Self {
        Self {
            regions: Some(regions),
            ..self
        }
    }

    /// Fills the start of `buffer` with the next samples and returns their number; 0 at the end.
    ///
    /// # Errors
    /// [`Error::Audio`] or [`Error::Read`] if nothing could be decoded or reading failed. The pass ends then.
    pub fn read(&mut self, buffer: &mut [f32]) -> Result<usize> {
        loop {
            if self.regions.as_ref().is_some_and(RegionFilter::is_done) {
                return Ok(0);
            }
            let n = self.read_all(buffer)?;
            let Some(regions) = &mut self.regions else {
                return Ok(n);
            };
            let n_kept = regions.keep(&mut buffer[..n]);
            if n_kept > 0 || n == 0 {
                return Ok(n_kept);
            }
        }
    }

    /// Reads as [`AudioReader::read`], without regard to regions.
    fn read_all(&mut self, buffer: &mut [f32]) -> Result<usize> {
        let n = match &mut self.state {
            State::Memory { samples, at } => {
                let rest = &samples[*at..];
                let n = rest.len().min(buffer.len());
                buffer[..n].copy_from_slice(&rest[..n]);
                *at += n;
                Ok(n)
            }
            State::Spooled(reader) => reader.read_samples(buffer).map_err(Error::Spool),
            State::Decoding(pipeline) => pipeline
                .read(buffer, &mut self.warnings)
                .map_err(|failure| failure.named(&self.name)),
            State::Ended => Ok(0),
        };
        if n.is_err() {
            self.state = State::Ended;
        }
        n
    }

    /// Returns the irregularities of the input so far, each once.
    #[must_use]
    pub fn warnings(&self) -> &[AudioWarning] {
        &self.warnings
    }
}

/// Maximum number of changes to an unusual rate in a file; the audio after more of them is taken as damaged.
const MAX_UNUSUAL_RATES: usize = 4;

struct Pipeline {
    /// `None` after its end.
    decoder: Option<Box<dyn Decode>>,
    block: Block,
    mono: Vec<f32>,
    resampler: Option<Resampler>,
    /// Number of changes to a rate whose resampler takes long to make.
    n_unusual_rates: usize,
    /// Finished samples, of which `at` were returned.
    ready: Vec<f32>,
    at: usize,
    /// Whether the decoder returned any sample.
    any: bool,
    kept: Kept,
}

impl Pipeline {
    fn new(decoder: Box<dyn Decode>, keep: Arc<OnceLock<Decoded>>) -> Self {
        Self {
            decoder: Some(decoder),
            block: Block::default(),
            mono: Vec::new(),
            resampler: None,
            n_unusual_rates: 0,
            ready: Vec::new(),
            at: 0,
            any: false,
            kept: Kept {
                blocks: Some(Vec::new()),
                n: 0,
                keep,
            },
        }
    }

    fn read(&mut self, buffer: &mut [f32], warnings: &mut Vec<AudioWarning>) -> Attempt<usize> {
        while self.at == self.ready.len() && self.decoder.is_some() && !buffer.is_empty() {
            self.ready.clear();
            self.at = 0;
            if let Err(failure) = self.advance(warnings) {
                self.drop_decoder();
                return Err(failure);
            }
            for sample in &mut self.ready {
                *sample = sample.clamp(-1.0, 1.0);
            }
            self.kept.add(&self.ready);
            if self.decoder.is_none() {
                self.kept.finish(warnings);
            }
        }
        let rest = &self.ready[self.at..];
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }

    /// Decodes one more block into `ready`, or ends the pass.
    fn advance(&mut self, warnings: &mut Vec<AudioWarning>) -> Attempt<()> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        let step = guarded(|| decoder.next(&mut self.block));
        let damaged = match step {
            Ok(true) => {
                if decoder.overdriven() {
                    warn(warnings, AudioWarning::Overdriven);
                }
                if self.is_rate_plausible() {
                    return self.take_block(warnings);
                }
                true
            }
            Ok(false) if self.any || decoder.may_be_empty() => decoder.damaged(),
            Ok(false) => {
                return Err(Failure::audio(
                    "nothing in it could be decoded: it is cut short or damaged",
                ));
            }
            Err(Failure::Audio(_) | Failure::NotBuiltIn(_)) if self.any => true,
            Err(failure) => return Err(failure),
        };
        if let Some(what) = self.decoder.as_ref().and_then(|decoder| decoder.left_out()) {
            tracing::warn!("{what} is left out; ffmpeg would decode it");
        }
        if damaged {
            warn(warnings, AudioWarning::Truncated);
        }
        if let Some(mut resampler) = self.resampler.take() {
            resampler.finish(&mut self.ready)?;
        }
        self.drop_decoder();
        Ok(())
    }

    /// Returns whether the rate of the block may be right: false after too many changes to unusual rates, of which a small
    /// file could otherwise have so many that it takes minutes.
    fn is_rate_plausible(&mut self) -> bool {
        let rate = self.block.rate;
        let is_new = self.resampler.as_ref().is_none_or(|old| old.rate() != rate);
        if is_new && !self.block.samples.is_empty() && Resampler::is_slow_to_make(rate) {
            self.n_unusual_rates += 1;
        }
        self.n_unusual_rates <= MAX_UNUSUAL_RATES
    }

    /// Drops the decoder. One that panicked may panic again in its destructor.
    fn drop_decoder(&mut self) {
        let decoder = self.decoder.take();
        let _ = guarded(|| {
            drop(decoder);
            Ok(())
        });
    }

    /// Mixes, cleans and resamples the block.
    fn take_block(&mut self, warnings: &mut Vec<AudioWarning>) -> Attempt<()> {
        let Block {
            samples,
            rate,
            n_channels,
            downmix,
        } = &self.block;
        if samples.is_empty() {
            return Ok(());
        }
        check_shape(*rate, *n_channels)?;
        self.any = true;
        self.mono.clear();
        if mix(samples, *n_channels, downmix, &mut self.mono) {
            warn(warnings, AudioWarning::NotFinite);
        }
        if self
            .resampler
            .as_ref()
            .is_some_and(|resampler| resampler.rate() != *rate)
            && let Some(mut resampler) = self.resampler.take()
        {
            // The rate changed in the middle of the file.
            resampler.finish(&mut self.ready)?;
        }
        if *rate == SAMPLE_RATE {
            self.ready.extend_from_slice(&self.mono);
            return Ok(());
        }
        let resampler = match &mut self.resampler {
            Some(resampler) => resampler,
            none => none.insert(Resampler::new(*rate)?),
        };
        resampler.push(&self.mono, &mut self.ready)
    }
}

/// Appends the mix of the channels of each frame to `mono`; returns whether a sample was not finite.
///
/// NaN becomes 0, infinity [`HEADROOM`]. A single channel is copied unchanged, bit for bit.
fn mix(samples: &[f32], n_channels: usize, downmix: &Downmix, mono: &mut Vec<f32>) -> bool {
    // The bits of magnitudes compare like their values, with infinity and NaN on top.
    let worst = samples
        .iter()
        .fold(0, |worst, sample| worst.max(sample.to_bits() << 1 >> 1));
    if worst <= HEADROOM.to_bits() {
        downmix.mix(samples, n_channels, mono);
    } else {
        let clean = |sample: &f32| {
            if sample.is_nan() {
                0.0
            } else {
                sample.clamp(-HEADROOM, HEADROOM)
            }
        };
        let cleaned: Vec<f32> = samples.iter().map(clean).collect();
        downmix.mix(&cleaned, n_channels, mono);
    }
    worst >= f32::INFINITY.to_bits()
}

fn warn(warnings: &mut Vec<AudioWarning>, warning: AudioWarning) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}

/// Runs code of a third-party decoder and converts its panics to failures of this file.
///
/// The process's panic hook belongs to the application and is not replaced: it may print the panic.
pub(super) fn guarded<T>(run: impl FnOnce() -> Attempt<T>) -> Attempt<T> {
    // Unwind safe: after a panic the decoder is dropped and its output is not read.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Failure::Audio(format!("the decoder failed on it ({what})")))
    })
}

/// Collector of the samples of a pass, as long as they are few enough to be kept.
struct Kept {
    /// `None` once there are too many samples.
    blocks: Option<Vec<Box<[f32]>>>,
    n: usize,
    keep: Arc<OnceLock<Decoded>>,
}

impl Kept {
    fn add(&mut self, samples: &[f32]) {
        self.n = self.n.saturating_add(samples.len());
        if self.n > KEEP_SAMPLES {
            self.blocks = None;
        } else if let Some(blocks) = &mut self.blocks
            && !samples.is_empty()
        {
            blocks.push(samples.into());
        }
    }

    fn finish(&mut self, warnings: &[AudioWarning]) {
        if let Some(blocks) = self.blocks.take() {
            let samples = Samples::Memory(blocks.concat().into());
            let _ = self.keep.set(Decoded {
                samples,
                warnings: warnings.to_vec(),
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Decoder that returns the scripted blocks and then calls `end`.
    struct Script<F> {
        blocks: std::vec::IntoIter<Block>,
        end: F,
    }

    impl<F: FnMut() -> Attempt<bool> + Send> Decode for Script<F> {
        fn next(&mut self, block: &mut Block) -> Attempt<bool> {
            match self.blocks.next() {
                Some(next) => *block = next,
                None => return (self.end)(),
            }
            Ok(true)
        }

        fn damaged(&self) -> bool {
            false
        }
    }

    type Outcome = (Result<Vec<f32>>, Vec<AudioWarning>);

    fn run(blocks: Vec<Block>, end: impl FnMut() -> Attempt<bool> + Send + 'static) -> Outcome {
        let decoder = Box::new(Script {
            blocks: blocks.into_iter(),
            end,
        });
        let mut reader = AudioReader::decoding("x".into(), decoder, Arc::default());
        let (mut samples, mut buffer) = (Vec::new(), [0.0; 333]);
        let outcome = loop {
            match reader.read(&mut buffer) {
                Ok(0) => break Ok(samples),
                Ok(n) => samples.extend_from_slice(&buffer[..n]),
                Err(error) => break Err(error),
            }
        };
        (outcome, reader.warnings().to_vec())
    }

    fn block(samples: &[f32], rate: u32, n_channels: usize) -> Block {
        Block {
            samples: samples.to_vec(),
            rate,
            n_channels,
            downmix: Downmix::default(),
        }
    }

    #[test]
    fn a_panic_before_any_sample_is_an_error_of_that_file() {
        let (outcome, _) = run(vec![], || panic!("index out of bounds"));
        assert_eq!(
            outcome.unwrap_err().to_string(),
            "x: the decoder failed on it (index out of bounds)"
        );
    }

    #[test]
    fn a_panic_after_samples_keeps_them_with_a_warning() {
        let (outcome, warnings) = run(vec![block(&[0.5; 100], 16_000, 1)], || panic!("boom"));
        assert_eq!(outcome.unwrap(), [0.5; 100]);
        assert_eq!(warnings, [AudioWarning::Truncated]);
    }

    #[test]
    fn what_is_not_finite_is_replaced_and_warned_about_once() {
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e30,
            -1e30,
            1e-40,
            0.25,
        ];
        let (outcome, warnings) = run(vec![block(&odd, 16_000, 1), block(&odd, 16_000, 1)], || {
            Ok(false)
        });
        assert_eq!(
            outcome.unwrap(),
            [0.0, 1.0, -1.0, 1.0, -1.0, 1e-40, 0.25].repeat(2)
        );
        assert_eq!(warnings, [AudioWarning::NotFinite]);
        let (outcome, _) = run(vec![block(&odd.repeat(1000), 48_000, 1)], || Ok(false));
        assert!(outcome.unwrap().iter().all(|sample| sample.abs() <= 1.0));
    }

    #[test]
    fn channels_are_mixed_by_their_mean() {
        let (outcome, warnings) = run(vec![block(&[0.5, -0.25, 1.0, f32::NAN], 16_000, 2)], || {
            Ok(false)
        });
        assert_eq!(outcome.unwrap(), [0.125, 0.5]);
        assert_eq!(warnings, [AudioWarning::NotFinite]);
        let (outcome, _) = run(vec![block(&[0.5; 64 * 10], 16_000, 64)], || Ok(false));
        assert_eq!(outcome.unwrap(), [0.5; 10]);
    }

    #[test]
    fn a_rate_that_changes_in_the_middle_keeps_each_part_its_length() {
        let blocks = vec![
            block(&[0.1; 4_800], 48_000, 1),
            block(&[0.1; 800], 8_000, 1),
            block(&[0.1; 16], 16_000, 1),
        ];
        let (outcome, _) = run(blocks, || Ok(false));
        assert_eq!(outcome.unwrap().len(), 1_600 + 1_600 + 16);
    }

    #[test]
    fn shapes_outside_the_limits_are_errors() {
        for (rate, n_channels) in [
            (999, 1),
            (768_001, 1),
            (u32::MAX, 1),
            (0, 1),
            (16_000, 65),
            (16_000, 0),
        ] {
            let (outcome, _) = run(vec![block(&[0.0; 130], rate, n_channels)], || Ok(false));
            assert!(
                matches!(outcome, Err(Error::Audio { .. })),
                "{rate} Hz, {n_channels} channels"
            );
        }
    }
}
