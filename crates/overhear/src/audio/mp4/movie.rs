//! The index of an MP4 file (`moov`): its tracks, and the offsets of their tables. The tables themselves are not
//! loaded.

use std::io;

use super::super::source::Input;
use super::boxes::{BoxAt, box_at, boxes_in, long, read_range, word};

/// Maximum number of boxes inspected in an index.
const MAX_BOXES: usize = 10_000;
/// Maximum number of bytes read of a small box (a header, a sample description, an edit list).
const MAX_SMALL: usize = 1 << 16;

/// Parsed `moov`.
#[derive(Default)]
pub(super) struct Movie {
    /// Time scale of edit list durations, in ticks per second.
    pub(super) ticks_per_s: u32,
    pub(super) tracks: Vec<Track>,
    /// Defaults of fragments, by track.
    pub(super) defaults: Vec<FragmentDefaults>,
}

/// Parsed `trex`: defaults for samples of fragments.
#[derive(Clone, Copy, Default)]
pub(super) struct FragmentDefaults {
    pub(super) track: u32,
    pub(super) duration: u32,
    pub(super) size: u32,
}

/// Parsed `trak`.
#[derive(Default)]
pub(super) struct Track {
    pub(super) id: u32,
    /// Whether the track is marked as enabled.
    pub(super) is_enabled: bool,
    pub(super) ticks_per_s: u32,
    /// Packed ISO 639-2 code.
    pub(super) language: u16,
    /// Handler type: `soun` for audio.
    pub(super) handler: [u8; 4],
    /// Content of `stsd`.
    pub(super) descriptions: Vec<u8>,
    pub(super) edits: Vec<Edit>,
    /// `stts`, `stsc`, `stsz` or `stz2`, `stco` or `co64`.
    pub(super) tables: [Option<BoxAt>; 4],
}

/// Entry of `elst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// Duration in ticks of the movie; 0: to the end.
    pub(super) length: u64,
    /// Media time, in ticks of the track; `None`: an empty edit.
    pub(super) start: Option<u64>,
}

impl Movie {
    /// Parses the content of `moov`. Damaged parts are skipped.
    pub(super) fn read(input: &mut Input, moov: BoxAt) -> io::Result<Self> {
        let mut movie = Self::default();
        movie.walk(input, moov.body, moov.end, &mut MAX_BOXES.clone())?;
        Ok(movie)
    }

    fn walk(
        &mut self,
        input: &mut Input,
        mut at: u64,
        end: u64,
        budget: &mut usize,
    ) -> io::Result<()> {
        while let Some(found) = box_at(input, at, end)? {
            let Some(left) = budget.checked_sub(1) else {
                break;
            };
            *budget = left;
            let end = found.end.min(end);
            match &found.name {
                b"trak" => {
                    self.tracks.push(Track::default());
                    self.walk(input, found.body, end, budget)?;
                }
                b"mdia" | b"minf" | b"stbl" | b"edts" | b"mvex" => {
                    self.walk(input, found.body, end, budget)?;
                }
                _ => drop(self.read_box(input, found)?),
            }
            at = found.end;
        }
        Ok(())
    }

    /// Parses a box without children; `None` if it is invalid.
    fn read_box(&mut self, input: &mut Input, found: BoxAt) -> io::Result<Option<()>> {
        let mut body = Vec::new();
        if matches!(
            &found.name,
            b"mvhd" | b"trex" | b"tkhd" | b"mdhd" | b"hdlr" | b"stsd" | b"elst"
        ) {
            body = read_range(input, found.body, found.end, MAX_SMALL)?;
        }
        Ok(self.take(found, body))
    }

    fn take(&mut self, found: BoxAt, body: Vec<u8>) -> Option<()> {
        match &found.name {
            b"mvhd" => self.ticks_per_s = timescale(&body)?,
            b"trex" => self.defaults.push(FragmentDefaults {
                track: word(&body, 4)?,
                duration: word(&body, 12)?,
                size: word(&body, 16)?,
            }),
            _ => {}
        }
        let track = self.tracks.last_mut()?;
        match &found.name {
            b"tkhd" => {
                track.is_enabled = body.get(3)? & 1 != 0;
                track.id = word(&body, if is_wide(&body) { 20 } else { 12 })?;
            }
            b"mdhd" => {
                track.ticks_per_s = timescale(&body)?;
                let at = if is_wide(&body) { 32 } else { 20 };
                track.language = (word(&body, at)? >> 16) as u16;
            }
            // QuickTime has a second `hdlr`, of the data handler, in `minf`.
            b"hdlr" if track.handler == [0; 4] => {
                track.handler = *body.get(8..)?.first_chunk()?;
            }
            b"stsd" => track.descriptions = body,
            b"elst" => track.edits = edit_list(&body),
            b"stts" => track.tables[0] = Some(found),
            b"stsc" => track.tables[1] = Some(found),
            b"stsz" | b"stz2" => track.tables[2] = Some(found),
            b"stco" | b"co64" => track.tables[3] = Some(found),
            _ => {}
        }
        Some(())
    }
}

impl Track {
    /// Returns the version of `stsd`, and name and content of the first sample description.
    pub(super) fn description(&self) -> Option<(u8, [u8; 4], &[u8])> {
        let entries = self.descriptions.get(8..)?;
        let (name, body) = boxes_in(entries).next()?;
        Some((self.descriptions[0], name, body))
    }

    /// Returns the three letters of the language, if there are any.
    pub(super) fn language(&self) -> Option<String> {
        let letters = [10, 5, 0].map(|shift| (self.language >> shift & 31) as u8 + 0x60);
        let is_code = letters.iter().all(u8::is_ascii_lowercase) && &letters != b"und";
        is_code.then(|| letters.iter().map(|letter| char::from(*letter)).collect())
    }
}

/// Returns whether the version of a full box selects 64-bit times.
fn is_wide(body: &[u8]) -> bool {
    body.first() == Some(&1)
}

/// Returns the time scale of a movie or media header, in ticks per second.
fn timescale(body: &[u8]) -> Option<u32> {
    word(body, if is_wide(body) { 20 } else { 12 })
}

fn edit_list(body: &[u8]) -> Vec<Edit> {
    let n = word(body, 4).unwrap_or(0) as usize;
    let len = if is_wide(body) { 20 } else { 12 };
    let entries = body.get(8..).unwrap_or_default().chunks_exact(len).take(n);
    let edit = |entry: &[u8]| {
        let (length, start) = if is_wide(body) {
            (long(entry, 0)?, long(entry, 8)?.cast_signed())
        } else {
            let start = word(entry, 4)?.cast_signed();
            (u64::from(word(entry, 0)?), i64::from(start))
        };
        let start = u64::try_from(start).ok();
        Some(Edit { length, start })
    };
    entries.filter_map(edit).collect()
}
