//! Sample descriptions: the coding of a track's audio.
//!
//! References: ISO 14496-12 section 12.2.3 (audio sample entries), 14496-14 section 5.6 and 14496-1 section 7.2.6 (`esds`),
//! 23003-5 (`ipcm`, `fpcm`), Apple "QuickTime File Format", chapter "Sound Media" (versions 0 to 2 of the description and
//! the plain formats), "Encapsulation of Opus in ISO BMFF", "Encapsulation of FLAC in ISO BMFF".

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};

use super::super::coding::{Coding, vorbis_headers};
use super::super::core_audio;
use super::super::pcm::Encoding;
use super::boxes::{find, half, word};
use super::movie::Track;

/// Parsed sample description.
pub(super) struct Description {
    pub(super) coding: Coding,
    pub(super) n_channels: usize,
}

/// Format flags of version 2.
const IS_FLOAT: u32 = 1;
const IS_BIG_ENDIAN: u32 = 2;
const IS_SIGNED: u32 = 4;

/// Fields of an audio sample entry, and the boxes after them.
struct Entry<'a> {
    name: [u8; 4],
    n_channels: usize,
    bits: u32,
    rate: u32,
    /// Format flags, in version 2 only.
    flags: Option<u32>,
    boxes: &'a [u8],
}

/// Parses the first sample description of an audio track. `None`: there is no valid one.
pub(super) fn description(track: &Track) -> Option<Description> {
    let (table_version, name, body) = track.description()?;
    let entry = Entry::read(table_version, name, body)?;
    Some(Description {
        n_channels: entry.n_channels,
        coding: entry.coding(),
    })
}

impl<'a> Entry<'a> {
    fn read(table_version: u8, name: [u8; 4], body: &'a [u8]) -> Option<Self> {
        let version = half(body, 8)?;
        let entry = Self {
            name,
            n_channels: usize::from(half(body, 16)?),
            bits: u32::from(half(body, 18)?),
            rate: word(body, 24)? >> 16,
            flags: None,
            boxes: &[],
        };
        match version {
            // In ISO 14496-12, version 1 has the fields of version 0; it requires version 1 of `stsd`, too. So this is
            // QuickTime's version 1.
            1 if table_version == 0 => Some(Self {
                boxes: body.get(44..).unwrap_or_default(),
                ..entry
            }),
            2 => Some(Self {
                rate: f64::from_be_bytes(*body.get(32..)?.first_chunk()?).round() as u32,
                n_channels: word(body, 40)? as usize,
                bits: word(body, 48)?,
                flags: Some(word(body, 52)?),
                boxes: body.get(64..).unwrap_or_default(),
                ..entry
            }),
            _ => Some(Self {
                boxes: body.get(28..).unwrap_or_default(),
                ..entry
            }),
        }
    }

