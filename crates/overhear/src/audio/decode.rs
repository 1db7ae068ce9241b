//! What every decoder gives, why one can fail, and the choice of the decoder for a format.

use std::io;

use super::coding::only_track;
use super::downmix::Downmix;
use super::sniff::{self, Format};
use super::source::Input;
use super::symphonia::Container;
use super::{aiff, au, caf, flac, frames, mkv, mp4, ogg, sphere, symphonia, wav};
use crate::Error;

/// A run of decoded frames.
#[derive(Default)]
pub(super) struct Block {
    /// Interleaved, `[n_frames, n_channels]`, nominally in [-1, 1].
    pub(super) samples: Vec<f32>,
    /// Frames per second.
    pub(super) rate: u32,
    /// Samples in a frame.
    pub(super) n_channels: usize,
    /// How these are mixed.
    pub(super) downmix: Downmix,
}

/// A decoder under way.
pub(super) trait Decode: Send {
    /// Replaces the content of `block` by the next frames; false at the end. A block may be empty.
    fn next(&mut self, block: &mut Block) -> Attempt<bool>;

    /// Whether something was missing or had to be left out so far.
    fn damaged(&self) -> bool;

    /// Whether samples so far that are stored as they are were beyond full scale by more than [`RIPPLE`].
    fn overdriven(&self) -> bool {
        false
    }

    /// What of the coding is left out, though there are samples.
    fn left_out(&self) -> Option<&'static str> {
        None
    }

    /// Whether a file without a single sample is a fine file (as a WAV header is) and not a damaged one.
    fn may_be_empty(&self) -> bool {
        false
    }
}

/// What the stages before the public error return.
pub(super) type Attempt<T> = std::result::Result<T, Failure>;

/// Why a decoder stops for good.
#[derive(Debug)]
pub(super) enum Failure {
    /// Reading failed.
    Read(io::Error),
    /// What was read is no audio that can be decoded.
    Audio(String),
    /// What was read is audio, in a format or coding that exists but is not in this build.
    NotBuiltIn(String),
}

impl Failure {
    pub(super) fn audio(reason: impl Into<String>) -> Self {
        Self::Audio(reason.into())
    }

    /// The public error for the input called `name`.
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

/// Recognises what `input` holds and starts to decode it: the audio track `track`, from 1 on, or the default one.
pub(super) fn open(mut input: Input, track: Option<usize>) -> Attempt<Box<dyn Decode>> {
    let format = sniff::sniff(&mut input)?;
    open_as(format, input, track)
}

/// Starts to decode `input`, which was recognised as `format`.
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

/// What a resampler's filter adds to full scale at the most: a decibel.
pub(super) const RIPPLE: f32 = 1.122;

/// Lowest and highest sample rates that are taken, in Hz.
pub(super) const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Most channels that are taken.
const MAX_CHANNELS: usize = 64;

/// Refuses sample rates and channel counts that no recording has.
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
