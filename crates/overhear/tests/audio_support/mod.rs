//! Shared parts of the audio tests: fixtures, WAV files, comparison.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod boxes;

use std::path::PathBuf;

use overhear::audio::AudioWarning;
use overhear::{Audio, Result};

pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

pub fn bytes(path: &str) -> Vec<u8> {
    let path = fixture(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Samples and warnings of one pass.
pub fn decode(audio: &Audio) -> Result<(Vec<f32>, Vec<AudioWarning>)> {
    let mut reader = audio.reader()?;
    let (mut samples, mut buffer) = (Vec::new(), vec![0.0; 5_000]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((samples, reader.warnings().to_vec())),
            n => samples.extend_from_slice(&buffer[..n]),
        }
    }
}

pub fn decode_bytes(bytes: Vec<u8>) -> Result<(Vec<f32>, Vec<AudioWarning>)> {
    decode(&Audio::from_bytes(bytes, "test")?)
}

/// Returns the message of the error that opening or reading `bytes` gives.
pub fn refusal(bytes: Vec<u8>) -> String {
    match decode_bytes(bytes) {
        Ok((samples, _)) => panic!("{} samples were decoded", samples.len()),
        Err(error) => error.to_string(),
    }
}

/// Returns the energy of `reference` divided by that of the difference, in dB, over their common length.
pub fn snr_db(samples: &[f32], reference: &[f32]) -> f64 {
    let energy = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let signal = energy(&mut reference.iter().map(|x| f64::from(*x)));
    let noise = energy(&mut samples.iter().zip(reference).map(|(a, b)| f64::from(a - b)));
    10.0 * (signal / noise.max(1e-30)).log10()
}

/// Returns the shift of `samples` relative to `reference`, within 100 ms, with the highest correlation, and that
/// correlation.
pub fn best_shift(samples: &[f32], reference: &[f32]) -> (i64, f64) {
    let at = |values: &[f32], i: i64| {
        usize::try_from(i)
            .ok()
            .and_then(|i| values.get(i))
            .map_or(0.0, |x| f64::from(*x))
    };
    let correlation = |shift: i64| {
        let (mut ab, mut aa, mut bb) = (0.0, 1e-30, 1e-30);
        for i in 0..reference.len() as i64 {
            let (a, b) = (at(samples, i + shift), at(reference, i));
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
        ab / f64::sqrt(aa * bb)
    };
    let scored = (-1600..=1600).map(|shift| (shift, correlation(shift)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

/// Parts of a WAV file; sizes may be wrong.
pub struct Wav {
    pub tag: u16,
    pub n_channels: u16,
    pub rate: u32,
    pub bits: u16,
    pub data: Vec<u8>,
    /// Overrides the RIFF size.
    pub riff_size: Option<u32>,
    /// Overrides the data size.
    pub data_size: Option<u32>,
    /// Chunks after the data.
    pub trailer: Vec<u8>,
}

impl Wav {
    pub fn s16(rate: u32, n_channels: u16, samples: &[i16]) -> Self {
        let data = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        Self {
            tag: 1,
            n_channels,
            rate,
            bits: 16,
            data,
            riff_size: None,
            data_size: None,
            trailer: Vec::new(),
        }
    }

    pub fn f32(rate: u32, samples: &[f32]) -> Self {
        let data = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        Self {
            tag: 3,
            bits: 32,
            data,
            ..Self::s16(rate, 1, &[])
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let align = self.n_channels.wrapping_mul(self.bits / 8);
        let body = 36 + self.data.len() + self.trailer.len();
        let mut out = b"RIFF".to_vec();
        out.extend(self.riff_size.unwrap_or(body as u32).to_le_bytes());
        out.extend(b"WAVEfmt \x10\0\0\0");
        out.extend(self.tag.to_le_bytes());
        out.extend(self.n_channels.to_le_bytes());
        out.extend(self.rate.to_le_bytes());
        out.extend(self.rate.wrapping_mul(u32::from(align)).to_le_bytes());
        out.extend(align.to_le_bytes());
        out.extend(self.bits.to_le_bytes());
        out.extend(b"data");
        out.extend(
            self.data_size
                .unwrap_or(self.data.len() as u32)
                .to_le_bytes(),
        );
        out.extend(&self.data);
        out.extend(&self.trailer);
        out
    }
}

/// A small generator (xorshift64*), so that "random" positions are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}