    /// Returns the content of a child box, searched in the entry and in the `wave` box that QuickTime puts around it.
    fn find(&self, name: &[u8; 4]) -> Option<&'a [u8]> {
        find(self.boxes, name).or_else(|| find(find(self.boxes, b"wave")?, name))
    }

    fn coding(&self) -> Coding {
        if let Some((encoding, big_endian)) = self.plain() {
            // After version and flags.
            let channels = self.find(b"chan").and_then(|body| body.get(4..));
            return Coding::Plain {
                encoding,
                big_endian,
                rate: self.rate,
                n_channels: self.n_channels,
                downmix: core_audio::downmix(channels.unwrap_or_default(), self.n_channels),
            };
        }
        let not_built_in = |name: &str| Coding::NotBuiltIn(name.to_owned());
        match &self.name {
            b"mp4a" => self.elementary_stream(),
            b".mp3" | b"mp3 " | b".mp2" | b"mp2 " | b".mp1" | b"ms\0\x55" | b"ms\0\x50" => {
                Coding::Mpeg
            }
            b"alac" => match self.find(b"alac").and_then(|body| body.get(4..)) {
                Some(cookie) => self.packets(codec::CODEC_ID_ALAC, Some(cookie.into())),
                None => not_built_in("ALAC without its header"),
            },
            b"fLaC" => {
                // After version and flags comes a metadata block with a header of four bytes.
                let info = self.find(b"dfLa").and_then(|body| body.get(8..42));
                match info {
                    Some(info) => self.packets(codec::CODEC_ID_FLAC, Some(info.into())),
                    None => not_built_in("FLAC without its header"),
                }
            }
            b"Opus" => {
                let header = self.find(b"dOps").and_then(opus_head);
                self.packets(codec::CODEC_ID_OPUS, header)
            }
            b"ac-3" => not_built_in("AC-3"),
            b"ec-3" => not_built_in("E-AC-3"),
            b"ac-4" => not_built_in("AC-4"),
            b"dtsc" | b"dtsh" | b"dtsl" | b"dtse" | b"dtsx" => not_built_in("DTS"),
            b"samr" | b"sawb" | b"sawp" => not_built_in("AMR"),
            b"ima4" | b"ms\0\x11" => not_built_in("IMA ADPCM in this container"),
            b"ms\0\x02" => not_built_in("Microsoft ADPCM in this container"),
            b"enca" => not_built_in("encrypted audio"),
            name => Coding::NotBuiltIn(format!("the codec \"{}\"", name.escape_ascii())),
        }
    }

    /// Returns encoding and byte order of uncompressed samples.
    fn plain(&self) -> Option<(Encoding, bool)> {
        // A two-byte `enda` box in `wave` declares little-endian samples of 24 bits and more.
        let is_little = || self.find(b"enda").and_then(|body| half(body, 0)) == Some(1);
        let signed = |big_endian| {
            let encoding = match self.bits {
                1..=8 => Encoding::S8,
                9..=16 => Encoding::S16,
                17..=24 => Encoding::S24,
                25..=32 => Encoding::S32,
                _ => return None,
            };
            Some((encoding, big_endian))
        };
        let float = |big_endian| match self.bits {
            32 => Some((Encoding::F32, big_endian)),
            64 => Some((Encoding::F64, big_endian)),
            _ => None,
        };
        match &self.name {
            b"raw " if self.bits <= 8 => Some((Encoding::U8, true)),
            b"raw " | b"NONE" | b"twos" => signed(true),
            b"sowt" => signed(false),
            b"in24" => Some((Encoding::S24, !is_little())),
            b"in32" => Some((Encoding::S32, !is_little())),
            b"fl32" => Some((Encoding::F32, !is_little())),
            b"fl64" => Some((Encoding::F64, !is_little())),
            b"alaw" => Some((Encoding::ALaw, true)),
            b"ulaw" => Some((Encoding::MuLaw, true)),
            b"lpcm" => {
                let flags = self.flags.unwrap_or(IS_SIGNED | IS_BIG_ENDIAN);
                let big_endian = flags & IS_BIG_ENDIAN != 0;
                if flags & IS_FLOAT != 0 {
                    float(big_endian)
                } else if self.bits == 8 && flags & IS_SIGNED == 0 {
                    Some((Encoding::U8, big_endian))
                } else {
                    signed(big_endian)
                }
            }
            b"ipcm" | b"fpcm" => {
                let config = self.find(b"pcmC")?;
                let big_endian = config.get(4)? & 1 == 0;
                let bits = u32::from(*config.get(5)?);
                let sized = Self { bits, ..*self };
                let plain = Self {
                    name: *b"lpcm",
                    flags: Some(
                        IS_SIGNED
                            | if big_endian { IS_BIG_ENDIAN } else { 0 }
                            | if &self.name == b"fpcm" { IS_FLOAT } else { 0 },
                    ),
                    ..sized
                };
                plain.plain()
            }
            _ => None,
        }
    }

    /// Returns the coding that the descriptors in `esds` declare.
    fn elementary_stream(&self) -> Coding {
        let not_built_in = |name: &str| Coding::NotBuiltIn(name.to_owned());
        let Some(stream) = self.find(b"esds").and_then(|body| stream(body.get(4..)?)) else {
            return not_built_in("AAC without its header");
        };
        match stream.object_type {
            0x40 | 0x66..=0x68 => {
                let config = stream.config.map(Into::into);
                self.packets(codec::CODEC_ID_AAC, config)
            }
            0x69 | 0x6B => Coding::Mpeg,
            // Object type registered by Nero: Vorbis, with headers laced as in Matroska.
            0xDD => match stream.config.and_then(vorbis_headers) {
                Some(headers) => self.packets(codec::CODEC_ID_VORBIS, Some(headers.into())),
                None => not_built_in("Vorbis without its headers"),
            },
            0xA5 => not_built_in("AC-3"),
            0xA6 => not_built_in("E-AC-3"),
            0xA9..=0xAC => not_built_in("DTS"),
            other => Coding::NotBuiltIn(format!("the MPEG-4 audio object type {other:#04x}")),
        }
    }

    fn packets(&self, id: AudioCodecId, header: Option<Box<[u8]>>) -> Coding {
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(id)
            .with_sample_rate(self.rate)
            .with_channels(Channels::Discrete(self.n_channels as u16));
        if let Some(header) = header {
            parameters.with_extra_data(header);
        }
        Coding::Packets(Box::new(parameters))
    }
}

