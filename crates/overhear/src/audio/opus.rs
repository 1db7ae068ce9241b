//! Decodes Opus packets to samples.
//!
//! Symphonia takes the packets out of Ogg, Matroska and MP4 but has no Opus decoder. Five pure-Rust ones were run
//! over 25 clips (SILK at 6 to 12 kbit/s with frames of 20, 60 and 120 ms, hybrid, CELT with frames of 2.5 to 40 ms,
//! mono, stereo, 5.1, 7.1, in-band FEC, CBR, DTX) and compared with libopus 1.3.1 in ffmpeg and, for DTX, with
//! libopus 1.6.1; speech and a synthetic chord with noise, output at 48 kHz mixed to mono:
//!
//! | decoder | largest difference | 5.1, 7.1 | DTX | times real time |
//! |---|---|---|---|---|
//! | opus-pure 0.2.2 | 9e-8 | right | 2e-5, the reference's 16 bits | 160 to 3800 |
//! | ropus 0.12.18 | 9e-5 (fixed point, 16 bits) | not run | 7e-3 | 170 to 2000 |
//! | opus-decoder 0.1.1 | 7e-3 | refused | 1e-1 | 2 to 25 (CELT, hybrid) |
//! | unsafe-libopus 0.2.0 | 6e-8 | right | wrong: clips at full scale | 200 to 2100 |
//! | mousiki 0.2.1 | 1.7 (wrong everywhere) | not run | wrong | 260 to 2600 |
//!
//! opus-pure equals libopus to the last bit or two of an `f32`. With DTX the reference is 1.6.1 (1.3.1 produces
//! different comfort noise, by 1e-2), and a packet of one byte is passed to opus-pure as a lost packet, as libopus
//! treats it: otherwise the frames after a pause differ by up to 1e-1. The other decoders were run without that,
//! through their public interfaces as documented; the cause of mousiki's failure was not investigated.
//!
//! opus-pure has no dependencies, is fuzzed and maintained; its `unsafe` is SIMD behind run-time checks. ropus would be
//! the second choice (16-bit resolution, a build script that searches for a C tree, twice the code); opus-decoder has
//! no `unsafe` but neither the precision nor the speed.

use opus_pure::{MAX_PACKET_SAMPLES, OpusDecoder, OpusMSDecoder};

use super::decode::{Attempt, Block, Failure};
use super::downmix::{Downmix, Speaker};
use super::sniff::not_built_in;

/// Output rate in Hz. Opus is decoded at its native rate: the resampler after it has the better filter.
const RATE: u32 = 48_000;

/// Decoder of one Opus stream.
pub(super) struct Opus {
    inner: Inner,
    n_channels: usize,
    downmix: Downmix,
    /// Number of samples to drop at the start (RFC 7845 section 4.2).
    pre_skip: u64,
}

enum Inner {
    /// Mapping family 0: mono or stereo.
    One(Box<OpusDecoder>),
    /// Mapping family 1: up to 7.1, several Opus streams in a packet.
    Many(Box<OpusMSDecoder>),
}

impl Opus {
    /// Creates a decoder. `header`: the identification header, from `OpusHead` on (RFC 7845 section 5.1). Without one
    /// (some Matroska writers) the stream is assumed to be stereo.
    pub(super) fn new(header: Option<&[u8]>) -> Attempt<Self> {
        const STEREO: &[u8] = b"OpusHead\x01\x02\0\0\x80\xBB\0\0\0\0\0";
        let header = header.unwrap_or(STEREO);
        let Some((fixed, mapping)) = header
            .split_first_chunk::<19>()
            .filter(|_| header.starts_with(b"OpusHead"))
        else {
            return Err(Failure::audio("Opus header is cut short"));
        };
        let (n_channels, family) = (usize::from(fixed[9]), fixed[18]);
        let gain = i32::from(i16::from_le_bytes([fixed[16], fixed[17]]));
        let refused = |error| Failure::Audio(format!("Opus: {error}"));
        let inner = match family {
            0 => {
                let mut decoder = OpusDecoder::new(RATE as i32, n_channels).map_err(refused)?;
                decoder.gain_q8 = gain;
                Inner::One(Box::new(decoder))
            }
            1 => {
                let mut decoder =
                    OpusMSDecoder::new(RATE as i32, n_channels, family).map_err(refused)?;
                let layout = decoder.layout();
                let streams = [layout.nb_streams, layout.nb_coupled_streams];
                if mapping
                    .get(..2)
                    .is_none_or(|given| given.iter().map(|n| usize::from(*n)).ne(streams))
                {
                    return Err(not_built_in("Opus with an unusual stream layout"));
                }
                decoder
                    .streams_mut()
                    .iter_mut()
                    .for_each(|stream| stream.gain_q8 = gain);
                Inner::Many(Box::new(decoder))
            }
            family => {
                return Err(not_built_in(&format!(
                    "Opus channel mapping family {family}"
                )));
            }
        };
        Ok(Self {
            inner,
            n_channels,
            downmix: Downmix::new(speakers(n_channels)),
            pre_skip: u64::from(u16::from_le_bytes([fixed[10], fixed[11]])),
        })
    }

