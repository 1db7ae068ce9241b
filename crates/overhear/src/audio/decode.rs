//! Interface of the decoders, their errors, and the choice of the decoder for a format.

use std::io;

use super::coding::only_track;
use super::downmix::Downmix;
use super::sniff::{self, Format};
use super::source::Input;
use super::symphonia::Container;
use super::{aiff, au, caf, flac, frames, mkv, mp4, ogg, sphere, symphonia, wav};
use crate::Error;

/// Block of decoded frames.
#[derive(Default)]
pub(super) struct Block {
    /// Interleaved, `[n_frames, n_channels]`, nominally in [-1, 1].
    pub(super) samples: Vec<f32>,
    /// Frames per second.
    pub(super) rate: u32,
    /// Number of samples in a frame.
    pub(super) n_channels: usize,
    /// Downmix of the channels to mono.
    pub(super) downmix: Downmix,
}

/// Decoder in progress.
pub(super) trait Decode: Send {
    /// Replaces the content of `block` by the next frames. Returns false at the end. A block may be empty.
    fn next(&mut self, block: &mut Block) -> Attempt<bool>;

    /// Returns whether data were missing or skipped so far.
    fn damaged(&self) -> bool;

    /// Returns whether samples of an uncompressed encoding exceeded full scale by more than [`RIPPLE`] so far.
    fn overdriven(&self) -> bool {
        false
    }

    /// Returns a description of the part of the coding that is not decoded, if any.
    fn left_out(&self) -> Option<&'static str> {
        None
    }

    /// Returns whether a file without samples is valid (as a WAV header alone is) instead of damaged.
    fn may_be_empty(&self) -> bool {
        false
    }
}

/// Result of the stages before the public error.
pub(super) type Attempt<T> = std::result::Result<T, Failure>;

/// Reason for which a decoder stops for good.
#[derive(Debug)]
pub(super) enum Failure {
    /// Reading failed.
    Read(io::Error),
    /// The input holds no audio that can be decoded.
    Audio(String),
    /// The input is audio in a format or coding that is not in this build.
    NotBuiltIn(String),
}

impl Failure {
    pub(super) fn audio(reason: impl Into<String>) -> Self {
        Self::Audio(reason.into())
    }

    /// Converts to the public error for the input called `name`.
    pub(super) fn named(self, name: &str) -> Error {
        let name = name.to_owned();
        match self {
            Self::Read(source) => Error::Read { name, source },
            Self::Audio(reason) => Error::Audio { name, reason },
            Self::NotBuiltIn(what) => Error::Audio {
                name,
                reason: format!("{what} is not built in; convert it first, e.g. with ffmpeg"),
            },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Recognises the format of `input` and opens its decoder, for audio track `track`, counted from 1, or the default
/// track.
pub(super) fn open(mut input: Input, track: Option<usize>) -> Attempt<Box<dyn Decode>> {
    let format = sniff::sniff(&mut input)?;
    open_as(format, input, track)
}

/// Opens the decoder of `input`, recognised as `format`.
pub(super) fn open_as(
    format: Format,
    input: Input,
    track: Option<usize>,
) -> Attempt<Box<dyn Decode>> {
    if !matches!(format, Format::Mp4 | Format::Mkv) {
        only_track(track)?;
    }
    match format {
        Format::Mp4 => mp4::open(input, track),
        Format::Mkv => mkv::open(input, track),
        Format::Wav => wav::open(input),
        Format::Wave64 => wav::open_wave64(input),
        Format::Au => au::open(input),
        Format::Aiff => aiff::open(input),
        Format::Caf => caf::open(input),
        Format::Sphere => sphere::open(input),
        Format::Frames => frames::open(input),
        Format::Ogg => ogg::open(input),
        Format::Symphonia(Container::Flac) => flac::open(input),
        Format::Symphonia(container) => symphonia::open(container, Box::new(input)),
    }
}

/// Maximum overshoot beyond full scale that a resampler's filter produces: one decibel.
pub(super) const RIPPLE: f32 = 1.122;

/// Accepted sample rates, in Hz.
pub(super) const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Maximum number of channels accepted.
const MAX_CHANNELS: usize = 64;

/// Refuses sample rates and channel counts outside the accepted ranges.
pub(super) fn check_shape(rate: u32, n_channels: usize) -> Attempt<()> {
    if !RATES.contains(&rate) {
        return Err(Failure::Audio(format!(
            "sample rate {rate} Hz is outside 1 kHz to 768 kHz"
        )));
    }
    if !(1..=MAX_CHANNELS).contains(&n_channels) {
        return Err(Failure::Audio(format!(
            "{n_channels} channels: from 1 to {MAX_CHANNELS} can be mixed"
        )));
    }
    Ok(())
}