/// Relevant fields of an elementary stream descriptor.
struct Stream<'a> {
    object_type: u8,
    /// Decoder-specific configuration.
    config: Option<&'a [u8]>,
}

fn stream(body: &[u8]) -> Option<Stream<'_>> {
    const STREAM: u8 = 3;
    const DECODER: u8 = 4;
    const CONFIG: u8 = 5;
    let body = descriptor(body, STREAM)?;
    let flags = *body.get(2)?;
    let mut at = 3;
    if flags & 0x80 != 0 {
        at += 2;
    }
    if flags & 0x40 != 0 {
        at += 1 + usize::from(*body.get(at)?);
    }
    if flags & 0x20 != 0 {
        at += 2;
    }
    let decoder = descriptor(body.get(at..)?, DECODER)?;
    Some(Stream {
        object_type: *decoder.first()?,
        config: descriptor(decoder.get(13..)?, CONFIG),
    })
}

/// Returns the content of the first descriptor with this `tag`. A truncated one yields the bytes that exist.
fn descriptor(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    loop {
        let (found, rest) = bytes.split_first()?;
        let n_len = rest
            .iter()
            .take(4)
            .take_while(|byte| **byte & 0x80 != 0)
            .count()
            + 1;
        let len = rest.get(..n_len)?;
        let len = len
            .iter()
            .fold(0, |len, byte| len << 7 | usize::from(byte & 0x7F));
        let body = &rest[n_len..];
        let (body, next) = body.split_at(len.min(body.len()));
        if *found == tag {
            return Some(body);
        }
        bytes = next;
    }
}

/// Converts a `dOps` box to the Opus identification header as in Ogg, little-endian.
fn opus_head(body: &[u8]) -> Option<Box<[u8]>> {
    let (fixed, mapping) = body.split_first_chunk::<11>()?;
    let [_, channels, s0, s1, r0, r1, r2, r3, g0, g1, family] = *fixed;
    let mut header = b"OpusHead\x01".to_vec();
    header.extend([channels, s1, s0, r3, r2, r1, r0, g1, g0, family]);
    header.extend(mapping);
    Some(header.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_found_in_one_another() {
        // Descriptor lengths in one byte and in four.
        let config = [5, 0x80, 0x80, 0x80, 2, 0x12, 0x10];
        let mut decoder = vec![4, 13 + config.len() as u8, 0x40];
        decoder.extend([0; 12]);
        decoder.extend(config);
        let mut bytes = vec![3, 3 + decoder.len() as u8, 0, 1, 0];
        bytes.extend(&decoder);
        let found = stream(&bytes).map(|stream| (stream.object_type, stream.config));
        assert_eq!(found, Some((0x40, Some(&[0x12, 0x10][..]))));
        for len in 0..bytes.len() {
            let _ = stream(&bytes[..len]);
        }
    }
}
