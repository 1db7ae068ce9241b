//! Sun/NeXT audio: a header of six big-endian 32-bit fields, then samples.

use super::decode::{Attempt, Decode, Failure};
use super::pcm::{Data, Encoding, Layout, PcmDecoder};
use super::sniff::not_built_in;
use super::source::Input;

/// Opens a decoder of a file that begins with `.snd`.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    let mut data = Data::new(input);
    let mut header = [0; 24];
    if data.read_raw(&mut header)? < header.len() {
        return Err(Failure::audio("AU header is cut short"));
    }
    let word = |i: usize| {
        u32::from_be_bytes([
            header[4 * i],
            header[4 * i + 1],
            header[4 * i + 2],
            header[4 * i + 3],
        ])
    };
    let [offset, size, code, rate, n_channels] = [1, 2, 3, 4, 5].map(word);
    let encoding = match code {
        1 => Encoding::MuLaw,
        2 => Encoding::S8,
        3 => Encoding::S16,
        4 => Encoding::S24,
        5 => Encoding::S32,
        6 => Encoding::F32,
        7 => Encoding::F64,
        27 => Encoding::ALaw,
        other => return Err(not_built_in(&format!("AU encoding {other}"))),
    };
    // Writers to a pipe leave the size at 0xFFFFFFFF ("unknown"), some at 0.
    data.left = (size != u32::MAX && size != 0).then_some(u64::from(size));
    data.skip(u64::from(offset).saturating_sub(24))?;
    let layout = Layout::Plain {
        encoding,
        big_endian: true,
    };
    let n_channels = usize::try_from(n_channels).unwrap_or(usize::MAX);
    Ok(Box::new(PcmDecoder::new(data, layout, rate, n_channels)?))
}
