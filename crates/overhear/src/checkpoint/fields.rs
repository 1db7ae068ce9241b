//! Reader of binary model files: little-endian fields, one after the other. Nothing is allocated for a size that the file does
//! not have.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use super::cursor::little_endian;

/// Result of reading a part of a file, or the reason why it is damaged.
pub(super) type Parsed<T> = Result<T, String>;

/// Reader of a file's fields.
pub(super) struct Fields {
    file: BufReader<File>,
    position: u64,
    len: u64,
}

/// Opens a file; returns its size, too.
pub(super) fn open_file(path: &Path) -> Parsed<(File, u64)> {
    // Checked before opening, which would block on a FIFO.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("not a file".to_owned());
    }
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    Ok((file, len))
}

/// Returns the first `N` bytes of the file at `path`; `None` if it is no file, has fewer or cannot be read.
pub(super) fn start_of<const N: usize>(path: &Path) -> Option<[u8; N]> {
    let mut start = [0; N];
    let (mut file, _) = open_file(path).ok()?;
    file.read_exact(&mut start).ok()?;
    Some(start)
}

/// Returns the reason why a file cannot be read.
pub(super) fn unreadable(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "became shorter while it was read".to_owned(),
        _ => format!("cannot read: {error}"),
    }
}

impl Fields {
    /// Opens a file; returns it for reading at positions, too.
    pub(super) fn open(path: &Path) -> Parsed<(Self, File)> {
        let (file, len) = open_file(path)?;
        let fields = Self {
            file: BufReader::new(file.try_clone().map_err(unreadable)?),
            position: 0,
            len,
        };
        Ok((fields, file))
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.len
    }

    /// Reads an unsigned number of `N` bytes.
    pub(super) fn number<const N: usize>(&mut self) -> Parsed<u64> {
        Ok(little_endian(&self.bytes(N)?))
    }

    /// Reads a signed number of 4 bytes that is not negative.
    pub(super) fn size(&mut self) -> Parsed<usize> {
        let at = self.position;
        let number = self.number::<4>()? as u32 as i32;
        usize::try_from(number).map_err(|_| format!("{number} at byte {at}"))
    }

    /// Reads `n` bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Parsed<Vec<u8>> {
        self.advance(n as u64)?;
        let mut bytes = vec![0; n];
        self.file.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    /// Skips `n` bytes.
    pub(super) fn skip(&mut self, n: u64) -> Parsed<()> {
        self.advance(n)?;
        // The file has as many bytes, which fit.
        let seek = self.file.seek_relative(n as i64);
        seek.map_err(unreadable)
    }

    /// Advances the position, if the file has as many bytes.
    fn advance(&mut self, n: u64) -> Parsed<()> {
        match self.position.checked_add(n).filter(|&end| end <= self.len) {
            Some(end) => {
                self.position = end;
                Ok(())
            }
            None => Err(format!(
                "file is {} bytes, needs {}",
                self.len,
                u128::from(self.position) + u128::from(n)
            )),
        }
    }
}
