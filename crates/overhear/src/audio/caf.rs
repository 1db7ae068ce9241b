//! Core Audio Format with uncompressed samples. CAF files with compressed audio are decoded by Symphonia.
//!
//! Chunks are read only up to the end of the audio data, so that nothing after them matters: tags, truncated chunks,
//! zeros.
//!
//! Reference: Apple "Core Audio Format Specification 1.0".

use super::core_audio;
use super::decode::{Attempt, Decode, Failure};
use super::downmix::Downmix;
use super::pcm::{Data, Encoding, Layout, PcmDecoder};
use super::source::Input;
#[cfg(feature = "codecs")]
use super::symphonia::open_caf as compressed;

/// Unknown size: the data chunk reaches to the end of the file.
const UNKNOWN: u64 = u64::MAX;
/// Format flags of linear PCM.
const IS_FLOAT: u32 = 1;
const IS_LITTLE_ENDIAN: u32 = 2;

/// Opens a decoder of a file that begins with `caff`; `input` must be seekable.
pub(super) fn open(mut input: Input) -> Attempt<Box<dyn Decode>> {
    let head = input.peek(8 + 12 + 32)?;
    // The description is always the first chunk.
    let description = head
        .get(20..)
        .and_then(Description::read)
        .filter(|_| &head[8..12] == b"desc")
        .ok_or_else(|| Failure::audio("CAF without an audio description in front"))?;
    let Some(layout) = description.layout()? else {
        return compressed(input);
    };
    let mut data = Data::new(input);
    data.skip(8)?;
    let mut downmix = Downmix::default();
    loop {
        let mut chunk = [0; 12];
        if data.read_raw(&mut chunk)? < chunk.len() {
            return Err(Failure::audio("CAF without a data chunk"));
        }
        let [a, b, c, d, size @ ..] = chunk;
        let size = u64::from_be_bytes(size);
        if &[a, b, c, d] == b"chan" {
            let layout = data.read_body(size.min(core_audio::MAX_LEN), size)?;
            downmix = core_audio::downmix(&layout, description.n_channels);
            continue;
        }
        if &[a, b, c, d] != b"data" {
            data.skip(size)?;
            continue;
        }
        // The data chunk begins with an edit count.
        data.skip(4)?;
        data.left = (size != UNKNOWN && size > 0).then_some(size.saturating_sub(4));
        let Description {
            rate, n_channels, ..
        } = description;
        let decoder = PcmDecoder::new(data, layout, rate, n_channels)?;
        return Ok(Box::new(decoder.mixed_by(downmix)));
    }
}

/// Refuses compressed audio.
#[cfg(not(feature = "codecs"))]
fn compressed(_: Input) -> Attempt<Box<dyn Decode>> {
    super::decode::without_codecs("compressed audio in CAF")
}

/// Contents of the audio description chunk.
struct Description {
    rate: u32,
    format: [u8; 4],
    flags: u32,
    n_channels: usize,
    /// Number of bytes of one sample.
    n_bytes: usize,
}

impl Description {
    fn read(body: &[u8]) -> Option<Self> {
        let rate = f64::from_be_bytes(*body.first_chunk()?);
        let word = |i: usize| Some(u32::from_be_bytes(*body.get(8 + 4 * i..)?.first_chunk()?));
        let (n_packet_bytes, n_channels) = (word(2)? as usize, word(4)? as usize);
        let whole = n_channels > 0 && n_packet_bytes.is_multiple_of(n_channels);
        let n_bytes = match n_packet_bytes.checked_div(n_channels) {
            Some(n_bytes) if whole && n_bytes > 0 => n_bytes,
            _ => word(5)?.div_ceil(8) as usize,
        };
        Some(Self {
            rate: rate.round() as u32,
            format: word(0)?.to_be_bytes(),
            flags: word(1)?,
            n_channels,
            n_bytes,
        })
    }

    /// Returns the sample layout; `None` if the audio is compressed.
    fn layout(&self) -> Attempt<Option<Layout>> {
        let is_float = self.flags & IS_FLOAT != 0;
        let encoding = match (&self.format, self.n_bytes) {
            (b"alaw", _) => Encoding::ALaw,
            (b"ulaw", _) => Encoding::MuLaw,
            (b"lpcm", 1) if !is_float => Encoding::S8,
            (b"lpcm", 2) if !is_float => Encoding::S16,
            (b"lpcm", 3) if !is_float => Encoding::S24,
            (b"lpcm", 4) if !is_float => Encoding::S32,
            (b"lpcm", 4) => Encoding::F32,
            (b"lpcm", 8) if is_float => Encoding::F64,
            (b"lpcm", n_bytes) => {
                return Err(Failure::Audio(format!(
                    "CAF: samples of {n_bytes} bytes cannot be"
                )));
            }
            _ => return Ok(None),
        };
        Ok(Some(Layout::Plain {
            encoding,
            big_endian: self.flags & IS_LITTLE_ENDIAN == 0,
        }))
    }
}
