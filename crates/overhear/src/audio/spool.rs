//! Temporary storage, without a name in the file system, for data that cannot be read twice.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Complete, unlinked temporary file shared by its readers; it is removed with the last of them.
#[derive(Clone)]
pub(super) struct Spool {
    file: Arc<Mutex<File>>,
    len: u64,
}

impl Spool {
    /// Copies `from` to a temporary file. The outer error is one of reading, the inner one of writing.
    pub(super) fn copy(from: &mut impl Read) -> io::Result<io::Result<Self>> {
        let mut writer = match SpoolWriter::new() {
            Ok(writer) => writer,
            Err(error) => return Ok(Err(error)),
        };
        let mut block = vec![0; 1 << 16];
        loop {
            let n = match from.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if n == 0 {
                return Ok(writer.finish());
            }
            if let Err(error) = writer.write(&block[..n]) {
                return Ok(Err(error));
            }
        }
    }

    /// Returns the file, at its start, for a child process.
    pub(super) fn file(&self) -> io::Result<File> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.rewind()?;
        file.try_clone()
    }

    /// Returns the number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn reader(&self) -> SpoolReader {
        SpoolReader {
            spool: self.clone(),
            at: 0,
        }
    }
}

/// Writer of a [`Spool`].
pub(super) struct SpoolWriter {
    file: BufWriter<File>,
    len: u64,
}

impl SpoolWriter {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(1 << 16, tempfile::tempfile()?),
            len: 0,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Appends 16 kHz samples as little-endian `f32`.
    pub(super) fn write_samples(&mut self, samples: &[f32]) -> io::Result<()> {
        samples
            .iter()
            .try_for_each(|sample| self.write(&sample.to_le_bytes()))
    }

    pub(super) fn finish(self) -> io::Result<Spool> {
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(Spool {
            file: Arc::new(Mutex::new(file)),
            len: self.len,
        })
    }
}

/// One pass over a [`Spool`]; several can be in progress at once.
pub(super) struct SpoolReader {
    spool: Spool,
    at: u64,
}

impl SpoolReader {
    /// Fills the start of `buffer` with the next samples and returns their number; 0 at the end.
    pub(super) fn read_samples(&mut self, buffer: &mut [f32]) -> io::Result<usize> {
        let wanted = buffer.len().min(1 << 14);
        let mut bytes = Vec::with_capacity(4 * wanted);
        self.take(4 * wanted as u64).read_to_end(&mut bytes)?;
        let (samples, _) = bytes.as_chunks::<4>();
        for (to, from) in buffer.iter_mut().zip(samples) {
            *to = f32::from_le_bytes(*from);
        }
        Ok(samples.len())
    }
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The file's own position is shared, so each read sets it first, under the lock.
        let mut file = self
            .spool
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.at))?;
        let n = file.read(buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.spool.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_readers_of_a_spool_do_not_disturb_each_other() {
        let mut writer = SpoolWriter::new().unwrap();
        let samples: Vec<f32> = (0..40_000).map(|i| i as f32).collect();
        writer.write_samples(&samples).unwrap();
        let spool = writer.finish().unwrap();
        let (mut one, mut two) = (spool.reader(), spool.reader());
        let mut buffer = vec![0.0; 1000];
        for block in 0..40 {
            assert_eq!(one.read_samples(&mut buffer).unwrap(), 1000);
            assert_eq!(buffer, samples[block * 1000..][..1000]);
            assert_eq!(two.read_samples(&mut buffer[..500]).unwrap(), 500);
            assert_eq!(buffer[..500], samples[block * 500..][..500]);
        }
        assert_eq!(one.read_samples(&mut buffer).unwrap(), 0);
    }
}
