//! Interface of the decoders, their errors, and the choice of the decoder for a format.

use std::io;

use super::downmix::Downmix;
use super::sniff::{self, Format};
use super::source::Input;
use super::{aiff, au, caf, sphere, wav};
#[cfg(feature = "codecs")]
use super::{flac, frames, mkv, mp4, ogg};
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
        Format::Wav => wav::open(input),
        Format::Wave64 => wav::open_wave64(input),
        Format::Au => au::open(input),
        Format::Aiff => aiff::open(input),
        Format::Caf => caf::open(input),
        Format::Sphere => sphere::open(input),
        #[cfg(feature = "codecs")]
        Format::Mp4 => mp4::open(input, track),
        #[cfg(feature = "codecs")]
        Format::Mkv => mkv::open(input, track),
        #[cfg(feature = "codecs")]
        Format::Frames => frames::open(input),
        #[cfg(feature = "codecs")]
        Format::Ogg => ogg::open(input),
        #[cfg(feature = "codecs")]
        Format::Flac => flac::open(input),
        #[cfg(not(feature = "codecs"))]
        Format::Mp4 => without_codecs("MP4"),
        #[cfg(not(feature = "codecs"))]
        Format::Mkv => without_codecs("Matroska"),
        #[cfg(not(feature = "codecs"))]
        Format::Frames => without_codecs("MP3 or AAC"),
        #[cfg(not(feature = "codecs"))]
        Format::Ogg => without_codecs("Ogg"),
        #[cfg(not(feature = "codecs"))]
        Format::Flac => without_codecs("FLAC"),
    }
}

/// Refuses a track number other than 1 for a format without tracks.
fn only_track(wanted: Option<usize>) -> Attempt<()> {
    match wanted {
        None | Some(1) => Ok(()),
        Some(number) => Err(Failure::Audio(format!(
            "no audio track {number}; the file has one"
        ))),
    }
}

/// Creates the error for a coding that the feature `codecs` decodes, in a build without it.
#[cfg(not(feature = "codecs"))]
pub(super) fn without_codecs<T>(what: &str) -> Attempt<T> {
    Err(Failure::NotBuiltIn(format!("{what} (feature `codecs`)")))
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

#[cfg(all(test, not(feature = "codecs")))]
mod tests {
    use crate::Audio;

    #[test]
    fn without_codecs_pcm_is_decoded_and_the_rest_is_named() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
        let opened = |file: &str| Audio::open(format!("{fixtures}{file}"));
        for file in ["formats/cc0_caf_s16.caf", "odd/aifc_alaw.aifc"] {
            let samples = opened(file).and_then(|audio| audio.samples());
            assert!(samples.is_ok_and(|samples| !samples.is_empty()), "{file}");
        }
        for (file, what) in [
            ("formats/cc0_22k_mono_64k.mp3", "MP3 or AAC"),
            ("formats/cc0_aac_44k1.m4a", "MP4"),
            ("formats/cc0_16k_mono.ogg", "Ogg"),
            ("odd/flac16k.flac", "FLAC"),
            ("odd/opus_live.webm", "Matroska"),
        ] {
            let error = opened(file).expect_err(what).to_string();
            let expected = format!(
                "{what} (feature `codecs`) is not built in; convert it first, e.g. with ffmpeg"
            );
            assert!(error.ends_with(&expected), "{error}");
        }
    }
}
