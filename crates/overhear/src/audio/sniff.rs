//! Recognises the format of a file by its first bytes. Names and extensions are not used.

use super::decode::{Attempt, Failure};
use super::frame_header::{Header, MIN_HEADER};
use super::source::Input;

/// Number of bytes inspected.
const HEAD_LEN: usize = 1 << 16;
/// Number of bytes in which MP3 or AAC frames are searched after bytes that radio recorders leave in front of them, and
/// after a tag that is longer than it declares.
const SEARCH_LEN: usize = 1 << 20;
/// Maximum number of consecutive ID3v2 tags; a file with more is refused.
const MAX_TAGS: usize = 16;

/// Format that can be decoded.
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
    /// NIST SPHERE.
    Sphere,
    /// Raw MPEG audio or ADTS frames.
    Frames,
    /// Ogg.
    Ogg,
    /// Native FLAC.
    Flac,
}

impl Format {
    /// Returns whether decoding has to seek.
    pub(super) fn needs_seeking(self) -> bool {
        matches!(self, Self::Aiff | Self::Caf | Self::Mp4)
    }

    /// Returns whether a file of this format may hold codings that are not built in, which its first bytes do not show.
    pub(super) fn may_hold_other(self) -> bool {
        matches!(self, Self::Caf | Self::Mp4 | Self::Mkv | Self::Ogg)
    }
}

/// Recognises the format and leaves `input` at its first byte, after tags and other leading bytes.
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
        // Refused at this point, as piped input cannot be passed to another decoder later.
        let is_speex = head
            .get(28..)
            .is_some_and(|packet| packet.starts_with(b"Speex   "));
        return match format {
            Format::Ogg if is_speex => Err(not_built_in("Speex")),
            format => Ok(format),
        };
    }
    // The bytes after a tag that is longer than it declares may resemble any format.
    let refusal = known_refusal(&head);
    if n_tags == 0
        && let Some(refusal) = refusal
    {
        return Err(refusal);
    }
    let mut found = find_start(&head);
    if found.is_none() && !is_text(&head) {
        head = input.peek(SEARCH_LEN)?;
        found = find_start(&head);
    }
    match found {
        Some((at, format)) => {
            input.skip(at as u64)?;
            format
        }
        None => Err(refusal.unwrap_or_else(|| {
            Failure::audio(if is_text(&head) {
                "not audio (looks like text)"
            } else if n_tags > 0 {
                "not audio (an ID3 tag, then nothing known)"
            } else {
                "not audio (no header of a known format; raw samples need one)"
            })
        })),
    }
}

/// Creates the error for formats and codecs that exist but are not in this build.
pub(super) fn not_built_in(what: &str) -> Failure {
    Failure::NotBuiltIn(what.to_owned())
}

/// Returns the length of the ID3v2 tag at the start, if there is one (id3.org, ID3v2.4 section 3.1).
pub(super) fn id3_len(head: &[u8]) -> Option<u64> {
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
    if at(0, b"NIST_1A\n") {
        return Some(Format::Sphere);
    }
    if at(0, b"OggS") {
        return Some(Format::Ogg);
    }
    at(0, b"fLaC").then_some(Format::Flac)
}

/// Returns whether the file begins with MP4 boxes. Padding boxes may come first; on their own they are too weak a sign.
fn is_mp4(head: &[u8]) -> bool {
    let mut rest = head;
    while let Some(([s0, s1, s2, s3, name @ ..], _)) = rest.split_first_chunk::<8>() {
        match name {
            b"ftyp" | b"moov" | b"mdat" | b"wide" | b"styp" | b"moof" | b"sidx" => return true,
            b"free" | b"skip" | b"uuid" | b"pnot" => {}
            _ => return false,
        }
        let len = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        // A padding box that ends beyond the inspected bytes is accepted.
        match rest.get(len..) {
            Some(next) if len >= 8 => rest = next,
            _ => return len >= 8,
        }
    }
    rest.len() < head.len()
}

/// Returns the error for formats that are recognised only to be refused with a reason.
fn known_refusal(head: &[u8]) -> Option<Failure> {
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
    ];
    if let Some((_, what)) = NOT_AUDIO.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(Failure::Audio(format!("not audio (looks like {what})")));
    }
    if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        return Some(Failure::audio("not audio (looks like WebP)"));
    }
    let start = head
        .trim_ascii_start()
        .get(..14)
        .unwrap_or_default()
        .to_ascii_lowercase();
    if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") {
        return Some(Failure::audio("not audio (looks like HTML)"));
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
    Some(not_built_in(what))
}

fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => head,
        // The inspected bytes may end inside a character.
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        Err(_) => return false,
    };
    valid
        .iter()
        .all(|byte| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C))
}

/// Finds the first known format after unrelated bytes: frames whose headers follow one another, or FLAC.
fn find_start(head: &[u8]) -> Option<(usize, Attempt<Format>)> {
    if is_free_format(head) && !begins_run(head, 0) {
        return Some((0, Err(not_built_in("free-format MP3"))));
    }
    (0..head.len().saturating_sub(3)).find_map(|at| match head[at] {
        0xFF if begins_run(head, at) => {
            let header = Header::read(&head[at..])?;
            Some((at, header.check().map(|()| Format::Frames)))
        }
        b'f' => is_flac(&head[at..]).then_some((at, Ok(Format::Flac))),
        _ => None,
    })
}

/// Returns whether `bytes` begin with a FLAC stream: its marker and a STREAMINFO block.
pub(super) fn is_flac(bytes: &[u8]) -> bool {
    bytes.starts_with(b"fLaC\0\0\0\x22") || bytes.starts_with(b"fLaC\x80\0\0\x22")
}

/// Returns whether frames of one kind follow one another from offset `at` on. At the very start one frame that ends
/// with the file is enough (a file of a single frame); after unrelated bytes three headers are required, to exclude
/// chance matches.
fn begins_run(head: &[u8], at: usize) -> bool {
    let (mut next, mut first) = (at, None);
    for n_frames in 0..3 {
        let Some(header) = Header::read(&head[next..]) else {
            return at == 0 && n_frames > 0 && next == head.len();
        };
        if !first.get_or_insert(header).continues(&header) {
            return false;
        }
        next += header.len;
        if next + MIN_HEADER > head.len() {
            return (at == 0 && (n_frames > 0 || next == head.len())) || n_frames > 1;
        }
    }
    true
}

/// Returns whether `head` is an MPEG layer III header with bit-rate index 0 (free format).
fn is_free_format(head: &[u8]) -> bool {
    matches!(head, [0xFF, b1, b2, _, ..] if matches!(b1 & 0xFE, 0xFA | 0xF2 | 0xE2) && b2 >> 4 == 0 && b2 & 0x0C != 0x0C)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::audio::source::Source;

    fn sniff_bytes(bytes: &[u8]) -> Result<Format, String> {
        sniff(&mut Source::Bytes(bytes.into()).open().unwrap()).map_err(|failure| {
            let message = failure.named("x").to_string();
            message.trim_start_matches("x: ").to_owned()
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
        assert_eq!(sniff_bytes(&bytes).unwrap(), Format::Flac);
        assert!(
            sniff_bytes(&tag.repeat(MAX_TAGS + 1))
                .unwrap_err()
                .contains("nothing but ID3 tags")
        );
    }
}
