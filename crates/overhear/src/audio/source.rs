//! Sources of encoded bytes, and the one reader type that the sniffer and all decoders read.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use super::spool::Spool;

/// Source that an `Audio` re-opens for every pass.
#[derive(Clone)]
pub(super) enum Source {
    /// A regular file, opened again for each pass: it may have been replaced meanwhile.
    File(PathBuf),
    /// An encoded file in memory.
    Bytes(Arc<[u8]>),
    /// Encoded bytes of a stream whose format needs seeking.
    Spooled(Spool),
    /// Mono samples at `rate`.
    Samples { samples: Arc<[f32]>, rate: u32 },
}

impl Source {
    /// Opens the encoded bytes from the start.
    pub(super) fn open(&self) -> io::Result<Input> {
        match self {
            Self::File(path) => Input::seekable(File::open(path)?),
            Self::Bytes(bytes) => Input::seekable(Cursor::new(Arc::clone(bytes))),
            Self::Spooled(spool) => Input::seekable(spool.reader()),
            Self::Samples { .. } => Input::seekable(Cursor::new([])),
        }
    }
}

trait ReadSeek: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> ReadSeek for T {}

enum Inner {
    Seekable(Box<dyn ReadSeek>),
    Stream(Box<dyn Read + Send + Sync>),
}

/// Encoded bytes: a seekable file, or a stream that can only be peeked at and read forwards.
///
/// Positions are relative to the payload, whose start [`Input::skip`] moves past tags and other leading bytes.
pub(super) struct Input {
    inner: Inner,
    /// Peeked bytes of a stream that were not yet read.
    peeked: Cursor<Vec<u8>>,
    /// Offset of the payload in a seekable source.
    start: u64,
    /// Number of bytes in the payload; `None` for a stream.
    len: Option<u64>,
    /// Whether the payload ends before the source does.
    limited: bool,
}

impl Input {
    fn seekable(mut inner: impl ReadSeek + 'static) -> io::Result<Self> {
        let len = inner.seek(SeekFrom::End(0))?;
        inner.rewind()?;
        Ok(Self {
            inner: Inner::Seekable(Box::new(inner)),
            peeked: Cursor::default(),
            start: 0,
            len: Some(len),
            limited: false,
        })
    }

    pub(super) fn stream(reader: impl Read + Send + Sync + 'static) -> Self {
        Self {
            inner: Inner::Stream(Box::new(reader)),
            peeked: Cursor::default(),
            start: 0,
            len: None,
            limited: false,
        }
    }

    /// Returns whether the source is seekable.
    pub(super) fn is_seekable(&self) -> bool {
        matches!(self.inner, Inner::Seekable(_))
    }

    /// Returns the number of bytes in the payload, if known.
    pub(super) fn len(&self) -> Option<u64> {
        self.len
    }

    /// Ends the payload of a seekable source after `len` bytes.
    #[cfg(feature = "codecs")]
    pub(super) fn limit(&mut self, len: u64) {
        self.limited = self.len.is_some_and(|whole| len < whole);
        self.len = self.len.map(|whole| whole.min(len));
    }

    /// Returns the first `n` bytes of the payload (fewer at its end) without consuming them. Only valid before anything
    /// was read.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::with_capacity(n);
        self.by_ref().take(n as u64).read_to_end(&mut head)?;
        match &mut self.inner {
            Inner::Seekable(inner) => drop(inner.seek(SeekFrom::Start(self.start))?),
            Inner::Stream(_) => {
                let mut rest = head.clone();
                let at = usize::try_from(self.peeked.position()).unwrap_or(usize::MAX);
                rest.extend_from_slice(self.peeked.get_ref().get(at..).unwrap_or_default());
                self.peeked = Cursor::new(rest);
            }
        }
        Ok(head)
    }

    /// Moves the payload's start forward by `n` bytes. Only valid before anything was read.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<()> {
        if let Inner::Seekable(inner) = &mut self.inner {
            let n = n.min(self.len.unwrap_or(0));
            self.start += n;
            self.len = self.len.map(|len| len - n);
            inner.seek(SeekFrom::Start(self.start))?;
        } else {
            io::copy(&mut self.by_ref().take(n), &mut io::sink())?;
        }
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Seekable(inner) if self.limited => {
                let end = self.start + self.len.unwrap_or(u64::MAX);
                let left = end.saturating_sub(inner.stream_position()?);
                inner.take(left).read(buffer)
            }
            Inner::Seekable(inner) => inner.read(buffer),
            Inner::Stream(inner) => match self.peeked.read(buffer)? {
                0 => inner.read(buffer),
                n => Ok(n),
            },
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let Inner::Seekable(inner) = &mut self.inner else {
            return Err(io::Error::from(io::ErrorKind::NotSeekable));
        };
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(self.start.saturating_add(at)),
            SeekFrom::End(by) if self.limited => {
                let end = self.start + self.len.unwrap_or(0);
                let at = end.checked_add_signed(by);
                SeekFrom::Start(at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?)
            }
            other => other,
        };
        inner
            .seek(to)?
            .checked_sub(self.start)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }
}
