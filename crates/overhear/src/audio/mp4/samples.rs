//! Locations of the samples of a track, from the tables of its `stbl`: ISO 14496-12 sections 8.6.1 and 8.7.
//!
//! A day of audio has millions of samples. The tables are read in parallel, a few entries at a time, so that they take
//! no memory and nothing is read for parts that are not played.

use std::io;

use super::super::source::Input;
use super::boxes::{BoxAt, long, read_at, read_range, word};

/// Number of bytes of a table read at a time.
const BUFFER_LEN: usize = 4096;

/// One sample (a packet of a codec), or a run of uncompressed frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Offset in the file.
    pub(super) at: u64,
    pub(super) len: u64,
    /// Start time, in ticks from the start of the track's media.
    pub(super) start: u64,
    pub(super) duration: u64,
}

/// Iterator over the entries of a table.
struct Table {
    /// Offset of the next entry that is not in `buffer`.
    at: u64,
    n_left: u32,
    entry_len: usize,
    buffer: Vec<u8>,
    used: usize,
}

impl Table {
    /// Creates an iterator over the table `found`, whose entries of `entry_len` bytes follow the count at `count_at` of
    /// its content.
    fn new(input: &mut Input, found: BoxAt, count_at: usize, entry_len: usize) -> io::Result<Self> {
        let head = read_range(input, found.body, found.end, count_at + 4)?;
        let at = found.body + count_at as u64 + 4;
        let n_fit = found.end.saturating_sub(at) / entry_len as u64;
        let n = word(&head, count_at).unwrap_or(0);
        Ok(Self {
            at,
            n_left: n.min(u32::try_from(n_fit).unwrap_or(u32::MAX)),
            entry_len,
            buffer: Vec::new(),
            used: 0,
        })
    }

    fn next(&mut self, input: &mut Input) -> io::Result<Option<&[u8]>> {
        if self.n_left == 0 {
            return Ok(None);
        }
        if self.used + self.entry_len > self.buffer.len() {
            let n = (BUFFER_LEN / self.entry_len).min(self.n_left as usize);
            self.buffer.resize(n * self.entry_len, 0);
            let n_read = read_at(input, self.at, &mut self.buffer)?;
            self.buffer
                .truncate(n_read / self.entry_len * self.entry_len);
            self.at += self.buffer.len() as u64;
            self.used = 0;
            if self.buffer.is_empty() {
                self.n_left = 0;
                return Ok(None);
            }
        }
        self.n_left -= 1;
        self.used += self.entry_len;
        Ok(Some(&self.buffer[self.used - self.entry_len..self.used]))
    }
}

/// Sample sizes.
enum Sizes {
    /// One size for all samples, and the number of samples left.
    Same(u32, u32),
    Each(Table),
}

/// Iterator over the samples of a track.
pub(super) struct Samples {
    times: Table,
    /// Number of samples left of the current `stts` entry, and their duration in ticks.
    time: (u32, u32),
    chunk_runs: Table,
    /// Samples per chunk, and the next `stsc` entry: its first chunk and samples per chunk.
    per_chunk: u32,
    run: Option<(u32, u32)>,
    sizes: Sizes,
    offsets: Table,
    /// Number of the next chunk, counted from 1.
    chunk: u32,
    /// Samples left in this chunk, and the offset of the next one.
    n_left: u32,
    at: u64,
    /// Start time of the next sample, in ticks.
    pub(super) start: u64,
    /// For uncompressed samples: bytes per frame, and the maximum number of frames in a run.
    plain: Option<(u64, u32)>,
}

