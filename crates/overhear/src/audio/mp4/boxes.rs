//! The boxes ("atoms" in QuickTime) that an MP4 file consists of: ISO 14496-12 section 4.2.

use std::io::{self, Read, Seek, SeekFrom};

use super::super::source::Input;

/// Box: its name and the position of its content in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxAt {
    pub(super) name: [u8; 4],
    /// Offset of the header.
    pub(super) start: u64,
    /// Offset of the content.
    pub(super) body: u64,
    /// Offset of the end of the content; beyond the end of the parent if the declared size is wrong.
    pub(super) end: u64,
}

/// Reads the box header at offset `at`, in a parent that ends at `end`. `None`: no box fits there.
pub(super) fn box_at(input: &mut Input, at: u64, end: u64) -> io::Result<Option<BoxAt>> {
    if at.saturating_add(8) > end {
        return Ok(None);
    }
    let mut header = [0; 16];
    let n = read_at(input, at, &mut header)?;
    let [s0, s1, s2, s3, n0, n1, n2, n3, long @ ..] = header;
    let (size, header_len) = match u32::from_be_bytes([s0, s1, s2, s3]) {
        0 => (end - at, 8),
        1 => (u64::from_be_bytes(long), 16),
        size => (u64::from(size), 8),
    };
    if n < header_len || size < header_len as u64 {
        return Ok(None);
    }
    Ok(at.checked_add(size).map(|end| BoxAt {
        name: [n0, n1, n2, n3],
        start: at,
        body: at + header_len as u64,
        end,
    }))
}

/// Iterates over the child boxes of a content in memory, as name and content; a truncated box ends the iteration.
pub(super) fn boxes_in(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let ([s0, s1, s2, s3, name @ ..], _) = bytes.split_first_chunk::<8>()?;
        let len = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        let body = bytes.get(8..len)?;
        bytes = &bytes[len..];
        Some((*name, body))
    })
}

/// Returns the content of the first box called `name` in `bytes`.
pub(super) fn find<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes_in(bytes).find_map(|(found, body)| (&found == name).then_some(body))
}

/// Reads from offset `at` until `buffer` is full or the file ends; returns the number of bytes.
pub(super) fn read_at(input: &mut Input, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    input.seek(SeekFrom::Start(at))?;
    let mut n = 0;
    while n < buffer.len() {
        match input.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

/// Reads the bytes from `start` to `end`, at most `max` and none after the end of the file.
pub(super) fn read_range(
    input: &mut Input,
    start: u64,
    end: u64,
    max: usize,
) -> io::Result<Vec<u8>> {
    let there = input.len().unwrap_or(0).min(end).saturating_sub(start);
    let mut bytes = vec![0; usize::try_from(there).unwrap_or(max).min(max)];
    let n = read_at(input, start, &mut bytes)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Reads the big-endian 32-bit number at offset `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the big-endian 64-bit number at offset `at`.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the big-endian 16-bit number at offset `at`.
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
