//! Uncompressed samples in all their encodings, and the decoder that WAV, Wave64 and AU share.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::adpcm::Adpcm;
use super::decode::{Attempt, Block, Decode, RIPPLE, check_shape};
use super::downmix::Downmix;
use super::source::Input;

/// Number of bytes decoded at a time: a few thousand frames of common formats.
const BLOCK_BYTES: usize = 1 << 15;

/// Encoding of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    U8,
    S8,
    S16,
    S24,
    S32,
    F32,
    F64,
    /// ITU-T G.711 A-law.
    ALaw,
    /// ITU-T G.711 mu-law.
    MuLaw,
}

impl Encoding {
    /// Returns the number of bytes of a sample.
    pub(super) fn n_bytes(self) -> usize {
        match self {
            Self::U8 | Self::S8 | Self::ALaw | Self::MuLaw => 1,
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Appends the samples in `bytes` to `out`. Integers are divided by their largest magnitude, a power of two: 16-bit
    /// samples give exactly `s / 32768`.
    pub(super) fn decode(self, bytes: &[u8], big_endian: bool, out: &mut Vec<f32>) {
        fn each<const N: usize>(
            bytes: &[u8],
            swap: bool,
            out: &mut Vec<f32>,
            decode: impl Fn([u8; N]) -> f32,
        ) {
            out.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| {
                let mut chunk = *chunk;
                if swap {
                    chunk.reverse();
                }
                decode(chunk)
            }));
        }
        match self {
            Self::U8 => each(bytes, false, out, |[b]| (f32::from(b) - 128.0) / 128.0),
            Self::S8 => each(bytes, false, out, |[b]| f32::from(b.cast_signed()) / 128.0),
            Self::ALaw => each(bytes, false, out, |[b]| f32::from(a_law(b)) / 32_768.0),
            Self::MuLaw => each(bytes, false, out, |[b]| f32::from(mu_law(b)) / 32_768.0),
            Self::S16 => each(bytes, big_endian, out, |b| {
                f32::from(i16::from_le_bytes(b)) / 32_768.0
            }),
            Self::S24 => each(bytes, big_endian, out, |[a, b, c]| {
                (i32::from_le_bytes([0, a, b, c]) >> 8) as f32 / 8_388_608.0
            }),
            Self::S32 => each(bytes, big_endian, out, |b| {
                i32::from_le_bytes(b) as f32 / 2_147_483_648.0
            }),
            Self::F32 => each(bytes, big_endian, out, f32::from_le_bytes),
            Self::F64 => each(bytes, big_endian, out, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// Decodes G.711 A-law to 16 bits (table 1a, scaled by 8).
fn a_law(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let mantissa = i16::from(byte & 0x0F) << 4;
    let magnitude = match byte >> 4 & 7 {
        0 => mantissa + 8,
        exponent => (mantissa + 0x108) << (exponent - 1),
    };
    if byte & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// Decodes G.711 mu-law to 16 bits (table 2a, scaled by 4).
fn mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = (((i16::from(byte & 0x0F) << 3) + 0x84) << (byte >> 4 & 7)) - 0x84;
    if byte & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// Layout of frames in the data chunk.
pub(super) enum Layout {
    /// Interleaved samples.
    Plain {
        encoding: Encoding,
        big_endian: bool,
    },
    /// Blocks of 4-bit differences.
    Adpcm(Adpcm),
}

/// The part of a file that holds samples, whose declared end is used only if it is plausible.
pub(super) struct Data {
    pub(super) input: Input,
    /// Offset of `input`.
    pub(super) position: u64,
    /// Number of bytes left as declared by the header; `None`: up to the end of the file.
    pub(super) left: Option<u64>,
    /// Whether an end of the file before that means truncation; not for the placeholders that streaming recorders
    /// write.
    pub(super) believed: bool,
    /// Whether chunks may follow the data (RIFF).
    pub(super) chunks_follow: bool,
}

impl Data {
    /// Creates the data range of all bytes of `input`. The caller sets the end that the headers declare.
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            position: 0,
            left: None,
            believed: true,
            chunks_follow: false,
        }
    }

    /// Returns the number of bytes from the current offset to the end of the file, if known.
    pub(super) fn available(&self) -> Option<u64> {
        self.input
            .len()
            .map(|len| len.saturating_sub(self.position))
    }

    /// Reads until `buffer` is full or the file ends; returns the number of bytes.
    pub(super) fn read_raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < buffer.len() {
            match self.input.read(&mut buffer[n..]) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += n as u64;
        Ok(n)
    }

    /// Skips `n` bytes, at most to the end of the file.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<()> {
        if self.input.is_seekable() {
            self.position = self
                .position
                .saturating_add(n)
                .min(self.input.len().unwrap_or(u64::MAX));
            self.input.seek(SeekFrom::Start(self.position))?;
        } else {
            self.position += io::copy(&mut self.input.by_ref().take(n), &mut io::sink())?;
        }
        Ok(())
    }

    /// Reads `size` bytes of a chunk, or fewer at the end of the file, and skips to `padded` bytes from the chunk's
    /// start. `size` bytes are allocated, so the caller must limit it.
    pub(super) fn read_body(&mut self, size: u64, padded: u64) -> io::Result<Vec<u8>> {
        let mut body = vec![0; size as usize];
        let n = self.read_raw(&mut body)?;
        body.truncate(n);
        self.skip(padded.saturating_sub(n as u64))?;
        Ok(body)
    }

    /// Replaces the content of `bytes` by at most `n` bytes of data. Returns whether data were missing.
    fn read(&mut self, n: usize, bytes: &mut Vec<u8>) -> io::Result<bool> {
        bytes.clear();
        if self.left == Some(0) && !self.continues(bytes)? {
            return Ok(false);
        }
        let kept = bytes.len();
        let n = self
            .left
            .map_or(n, |left| n.min(usize::try_from(left).unwrap_or(n)));
        bytes.resize(n.max(kept), 0);
        let got = kept + self.read_raw(&mut bytes[kept..])?;
        let missing = self.left.is_some() && self.believed && got < n;
        bytes.truncate(got);
        self.left = if got < n {
            Some(0)
        } else {
            self.left.map(|left| left - n as u64)
        };
        if got < n {
            self.chunks_follow = false;
        }
        Ok(missing)
    }

    /// Returns, at the declared end of the data, whether more data follow instead of a chunk because the size was never
    /// filled in. Leaves the inspected bytes in `bytes`.
    fn continues(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        if !self.chunks_follow {
            return Ok(false);
        }
        // A pad byte (after data of odd size), then name and size of a chunk.
        bytes.resize(9, 0);
        let n = self.read_raw(bytes)?;
        bytes.truncate(n);
        let ends = self.is_chunk(bytes, 0) || self.is_chunk(bytes, 1) || n < 8;
        if ends {
            bytes.clear();
            self.chunks_follow = false;
        } else {
            self.left = None;
        }
        Ok(!ends)
    }

    fn is_chunk(&self, bytes: &[u8], pad: usize) -> bool {
        let Some(header) = bytes.get(pad..).and_then(<[u8]>::first_chunk::<8>) else {
            return false;
        };
        let size = u64::from(u32::from_le_bytes([
            header[4], header[5], header[6], header[7],
        ]));
        let unread = (bytes.len() - pad - 8) as u64;
        let fits = self
            .available()
            .is_none_or(|available| size <= available + unread);
        fits && header[..4]
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'_'))
    }
}

