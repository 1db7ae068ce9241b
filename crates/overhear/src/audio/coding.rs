//! Coding of a track's audio as declared by its container, and the choice among several tracks.

use std::fmt::Write as _;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known as codec;

use super::decode::{Attempt, Failure};
use super::downmix::Downmix;
use super::pcm::Encoding;

/// Codec and parameters of a track.
pub(super) enum Coding {
    /// Uncompressed samples.
    Plain {
        encoding: Encoding,
        big_endian: bool,
        rate: u32,
        n_channels: usize,
        downmix: Downmix,
    },
    /// MPEG audio; the layer is read from the frames, whatever the container declares.
    Mpeg,
    /// A codec of Symphonia's, or Opus.
    Packets(Box<AudioCodecParameters>),
    /// A codec that is not built in, by name.
    NotBuiltIn(String),
}

impl Coding {
    /// Returns the number of frames to drop at the start of an Opus stream (RFC 7845 section 4.2); 0 for other codecs.
    pub(super) fn pre_skip(&self) -> u64 {
        match self {
            Self::Packets(parameters) if parameters.codec == codec::CODEC_ID_OPUS => {
                let header = parameters.extra_data.as_deref().unwrap_or_default();
                let pre_skip = header.get(10..).and_then(<[u8]>::first_chunk);
                pre_skip.map_or(0, |bytes| u64::from(u16::from_le_bytes(*bytes)))
            }
            _ => 0,
        }
    }

    /// Returns the codec's name.
    fn name(&self) -> &str {
        const NAMES: &[(symphonia::core::codecs::audio::AudioCodecId, &str)] = &[
            (codec::CODEC_ID_AAC, "AAC"),
            (codec::CODEC_ID_ALAC, "ALAC"),
            (codec::CODEC_ID_FLAC, "FLAC"),
            (codec::CODEC_ID_OPUS, "Opus"),
            (codec::CODEC_ID_VORBIS, "Vorbis"),
        ];
        match self {
            Self::Plain { .. } => "PCM",
            Self::Mpeg => "MPEG audio",
            Self::Packets(parameters) => NAMES
                .iter()
                .find(|(id, _)| *id == parameters.codec)
                .map_or("audio", |(_, name)| name),
            Self::NotBuiltIn(name) => name,
        }
    }
}

/// Audio track of a file.
pub(super) struct AudioTrack {
    pub(super) coding: Coding,
    /// Language code, if the file declares one.
    pub(super) language: Option<String>,
    /// Title, if the file declares one.
    pub(super) title: Option<String>,
    pub(super) n_channels: usize,
    /// Whether the track is marked as the default.
    pub(super) is_default: bool,
}

/// Returns the index of the track to decode: track number `wanted`, counted from 1, or the track that ffmpeg selects:
/// marked as the default, with the most channels, the first.
pub(super) fn choose(tracks: &[AudioTrack], wanted: Option<usize>) -> Attempt<usize> {
    let Some(number) = wanted else {
        let rank = |i: &usize| (tracks[*i].is_default, tracks[*i].n_channels);
        // `max_by_key` returns the last of equal elements, hence the reverse order.
        let best = (0..tracks.len()).rev().max_by_key(rank);
        return best.ok_or_else(|| Failure::audio("no audio track"));
    };
    if (1..=tracks.len()).contains(&number) {
        return Ok(number - 1);
    }
    Err(no_such_track(number, tracks))
}

/// Maximum number of tracks listed in a message.
const MAX_LISTED: usize = 20;

fn no_such_track(number: usize, tracks: &[AudioTrack]) -> Failure {
    let mut message = format!("no audio track {number}; the file has");
    if tracks.is_empty() {
        message += " none";
    }
    for (i, track) in tracks.iter().enumerate().take(MAX_LISTED) {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(message, "{comma} {}: {}", i + 1, track.coding.name());
        if track.n_channels > 0 {
            let _ = match track.n_channels {
                1 => write!(message, " mono"),
                2 => write!(message, " stereo"),
                n => write!(message, " {n} channels"),
            };
        }
        if let Some(language) = &track.language {
            let _ = write!(message, " {}", language.escape_debug());
        }
        if let Some(title) = &track.title {
            let title: String = title.chars().take(60).collect();
            let _ = write!(message, " \"{}\"", title.escape_debug());
        }
        if track.is_default {
            message += " (default)";
        }
    }
    Failure::Audio(message)
}

/// Concatenates Vorbis's identification and setup headers, two of the three that are Xiph-laced in `private`.
pub(super) fn vorbis_headers(private: &[u8]) -> Option<Vec<u8>> {
    let (2, mut rest) = private.split_first().map(|(n, rest)| (*n, rest))? else {
        return None;
    };
    let mut lens = [0, 0];
    for len in &mut lens {
        *len = xiph_len(&mut rest)?;
    }
    let (identification, rest) = rest.split_at_checked(lens[0])?;
    let setup = rest.get(lens[1]..)?;
    Some([identification, setup].concat())
}

/// Reads a length in Xiph lacing: the sum of bytes up to and including the first that is not 255.
pub(super) fn xiph_len(bytes: &mut &[u8]) -> Option<usize> {
    let mut len = 0_usize;
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        len += usize::from(*byte);
        if *byte < 255 {
            return Some(len);
        }
    }
}