impl Samples {
    /// Opens the samples of the four `tables` of a track, as runs of frames if they are `plain`. `None`: a table is
    /// missing.
    pub(super) fn open(
        input: &mut Input,
        tables: &[Option<BoxAt>; 4],
        plain: Option<(u64, u32)>,
    ) -> io::Result<Option<Self>> {
        let [Some(times), Some(chunk_runs), Some(sizes), Some(offsets)] = *tables else {
            return Ok(None);
        };
        let head = read_range(input, sizes.body, sizes.end, 12)?;
        let (same, n) = (word(&head, 4).unwrap_or(0), word(&head, 8).unwrap_or(0));
        let sizes = match &sizes.name {
            b"stsz" if same > 0 => Sizes::Same(same, n),
            b"stsz" => Sizes::Each(Table::new(input, sizes, 8, 4)?),
            // Compact sizes (`stz2`) of 16 or 8 bits; no known writer uses those of 4.
            _ if same == 16 => Sizes::Each(Table::new(input, sizes, 8, 2)?),
            _ => Sizes::Each(Table::new(input, sizes, 8, 1)?),
        };
        let offset_len = if &offsets.name == b"co64" { 8 } else { 4 };
        let mut samples = Self {
            times: Table::new(input, times, 4, 8)?,
            time: (0, 0),
            chunk_runs: Table::new(input, chunk_runs, 4, 12)?,
            per_chunk: 0,
            run: None,
            sizes,
            offsets: Table::new(input, offsets, 4, offset_len)?,
            chunk: 0,
            n_left: 0,
            at: 0,
            start: 0,
            plain,
        };
        samples.run = samples.next_run(input)?;
        Ok(Some(samples))
    }

    /// Returns the next sample; `None` after the last one.
    pub(super) fn next(&mut self, input: &mut Input) -> io::Result<Option<Sample>> {
        while self.n_left == 0 {
            if !self.next_chunk(input)? {
                return Ok(None);
            }
        }
        let n = match self.plain {
            Some((_, n_max)) => self.n_left.min(n_max),
            None => 1,
        };
        let Some(len) = self.size(input, n)? else {
            return Ok(None);
        };
        let duration = self.duration(input, n)?;
        let sample = Sample {
            at: self.at,
            len,
            start: self.start,
            duration,
        };
        self.n_left -= n;
        self.at = self.at.saturating_add(len);
        self.start = self.start.saturating_add(duration);
        Ok(Some(sample))
    }

    /// Returns the total size of the next `n` samples in bytes.
    fn size(&mut self, input: &mut Input, n: u32) -> io::Result<Option<u64>> {
        if let Some((frame_len, _)) = self.plain {
            return Ok(Some(frame_len * u64::from(n)));
        }
        Ok(match &mut self.sizes {
            Sizes::Same(_, 0) => None,
            Sizes::Same(size, left) => {
                *left -= 1;
                Some(u64::from(*size))
            }
            Sizes::Each(table) => table.next(input)?.map(|entry| {
                entry
                    .iter()
                    .fold(0, |size, byte| size << 8 | u64::from(*byte))
            }),
        })
    }

    /// Returns the total duration of the next `n` samples in ticks. The last entry's duration is repeated if the table
    /// is too short.
    fn duration(&mut self, input: &mut Input, mut n: u32) -> io::Result<u64> {
        let mut ticks = 0;
        while n > 0 {
            if self.time.0 == 0 {
                let Some(entry) = self.times.next(input)? else {
                    return Ok(ticks + u64::from(n) * u64::from(self.time.1));
                };
                self.time = (word(entry, 0).unwrap_or(0), word(entry, 4).unwrap_or(0));
                continue;
            }
            let now = n.min(self.time.0);
            ticks += u64::from(now) * u64::from(self.time.1);
            self.time.0 -= now;
            n -= now;
        }
        Ok(ticks)
    }

    fn next_chunk(&mut self, input: &mut Input) -> io::Result<bool> {
        let Some(entry) = self.offsets.next(input)? else {
            return Ok(false);
        };
        self.at = long(entry, 0)
            .or_else(|| word(entry, 0).map(u64::from))
            .unwrap_or(0);
        self.chunk = self.chunk.saturating_add(1);
        while let Some((first, per_chunk)) = self.run
            && first <= self.chunk
        {
            self.per_chunk = per_chunk;
            self.run = self.next_run(input)?;
        }
        self.n_left = self.per_chunk;
        Ok(true)
    }

    fn next_run(&mut self, input: &mut Input) -> io::Result<Option<(u32, u32)>> {
        let entry = self.chunk_runs.next(input)?;
        Ok(entry.and_then(|entry| Some((word(entry, 0)?, word(entry, 4)?))))
    }
}
