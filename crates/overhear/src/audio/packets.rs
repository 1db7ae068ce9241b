//! Decodes the packets of one track, independent of the container.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known as id;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::codec::Codec;
use super::coding::Coding;
use super::decode::{Attempt, Block, Decode, Failure, check_shape};
use super::downmix::Downmix;
use super::pcm::{Encoding, is_overdriven};
use super::sniff::not_built_in;

/// Maximum number of consecutive packets that cannot be decoded before decoding stops.
pub(super) const MAX_ERRORS: usize = 1000;
/// Number of frames of silence in a block.
const SILENT_FRAMES: u64 = 4096;

/// Next element of a track.
pub(super) enum Next {
    /// A packet.
    Packet(Coded),
    /// A packet that is missing, because the file is damaged or truncated.
    Lost,
    /// The coding of the packets that follow: another recording in the same file.
    Coding(Coding),
    /// Silence: its length in ticks, and the number of ticks per second.
    Gap(u64, u32),
    /// End of the track.
    End,
}

/// Packet with its position in time.
pub(super) struct Coded {
    pub(super) data: Vec<u8>,
    /// Time in the media, in ticks, if the packet does not follow the previous one.
    pub(super) jump: Option<u64>,
    /// Duration declared by the container, in ticks.
    pub(super) duration: u64,
    /// Times that are played, in ticks of the media.
    pub(super) keep: Range<u64>,
    /// Padding at the end, in ticks.
    pub(super) padding: u64,
    pub(super) ticks_per_s: u32,
}

/// Reader of a container.
pub(super) trait Packets: Send {
    /// Returns the next element of the track. The first is the coding.
    fn next(&mut self) -> Attempt<Next>;

    /// Returns whether the file was damaged or truncated so far.
    fn damaged(&self) -> bool;
}

/// Decoder of the elements that a [`Packets`] returns.
pub(super) struct PacketsDecoder<P> {
    packets: P,
    codec: TrackCodec,
    /// Position of the next decoded frame in the media, in frames.
    position: u64,
    /// Number of frames of silence still to be returned.
    silence: u64,
    n_errors: usize,
    /// Whether a packet of this coding was decoded.
    begun: bool,
    damaged: bool,
    overdriven: bool,
}

enum TrackCodec {
    None,
    Plain {
        encoding: Encoding,
        big_endian: bool,
        rate: u32,
        n_channels: usize,
        downmix: Downmix,
    },
    /// MPEG audio: the layer of the last frame, and its decoder, if there is one.
    Mpeg(Option<(u8, Codec)>),
    /// Decoder and the parameters that it was created with.
    Packets(Codec, Box<AudioCodecParameters>),
}

impl TrackCodec {
    fn new(coding: Coding) -> Attempt<Self> {
        Ok(match coding {
            Coding::Plain {
                encoding,
                big_endian,
                rate,
                n_channels,
                downmix,
            } => {
                check_shape(rate, n_channels)?;
                Self::Plain {
                    encoding,
                    big_endian,
                    rate,
                    n_channels,
                    downmix,
                }
            }
            Coding::Mpeg => Self::Mpeg(None),
            Coding::Packets(parameters) => Self::Packets(Codec::open(&parameters)?, parameters),
            Coding::NotBuiltIn(name) => return Err(not_built_in(&name)),
        })
    }

    /// Resets the decoder's state.
    fn reset(&mut self) -> Attempt<()> {
        match self {
            Self::Mpeg(codec) => *codec = None,
            Self::Packets(codec, parameters) => *codec = Codec::open(parameters)?,
            Self::None | Self::Plain { .. } => {}
        }
        Ok(())
    }

    /// Decodes `data` into `block`. Returns false, with `block` empty, if `data` are damaged.
    fn decode(&mut self, data: Vec<u8>, block: &mut Block) -> Attempt<bool> {
        let codec = match self {
            Self::None => return Ok(false),
            Self::Plain {
                encoding,
                big_endian,
                rate,
                n_channels,
                downmix,
            } => {
                (block.rate, block.n_channels) = (*rate, *n_channels);
                block.downmix = downmix.clone();
                encoding.decode(&data, *big_endian, &mut block.samples);
                let whole = block.samples.len() / *n_channels * *n_channels;
                block.samples.truncate(whole);
                return Ok(whole > 0);
            }
            Self::Mpeg(codec) => {
                let [0xFF, bits, ..] = data[..] else {
                    return Ok(false);
                };
                let layer = bits >> 1 & 3;
                match codec {
                    Some((same, codec)) if *same == layer => codec,
                    other => {
                        let Some(new) = mpeg_codec(layer)? else {
                            return Ok(false);
                        };
                        &mut other.insert((layer, new)).1
                    }
                }
            }
            Self::Packets(codec, _) => codec,
        };
        let packet = Packet::new(0, Timestamp::new(0), Duration::new(0), data);
        // Unwind safe: after a panic the decoder is recreated, and the block is cleared.
        let decoded = catch_unwind(AssertUnwindSafe(|| codec.decode(&packet, block)));
        decoded.unwrap_or_else(|_| {
            block.samples.clear();
            self.reset()?;
            Ok(false)
        })
    }
}

