//! Length of an input before it is opened, as a guide to the order of a run.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes per second of speech recordings as they are common, by extension; the last is for any other.
const TYPICAL: [(&[&str], u64); 3] = [
    (
        &[
            "aif", "aifc", "aiff", "au", "caf", "flac", "snd", "w64", "wav",
        ],
        64_000,
    ),
    (
        &[
            "3gp", "avi", "m4v", "mkv", "mov", "mp4", "ogv", "qt", "webm",
        ],
        128_000,
    ),
    (&[], 16_000),
];

/// Returns the length in milliseconds: as the header of a WAV or FLAC file says, or else as the size of the file suggests; 0 if
/// the file cannot be read.
pub(crate) fn estimate_ms(path: &Path) -> u64 {
    let mut head = Vec::new();
    let file = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        // Reading a pipe would take its content.
        if metadata.is_file() {
            file.take(64).read_to_end(&mut head)?;
        }
        Ok(metadata.len())
    });
    let n_bytes = file.unwrap_or(0);
    from_head(&head, n_bytes).unwrap_or_else(|| {
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let typical = TYPICAL
            .iter()
            .find(|(known, _)| known.contains(&&*extension));
        let (_, rate) = typical.unwrap_or(&TYPICAL[TYPICAL.len() - 1]);
        n_bytes.saturating_mul(1000) / rate
    })
}

/// Returns the length in milliseconds that the first bytes of a WAV or FLAC file of `n_bytes` state.
fn from_head(head: &[u8], n_bytes: u64) -> Option<u64> {
    let number = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    match head {
        [b'R', b'I', b'F', b'F' | b'X', ..] | [b'R', b'F', b'6', b'4', ..]
            if head.get(12..16) == Some(b"fmt ") =>
        {
            let byte_rate = u64::from(number(28)?);
            n_bytes
                .saturating_sub(44)
                .saturating_mul(1000)
                .checked_div(byte_rate)
        }
        // STREAMINFO: 20 bits of sample rate, 8 of channels and sample size, 36 of the number of samples.
        [b'f', b'L', b'a', b'C', ..] => {
            let fields = u64::from_be_bytes(*head.get(18..)?.first_chunk()?);
            let (rate, n_samples) = (fields >> 44, fields & ((1 << 36) - 1));
            Some(n_samples)
                .filter(|&n| n > 0)?
                .saturating_mul(1000)
                .checked_div(rate)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_state_the_length_and_sizes_suggest_it() {
        let clips = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clips");
        assert_eq!(estimate_ms(&clips.join("jfk.flac")), 11_000);
        let folder = tempfile::tempdir().unwrap();
        let estimate = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            estimate_ms(&path)
        };
        let mut wav =
            b"RIFF....WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data...."
                .to_vec();
        wav.resize(44 + 48_000, 0);
        assert_eq!(estimate("a.mp3", &wav), 1500, "by content");
        wav[28..32].fill(0);
        assert_eq!(estimate("a.wav", &wav), 48_044 * 1000 / 64_000);
        assert_eq!(estimate("b.MP3", &[0; 32_000]), 2000);
        assert_eq!(estimate("b.Mp4", &[0; 32_000]), 250);
        assert_eq!(estimate("b", b"fLaC"), 0);
        assert_eq!(estimate_ms(Path::new("nosuch.wav")), 0);
    }
}
