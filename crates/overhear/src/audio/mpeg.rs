//! Frames of MPEG audio (layers I to III) and of AAC in ADTS: their headers and decoders.
//!
//! Every frame declares its coding, and concatenated files or radio recordings change it in the middle: each run of
//! frames of one rate, channel count and layer gets a new decoder.
//!
//! Symphonia refuses layer II at bit rates for which ISO 11172-3 defines no mode (mono above 192 kbit/s, stereo below
//! 64 and at 80), but encoders write them. Such frames are rewritten: see [`allowed`].
//!
//! References: ISO 11172-3 section 2.4, ISO 13818-3 section 2.4, ISO 13818-7 section 6.2.

use std::borrow::Cow;

use symphonia::core::audio::{Channels, Position};
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3,
};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::decode::{Attempt, Block};
use super::downmix::Downmix;
use super::sbr::SbrWatch;
use super::sniff::not_built_in;

/// Number of bytes needed to parse a header: the 7 bytes of ADTS without a checksum; MPEG audio needs fewer.
pub(super) const MIN_HEADER: usize = 7;
/// Maximum length of a frame in bytes: ADTS has a 13-bit length.
pub(super) const MAX_FRAME: usize = 1 << 13;

/// Coding of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Layer1,
    Layer2,
    Layer3,
    /// AAC in ADTS, by its audio object type.
    Aac(u8),
}

/// Parsed frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) coding: Coding,
    /// Number of bytes in the frame, header included.
    pub(super) len: usize,
    /// Sample rate in Hz.
    pub(super) rate: u32,
    /// Number of channels; for AAC the channel configuration, of which 0 and 3 to 7 mean more than two.
    pub(super) n_channels: u8,
    /// Whether MPEG audio is MPEG-1 and not one of the low-rate extensions.
    mpeg1: bool,
    /// Bit rate of MPEG audio in kbit/s.
    kbit: u16,
}

