//! Tracks of a Matroska file and the coding of their audio: RFC 9559 sections 5.1.4 and 6, and the Matroska codec
//! specifications.

use std::io::Read;

use flate2::read::ZlibDecoder;
use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{AudioCodecId, AudioCodecParameters};

use super::super::coding::{AudioTrack, Coding, vorbis_headers, xiph_len};
use super::super::downmix::Downmix;
use super::super::pcm::Encoding;
use super::ebml::{elements_in, float, number, text, unsigned};

/// Maximum number of bytes of an uncompressed packet.
const MAX_UNPACKED: u64 = 1 << 24;

/// Audio track.
pub(super) struct Track {
    pub(super) number: u64,
    /// Codec delay, in ns.
    pub(super) delay_ns: u64,
    /// Content encodings, in the order in which they have to be undone.
    pub(super) packings: Vec<Packing>,
    pub(super) audio: AudioTrack,
}

/// One `ContentEncoding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Header stripping: these bytes precede every packet and are not stored.
    Prefix(Vec<u8>),
    Zlib,
}

impl Packing {
    /// Undoes the encoding of one packet; `None`: the packet is damaged.
    pub(super) fn undo(&self, data: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Prefix(prefix) => Some([&prefix[..], &data].concat()),
            Self::Zlib => {
                let mut unpacked = Vec::new();
                let mut decoder = ZlibDecoder::new(&data[..]).take(MAX_UNPACKED);
                decoder.read_to_end(&mut unpacked).ok()?;
                Some(unpacked)
            }
        }
    }
}

/// Returns the audio tracks in the content of `Tracks`.
pub(super) fn tracks(body: &[u8]) -> Vec<Track> {
    let entries = elements_in(body).filter(|(id, _)| *id == 0xAE);
    entries.filter_map(|(_, entry)| track(entry)).collect()
}

/// Fields of a `TrackEntry` that define the coding.
#[derive(Default)]
struct Fields {
    codec: String,
    private: Vec<u8>,
    rate: u32,
    n_channels: usize,
    bits: u64,
}

