//! WAV in all its containers (RIFF, RIFX, RF64, BW64, Wave64), read strictly forwards so that a pipe can be read.
//!
//! Sizes in headers are hints. Recorders that stream, crash, or exceed 4 GiB leave 0, 0xFFFFFFFF or any other value, so
//! the size of the whole file is ignored, and the data end at their declared size only if a chunk or the end of the
//! file follows there (see [`Data`]).
//!
//! References: Microsoft/IBM "Multimedia Programming Interface and Data Specifications 1.0" (1991), EBU Tech 3306
//! (RF64), ITU-R BS.2088 (BW64), Sony "Wave64" (2003).

use super::adpcm::Adpcm;
use super::decode::{Attempt, Decode, Failure, check_shape};
use super::downmix::Downmix;
use super::pcm::{Data, Encoding, Layout, PcmDecoder};
use super::sniff::not_built_in;
use super::source::Input;

/// Maximum number of bytes read of a `fmt ` chunk; a longer one is read in part.
const MAX_FMT: u64 = 4096;
/// Smallest size treated as a placeholder: recorders that do not know the size write 0x7FFFFFFF less a header, or more.
const PLACEHOLDER: u64 = 0x7FFF_0000;

/// Opens a decoder of a RIFF, RIFX, RF64 or BW64 file.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    let mut data = Data {
        chunks_follow: true,
        ..Data::new(input)
    };
    let mut header = [0; 12];
    data.read_raw(&mut header)?;
    let big_endian = header.starts_with(b"RIFX");
    let (mut fmt, mut long_size) = (None, 0);
    loop {
        let mut chunk = [0; 8];
        if data.read_raw(&mut chunk)? < chunk.len() {
            return Err(Failure::audio("WAV without a data chunk"));
        }
        let [a, b, c, d, size @ ..] = chunk;
        let size = u64::from(if big_endian {
            u32::from_be_bytes(size)
        } else {
            u32::from_le_bytes(size)
        });
        match &[a, b, c, d] {
            b"data" => {
                let size = if size == u64::from(u32::MAX) && long_size > 0 {
                    long_size
                } else {
                    size
                };
                data.believed = size < PLACEHOLDER || size == long_size;
                data.left = Some(size);
                return start(data, fmt, big_endian);
            }
            b"fmt " => fmt = Some(read_fmt(&mut data, size, size + size % 2, big_endian)?),
            b"ds64" => {
                let body = data.read_body(size.min(MAX_FMT), size + size % 2)?;
                long_size = body
                    .get(8..)
                    .and_then(<[u8]>::first_chunk)
                    .map_or(0, |size| u64::from_le_bytes(*size));
            }
            _ => data.skip(size + size % 2)?,
        }
    }
}

/// Opens a decoder of a Wave64 file: chunks are named by GUIDs, have 64-bit sizes that include their header, and start
/// at multiples of 8.
pub(super) fn open_wave64(input: Input) -> Attempt<Box<dyn Decode>> {
    let mut data = Data::new(input);
    data.skip(40)?;
    let mut fmt = None;
    loop {
        let mut chunk = [0; 24];
        if data.read_raw(&mut chunk)? < chunk.len() {
            return Err(Failure::audio("Wave64 without a data chunk"));
        }
        let (guid, size) = chunk.split_at(16);
        let size = size
            .first_chunk()
            .map_or(0, |size| u64::from_le_bytes(*size));
        let (body, padded) = (size.saturating_sub(24), size.saturating_add(7) / 8 * 8);
        match &guid[..4] {
            b"data" => {
                data.believed = body < u64::MAX / 4;
                data.left = (size > 24).then_some(body);
                return start(data, fmt, false);
            }
            b"fmt " => fmt = Some(read_fmt(&mut data, body, padded.saturating_sub(24), false)?),
            _ => data.skip(padded.saturating_sub(24))?,
        }
    }
}

/// Fields of the `fmt ` chunk.
struct Fmt {
    tag: u16,
    n_channels: usize,
    rate: u32,
    byte_rate: u32,
    block_len: usize,
    bits: u16,
    /// Channel mask of an extensible format; 0: unspecified.
    mask: u32,
    /// Bytes after these fields, in a chunk longer than 18 bytes.
    extra: Vec<u8>,
}

fn read_fmt(data: &mut Data, size: u64, padded: u64, big_endian: bool) -> Attempt<Fmt> {
    let body = data.read_body(size.min(MAX_FMT), padded)?;
    let half = |at: usize| {
        let bytes = body
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default();
        if big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    };
    if body.len() < 14 {
        return Err(Failure::audio("WAV format chunk is cut short"));
    }
    let word = |at: usize| {
        let (first, second) = (u32::from(half(at)), u32::from(half(at + 2)));
        if big_endian {
            first << 16 | second
        } else {
            second << 16 | first
        }
    };
    let mask = if big_endian { [22, 20] } else { [20, 22] };
    Ok(Fmt {
        // An extensible format has the actual tag at the start of its sub-format's GUID.
        tag: if half(0) == 0xFFFE && body.len() >= 26 {
            half(24)
        } else {
            half(0)
        },
        n_channels: usize::from(half(2)),
        rate: word(4),
        byte_rate: word(8),
        block_len: usize::from(half(12)),
        bits: half(14),
        mask: if half(0) == 0xFFFE {
            u32::from(half(mask[1])) << 16 | u32::from(half(mask[0]))
        } else {
            0
        },
        extra: body.get(18..).unwrap_or_default().to_vec(),
    })
}