impl Header {
    /// Parses the header at the start of `bytes`, if there is one. Free-format MPEG audio, whose frames do not declare
    /// their length, is not accepted.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<MIN_HEADER>()?;
        if header[0] != 0xFF || header[1] & 0xE0 != 0xE0 {
            return None;
        }
        if header[1] & 0xF6 == 0xF0 {
            adts(*header)
        } else {
            mpeg(*header)
        }
    }

    /// Returns whether a frame of `other` can follow within one stream without a new decoder.
    pub(super) fn continues(&self, other: &Self) -> bool {
        (self.coding, self.rate, self.n_channels) == (other.coding, other.rate, other.n_channels)
    }

    /// Refuses codings that cannot be decoded.
    pub(super) fn check(&self) -> Attempt<()> {
        match (self.coding, self.n_channels) {
            (Coding::Aac(2), 1 | 2) => Ok(()),
            (Coding::Aac(_), _) => Err(not_built_in(
                "AAC other than AAC-LC in mono or stereo (HE-AAC, xHE-AAC, 5.1)",
            )),
            // Too long to be rewritten: see `allowed`.
            (Coding::Layer2, 1) if self.kbit == 384 && self.rate != 44_100 => {
                Err(not_built_in("MP2 of 384 kbit/s in mono"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of samples per channel in the frame.
    pub(super) fn n_samples(&self) -> u64 {
        match self.coding {
            Coding::Layer1 => 384,
            Coding::Layer3 if !self.mpeg1 => 576,
            Coding::Layer2 | Coding::Layer3 => 1152,
            Coding::Aac(_) => 1024,
        }
    }

    /// Returns the number of bytes of side information after the header of a layer III frame.
    pub(super) fn side_len(&self) -> usize {
        match (self.mpeg1, self.n_channels) {
            (true, 2) => 32,
            (true, _) | (false, 2) => 17,
            (false, _) => 9,
        }
    }
}

fn adts([_, b1, b2, b3, b4, b5, _]: [u8; MIN_HEADER]) -> Option<Header> {
    const RATES: [u32; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
        8_000, 7_350,
    ];
    let rate = *RATES.get(usize::from(b2 >> 2 & 15))?;
    let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    let header_len = if b1 & 1 == 1 { 7 } else { 9 };
    (len > header_len).then_some(Header {
        coding: Coding::Aac((b2 >> 6) + 1),
        len,
        rate,
        n_channels: (b2 & 1) << 2 | b3 >> 6,
        mpeg1: false,
        kbit: 0,
    })
}

fn mpeg([_, b1, b2, b3, ..]: [u8; MIN_HEADER]) -> Option<Header> {
    const KBIT: [[u16; 15]; 5] = [
        [
            0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
        ], // MPEG-1 layer I
        [
            0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
        ], // MPEG-1 layer II
        [
            0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
        ], // MPEG-1 layer III
        [
            0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
        ], // MPEG-2 layer I
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160], // MPEG-2 layers II, III
    ];
    let (version, layer) = (b1 >> 3 & 3, b1 >> 1 & 3);
    let (index, rate_index) = (usize::from(b2 >> 4), usize::from(b2 >> 2 & 3));
    if version == 1 || index == 0 || index == 15 || rate_index == 3 {
        return None;
    }
    let mpeg1 = version == 3;
    let rate = [44_100, 48_000, 32_000][rate_index] >> [2, 0, 1, 0][usize::from(version)];
    let (coding, table) = match (layer, mpeg1) {
        (3, true) => (Coding::Layer1, 0),
        (3, false) => (Coding::Layer1, 3),
        (2, true) => (Coding::Layer2, 1),
        (2, false) => (Coding::Layer2, 4),
        (1, true) => (Coding::Layer3, 2),
        (1, false) => (Coding::Layer3, 4),
        _ => return None,
    };
    let kbit = KBIT[table][index];
    let bits = 1000 * u32::from(kbit);
    let padding = u32::from(b2 >> 1 & 1);
    let len = match coding {
        Coding::Layer1 => (12 * bits / rate + padding) * 4,
        Coding::Layer3 if !mpeg1 => 72 * bits / rate + padding,
        _ => 144 * bits / rate + padding,
    };
    Some(Header {
        coding,
        len: len as usize,
        rate,
        n_channels: if b3 >> 6 == 3 { 1 } else { 2 },
        mpeg1,
        kbit,
    })
}

/// Decoder of frames, recreated whenever their coding, rate or channel count changes.
#[derive(Default)]
pub(super) struct FrameDecoder {
    current: Option<(Header, Box<dyn AudioDecoder>)>,
    pub(super) sbr: SbrWatch,
}

/// Returns whether a mono frame has to be decoded as two channels.
fn is_widened(header: &Header) -> bool {
    header.coding == Coding::Layer2 && header.n_channels == 1 && header.kbit >= 224
}

impl FrameDecoder {
    /// Replaces the content of `block` by the samples of the frame whose header is at the start of `frame`. Returns
    /// false if the frame is damaged.
    pub(super) fn decode(&mut self, frame: &[u8], block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        let Some(header) = Header::read(frame).filter(|header| header.len <= frame.len()) else {
            return Ok(false);
        };
        let frame = &frame[..header.len];
        let mut decoder = match self.current.take() {
            Some((current, decoder))
                if current.continues(&header) && is_widened(&current) == is_widened(&header) =>
            {
                decoder
            }
            _ => new_decoder(&header)?,
        };
        let data = match header.coding {
            Coding::Aac(_) if frame[6] & 3 != 0 => {
                return Err(not_built_in(
                    "ADTS with several AAC frames in one of its own",
                ));
            }
            Coding::Aac(_) => Cow::Borrowed(&frame[if frame[1] & 1 == 1 { 7 } else { 9 }..]),
            Coding::Layer2 => allowed(&header, frame),
            Coding::Layer1 | Coding::Layer3 => Cow::Borrowed(frame),
        };
        if matches!(header.coding, Coding::Aac(_)) {
            self.sbr.see(&data);
        }
        let packet = Packet::new(0, Timestamp::ZERO, Duration::ZERO, data.into_owned());
        let good = match decoder.decode(&packet) {
            Ok(buffer) => {
                block.rate = header.rate;
                block.n_channels = buffer.spec().channels().count();
                block.downmix = Downmix::default();
                buffer.copy_to_vec_interleaved(&mut block.samples);
                if is_widened(&header) && block.n_channels == 2 {
                    block.n_channels = 1;
                    block.samples = block.samples.iter().step_by(2).copied().collect();
                }
                true
            }
            Err(Error::Unsupported(what)) => {
                return Err(not_built_in(&format!("this file's coding ({what})")));
            }
            Err(_) => {
                decoder.reset();
                false
            }
        };
        self.current = Some((header, decoder));
        Ok(good)
    }
}

fn new_decoder(header: &Header) -> Attempt<Box<dyn AudioDecoder>> {
    header.check()?;
    let codec = match header.coding {
        Coding::Layer1 => CODEC_ID_MP1,
        Coding::Layer2 => CODEC_ID_MP2,
        Coding::Layer3 => CODEC_ID_MP3,
        Coding::Aac(_) => CODEC_ID_AAC,
    };
    let places = if header.n_channels == 1 {
        Position::FRONT_CENTER
    } else {
        Position::FRONT_LEFT | Position::FRONT_RIGHT
    };
    let mut parameters = AudioCodecParameters::new();
    parameters
        .for_codec(codec)
        .with_sample_rate(header.rate)
        .with_channels(Channels::Positioned(places));
    symphonia::default::get_codecs()
        .make_audio_decoder(&parameters, &Default::default())
        .map_err(|error| not_built_in(&format!("this file's coding ({error})")))
}

/// Returns the layer II frame, rewritten with the same samples to a mode of the standard if it has none.
///
/// The bit rate selects the bit allocation table (ISO 11172-3 annex B.2), so it decides what the following bits mean.
/// Stereo gets the next higher rate with the same table, and zero padding. Mono becomes the left channel of a stereo
/// frame at 384 kbit/s whose right channel has no allocation, which takes at most 94 bits more: only mono at 384 kbit/s
/// has no room for them.
fn allowed<'a>(header: &Header, frame: &'a [u8]) -> Cow<'a, [u8]> {
    let Header { kbit, mpeg1, .. } = *header;
    match (header.n_channels, kbit) {
        _ if is_widened(header) => Cow::Owned(as_two_channels(header, frame)),
        // The low-rate extension of MPEG-2 has one table.
        (2, 32 | 48 | 56 | 80) => {
            let index = match (mpeg1, kbit) {
                (true, 80) => 6,
                (true, _) => 4,
                (false, 32) => 5,
                (false, 80) => 10,
                (false, _) => 8,
            };
            let mut longer = frame.to_vec();
            longer[2] = longer[2] & 0x0F | index << 4;
            let len = Header::read(&longer).map_or(frame.len(), |header| header.len);
            longer.resize(len, 0);
            Cow::Owned(longer)
        }
        _ => Cow::Borrowed(frame),
    }
}

/// Rewrites a mono frame of MPEG-1 layer II above 192 kbit/s as the left channel of one at 384 kbit/s.
fn as_two_channels(header: &Header, frame: &[u8]) -> Vec<u8> {
    // A 44.1 kHz frame is declared as 32 kHz, whose frames are longer and use the same table.
    let rate_bits = if header.rate == 48_000 {
        0b0100
    } else {
        0b1000
    };
    let n_bands = if header.rate == 48_000 { 27 } else { 30 };
    let has_crc = frame[1] & 1 == 0;
    let mut out = vec![0xFF, frame[1] | 1, 0xE0 | rate_bits, frame[3] & 0x0F];
    let body = &frame[if has_crc { 6.min(frame.len()) } else { 4 }..];
    let mut bits = body
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut written: Vec<u8> = Vec::with_capacity(8 * body.len() + 96);
    for band in 0..n_bands {
        let n_bits = match band {
            0..11 => 4,
            11..23 => 3,
            _ => 2,
        };
        written.extend(bits.by_ref().take(n_bits));
        written.resize(written.len() + n_bits, 0);
    }
    written.extend(bits);
    out.extend(written.chunks(8).map(|byte| {
        let byte = byte.iter().enumerate();
        byte.fold(0, |value, (at, bit)| value | bit << (7 - at))
    }));
    let len = Header::read(&out).map_or(out.len(), |header| header.len);
    out.resize(len, 0);
    out
}
