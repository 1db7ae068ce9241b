//! Audio of any common format as a re-openable stream of 16 kHz mono `f32` samples in [-1, 1].
//!
//! ```
//! use overhear::Audio;
//!
//! # fn wav() -> Vec<u8> {
//! #     let mut wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3E\0\0\0\x7D\0\0\x02\0\x10\0data".to_vec();
//! #     wav.extend(4_u32.to_le_bytes());
//! #     wav.extend([0, 0x40, 0, 0xC0]);
//! #     wav
//! # }
//! // `Audio::open("speech.mp3")` for a file, `Audio::from_reader(std::io::stdin(), "stdin")` for a pipe.
//! let audio = Audio::from_bytes(wav(), "two samples")?;
//!
//! // Any number of passes, each with little memory, however long the audio is:
//! let mut reader = audio.reader()?;
//! let mut buffer = [0.0; 4096];
//! let mut n_samples = 0;
//! loop {
//!     match reader.read(&mut buffer)? {
//!         0 => break,
//!         n => n_samples += n,
//!     }
//! }
//! assert_eq!(n_samples, 2);
//! assert!(reader.warnings().is_empty());
//!
//! // Or, if it is short, all at once:
//! assert_eq!(audio.samples()?, [0.5, -0.5]);
//! # Ok::<(), overhear::Error>(())
//! ```
//!
//! One stage a file: `source` opens the bytes, `sniff` recognises the format. Decoders: `wav`, `au`, `aiff`, `caf` and
//! `sphere` (over `pcm` and `adpcm`); with the feature `codecs` `mp4` and `mkv` (over `coding`, `packets` and `codec`),
//! `frames` (MP3 and ADTS, over `mpeg`), `ogg`, `flac`, `symphonia`; and `ffmpeg` for formats that are not built in, if the
//! caller allows it. `reader` mixes to mono (`downmix`), replaces non-finite samples and drives `resample`; `regions` keeps
//! some ranges of the samples; `spool` keeps input that cannot be read twice. Declared sizes and counts are checked against
//! the content and never decide how much memory is allocated.

mod adpcm;
mod aiff;
mod au;
mod caf;
#[cfg(feature = "codecs")]
mod codec;
#[cfg(feature = "codecs")]
mod coding;
mod core_audio;
mod decode;
mod downmix;
mod ffmpeg;
#[cfg(feature = "codecs")]
mod flac;
mod frame_header;
#[cfg(feature = "codecs")]
mod frames;
pub(crate) mod input;
#[cfg(feature = "codecs")]
mod mkv;
#[cfg(feature = "codecs")]
mod mp4;
#[cfg(feature = "codecs")]
mod mpeg;
#[cfg(feature = "codecs")]
mod ogg;
#[cfg(feature = "codecs")]
mod ogg_pages;
#[cfg(feature = "codecs")]
mod opus;
#[cfg(feature = "codecs")]
mod packets;
mod pcm;
mod reader;
mod regions;
mod resample;
#[cfg(feature = "codecs")]
mod sbr;
mod sniff;
mod source;
mod sphere;
mod spool;
#[cfg(feature = "codecs")]
mod symphonia;
mod wav;

use std::time::Duration;

pub use ffmpeg::Ffmpeg;
pub(crate) use input::Audio;
pub use reader::AudioReader;

/// Samples per second of everything after decoding.
pub const SAMPLE_RATE: u32 = 16_000;

/// Options of opening audio.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct AudioOptions {
    /// Audio track to decode, counted from 1. `None`: the track marked as the default; among several, the one with the
    /// most channels; among equals, the first.
    pub track: Option<usize>,
    /// Decoder of formats and codings that are not built in.
    pub ffmpeg: Ffmpeg,
    /// Time without output after which ffmpeg is stopped.
    pub ffmpeg_stall_limit: Duration,
}

impl Default for AudioOptions {
    fn default() -> Self {
        Self {
            track: None,
            ffmpeg: Ffmpeg::Off,
            ffmpeg_stall_limit: Duration::from_secs(60),
        }
    }
}

/// Irregularity of the input that did not prevent decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AudioWarning {
    /// The file ends early or is damaged in places; the samples that could be decoded are used.
    Truncated,
    /// NaN samples were replaced by silence, infinite ones by full scale.
    NotFinite,
    /// Samples at least one decibel beyond full scale were clamped to it.
    Overdriven,
}
