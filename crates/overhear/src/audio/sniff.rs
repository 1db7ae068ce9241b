//! Tells what a file holds by its first bytes. Names and extensions are never looked at.

use super::decode::{Attempt, Failure};
use super::source::Input;
use super::symphonia::Container;

/// How much of a file is looked at: enough for the junk that radio recorders leave in front of MP3 frames.
const HEAD_LEN: usize = 1 << 16;
/// ID3v2 tags in a row that are skipped: more is no audio file.
const MAX_TAGS: usize = 16;

/// A format that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// RIFF, RIFX, RF64 or BW64.
    Wav,
    /// Sony Wave64.
    Wave64,
    /// Sun/NeXT `.au`.
    Au,
    /// AIFF or AIFF-C.
    Aiff,
    /// Core Audio Format.
    Caf,
    /// MP4, M4A, 3GP, QuickTime.
    Mp4,
    /// Matroska or WebM.
    Mkv,
    /// Everything that Symphonia reads.
    Symphonia(Container),
}

impl Format {
    /// Whether decoding has to jump about in the file.
    pub(super) fn needs_seeking(self) -> bool {
        matches!(self, Self::Aiff | Self::Caf | Self::Mp4)
    }
}

/// Recognises the format and leaves `input` at its first byte, past tags and junk.
pub(super) fn sniff(input: &mut Input) -> Attempt<Format> {
    let mut head = input.peek(HEAD_LEN)?;
    if head.is_empty() {
        return Err(Failure::audio("empty file"));
    }
    let mut n_tags = 0;
    while let Some(len) = id3_len(&head) {
        n_tags += 1;
        if n_tags > MAX_TAGS {
            return Err(Failure::audio("not audio (nothing but ID3 tags)"));
        }
        input.skip(len)?;
        head = input.peek(HEAD_LEN)?;
    }
    if head.is_empty() {
        return Err(Failure::audio(
            "not audio (an ID3 tag and nothing after it)",
        ));
    }
    if let Some(format) = known_format(&head) {
        return Ok(format);
    }
    if let Some(reason) = known_refusal(&head) {
        return Err(Failure::Audio(reason));
    }
    match find_frames(&head) {
        Some(Frames {
            at,
            container: Some(container),
        }) => {
            input.skip(at as u64)?;
            Ok(Format::Symphonia(container))
        }
        Some(Frames {
            container: None, ..
        }) => Err(not_built_in("free-format MP3")),
        None => Err(Failure::audio(if is_text(&head) {
            "not audio (looks like text)"
        } else if n_tags > 0 {
            "not audio (an ID3 tag, then nothing known)"
        } else {
            "not audio (no header of a known format; raw samples need one)"
        })),
    }
}

/// The error for formats and codecs that exist but are not in this build.
pub(super) fn not_built_in(what: &str) -> Failure {
    Failure::Audio(format!(
        "{what} is not built in; convert it first, e.g. with ffmpeg"
    ))
}

/// Length of the ID3v2 tag at the start, if there is one (id3.org, ID3v2.4 section 3.1).
fn id3_len(head: &[u8]) -> Option<u64> {
    let header = head.first_chunk::<10>()?;
    let sane = header.starts_with(b"ID3")
        && header[3] != 0xFF
        && header[6..].iter().all(|byte| byte & 0x80 == 0);
    let body = header[6..]
        .iter()
        .fold(0, |len, byte| len << 7 | u64::from(*byte));
    let footer = if header[5] & 0x10 == 0 { 0 } else { 10 };
    sane.then_some(10 + body + footer)
}

fn known_format(head: &[u8]) -> Option<Format> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    let riff = at(0, b"RIFF") || at(0, b"RIFX") || at(0, b"RF64") || at(0, b"BW64");
    if riff && at(8, b"WAVE") {
        return Some(Format::Wav);
    }
    if at(0, b"riff\x2E\x91\xCF\x11") {
        return Some(Format::Wave64);
    }
    if at(0, b".snd") {
        return Some(Format::Au);
    }
    if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        return Some(Format::Aiff);
    }
    if at(0, b"caff") {
        return Some(Format::Caf);
    }
    if is_mp4(head) {
        return Some(Format::Mp4);
    }
    if at(0, b"\x1A\x45\xDF\xA3") {
        return Some(Format::Mkv);
    }
    let container = if at(0, b"fLaC") {
        Container::Flac
    } else if at(0, b"OggS") {
        Container::Ogg
    } else {
        return None;
    };
    Some(Format::Symphonia(container))
}