/// Decoder of the data of a WAV, Wave64 or AU file.
pub(super) struct PcmDecoder {
    data: Data,
    layout: Layout,
    rate: u32,
    n_channels: usize,
    downmix: Downmix,
    bytes: Vec<u8>,
    /// Start of a frame that was split by the end of a read.
    part: Vec<u8>,
    damaged: bool,
    overdriven: bool,
}

impl PcmDecoder {
    pub(super) fn new(data: Data, layout: Layout, rate: u32, n_channels: usize) -> Attempt<Self> {
        check_shape(rate, n_channels)?;
        Ok(Self {
            data,
            layout,
            rate,
            n_channels,
            downmix: Downmix::default(),
            bytes: Vec::new(),
            part: Vec::new(),
            damaged: false,
            overdriven: false,
        })
    }

    /// Sets weights other than the mean.
    pub(super) fn mixed_by(self, downmix: Downmix) -> Self {
        Self { downmix, ..self }
    }
}

impl Decode for PcmDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        (block.rate, block.n_channels) = (self.rate, self.n_channels);
        block.downmix = self.downmix.clone();
        let unit = match &self.layout {
            Layout::Plain { encoding, .. } => encoding.n_bytes() * self.n_channels,
            Layout::Adpcm(adpcm) => adpcm.block_len(),
        };
        let missing = self
            .data
            .read((BLOCK_BYTES / unit).max(1) * unit, &mut self.bytes)?;
        self.damaged |= missing;
        if self.bytes.is_empty() {
            // An incomplete frame is dropped.
            return Ok(false);
        }
        match &self.layout {
            Layout::Plain {
                encoding,
                big_endian,
            } => {
                self.bytes.splice(..0, self.part.drain(..));
                let whole = self.bytes.len() / unit * unit;
                encoding.decode(&self.bytes[..whole], *big_endian, &mut block.samples);
                self.part.extend_from_slice(&self.bytes[whole..]);
                let is_float = matches!(encoding, Encoding::F32 | Encoding::F64);
                self.overdriven |= is_float && is_overdriven(&block.samples);
            }
            Layout::Adpcm(adpcm) => {
                self.bytes
                    .chunks(unit)
                    .for_each(|bytes| adpcm.decode(bytes, &mut block.samples));
            }
        }
        Ok(true)
    }

    fn damaged(&self) -> bool {
        self.damaged
    }

    fn overdriven(&self) -> bool {
        self.overdriven
    }

    fn may_be_empty(&self) -> bool {
        true
    }
}

