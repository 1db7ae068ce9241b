//! Pages of an Ogg file (RFC 3533 section 6): searched, verified and split into packets.

use std::io::{self, Read};
use std::ops::Range;

use super::source::Input;

/// Maximum length of a page in bytes: its header, 255 lacing values, 255 segments of 255 bytes.
const MAX_PAGE: usize = 27 + 255 + 255 * 255;

/// Page of an Ogg file.
pub(super) struct Page {
    /// Serial number of the page's stream.
    pub(super) serial: u32,
    /// Sequence number in that stream.
    pub(super) sequence: u32,
    /// Granule position: samples of the stream up to the end of the last packet that ends in this page; `None` if none
    /// ends.
    pub(super) granule: Option<u64>,
    /// Whether the first packet continues from the previous page.
    pub(super) continued: bool,
    /// Whether the page is the first of its stream.
    pub(super) first: bool,
    /// Whether the page is the last of its stream.
    pub(super) last: bool,
    /// Whether the checksum is correct.
    pub(super) good: bool,
    /// Ranges of the packets' parts; the last one continues on the next page if `unfinished`.
    packets: Vec<Range<usize>>,
    pub(super) unfinished: bool,
    bytes: Vec<u8>,
}

impl Page {
    /// Iterates over the parts of packets in the page, in order.
    pub(super) fn packets(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.packets.iter().map(|range| &self.bytes[range.clone()])
    }

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let lacing = &bytes[27..27 + usize::from(bytes[26])];
        let (mut packets, mut start) = (Vec::new(), 27 + lacing.len());
        let mut end = start;
        for len in lacing {
            end += usize::from(*len);
            if *len < 255 {
                packets.push(start..end);
                start = end;
            }
        }
        let unfinished = lacing.last() == Some(&255);
        if unfinished {
            packets.push(start..end);
        }
        let granule = u64::from(word(10)) << 32 | u64::from(word(6));
        Self {
            serial: word(14),
            sequence: word(18),
            granule: (granule != u64::MAX).then_some(granule),
            continued: bytes[5] & 1 != 0,
            first: bytes[5] & 2 != 0,
            last: bytes[5] & 4 != 0,
            good: crc(bytes) == word(22),
            packets,
            unfinished,
            bytes: bytes.to_vec(),
        }
    }
}

/// Returns the checksum of a page, computed with zeros in the checksum field.
fn crc(page: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut byte) = ([0; 256], 0);
        while byte < 256 {
            let (mut value, mut bit) = ((byte as u32) << 24, 0);
            while bit < 8 {
                value = value << 1 ^ if value >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    let bytes = page[..22].iter().chain(&[0; 4]).chain(&page[26..]);
    bytes.fold(0, |crc, byte| {
        crc << 8 ^ TABLE[usize::from((crc >> 24) as u8 ^ byte)]
    })
}

/// Iterator over pages.
pub(super) struct Pages {
    input: Input,
    buffer: Vec<u8>,
    /// Offset in `buffer` from which the next page is searched.
    at: usize,
    ended: bool,
    /// Whether bytes other than complete pages, tags and zeros were found.
    pub(super) damaged: bool,
}

impl Pages {
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            damaged: false,
        }
    }

    /// Returns the next page, damaged or not; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Page>> {
        let mut n_junk = 0;
        loop {
            self.fill()?;
            let rest = &self.buffer[self.at..];
            if rest.is_empty() {
                // A few bytes that taggers leave after the last page do not count as damage.
                self.damaged |= n_junk > 128;
                return Ok(None);
            }
            let Some(len) = page_len(rest) else {
                n_junk += usize::from(rest[0] != 0);
                self.at += 1;
                continue;
            };
            self.damaged |= n_junk > 0;
            let Some(bytes) = rest.get(..len) else {
                // The file is truncated within a page, or the page declares a wrong length.
                self.damaged = true;
                self.at += 4;
                continue;
            };
            let page = Page::read(bytes);
            // The length of a damaged page may be wrong, too: the search continues after its capture pattern.
            self.at += if page.good { len } else { 4 };
            self.damaged |= !page.good;
            return Ok(Some(page));
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.buffer.len() - self.at >= MAX_PAGE {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let wanted = 2 * MAX_PAGE - self.buffer.len();
        let n = (&mut self.input)
            .take(wanted as u64)
            .read_to_end(&mut self.buffer)?;
        self.ended = n < wanted;
        Ok(())
    }
}

/// Returns the number of bytes in the page at the start of `bytes`, if there is one.
fn page_len(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(b"OggS\0") {
        return None;
    }
    let n_segments = usize::from(*bytes.get(26)?);
    let lacing = bytes.get(27..27 + n_segments)?;
    let body: usize = lacing.iter().map(|len| usize::from(*len)).sum();
    Some(27 + n_segments + body)
}
