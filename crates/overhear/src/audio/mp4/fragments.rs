//! Samples of movie fragments (`moof`), as written by browsers, cameras and streaming servers: ISO 14496-12 section
//! 8.8. Fragments are read one at a time, in file order.

use std::collections::VecDeque;
use std::io;

use super::super::source::Input;
use super::boxes::{box_at, boxes_in, find, long, read_at, read_range, word};
use super::movie::FragmentDefaults;
use super::samples::Sample;

/// Maximum number of bytes read of a fragment's header: enough for hours of audio.
const MAX_HEADER: usize = 1 << 23;
/// Number of bytes searched at a time for the next fragment after damage.
const SEARCH_LEN: usize = 1 << 16;

/// Iterator over the samples of one track in the fragments of a file.
pub(super) struct Fragments {
    defaults: FragmentDefaults,
    /// Offset of the next top-level box.
    next_box: u64,
    runs: VecDeque<Run>,
    /// Time of the next sample, in ticks.
    pub(super) start: u64,
    /// Whether bytes were skipped that are no box.
    pub(super) damaged: bool,
}

/// Remaining samples of a `trun`.
struct Run {
    /// Offset of the next sample.
    at: u64,
    n_left: u32,
    duration: u32,
    size: u32,
    /// Flags: which fields each sample has.
    flags: u32,
    /// Remaining fields, starting with those of the next sample.
    fields: VecDeque<u8>,
}

const HAS_DATA_OFFSET: u32 = 1;
const HAS_FIRST_FLAGS: u32 = 4;
const HAS_DURATION: u32 = 0x100;
const HAS_SIZE: u32 = 0x200;
const HAS_FLAGS: u32 = 0x400;
const HAS_COMPOSITION: u32 = 0x800;

impl Fragments {
    /// Creates an iterator over the fragments after offset `from`, the end of the index.
    pub(super) fn new(defaults: FragmentDefaults, from: u64) -> Self {
        Self {
            defaults,
            next_box: from,
            runs: VecDeque::new(),
            start: 0,
            damaged: false,
        }
    }

    /// Returns the next sample; `None` after the last one.
    pub(super) fn next(&mut self, input: &mut Input) -> io::Result<Option<Sample>> {
        loop {
            if let Some(run) = self.runs.front_mut() {
                if let Some((len, duration)) = run.next() {
                    let sample = Sample {
                        at: run.at,
                        len: u64::from(len),
                        start: self.start,
                        duration: u64::from(duration),
                    };
                    run.at = run.at.saturating_add(sample.len);
                    self.start = self.start.saturating_add(sample.duration);
                    return Ok(Some(sample));
                }
                self.runs.pop_front();
            } else if !self.next_fragment(input)? {
                return Ok(None);
            }
        }
    }

    /// Reads the header of the next fragment. Returns false at the end of the file.
    fn next_fragment(&mut self, input: &mut Input) -> io::Result<bool> {
        let end = input.len().unwrap_or(0);
        let Some(found) = box_at(input, self.next_box, end)? else {
            return self.search(input, end);
        };
        let is_name = found.name.iter().all(u8::is_ascii_graphic);
        let is_whole = found.end <= end || &found.name == b"mdat";
        if !(is_name && is_whole) {
            return self.search(input, end);
        }
        self.next_box = found.end;
        if &found.name == b"moof" {
            let header = read_range(input, found.body, found.end, MAX_HEADER)?;
            let mut end = found.start;
            for (name, body) in boxes_in(&header) {
                if &name == b"traf" {
                    end = self.take(body, found.start, end).unwrap_or(end);
                }
            }
        }
        Ok(true)
    }