/// Returns whether a sample exceeds full scale by more than a filter's ripple; infinity and NaN have a warning of their
/// own.
pub(super) fn is_overdriven(samples: &[f32]) -> bool {
    // The bits of magnitudes compare like their values. The loop has no early exit, so that it can be vectorised.
    samples.iter().fold(false, |any, sample| {
        let magnitude = sample.to_bits() << 1 >> 1;
        any | (magnitude > RIPPLE.to_bits() && magnitude < f32::INFINITY.to_bits())
    })
}

/// Decoder of mono samples in memory.
pub(super) struct SamplesDecoder {
    samples: Arc<[f32]>,
    rate: u32,
    at: usize,
    overdriven: bool,
}

impl SamplesDecoder {
    pub(super) fn open(samples: Arc<[f32]>, rate: u32) -> Attempt<Box<dyn Decode>> {
        check_shape(rate, 1)?;
        Ok(Box::new(Self {
            samples,
            rate,
            at: 0,
            overdriven: false,
        }))
    }
}

impl Decode for SamplesDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        let rest = &self.samples[self.at..];
        let next = &rest[..rest.len().min(BLOCK_BYTES)];
        self.at += next.len();
        block.samples.clear();
        block.samples.extend_from_slice(next);
        self.overdriven |= is_overdriven(next);
        (block.rate, block.n_channels) = (self.rate, 1);
        Ok(!next.is_empty())
    }

    fn damaged(&self) -> bool {
        false
    }

    fn overdriven(&self) -> bool {
        self.overdriven
    }

    fn may_be_empty(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ITU-T G.711: the extremes and the middle of both laws, in 16 bits.
    #[test]
    fn g711_decodes_the_standards_corner_values() {
        for (byte, expected) in [
            (0x80, 32_124),
            (0x00, -32_124),
            (0xFF, 0),
            (0x7F, 0),
            (0xF0, 120),
            (0x70, -120),
        ] {
            assert_eq!(mu_law(byte), expected, "mu-law {byte:#x}");
        }
        for (byte, expected) in [
            (0xAA, 32_256),
            (0x2A, -32_256),
            (0xD5, 8),
            (0x55, -8),
            (0xC5, 264),
            (0x45, -264),
        ] {
            assert_eq!(a_law(byte), expected, "A-law {byte:#x}");
        }
    }

    #[test]
    fn every_encoding_decodes_half_scale_in_both_byte_orders() {
        let cases: [(Encoding, &[u8]); 7] = [
            (Encoding::U8, &[192]),
            (Encoding::S8, &[64]),
            (Encoding::S16, &[0, 0x40]),
            (Encoding::S24, &[0, 0, 0x40]),
            (Encoding::S32, &[0, 0, 0, 0x40]),
            (Encoding::F32, &0.5_f32.to_le_bytes()),
            (Encoding::F64, &0.5_f64.to_le_bytes()),
        ];
        for (encoding, bytes) in cases {
            let mut out = Vec::new();
            encoding.decode(bytes, false, &mut out);
            let swapped: Vec<u8> = bytes.iter().rev().copied().collect();
            encoding.decode(&swapped, true, &mut out);
            assert_eq!(out, [0.5, 0.5], "{encoding:?}");
        }
    }

    #[test]
    fn sixteen_bit_samples_are_exactly_s_over_32768() {
        for sample in i16::MIN..=i16::MAX {
            let mut out = Vec::new();
            Encoding::S16.decode(&sample.to_le_bytes(), false, &mut out);
            assert_eq!(out[0].to_bits(), (f32::from(sample) / 32_768.0).to_bits());
        }
    }
}
