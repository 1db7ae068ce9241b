//! The boxes ("atoms" in QuickTime) that an MP4 file consists of: ISO 14496-12 section 4.2.

use std::io::{self, Read, Seek, SeekFrom};

use super::super::source::Input;

/// A box: a name and where its content lies in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxAt {
    pub(super) name: [u8; 4],
    /// Offset of the header.
    pub(super) start: u64,
    /// Offset of the content.
    pub(super) body: u64,
    /// Where the content ends; behind the end of what is around the box if its size is wrong.
    pub(super) end: u64,
}

/// Reads the header of the box at `at`, in something that ends at `end`. `None`: no box can be there.
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

/// The boxes in the content of another one that was read into memory, name and content of each; a box that is cut ends
/// the list.
pub(super) fn boxes_in(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let ([s0, s1, s2, s3, name @ ..], _) = bytes.split_first_chunk::<8>()?;
        let len = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        let body = bytes.get(8..len)?;
        bytes = &bytes[len..];
        Some((*name, body))
    })
}

/// The content of the first box called `name` among those in `bytes`.
pub(super) fn find<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes_in(bytes).find_map(|(found, body)| (&found == name).then_some(body))
}

/// Reads `buffer` full from offset `at`, or less at the end of the file.
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

/// Reads the bytes from `start` to `end`, at most `max` of them and none behind the end of the file.
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

/// The big-endian number in the four bytes of `bytes` from `at` on.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The big-endian number in the eight bytes of `bytes` from `at` on.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The big-endian number in the two bytes of `bytes` from `at` on.
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