    /// Searches the next fragment after invalid bytes. Returns false if there is none.
    fn search(&mut self, input: &mut Input, end: u64) -> io::Result<bool> {
        let mut at = self.next_box;
        // Padding or a truncated box of a few bytes does not count as damage.
        self.damaged |= end.saturating_sub(at) > 8 && {
            let rest = read_range(input, at, end, SEARCH_LEN)?;
            rest.iter().any(|byte| *byte != 0)
        };
        let mut bytes = vec![0; SEARCH_LEN];
        loop {
            let n = read_at(input, at, &mut bytes)?;
            let hit = bytes[..n].windows(4).position(|name| name == b"moof");
            match hit {
                // The size precedes the name by four bytes. If this is no box, the search continues after it.
                Some(hit) if at + hit as u64 >= self.next_box + 4 => {
                    self.next_box = at + hit as u64 - 4;
                    let is_box =
                        box_at(input, self.next_box, end)?.is_some_and(|found| found.end <= end);
                    if is_box {
                        return Ok(true);
                    }
                    at = self.next_box + 5;
                    self.next_box = at;
                }
                Some(hit) => at += hit as u64 + 1,
                None if n < bytes.len() => return Ok(false),
                None => at += n as u64 - 3,
            }
        }
    }

    /// Takes the runs of a `traf`, whose data start at `end` unless its header declares an offset; returns the new end
    /// of the data.
    fn take(&mut self, traf: &[u8], moof: u64, mut end: u64) -> Option<u64> {
        let header = find(traf, b"tfhd")?;
        let flags = word(header, 0)? & 0xFF_FFFF;
        let is_ours = word(header, 4)? == self.defaults.track;
        let mut at = 8;
        if flags & 1 != 0 {
            end = long(header, at)?;
            at += 8;
        } else if flags & 0x2_0000 != 0 {
            end = moof;
        }
        let base = end;
        if flags & 2 != 0 {
            at += 4;
        }
        let mut field = |flag: u32, default: u32| {
            if flags & flag == 0 {
                return Some(default);
            }
            at += 4;
            word(header, at - 4)
        };
        let duration = field(8, self.defaults.duration)?;
        let size = field(16, self.defaults.size)?;
        for (_, body) in boxes_in(traf).filter(|(name, _)| name == b"trun") {
            let run = Run::read(body, duration, size, base, end)?;
            end = run.at.saturating_add(run.n_bytes());
            if is_ours {
                self.runs.push_back(run);
            }
        }
        Some(end)
    }
}

impl Run {
    fn read(body: &[u8], duration: u32, size: u32, base: u64, end: u64) -> Option<Self> {
        let flags = word(body, 0)? & 0xFF_FFFF;
        let mut at = 8;
        let mut start = end;
        if flags & HAS_DATA_OFFSET != 0 {
            start = base.checked_add_signed(word(body, at)?.cast_signed().into())?;
            at += 4;
        }
        if flags & HAS_FIRST_FLAGS != 0 {
            at += 4;
        }
        Some(Self {
            at: start,
            n_left: word(body, 4)?,
            duration,
            size,
            flags,
            fields: body.get(at..)?.iter().copied().collect(),
        })
    }

    /// Returns size and duration of the next sample.
    fn next(&mut self) -> Option<(u32, u32)> {
        self.n_left = self.n_left.checked_sub(1)?;
        let mut field = |flag: u32, default: u32| {
            if self.flags & flag == 0 {
                return Some(default);
            }
            let mut bytes = [0; 4];
            for byte in &mut bytes {
                *byte = self.fields.pop_front()?;
            }
            Some(u32::from_be_bytes(bytes))
        };
        let duration = field(HAS_DURATION, self.duration)?;
        let size = field(HAS_SIZE, self.size)?;
        field(HAS_FLAGS, 0)?;
        field(HAS_COMPOSITION, 0)?;
        Some((size, duration))
    }

    /// Returns the total size of the remaining samples in bytes.
    fn n_bytes(&self) -> u64 {
        let fields = [HAS_DURATION, HAS_SIZE, HAS_FLAGS, HAS_COMPOSITION];
        let n_fields = fields
            .iter()
            .filter(|field| self.flags & **field != 0)
            .count();
        if self.flags & HAS_SIZE == 0 {
            return u64::from(self.n_left) * u64::from(self.size);
        }
        let size_at = usize::from(self.flags & HAS_DURATION != 0);
        (0..self.n_left as usize)
            .map_while(|sample| {
                let at = 4 * (sample * n_fields + size_at);
                let mut bytes = [0; 4];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = *self.fields.get(at + i)?;
                }
                Some(u64::from(u32::from_be_bytes(bytes)))
            })
            .sum()
    }
}