/// Parses a `TrackEntry`; `None` if it is not an audio track.
fn track(entry: &[u8]) -> Option<Track> {
    const AUDIO: u64 = 2;
    let mut fields = Fields {
        rate: 8000,
        n_channels: 1,
        ..Fields::default()
    };
    let (mut id, mut kind, mut is_default, mut delay_ns) = (0, 0, true, 0);
    let (mut language, mut title) = (None, None);
    let mut encodings: &[u8] = &[];
    for (element, body) in elements_in(entry) {
        match element {
            0xD7 => id = unsigned(body),
            0x83 => kind = unsigned(body),
            0x88 => is_default = unsigned(body) != 0,
            0x22_B59C | 0x22_B59D => language = Some(text(body)),
            0x536E => title = Some(text(body)),
            0x86 => fields.codec = text(body),
            0x63A2 => fields.private = body.to_vec(),
            0x56AA => delay_ns = unsigned(body),
            0x6D80 => encodings = body,
            0xE1 => {
                for (element, body) in elements_in(body) {
                    match element {
                        0xB5 => fields.rate = float(body).round() as u32,
                        0x9F => fields.n_channels = unsigned(body) as usize,
                        0x6264 => fields.bits = unsigned(body),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if kind != AUDIO {
        return None;
    }
    let (packings, refused) = match packings(encodings, &mut fields.private) {
        Ok(packings) => (packings, None),
        Err(name) => (Vec::new(), Some(name)),
    };
    let coding = match refused {
        Some(name) => Coding::NotBuiltIn(name.to_owned()),
        None => fields.coding(),
    };
    Some(Track {
        number: id,
        delay_ns,
        packings,
        audio: AudioTrack {
            coding,
            language: language.filter(|language| language != "und"),
            title,
            n_channels: fields.n_channels,
            is_default,
        },
    })
}

/// Returns the content encodings in the order of undoing, and undoes them for the codec's header `private` if they
/// apply to it.
fn packings(encodings: &[u8], private: &mut Vec<u8>) -> Result<Vec<Packing>, &'static str> {
    const PACKETS: u64 = 1;
    const PRIVATE: u64 = 2;
    let mut ordered = Vec::new();
    for (_, encoding) in elements_in(encodings).filter(|(id, _)| *id == 0x6240) {
        let (mut order, mut scope, mut kind, mut algorithm) = (0, PACKETS, 0, 0);
        let mut prefix = Vec::new();
        for (element, body) in elements_in(encoding) {
            match element {
                0x5031 => order = unsigned(body),
                0x5032 => scope = unsigned(body),
                0x5033 => kind = unsigned(body),
                0x5034 => {
                    for (element, body) in elements_in(body) {
                        match element {
                            0x4254 => algorithm = unsigned(body),
                            0x4255 => prefix = body.to_vec(),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let packing = match (kind, algorithm) {
            (0, 0) => Packing::Zlib,
            (0, 1) => return Err("audio packed with bzip2 in Matroska"),
            (0, 2) => return Err("audio packed with LZO in Matroska"),
            (0, 3) => Packing::Prefix(prefix),
            (1, _) => return Err("encrypted audio in Matroska"),
            _ => return Err("audio packed in an unknown way in Matroska"),
        };
        ordered.push((order, scope, packing));
    }
    // The encoding applied last is undone first.
    ordered.sort_by_key(|(order, ..)| std::cmp::Reverse(*order));
    for (_, _, packing) in ordered.iter().filter(|(_, scope, _)| scope & PRIVATE != 0) {
        *private = packing
            .undo(std::mem::take(private))
            .ok_or("a track whose packed header is damaged, in Matroska,")?;
    }
    let packets = ordered
        .into_iter()
        .filter(|(_, scope, _)| scope & PACKETS != 0);
    Ok(packets.map(|(_, _, packing)| packing).collect())
}

impl Fields {
    fn coding(&self) -> Coding {
        let not_built_in = |name: &str| Coding::NotBuiltIn(name.to_owned());
        let private = || Some(self.private.clone()).filter(|private| !private.is_empty());
        match self.codec.as_str() {
            "A_MPEG/L1" | "A_MPEG/L2" | "A_MPEG/L3" => Coding::Mpeg,
            "A_OPUS" => self.packets(codec::CODEC_ID_OPUS, private()),
            "A_VORBIS" => match vorbis_headers(&self.private) {
                Some(headers) => self.packets(codec::CODEC_ID_VORBIS, Some(headers)),
                None => not_built_in("Vorbis without its headers"),
            },
            "A_FLAC" => match flac_info(&self.private) {
                Some(info) => self.packets(codec::CODEC_ID_FLAC, Some(info.to_vec())),
                None => not_built_in("FLAC without its header"),
            },
            "A_ALAC" => self.packets(codec::CODEC_ID_ALAC, private()),
            "A_PCM/INT/LIT" => self.plain(false, false),
            "A_PCM/INT/BIG" => self.plain(false, true),
            "A_PCM/FLOAT/IEEE" => self.plain(true, false),
            "A_MS/ACM" => self.wave_format(),
            name if name.starts_with("A_AAC") => {
                let config = private().unwrap_or_else(|| self.aac_config());
                self.packets(codec::CODEC_ID_AAC, Some(config))
            }
            name if name.starts_with("A_AC3") => not_built_in("AC-3"),
            name if name.starts_with("A_EAC3") => not_built_in("E-AC-3"),
            name if name.starts_with("A_DTS") => not_built_in("DTS"),
            name if name.starts_with("A_TRUEHD") => not_built_in("TrueHD"),
            name if name.starts_with("A_WAVPACK4") => not_built_in("WavPack"),
            name if name.starts_with("A_TTA1") => not_built_in("TTA"),
            name if name.starts_with("A_REAL") => not_built_in("RealAudio"),
            name => {
                let name: String = name.chars().take(40).collect();
                Coding::NotBuiltIn(format!("the codec \"{}\"", name.escape_debug()))
            }
        }
    }

    fn packets(&self, id: AudioCodecId, header: Option<Vec<u8>>) -> Coding {
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(id)
            .with_sample_rate(self.rate)
            .with_channels(Channels::Discrete(self.n_channels as u16));
        if let Some(header) = header {
            parameters.with_extra_data(header.into());
        }
        Coding::Packets(Box::new(parameters))
    }

    fn plain(&self, is_float: bool, big_endian: bool) -> Coding {
        let encoding = match (is_float, self.bits) {
            // Unsigned, as in WAV.
            (false, 1..=8) => Encoding::U8,
            (false, 9..=16) => Encoding::S16,
            (false, 17..=24) => Encoding::S24,
            (false, 25..=32) => Encoding::S32,
            (true, 32) => Encoding::F32,
            (true, 64) => Encoding::F64,
            (_, bits) => return Coding::NotBuiltIn(format!("PCM of {bits} bits")),
        };
        Coding::Plain {
            encoding,
            big_endian,
            rate: self.rate,
            n_channels: self.n_channels,
            downmix: Downmix::default(),
        }
    }

    /// Returns the coding of `A_MS/ACM`, whose private data are the format header of WAV and AVI files.
    fn wave_format(&self) -> Coding {
        let half = |at: usize| {
            let bytes = self.private.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
        };
        let fields = Self {
            rate: u32::from(half(4)) | u32::from(half(6)) << 16,
            n_channels: usize::from(half(2)),
            bits: half(14).into(),
            ..Self::default()
        };
        let law = |encoding| Coding::Plain {
            encoding,
            big_endian: false,
            rate: fields.rate,
            n_channels: fields.n_channels,
            downmix: Downmix::default(),
        };
        let tag = match half(0) {
            0xFFFE => half(24),
            tag => tag,
        };
        match tag {
            1 => fields.plain(false, false),
            3 => fields.plain(true, false),
            6 => law(Encoding::ALaw),
            7 => law(Encoding::MuLaw),
            0x50 | 0x55 => Coding::Mpeg,
            0xFF => {
                let config = self.private.get(18..).unwrap_or_default().to_vec();
                fields.packets(codec::CODEC_ID_AAC, Some(config))
            }
            0x2000 => Coding::NotBuiltIn("AC-3".to_owned()),
            2 | 0x11 => Coding::NotBuiltIn("ADPCM in Matroska".to_owned()),
            tag => Coding::NotBuiltIn(format!("WAV codec {tag:#06x}")),
        }
    }

    /// Constructs the AudioSpecificConfig (ISO 14496-3 section 1.6.2.1) of AAC tracks of old writers, which have none:
    /// object type, rate and channels.
    fn aac_config(&self) -> Vec<u8> {
        const RATES: [u32; 13] = [
            96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
            8_000, 7_350,
        ];
        let object_type: u16 = if self.codec.contains("SBR") { 5 } else { 2 };
        let rate = RATES
            .iter()
            .position(|rate| *rate == self.rate)
            .unwrap_or(4) as u16;
        let bits = object_type << 11 | rate << 7 | (self.n_channels as u16 & 15) << 3;
        bits.to_be_bytes().to_vec()
    }
}

/// Returns the content of the STREAMINFO block among FLAC's metadata blocks.
fn flac_info(private: &[u8]) -> Option<&[u8]> {
    let mut blocks = private.strip_prefix(b"fLaC")?;
    loop {
        let ([kind, a, b, c], rest) = blocks.split_first_chunk::<4>()?;
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if kind & 0x7F == 0 {
            return rest.get(..34).filter(|_| len == 34);
        }
        blocks = rest.get(len..)?;
    }
}

/// Splits the part of a block (RFC 9559 section 10.3) after its header into packets; `None` if it is damaged.
pub(super) fn unlace(lacing: u8, body: &[u8]) -> Option<Vec<&[u8]>> {
    const NONE: u8 = 0;
    const XIPH: u8 = 1;
    const FIXED: u8 = 2;
    if lacing == NONE {
        return Some(vec![body]);
    }
    let (n, mut rest) = body.split_first()?;
    let n = usize::from(*n) + 1;
    let mut lens = Vec::with_capacity(n);
    match lacing {
        FIXED => lens = vec![rest.len() / n; n - 1],
        XIPH => {
            for _ in 1..n {
                lens.push(xiph_len(&mut rest)?);
            }
        }
        _ => {
            let mut len = 0_i64;
            for i in 1..n {
                let (value, n_bytes) = number(rest)?;
                rest = &rest[n_bytes..];
                let value = i64::try_from(value?).ok()?;
                // The first value is a size, the others are differences, stored with a bias.
                len = match i {
                    1 => value,
                    _ => len.checked_add(value - ((1 << (7 * n_bytes - 1)) - 1))?,
                };
                lens.push(usize::try_from(len).ok()?);
            }
        }
    }
    let mut packets = Vec::with_capacity(n);
    for len in lens {
        let (packet, next) = rest.split_at_checked(len)?;
        packets.push(packet);
        rest = next;
    }
    packets.push(rest);
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_unlaced_in_every_way() {
        let packets = vec![&b"aaa"[..], b"bb", b"cccc"];
        let laced = |lens: &[u8]| [&[2], lens, b"aaabbcccc"].concat();
        assert_eq!(unlace(0, b"abc"), Some(vec![&b"abc"[..]]));
        assert_eq!(unlace(1, &laced(&[3, 2])), Some(packets.clone()));
        // 2 is 3 - 1, and 62 stands for -1.
        assert_eq!(unlace(3, &laced(&[0x83, 0x80 | 62])), Some(packets));
        assert_eq!(unlace(2, b"\x01aabb"), Some(vec![&b"aa"[..], b"bb"]));
        for lacing in 1..=3 {
            assert_eq!(unlace(lacing, b""), None);
        }
        assert_eq!(unlace(1, &[1, 9, 0]), None);
        assert_eq!(unlace(3, &[2, 0x81, 0x80]), None);
    }

    #[test]
    fn headers_of_codecs_are_taken_out_of_the_private_data() {
        let private = [&[2, 3, 2][..], b"idXcoSetup"].concat();
        assert_eq!(vorbis_headers(&private), Some(b"idXSetup".to_vec()));
        assert_eq!(vorbis_headers(&[2, 200, 2, 0]), None);
        let info = [7; 34];
        let flac = [&b"fLaC\x04\0\0\x01x\x80\0\0\x22"[..], &info].concat();
        assert_eq!(flac_info(&flac), Some(&info[..]));
        assert_eq!(flac_info(b"fLaC\x04\0\0\xFFx"), None);
    }

    #[test]
    fn packings_are_undone_in_reverse() {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, b"cd").unwrap_or_default();
        let packed = packed.finish().unwrap_or_default();
        assert_eq!(Packing::Zlib.undo(packed.clone()), Some(b"cd".to_vec()));
        assert_eq!(Packing::Zlib.undo(packed[..4].to_vec()), None);
        assert_eq!(
            Packing::Prefix(b"ab".to_vec()).undo(b"cd".to_vec()),
            Some(b"abcd".to_vec())
        );
        // Order 0: header stripping, order 1: zlib.
        let encodings = [
            &[0x62, 0x40, 0x8F, 0x50, 0x31, 0x81, 0, 0x50, 0x34, 0x88][..],
            &[0x42, 0x54, 0x81, 3, 0x42, 0x55, 0x81, b'x'],
            &[0x62, 0x40, 0x8B, 0x50, 0x31, 0x81, 1, 0x50, 0x34, 0x84],
            &[0x42, 0x54, 0x81, 0],
        ]
        .concat();
        let found = packings(&encodings, &mut Vec::new());
        assert_eq!(
            found,
            Ok(vec![Packing::Zlib, Packing::Prefix(b"x".to_vec())])
        );
    }
}
