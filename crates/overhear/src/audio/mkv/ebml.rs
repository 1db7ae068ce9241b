//! EBML, the binary tree format of Matroska: RFC 8794. Read strictly forwards, so that a pipe can be read.

use std::io::{self, Read, Seek, SeekFrom};

use super::super::source::Input;

/// Number of bytes read at a time.
const BUFFER_LEN: usize = 1 << 16;

/// Element header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Element ID with its length marker, as in the specification.
    pub(super) id: u32,
    /// Size of the content in bytes; `None`: unknown, the element ends before the first element that cannot be its
    /// child.
    pub(super) len: Option<u64>,
}

/// Buffered reader that tracks its offset in the file.
pub(super) struct Reader {
    input: Input,
    buffer: Vec<u8>,
    used: usize,
    /// Offset of the next byte.
    pub(super) position: u64,
}

impl Reader {
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            used: 0,
            position: 0,
        }
    }

    /// Returns the number of bytes in the file, if known.
    pub(super) fn len(&self) -> Option<u64> {
        self.input.len()
    }

    /// Returns the bytes in memory from the current offset on: at least `n`, unless the file ends before.
    fn ahead(&mut self, n: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.used < n {
            self.buffer.drain(..self.used);
            self.used = 0;
            let missing = n.max(BUFFER_LEN) - self.buffer.len();
            self.input
                .by_ref()
                .take(missing as u64)
                .read_to_end(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.used..])
    }

    fn advance(&mut self, n: usize) {
        self.used += n;
        self.position += n as u64;
    }

    /// Skips `n` bytes. Returns false if the file ends before.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<bool> {
        let in_memory = (self.buffer.len() - self.used) as u64;
        if n <= in_memory {
            self.advance(n as usize);
            return Ok(true);
        }
        self.buffer.clear();
        self.used = 0;
        let n_beyond = n - in_memory;
        self.position += in_memory;
        let passed = match self.input.len() {
            Some(len) if self.input.is_seekable() => {
                let to = self.position.saturating_add(n_beyond).min(len);
                self.input.seek(SeekFrom::Start(to))?;
                to - self.position
            }
            _ => io::copy(&mut self.input.by_ref().take(n_beyond), &mut io::sink())?,
        };
        self.position += passed;
        Ok(passed == n_beyond)
    }

    /// Reads `n` bytes, or fewer at the end of the file.
    pub(super) fn read(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let ahead = self.ahead(n)?;
        let bytes = ahead[..n.min(ahead.len())].to_vec();
        self.advance(bytes.len());
        Ok(bytes)
    }

    /// Reads the header of the next element; `None`, without consuming anything, if there is no valid one.
    pub(super) fn element(&mut self) -> io::Result<Option<Element>> {
        Ok(match element(self.ahead(12)?) {
            Some((element, header_len)) => {
                self.advance(header_len);
                Some(element)
            }
            None => None,
        })
    }

    /// Advances by at least `least` bytes to the next offset at which `is_hit` accepts the bytes in memory, of which it is
    /// given at least 32 kB unless the file ends before. Returns whether there is one, the file having been read to its
    /// end otherwise, and whether only zeros were skipped.
    pub(super) fn search(
        &mut self,
        least: usize,
        is_hit: impl Fn(&[u8]) -> bool,
    ) -> io::Result<(bool, bool)> {
        let (mut all_zero, mut first) = (true, least);
        loop {
            let ahead = self.ahead(BUFFER_LEN)?;
            let is_end = ahead.len() < BUFFER_LEN;
            let n_looked = if is_end { ahead.len() } else { BUFFER_LEN / 2 };
            let hit = (first..n_looked).find(|at| is_hit(&ahead[*at..]));
            first = 0;
            let n = hit.unwrap_or(n_looked);
            all_zero &= ahead[..n].iter().all(|byte| *byte == 0);
            self.advance(n);
            if hit.is_some() || is_end {
                return Ok((hit.is_some(), all_zero));
            }
        }
    }

    /// Returns whether the file ends at the current offset.
    pub(super) fn is_end(&mut self) -> io::Result<bool> {
        Ok(self.ahead(1)?.is_empty())
    }
}