    /// Returns the number of frames to drop at the start of the stream.
    pub(super) fn pre_skip(&self) -> u64 {
        self.pre_skip
    }

    /// Replaces the content of `block` by the frames of one packet. Returns false if the packet is damaged.
    pub(super) fn decode(&mut self, packet: &[u8], block: &mut Block) -> bool {
        (block.rate, block.n_channels) = (RATE, self.n_channels);
        block.downmix = self.downmix.clone();
        block.samples.clear();
        if packet.is_empty() {
            return false;
        }
        block
            .samples
            .resize(MAX_PACKET_SAMPLES * self.n_channels, 0.0);
        let decoded = match &mut self.inner {
            // DTX: a frame of zero bytes stands for a pause of its length, which libopus conceals as if it were lost.
            Inner::One(decoder) if packet.len() == 1 => {
                decoder.decode(&[], frame_len(packet[0]), &mut block.samples)
            }
            Inner::One(decoder) => decoder.decode(packet, MAX_PACKET_SAMPLES, &mut block.samples),
            Inner::Many(decoder) => decoder.decode(packet, MAX_PACKET_SAMPLES, &mut block.samples),
        };
        block
            .samples
            .truncate(decoded.as_ref().map_or(0, |n| n * self.n_channels));
        decoded.is_ok()
    }
}

/// Returns the number of samples in a frame, from the first byte (TOC) of its packet (RFC 6716 section 3.1, table 2).
fn frame_len(toc: u8) -> usize {
    match toc >> 3 {
        silk @ 0..12 => [480, 960, 1920, 2880][usize::from(silk % 4)],
        hybrid @ 12..16 => [480, 960][usize::from(hybrid % 2)],
        celt => [120, 240, 480, 960][usize::from(celt % 4)],
    }
}

/// Returns the speakers of the channels, by the number of channels (RFC 7845 section 5.1.1.2).
fn speakers(n_channels: usize) -> &'static [Speaker] {
    const LEFT: Speaker = Speaker::FRONT_LEFT;
    const RIGHT: Speaker = Speaker::FRONT_RIGHT;
    const CENTER: Speaker = Speaker::FRONT_CENTER;
    const BACK: [Speaker; 2] = [Speaker::BACK_LEFT, Speaker::BACK_RIGHT];
    const SIDE: [Speaker; 2] = [Speaker::SIDE_LEFT, Speaker::SIDE_RIGHT];
    const LOW: Speaker = Speaker::LOW_FREQUENCY;
    match n_channels {
        1 => &[CENTER],
        2 => &[LEFT, RIGHT],
        3 => &[LEFT, CENTER, RIGHT],
        4 => &[LEFT, RIGHT, BACK[0], BACK[1]],
        5 => &[LEFT, CENTER, RIGHT, BACK[0], BACK[1]],
        6 => &[LEFT, CENTER, RIGHT, BACK[0], BACK[1], LOW],
        7 => &[
            LEFT,
            CENTER,
            RIGHT,
            SIDE[0],
            SIDE[1],
            Speaker::BACK_CENTER,
            LOW,
        ],
        8 => &[LEFT, CENTER, RIGHT, SIDE[0], SIDE[1], BACK[0], BACK[1], LOW],
        _ => &[],
    }
}
