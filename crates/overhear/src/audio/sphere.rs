//! NIST SPHERE (`.sph`), a format of speech corpora: a text header, then samples.
//!
//! The header's first line is `NIST_1A`, its second line its length; then follow fields (`name -type value`) up to
//! `end_head`. Reference: NIST, "SPeech HEader REsources" 2.6, `doc/sphere.doc`.

use super::decode::{Attempt, Decode, Failure};
use super::pcm::{Data, Encoding, Layout, PcmDecoder};
use super::sniff::not_built_in;
use super::source::Input;

/// Maximum length of a header in bytes; common ones have 1024 or a multiple.
const MAX_HEADER: u64 = 1 << 20;
/// Length of the first two lines: `NIST_1A`, and the header's length in 7 characters.
const PREAMBLE: usize = 16;

/// Opens a decoder of a file that begins with `NIST_1A`.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    let mut data = Data {
        input,
        position: 0,
        left: None,
        believed: true,
        chunks_follow: false,
    };
    let mut header = vec![0; PREAMBLE];
    data.read_raw(&mut header)?;
    let header_len = std::str::from_utf8(&header[8..])
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .filter(|len| (PREAMBLE as u64..=MAX_HEADER).contains(len))
        .ok_or_else(|| Failure::audio("damaged SPHERE: its header has no length"))?;
    let mut fields = vec![0; header_len as usize - PREAMBLE];
    if data.read_raw(&mut fields)? < fields.len() {
        return Err(Failure::audio("SPHERE header is cut short"));
    }
    let fields = Fields(String::from_utf8_lossy(&fields).into_owned());
    let n_channels = fields.number("channel_count").unwrap_or(1);
    let rate = fields
        .number("sample_rate")
        .ok_or_else(|| Failure::audio("damaged SPHERE: no sample_rate in its header"))?;
    let n_bytes = fields.number("sample_n_bytes").unwrap_or(2);
    let coding = fields.get("sample_coding").unwrap_or("pcm");
    let encoding = match (coding, n_bytes) {
        ("pcm", 1) => Encoding::S8,
        ("pcm", 2) => Encoding::S16,
        ("pcm", 3) => Encoding::S24,
        ("pcm", 4) => Encoding::S32,
        ("ulaw" | "mu-law", 1) => Encoding::MuLaw,
        ("alaw", 1) => Encoding::ALaw,
        ("pcm" | "ulaw" | "mu-law" | "alaw", n) => {
            return Err(Failure::Audio(format!(
                "SPHERE: {coding} samples of {n} bytes cannot be"
            )));
        }
        (other, _) => {
            let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(not_built_in(&format!("SPHERE coding {shown}")));
        }
    };
    // "10": the most significant byte comes first.
    let big_endian = fields
        .get("sample_byte_format")
        .is_some_and(|order| order.starts_with('1') && order.len() > 1);
    data.left = fields
        .number::<u64>("sample_count")
        .and_then(|count| count.checked_mul(n_bytes)?.checked_mul(n_channels as u64))
        .filter(|len| *len > 0);
    let layout = Layout::Plain {
        encoding,
        big_endian,
    };
    Ok(Box::new(PcmDecoder::new(data, layout, rate, n_channels)?))
}

/// Lines of a header.
struct Fields(String);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        let lines = self.0.lines().take_while(|line| line.trim() != "end_head");
        lines
            .map(|line| line.splitn(3, ' '))
            .find_map(|mut parts| (parts.next()? == name).then_some(parts)?.nth(1))
            .map(str::trim)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::Audio;

    fn file(fields: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = format!("NIST_1A\n   1024\n{fields}end_head\n").into_bytes();
        bytes.resize(1024, b' ');
        bytes.extend(data);
        bytes
    }

    fn samples(fields: &str, data: &[u8]) -> Result<Vec<f32>, String> {
        let audio = Audio::from_bytes(file(fields, data), "x");
        audio
            .and_then(|audio| audio.samples())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pcm_and_mu_law_are_read_in_both_byte_orders() {
        let common = "sample_rate -i 16000\nchannel_count -i 1\n";
        for (coding, data) in [
            (
                "sample_count -i 2\nsample_n_bytes -i 2\nsample_byte_format -s2 01\n",
                &[0, 0x40, 0, 0xC0][..],
            ),
            (
                "sample_n_bytes -i 2\nsample_byte_format -s2 10\nsample_coding -s3 pcm\n",
                &[0x40, 0, 0xC0, 0],
            ),
            (
                "sample_n_bytes -i 1\nsample_coding -s3 pcm\n",
                &[0x40, 0xC0],
            ),
        ] {
            assert_eq!(
                samples(&format!("{common}{coding}"), data).unwrap(),
                [0.5, -0.5]
            );
        }
        let mu_law = samples(
            &format!("{common}sample_n_bytes -i 1\nsample_coding -s4 ulaw\n"),
            &[0x80],
        );
        assert_eq!(mu_law.unwrap(), [32_124.0 / 32_768.0]);
    }

    #[test]
    fn what_cannot_be_says_so() {
        for (fields, message) in [
            ("", "x: damaged SPHERE: no sample_rate in its header"),
            (
                "sample_rate -i 8000\nsample_coding -s26 pcm,embedded-shorten-v2.00\n",
                "x: SPHERE coding pcm,embedded-shorten-v2.00 is not built in; convert it first, e.g. with ffmpeg",
            ),
            (
                "sample_rate -i 8000\nsample_n_bytes -i 9\n",
                "x: SPHERE: pcm samples of 9 bytes cannot be",
            ),
        ] {
            assert_eq!(samples(fields, &[0; 8]).unwrap_err(), message);
        }
        for len in 0..40 {
            let _ = Audio::from_bytes(file("", b"")[..len].to_vec(), "x");
        }
    }
}
