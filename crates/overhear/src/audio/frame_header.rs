//! Headers of the frames of MPEG audio (layers I to III) and of AAC in ADTS.
//!
//! References: ISO 11172-3 section 2.4, ISO 13818-3 section 2.4, ISO 13818-7 section 6.2.

use super::decode::Attempt;
use super::sniff::not_built_in;

/// Number of bytes needed to parse a header: the 7 bytes of ADTS without a checksum; MPEG audio needs fewer.
pub(super) const MIN_HEADER: usize = 7;
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
    pub(super) mpeg1: bool,
    /// Bit rate of MPEG audio in kbit/s.
    pub(super) kbit: u16,
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
    #[cfg(feature = "codecs")]
    pub(super) fn n_samples(&self) -> u64 {
        match self.coding {
            Coding::Layer1 => 384,
            Coding::Layer3 if !self.mpeg1 => 576,
            Coding::Layer2 | Coding::Layer3 => 1152,
            Coding::Aac(_) => 1024,
        }
    }

    /// Returns the number of bytes of side information after the header of a layer III frame.
    #[cfg(feature = "codecs")]
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
