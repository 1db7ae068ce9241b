//! AIFF and AIFF-C: big-endian chunks, samples in any of QuickTime's encodings.
//!
//! References: Apple "Audio Interchange File Format" 1.3 (1989), "AIFF-C" draft of 1991-08-26, and the compression types
//! that QuickTime added.

use std::io::{Seek, SeekFrom};

use super::core_audio;
use super::decode::{Attempt, Decode, Failure};
use super::pcm::{Data, Encoding, Layout, PcmDecoder};
use super::sniff::not_built_in;
use super::source::Input;

/// Maximum number of bytes read of a common chunk; more than one with the longest compression name has.
const MAX_COMM: u64 = 512;

/// Opens a decoder of a file that begins with `FORM`, `AIFF` or `AIFC`. The sample chunk may precede the common chunk,
/// so `input` must be seekable.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    let mut data = Data::new(input);
    data.skip(12)?;
    let (mut comm, mut sound, mut channels) = (None, None, Vec::new());
    while comm.is_none() || sound.is_none() {
        let mut chunk = [0; 8];
        if data.read_raw(&mut chunk)? < chunk.len() {
            break;
        }
        let [a, b, c, d, size @ ..] = chunk;
        let size = u64::from(u32::from_be_bytes(size));
        let next = data.position.saturating_add(size + size % 2);
        match &[a, b, c, d] {
            b"COMM" => comm = Some(Comm::read(&mut data, size)?),
            b"CHAN" => channels = data.read_body(size.min(core_audio::MAX_LEN), size)?,
            b"SSND" => {
                let mut offset = [0; 8];
                data.read_raw(&mut offset)?;
                let [a, b, c, d, ..] = offset;
                let offset = u64::from(u32::from_be_bytes([a, b, c, d]));
                sound = Some((data.position + offset, size.saturating_sub(8 + offset)));
            }
            _ => {}
        }
        if comm.is_none() || sound.is_none() {
            seek(&mut data, next)?;
        }
    }
    let comm = comm.ok_or_else(|| Failure::audio("AIFF without a common chunk"))?;
    let Some((start, size)) = sound else {
        return Err(Failure::audio("AIFF without a sound data chunk"));
    };
    seek(&mut data, start)?;
    // Writers to a pipe leave the size at 0.
    data.left = (size > 0).then_some(size);
    let layout = comm.layout()?;
    let decoder = PcmDecoder::new(data, layout, comm.rate, comm.n_channels)?;
    let downmix = core_audio::downmix(&channels, comm.n_channels);
    Ok(Box::new(decoder.mixed_by(downmix)))
}

fn seek(data: &mut Data, to: u64) -> Attempt<()> {
    data.position = to.min(data.input.len().unwrap_or(u64::MAX));
    data.input.seek(SeekFrom::Start(data.position))?;
    Ok(())
}

/// Contents of the common chunk.
struct Comm {
    n_channels: usize,
    bits: u16,
    rate: u32,
    /// Compression type; `NONE` in AIFF.
    compression: [u8; 4],
}

impl Comm {
    fn read(data: &mut Data, size: u64) -> Attempt<Self> {
        let mut body = vec![0; size.min(MAX_COMM) as usize];
        let n = data.read_raw(&mut body)?;
        body.truncate(n);
        let Some(([c0, c1, _, _, _, _, b0, b1, rate @ ..], rest)) = body.split_first_chunk::<18>()
        else {
            return Err(Failure::audio("AIFF common chunk is cut short"));
        };
        Ok(Self {
            n_channels: usize::from(u16::from_be_bytes([*c0, *c1])),
            bits: u16::from_be_bytes([*b0, *b1]),
            rate: extended(*rate),
            compression: rest.first_chunk().copied().unwrap_or(*b"NONE"),
        })
    }

    fn layout(&self) -> Attempt<Layout> {
        let n_bytes = self.bits.div_ceil(8);
        let (encoding, big_endian) = match (&self.compression, n_bytes) {
            (b"fl32" | b"FL32", _) => (Encoding::F32, true),
            (b"fl64" | b"FL64", _) => (Encoding::F64, true),
            (b"alaw" | b"ALAW", _) => (Encoding::ALaw, true),
            (b"ulaw" | b"ULAW", _) => (Encoding::MuLaw, true),
            (b"in24", _) => (Encoding::S24, true),
            (b"in32", _) => (Encoding::S32, true),
            (b"42ni", _) => (Encoding::S24, false),
            (b"23ni", _) => (Encoding::S32, false),
            (b"raw ", 1) => (Encoding::U8, true),
            (b"NONE" | b"twos" | b"sowt", 1) => (Encoding::S8, true),
            (b"NONE" | b"twos", 2) => (Encoding::S16, true),
            (b"NONE" | b"twos", 3) => (Encoding::S24, true),
            (b"NONE" | b"twos", 4) => (Encoding::S32, true),
            (b"sowt", 2) => (Encoding::S16, false),
            (b"sowt", 3) => (Encoding::S24, false),
            (b"sowt", 4) => (Encoding::S32, false),
            (b"NONE" | b"twos" | b"sowt" | b"raw ", _) => {
                return Err(Failure::Audio(format!(
                    "AIFF: samples of {} bits cannot be",
                    self.bits
                )));
            }
            (name, _) => {
                let name = name.escape_ascii();
                return Err(not_built_in(&format!("AIFF-C compression \"{name}\"")));
            }
        };
        Ok(Layout::Plain {
            encoding,
            big_endian,
        })
    }
}

/// Converts an IEEE 754 80-bit extended number (sign and exponent, then a mantissa with an explicit leading 1) to a
/// sample rate.
fn extended(bytes: [u8; 10]) -> u32 {
    let [e0, e1, mantissa @ ..] = bytes;
    let exponent = i32::from(u16::from_be_bytes([e0, e1])) - 16_383 - 63;
    (u64::from_be_bytes(mantissa) as f64 * f64::from(exponent).exp2()).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_numbers_are_sample_rates() {
        let rate = |exponent: u16, mantissa: u64| {
            let [e0, e1] = exponent.to_be_bytes();
            let [a, b, c, d, e, f, g, h] = mantissa.to_be_bytes();
            extended([e0, e1, a, b, c, d, e, f, g, h])
        };
        assert_eq!(rate(0x400E, 0xAC44 << 48), 44_100);
        assert_eq!(rate(0x400C, 0xFA00 << 48), 16_000);
        assert_eq!(rate(0, 0), 0);
        assert_eq!(rate(0x7FFF, u64::MAX), u32::MAX);
    }
}
