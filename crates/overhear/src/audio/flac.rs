//! FLAC files, including several concatenated streams, with tags between and after them.
//!
//! Symphonia reads one stream, up to the end of its input, and finds the end of a frame by the start of the next one.
//! So each stream is given to it separately, without the bytes that follow.

use std::io::{self, Read, Seek};
use std::sync::{Arc, Mutex, PoisonError};

use ::symphonia::core::io::MediaSource;

use super::decode::{Attempt, Block, Decode};
use super::sniff::{id3_len, is_flac};
use super::source::Input;
use super::symphonia::{self, Container};

/// Number of bytes held back, as they may belong to a tag at the end of the file (32 kB at most, except for pictures).
const HELD: usize = 1 << 16;

/// Opens a decoder of `input`, which begins with a FLAC stream.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    let parts = Parts(Arc::new(Mutex::new(Joined {
        input,
        buffer: Vec::new(),
        at: 0,
        ended: false,
        begun: false,
    })));
    let part = symphonia::open(Container::Flac, Box::new(parts.clone()))?;
    Ok(Box::new(FlacDecoder {
        parts,
        part: Some(part),
        damaged: false,
    }))
}

struct FlacDecoder {
    parts: Parts,
    /// Decoder of the current stream; `None` if the stream is unusable.
    part: Option<Box<dyn Decode>>,
    damaged: bool,
}

impl Decode for FlacDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        loop {
            if let Some(part) = &mut self.part
                && part.next(block)?
            {
                return Ok(true);
            }
            self.damaged = self.damaged();
            if !self.parts.joined().next_part()? {
                return Ok(false);
            }
            let source = Box::new(self.parts.clone());
            self.part = symphonia::open(Container::Flac, source).ok();
            self.damaged |= self.part.is_none();
        }
    }

    fn damaged(&self) -> bool {
        self.damaged || self.part.as_ref().is_some_and(|part| part.damaged())
    }
}

/// The input, shared by the decoders of successive streams.
#[derive(Clone)]
struct Parts(Arc<Mutex<Joined>>);

impl Parts {
    fn joined(&self) -> std::sync::MutexGuard<'_, Joined> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Parts {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.joined().read(out)
    }
}

impl Seek for Parts {
    fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::NotSeekable.into())
    }
}

impl MediaSource for Parts {
    fn is_seekable(&self) -> bool {
        false
    }

    fn byte_len(&self) -> Option<u64> {
        None
    }
}

struct Joined {
    input: Input,
    /// Bytes read ahead.
    buffer: Vec<u8>,
    at: usize,
    /// Whether `buffer` ends where the last stream does.
    ended: bool,
    /// Whether the first byte of the stream was read.
    begun: bool,
}

impl Joined {
    /// Reads the next bytes of the stream; 0 at its end.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let rest = &self.buffer[self.at..];
        let free = if self.ended {
            rest.len()
        } else {
            rest.len().saturating_sub(HELD)
        };
        // The start marker at the first byte is the stream's own, not that of a next stream.
        let from = usize::from(!self.begun).min(rest.len());
        let seen = free.min(from.max(out.len()));
        let end = (from..seen).find(|at| is_start(&rest[*at..]));
        let n = end.unwrap_or(seen).min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        self.begun |= n > 0;
        Ok(n)
    }

    /// Advances to the next stream. Returns false if there is none.
    fn next_part(&mut self) -> io::Result<bool> {
        self.fill()?;
        // A decoder that stopped with an error may have left part of its stream unread.
        while self.at < self.buffer.len() && !is_start(&self.buffer[self.at..]) {
            self.at += 1;
            self.fill()?;
        }
        if self.buffer[self.at..].starts_with(b"TAG") {
            self.at += 128.min(self.buffer.len() - self.at);
            self.fill()?;
        }
        while let Some(len) = id3_len(&self.buffer[self.at..]) {
            let there = (self.buffer.len() - self.at) as u64;
            self.at += len.min(there) as usize;
            if len > there && !self.ended {
                io::copy(&mut (&mut self.input).take(len - there), &mut io::sink())?;
            }
            self.fill()?;
        }
        self.begun = false;
        Ok(self.at < self.buffer.len())
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.buffer.len() - self.at > HELD {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let wanted = 4 * HELD - self.buffer.len();
        let n = (&mut self.input)
            .take(wanted as u64)
            .read_to_end(&mut self.buffer)?;
        if n < wanted {
            self.ended = true;
            drop_tags(&mut self.buffer);
        }
        Ok(())
    }
}

/// Returns whether `bytes` begin with another stream: its marker, or a tag in front of it.
fn is_start(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(b'f') => is_flac(bytes),
        Some(b'T') => bytes.starts_with(b"TAG") && bytes.get(128..).is_some_and(is_start),
        Some(b'I') => {
            matches!(bytes, [_, _, _, 2..=4, 0, flags, ..] if flags & 0x0F == 0)
                && id3_len(bytes).is_some()
        }
        _ => false,
    }
}

/// Removes ID3v1 and APEv2 tags at the end.
fn drop_tags(bytes: &mut Vec<u8>) {
    let n = bytes.len();
    if n >= 128 && bytes[n - 128..].starts_with(b"TAG") {
        bytes.truncate(n - 128);
    }
    let Some(footer) = bytes.last_chunk::<32>() else {
        return;
    };
    if footer.starts_with(b"APETAGEX") {
        let size = u32::from_le_bytes([footer[12], footer[13], footer[14], footer[15]]) as usize;
        let header = if footer[23] & 0x80 == 0 { 0 } else { 32 };
        bytes.truncate(bytes.len().saturating_sub(size.saturating_add(header)));
    }
}
