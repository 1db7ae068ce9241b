//! How the audio of a track is coded, as its container tells it, and the choice among several tracks.

use std::fmt::Write as _;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known as codec;

use super::decode::{Attempt, Failure};
use super::downmix::Downmix;
use super::pcm::Encoding;

/// How packets become samples.
pub(super) enum Coding {
    /// They are samples.
    Plain {
        encoding: Encoding,
        big_endian: bool,
        rate: u32,
        n_channels: usize,
        downmix: Downmix,
    },
    /// MPEG audio of a layer that its frames tell, whatever the container says.
    Mpeg,
    /// By a codec of Symphonia's, or Opus.
    Packets(Box<AudioCodecParameters>),
    /// By a codec that is not built in, called so.
    NotBuiltIn(String),
}

impl Coding {
    /// Frames at the start of an Opus stream that are not part of the recording (RFC 7845 section 4.2); 0 for others.
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

    /// The codec's name.
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

/// An audio track of a file.
pub(super) struct AudioTrack {
    pub(super) coding: Coding,
    /// Language code, if the file has one.
    pub(super) language: Option<String>,
    /// Title, if the file has one.
    pub(super) title: Option<String>,
    pub(super) n_channels: usize,
    /// Whether a player should play the track by itself.
    pub(super) is_default: bool,
}

/// Index of the track to decode: the one with the number `wanted`, from 1 on, or the one that ffmpeg takes: marked as the
/// default, with the most channels, the first.
pub(super) fn choose(tracks: &[AudioTrack], wanted: Option<usize>) -> Attempt<usize> {
    let Some(number) = wanted else {
        let rank = |i: &usize| (tracks[*i].is_default, tracks[*i].n_channels);
        // The last of equals wins in `max_by_key`.
        let best = (0..tracks.len()).rev().max_by_key(rank);
        return best.ok_or_else(|| Failure::audio("no audio track"));
    };
    if (1..=tracks.len()).contains(&number) {
        return Ok(number - 1);
    }
    Err(no_such_track(number, tracks))
}

/// Refuses a track other than the first of a format that has no tracks.
pub(super) fn only_track(wanted: Option<usize>) -> Attempt<()> {
    match wanted {
        None | Some(1) => Ok(()),
        Some(number) => Err(Failure::Audio(format!(
            "no audio track {number}; the file has one"
        ))),
    }
}

/// Tracks that a message lists.
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

/// The identification and setup headers of Vorbis, one behind the other, out of the three that are laced in `private`.
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

/// A length in Xiph lacing: bytes that are added up, up to one that is not 255.
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