fn start(data: Data, fmt: Option<Fmt>, big_endian: bool) -> Attempt<Box<dyn Decode>> {
    let fmt = fmt.ok_or_else(|| Failure::audio("WAV without a format chunk before its data"))?;
    check_shape(fmt.rate, fmt.n_channels)?;
    if matches!(fmt.tag, 0x50 | 0x55) {
        return mpeg(data);
    }
    let layout = layout(&fmt, big_endian)?;
    let decoder = PcmDecoder::new(data, layout, fmt.rate, fmt.n_channels)?;
    let downmix = Downmix::from_mask(fmt.mask.into(), fmt.n_channels);
    Ok(Box::new(decoder.mixed_by(downmix)))
}

/// Opens MPEG audio in a WAV container: the frames' own headers apply.
#[cfg(feature = "codecs")]
fn mpeg(data: Data) -> Attempt<Box<dyn Decode>> {
    let (mut input, position) = (data.input, data.position);
    if input.is_seekable() {
        input.skip(position)?;
    }
    super::frames::open(input)
}

#[cfg(not(feature = "codecs"))]
fn mpeg(_: Data) -> Attempt<Box<dyn Decode>> {
    super::decode::without_codecs("MP3 in WAV")
}

fn layout(fmt: &Fmt, big_endian: bool) -> Attempt<Layout> {
    let n_bytes = sample_bytes(fmt);
    let bad_block = || Failure::Audio(format!("WAV: blocks of {} bytes cannot be", fmt.block_len));
    let encoding = match (fmt.tag, n_bytes) {
        (1, 1) => Encoding::U8,
        (1, 2) => Encoding::S16,
        (1, 3) => Encoding::S24,
        (1, 4) => Encoding::S32,
        (3, 4) => Encoding::F32,
        (3, 8) => Encoding::F64,
        (6, _) => Encoding::ALaw,
        (7, _) => Encoding::MuLaw,
        (1 | 3, _) => {
            return Err(Failure::Audio(format!(
                "WAV: samples of {n_bytes} bytes cannot be"
            )));
        }
        (2, _) => {
            let adpcm =
                Adpcm::microsoft(fmt.n_channels, fmt.block_len, ms_coefficients(&fmt.extra));
            return adpcm.map(Layout::Adpcm).ok_or_else(bad_block);
        }
        (0x11, _) => {
            return Adpcm::ima(fmt.n_channels, fmt.block_len)
                .map(Layout::Adpcm)
                .ok_or_else(bad_block);
        }
        (0x31, _) => return Err(not_built_in("GSM 6.10 in WAV")),
        (0x160..=0x163, _) => return Err(not_built_in("WMA in WAV")),
        (tag, _) => return Err(not_built_in(&format!("WAV codec {tag:#06x}"))),
    };
    Ok(Layout::Plain {
        encoding,
        big_endian,
    })
}

/// Returns the number of bytes of an uncompressed sample. It follows from the bits per sample, as in ffmpeg, since
/// writers get the block alignment wrong; but 24 bits in the upper part of four bytes can be recognised by the block
/// alignment only.
fn sample_bytes(fmt: &Fmt) -> usize {
    let whole = fmt.block_len.is_multiple_of(fmt.n_channels);
    let room = if whole {
        fmt.block_len / fmt.n_channels
    } else {
        0
    };
    let is_room_confirmed = u64::from(fmt.byte_rate) == u64::from(fmt.rate) * fmt.block_len as u64;
    match usize::from(fmt.bits).div_ceil(8) {
        0 => room,
        3 if room == 4 && is_room_confirmed => 4,
        by_bits => by_bits,
    }
}

/// Parses the coefficients in the extra bytes of a Microsoft ADPCM format: samples per block, number of pairs, pairs.
fn ms_coefficients(extra: &[u8]) -> Vec<[i32; 2]> {
    let Some(([_, _, a, b], pairs)) = extra.split_first_chunk::<4>() else {
        return Vec::new();
    };
    let n = usize::from(u16::from_le_bytes([*a, *b]));
    let pairs = pairs.as_chunks::<4>().0.iter().take(n);
    pairs
        .map(|[a, b, c, d]| [[*a, *b], [*c, *d]].map(|word| i32::from(i16::from_le_bytes(word))))
        .collect()
}
