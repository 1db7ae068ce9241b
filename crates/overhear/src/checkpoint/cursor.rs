//! Reader of little-endian fields in bytes that are in memory.

use super::fields::Parsed;

/// Bytes, and the position of the next field.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    /// Returns the next `n` bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Parsed<&'a [u8]> {
        let bytes = self.bytes[self.position..].get(..n);
        let bytes = bytes.ok_or_else(|| format!("ends at byte {}", self.bytes.len()))?;
        self.position += n;
        Ok(bytes)
    }

    /// Returns an unsigned number of `N` bytes, at most 8.
    pub(super) fn number<const N: usize>(&mut self) -> Parsed<u64> {
        Ok(little_endian(self.bytes(N)?))
    }

    /// Returns the bytes before the next line feed, and skips that.
    pub(super) fn line(&mut self) -> Parsed<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let n = rest.iter().position(|&byte| byte == b'\n');
        let line = self.bytes(n.unwrap_or(usize::MAX))?;
        self.position += 1;
        Ok(line)
    }
}

/// Returns an unsigned number of at most 8 bytes.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |number, &byte| number << 8 | u64::from(byte))
}