/// Parses the element header at the start of `bytes`; returns it with its length.
pub(super) fn element(bytes: &[u8]) -> Option<(Element, usize)> {
    let n_id = bytes.first()?.leading_zeros() as usize + 1;
    let id = bytes.get(..n_id).filter(|_| n_id <= 4)?;
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let (len, n_len) = number(&bytes[n_id..])?;
    Some((Element { id, len }, n_id + n_len))
}

/// Parses the variable-size integer at the start of `bytes` (RFC 8794 section 4); returns it (`None` if it is the
/// reserved "unknown" value) with its length.
pub(super) fn number(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let n = bytes.first()?.leading_zeros() as usize + 1;
    let bytes = bytes.get(..n).filter(|_| n <= 8)?;
    let value = bytes
        .iter()
        .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let mask = (1 << (7 * n)) - 1;
    let value = value & mask;
    Some(((value != mask).then_some(value), n))
}

/// Iterates over the child elements of a content in memory, as ID and content; a truncated one is the last.
pub(super) fn elements_in(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let (element, header_len) = element(bytes)?;
        let rest = &bytes[header_len..];
        let len = element
            .len
            .and_then(|len| usize::try_from(len).ok())
            .map_or(rest.len(), |len| len.min(rest.len()));
        let (body, next) = rest.split_at(len);
        bytes = next;
        Some((element.id, body))
    })
}

/// Reads an unsigned integer of any length.
pub(super) fn unsigned(body: &[u8]) -> u64 {
    body.iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Reads a signed integer of any length.
pub(super) fn signed(body: &[u8]) -> i64 {
    let start = match body.first() {
        Some(byte) if byte & 0x80 != 0 => -1,
        _ => 0,
    };
    body.iter()
        .fold(start, |value, byte| value << 8 | i64::from(*byte))
}

/// Reads a float of four or eight bytes; 0 for any other length.
pub(super) fn float(body: &[u8]) -> f64 {
    match body.len() {
        4 => body
            .first_chunk()
            .map_or(0.0, |bytes| f64::from(f32::from_be_bytes(*bytes))),
        8 => body
            .first_chunk()
            .map_or(0.0, |bytes| f64::from_be_bytes(*bytes)),
        _ => 0.0,
    }
}

/// Reads a string, which may be padded with zeros.
pub(super) fn text(body: &[u8]) -> String {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read() {
        assert_eq!(number(&[0x81]), Some((Some(1), 1)));
        assert_eq!(number(&[0xFF]), Some((None, 1)));
        assert_eq!(number(&[0x40, 0x02]), Some((Some(2), 2)));
        assert_eq!(number(&[0x01, 0, 0, 0, 0, 0, 0, 5]), Some((Some(5), 8)));
        assert_eq!(
            number(&[1, 255, 255, 255, 255, 255, 255, 255]),
            Some((None, 8))
        );
        assert_eq!(number(&[0x40]), None);
        assert_eq!(number(&[0; 9]), None);
        assert_eq!((unsigned(&[1, 0]), unsigned(&[])), (256, 0));
        assert_eq!((signed(&[0xFF]), signed(&[0, 0xFF])), (-1, 255));
        assert_eq!((float(&1.5_f32.to_be_bytes()), float(&[1])), (1.5, 0.0));
    }

    #[test]
    fn what_is_searched_for_is_found_across_buffers() {
        let source = |at: usize| {
            let mut bytes = vec![7; at];
            bytes.extend([0x1F, 0x43, 0xB6, 0x75, 0x81]);
            super::super::super::source::Source::Bytes(bytes.into())
                .open()
                .unwrap()
        };
        for at in [
            0,
            1,
            BUFFER_LEN - 3,
            BUFFER_LEN - 1,
            BUFFER_LEN,
            3 * BUFFER_LEN + 5,
        ] {
            let mut reader = Reader::new(source(at));
            let is_cluster = |bytes: &[u8]| bytes.starts_with(&[0x1F, 0x43, 0xB6, 0x75]);
            assert_eq!(reader.search(0, is_cluster).unwrap(), (true, at == 0));
            assert_eq!(reader.position, at as u64);
            let expected = Element {
                id: 0x1F43_B675,
                len: Some(1),
            };
            assert_eq!(reader.element().unwrap(), Some(expected));
            assert!(reader.is_end().unwrap());
        }
    }
}