/// Whether the boxes at the start are an MP4's. Padding may come first, which alone is too weak a sign.
fn is_mp4(head: &[u8]) -> bool {
    let mut rest = head;
    while let Some(([s0, s1, s2, s3, name @ ..], _)) = rest.split_first_chunk::<8>() {
        match name {
            b"ftyp" | b"moov" | b"mdat" | b"wide" | b"styp" | b"moof" | b"sidx" => return true,
            b"free" | b"skip" | b"uuid" | b"pnot" => {}
            _ => return false,
        }
        let len = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        // Padding beyond what is looked at is believed.
        match rest.get(len..) {
            Some(next) if len >= 8 => rest = next,
            _ => return len >= 8,
        }
    }
    rest.len() < head.len()
}

/// Formats that are recognised in order to say what is wrong.
fn known_refusal(head: &[u8]) -> Option<String> {
    const NOT_AUDIO: &[(&[u8], &str)] = &[
        (b"\xFF\xD8\xFF", "JPEG"),
        (b"\x89PNG\r\n", "PNG"),
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"%PDF", "PDF"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1F\x8B", "gzip"),
        (b"BZh", "bzip2"),
        (b"\xFD7zXZ", "xz"),
        (b"7z\xBC\xAF", "7-Zip"),
        (b"Rar!", "RAR"),
        (b"\x28\xB5\x2F\xFD", "zstd"),
        (b"\x7FELF", "a program"),
        (b"MZ", "a program"),
        (b"SQLite format 3", "SQLite"),
        (b"MThd", "MIDI: notes, not sound"),
    ];
    const NOT_BUILT_IN: &[(&[u8], &str)] = &[
        (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", "WMA/WMV (ASF)"),
        (b"#!AMR", "AMR"),
        (b"\x0B\x77", "AC-3"),
        (b"\x7F\xFE\x80\x01", "DTS"),
        (b"\x56\xE0", "AAC in LATM"),
        (b"wvpk", "WavPack"),
        (b"MAC ", "Monkey's Audio"),
        (b"TTA1", "TTA"),
        (b"MPCK", "Musepack"),
        (b"MP+", "Musepack"),
        (b"DSD ", "DSD"),
        (b"FRM8", "DSD"),
        (b".RMF", "RealMedia"),
        (b"FLV\x01", "Flash video"),
        (b"\0\0\x01\xBA", "MPEG program stream"),
        (b"\0\0\x01\xB3", "MPEG video"),
        (b"Creative Voice File", "VOC"),
        (b"NIST_1A", "SPHERE"),
    ];
    if let Some((_, what)) = NOT_AUDIO.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(format!("not audio (looks like {what})"));
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return Some("not audio (looks like WebP)".to_owned());
    }
    let start = head
        .trim_ascii_start()
        .get(..14)
        .unwrap_or_default()
        .to_ascii_lowercase();
    if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") {
        return Some("not audio (looks like HTML)".to_owned());
    }
    let transport = head.len() > 376 && [0, 188, 376].iter().all(|at| head[*at] == 0x47);
    let what = if head.starts_with(b"RIFF") && head.get(8..11) == Some(b"AVI") {
        "AVI"
    } else if transport {
        "MPEG transport stream"
    } else {
        NOT_BUILT_IN
            .iter()
            .find(|(magic, _)| head.starts_with(magic))?
            .1
    };
    match not_built_in(what) {
        Failure::Audio(reason) => Some(reason),
        Failure::Read(_) => None,
    }
}

fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => head,
        // The head may end inside a character.
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        Err(_) => return false,
    };
    valid
        .iter()
        .all(|byte| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C))
}

/// A run of MPEG audio or ADTS frames.
struct Frames {
    /// Offset of the first one.
    at: usize,
    /// `None`: free-format, whose frames do not tell their length.
    container: Option<Container>,
}

/// Finds the first place from which frame headers follow one another.
fn find_frames(head: &[u8]) -> Option<Frames> {
    (0..head.len().saturating_sub(3)).find_map(|at| {
        if head[at] != 0xFF {
            return None;
        }
        let run = |len_of: fn(&[u8]) -> Option<usize>| {
            // At the very start one frame up to the end is enough (a file of a single frame); after junk, chance
            // has to be ruled out: three headers.
            let mut next = at;
            for n_frames in 0..3 {
                match len_of(&head[next..]) {
                    Some(len) if next + len + 4 <= head.len() => next += len,
                    Some(len) => {
                        return (at == 0 && (n_frames > 0 || next + len == head.len()))
                            || n_frames > 1;
                    }
                    None => return false,
                }
            }
            true
        };
        if at == 0 && is_free_format(head) && !run(mpeg_frame_len) {
            return Some(Frames {
                at,
                container: None,
            });
        }
        let container = if run(mpeg_frame_len) {
            Container::Mpeg
        } else if run(adts_frame_len) {
            Container::Adts
        } else {
            return None;
        };
        Some(Frames {
            at,
            container: Some(container),
        })
    })
}

