//! Decoders of the frames of MPEG audio (layers I to III) and of AAC in ADTS.
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
use super::frame_header::{Coding, Header};
use super::sbr::SbrWatch;
use super::sniff::not_built_in;

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