/// Creates the decoder of an MPEG layer, by the layer's bits in the header (ISO 11172-3 section 2.4.2.3).
fn mpeg_codec(layer: u8) -> Attempt<Option<Codec>> {
    let id = match layer {
        3 => id::CODEC_ID_MP1,
        2 => id::CODEC_ID_MP2,
        1 => id::CODEC_ID_MP3,
        _ => return Ok(None),
    };
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(id);
    Codec::open(&parameters).map(Some)
}

impl<P: Packets> PacketsDecoder<P> {
    /// Creates a decoder of `packets`; refuses codings that cannot be decoded.
    pub(super) fn new(packets: P) -> Attempt<Self> {
        let mut decoder = Self {
            packets,
            codec: TrackCodec::None,
            position: 0,
            silence: 0,
            n_errors: 0,
            begun: false,
            damaged: false,
            overdriven: false,
        };
        if let Next::Coding(coding) = decoder.packets.next()? {
            decoder.codec = TrackCodec::new(coding)?;
        }
        Ok(decoder)
    }

    /// Decodes a packet into `block` and keeps the part of it that is played.
    fn take(&mut self, packet: Coded, block: &mut Block) -> Attempt<()> {
        let Coded {
            data,
            jump,
            duration,
            keep,
            padding,
            ticks_per_s,
        } = packet;
        if jump.is_some() {
            self.codec.reset()?;
        }
        let good = match self.codec.decode(data, block) {
            // After a decoded packet, an undecodable one is damage and not another coding.
            Err(failure) if self.begun && !matches!(failure, Failure::Read(_)) => false,
            other => other?,
        };
        let rate = block.rate;
        let in_frames = |ticks: u64| {
            let per_s = u128::from(ticks_per_s.max(1));
            let frames = (u128::from(ticks) * u128::from(rate) + per_s / 2) / per_s;
            u64::try_from(frames).unwrap_or(u64::MAX)
        };
        if let Some(start) = jump {
            self.position = in_frames(start);
        }
        if !good {
            self.damaged = true;
            self.n_errors += 1;
            self.position = self.position.saturating_add(in_frames(duration));
            return Ok(());
        }
        self.n_errors = 0;
        self.begun = true;
        if matches!(self.codec, TrackCodec::Plain { .. }) {
            self.overdriven |= is_overdriven(&block.samples);
        }
        if block.samples.is_empty() {
            return Ok(());
        }
        check_shape(block.rate, block.n_channels)?;
        let n_frames = (block.samples.len() / block.n_channels) as u64;
        let start = self.position;
        self.position = start.saturating_add(n_frames);
        let end = in_frames(keep.end).min(self.position);
        let n_end = (self.position - end).max(in_frames(padding)).min(n_frames);
        let n_skipped = in_frames(keep.start)
            .saturating_sub(start)
            .min(n_frames - n_end);
        let n_channels = block.n_channels;
        block
            .samples
            .truncate((n_frames - n_end) as usize * n_channels);
        block.samples.drain(..n_skipped as usize * n_channels);
        Ok(())
    }
}

impl<P: Packets> Decode for PacketsDecoder<P> {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        if self.silence > 0 {
            let n_frames = self.silence.min(SILENT_FRAMES);
            self.silence -= n_frames;
            block
                .samples
                .resize(n_frames as usize * block.n_channels, 0.0);
            return Ok(true);
        }
        while block.samples.is_empty() && self.n_errors <= MAX_ERRORS {
            match self.packets.next()? {
                Next::Packet(packet) => self.take(packet, block)?,
                Next::Lost => {
                    self.damaged = true;
                    self.n_errors += 1;
                }
                Next::Coding(coding) => {
                    self.codec = TrackCodec::new(coding)?;
                    (self.position, self.begun) = (0, false);
                }
                Next::Gap(ticks, per_s) => {
                    // Without a rate, nothing was decoded yet.
                    let frames =
                        u128::from(ticks) * u128::from(block.rate) / u128::from(per_s.max(1));
                    self.silence = u64::try_from(frames).unwrap_or(0);
                    return Ok(true);
                }
                Next::End => return Ok(false),
            }
        }
        Ok(!block.samples.is_empty())
    }

    fn damaged(&self) -> bool {
        self.damaged || self.packets.damaged()
    }

    fn overdriven(&self) -> bool {
        self.overdriven
    }

    fn left_out(&self) -> Option<&'static str> {
        match &self.codec {
            TrackCodec::Packets(codec, _) => codec.left_out(),
            _ => None,
        }
    }
}