/// An MPEG layer III header with bit-rate index 0.
fn is_free_format(head: &[u8]) -> bool {
    matches!(head, [0xFF, b1, b2, _, ..] if matches!(b1 & 0xFE, 0xFA | 0xF2 | 0xE2) && b2 >> 4 == 0 && b2 & 0x0C != 0x0C)
}

/// Bytes in the MPEG audio frame whose header is at the start (ISO 11172-3 section 2.4.2.3).
fn mpeg_frame_len(bytes: &[u8]) -> Option<usize> {
    const KBIT: [[usize; 15]; 5] = [
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
    let [sync, b1, b2, ..] = *bytes.first_chunk::<4>()?;
    let (version, layer) = (b1 >> 3 & 3, b1 >> 1 & 3);
    let (index, rate_index) = (usize::from(b2 >> 4), usize::from(b2 >> 2 & 3));
    if sync != 0xFF
        || b1 & 0xE0 != 0xE0
        || version == 1
        || layer == 0
        || index == 0
        || index == 15
        || rate_index == 3
    {
        return None;
    }
    let mpeg1 = version == 3;
    let rate = [44_100, 48_000, 32_000][rate_index] >> [2, 0, 1, 0][usize::from(version)];
    let table = match (mpeg1, layer) {
        (true, 3) => 0,
        (true, 2) => 1,
        (true, _) => 2,
        (false, 3) => 3,
        (false, _) => 4,
    };
    let bits = KBIT[table][index] * 1000;
    let padding = usize::from(b2 >> 1 & 1);
    Some(match layer {
        3 => (12 * bits / rate + padding) * 4,
        1 if !mpeg1 => 72 * bits / rate + padding,
        _ => 144 * bits / rate + padding,
    })
}

/// Bytes in the ADTS frame whose header is at the start (ISO 13818-7 section 6.2).
fn adts_frame_len(bytes: &[u8]) -> Option<usize> {
    let [sync, b1, b2, b3, b4, b5] = *bytes.first_chunk::<6>()?;
    let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    (sync == 0xFF && b1 & 0xF6 == 0xF0 && b2 >> 2 & 15 < 13 && len > 7).then_some(len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::audio::source::Source;

    fn sniff_bytes(bytes: &[u8]) -> Result<Format, String> {
        sniff(&mut Source::Bytes(bytes.into()).open().unwrap()).map_err(|failure| match failure {
            Failure::Audio(reason) => reason,
            Failure::Read(error) => error.to_string(),
        })
    }

    #[test]
    fn what_is_no_audio_is_named() {
        let zip = b"PK\x03\x04rest";
        for (bytes, expected) in [
            (&b""[..], "empty file"),
            (b"\xFF\xD8\xFF\xE0\0\x10JFIF", "not audio (looks like JPEG)"),
            (b"\x89PNG\r\n\x1A\n", "not audio (looks like PNG)"),
            (b"%PDF-1.7", "not audio (looks like PDF)"),
            (b"  <!DOCTYPE HTML>", "not audio (looks like HTML)"),
            (b"hello, world\n", "not audio (looks like text)"),
            (zip, "not audio (looks like a ZIP archive)"),
            (
                &[0; 100_000],
                "not audio (no header of a known format; raw samples need one)",
            ),
            (
                b"#!AMR\n",
                "AMR is not built in; convert it first, e.g. with ffmpeg",
            ),
        ] {
            assert_eq!(sniff_bytes(bytes).unwrap_err(), expected);
        }
    }

    #[test]
    fn every_prefix_of_every_magic_is_survived() {
        for magic in [
            &b"RIFF\0\0\0\0WAVE"[..],
            b"ID3\x04\0\0\0\0\0\x01x",
            b"OggS\0",
            b"\xFF\xFB\x90\0",
            b"FORM\0\0\0\0AIFF",
        ] {
            for len in 0..=magic.len() {
                let _ = sniff_bytes(&magic[..len]);
            }
        }
    }

    #[test]
    fn nested_tags_are_skipped_and_a_flood_of_them_is_refused() {
        let tag = b"ID3\x04\0\0\0\0\0\x01x";
        let mut bytes = tag.repeat(MAX_TAGS);
        bytes.extend_from_slice(b"fLaC");
        assert_eq!(
            sniff_bytes(&bytes).unwrap(),
            Format::Symphonia(Container::Flac)
        );
        assert!(
            sniff_bytes(&tag.repeat(MAX_TAGS + 1))
                .unwrap_err()
                .contains("nothing but ID3 tags")
        );
    }
}
