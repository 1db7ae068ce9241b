//! The edit lists of MP4 files, which Symphonia does not apply: where in a track the recording starts, after the
//! encoder's run-up (23 ms and more of AAC), and how long it is.
//!
//! Reference: ISO 14496-12 sections 8.6.5 and 8.6.6. Only what is needed is read, and anything odd means "no edit".

use std::io::{Read, Seek, SeekFrom};

use super::decode::Attempt;
use super::source::Input;

/// Boxes in a file and tracks in a movie that are looked at.
const MAX_BOXES: usize = 10_000;

/// What to keep of a track.
pub(super) struct Edit {
    /// Track id.
    pub(super) track: u32,
    /// Where the recording starts, in ticks of the track.
    start: u64,
    /// How long it is, in ticks of the movie; 0: to the end.
    length: u64,
    track_ticks_per_s: u32,
    movie_ticks_per_s: u32,
}

impl Edit {
    /// Frames to drop and frames to keep after them, at `rate` frames per second.
    pub(super) fn in_frames(&self, rate: u32) -> (u64, u64) {
        let scale = |ticks: u64, per_s: u32| {
            let frames = (u128::from(ticks) * u128::from(rate) + u128::from(per_s / 2))
                / u128::from(per_s.max(1));
            u64::try_from(frames).unwrap_or(u64::MAX)
        };
        let keep = if self.length == 0 || rate == 0 {
            u64::MAX
        } else {
            // The movie often counts milliseconds: do not cut within the last one.
            scale(self.length.saturating_add(1), self.movie_ticks_per_s)
        };
        (scale(self.start, self.track_ticks_per_s), keep)
    }
}

/// Reads the edits of all tracks that have exactly one, and goes back to the start. Says also whether
/// the file is cut within its media data, with its index in front of them.
pub(super) fn edits(input: &mut Input) -> Attempt<(Vec<Edit>, bool)> {
    let mut movie = Movie::default();
    let end = input.len().unwrap_or(0);
    // Reading past the end or into nonsense just means that there are no edits to be had.
    let _ = walk(input, 0, end, 0, &mut MAX_BOXES.clone(), &mut movie);
    input.seek(SeekFrom::Start(0))?;
    let (ticks, cut) = (movie.ticks_per_s, movie.cut && !movie.tracks.is_empty());
    let edits = movie.tracks.into_iter();
    Ok((edits.filter_map(|track| track.edit(ticks)).collect(), cut))
}

#[derive(Default)]
struct Movie {
    ticks_per_s: u32,
    /// Whether the media data reach beyond the end of the file.
    cut: bool,
    tracks: Vec<TrackBoxes>,
}

#[derive(Default)]
struct TrackBoxes {
    id: u32,
    ticks_per_s: u32,
    /// Length and start of the non-empty edits.
    edits: Vec<(u64, u64)>,
}

impl TrackBoxes {
    fn edit(self, movie_ticks_per_s: u32) -> Option<Edit> {
        let [(length, start)] = self.edits[..] else {
            return None;
        };
        let track_ticks_per_s = self.ticks_per_s;
        let sane = track_ticks_per_s > 0 && movie_ticks_per_s > 0;
        sane.then_some(Edit {
            track: self.id,
            start,
            length,
            track_ticks_per_s,
            movie_ticks_per_s,
        })
    }
}

/// Visits the boxes from `at` to `end`, `depth` levels down. `None`: the file ends or makes no sense.
fn walk(
    input: &mut Input,
    mut at: u64,
    end: u64,
    depth: usize,
    budget: &mut usize,
    movie: &mut Movie,
) -> Option<()> {
    while at + 8 <= end {
        *budget = budget.checked_sub(1)?;
        input.seek(SeekFrom::Start(at)).ok()?;
        let header: [u8; 8] = read(input)?;
        let [s0, s1, s2, s3, name @ ..] = header;
        let (size, header_len) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (end - at, 8),
            1 => (u64::from_be_bytes(read(input)?), 16),
            size => (u64::from(size), 8),
        };
        let body = at + header_len;
        let next = at.checked_add(size).filter(|next| *next >= body)?;
        match &name {
            b"moov" | b"mdia" | b"edts" if depth < 4 => {
                walk(input, body, next.min(end), depth + 1, budget, movie)?
            }
            b"trak" if depth == 1 => {
                movie.tracks.push(TrackBoxes::default());
                walk(input, body, next.min(end), depth + 1, budget, movie)?;
            }
            b"mvhd" => movie.ticks_per_s = timescale(input)?,
            b"mdhd" => movie.tracks.last_mut()?.ticks_per_s = timescale(input)?,
            b"tkhd" => {
                let wide = read::<4>(input)?[0] == 1;
                skip(input, if wide { 16 } else { 8 })?;
                movie.tracks.last_mut()?.id = u32::from_be_bytes(read(input)?);
            }
            b"mdat" if next > end => movie.cut = true,
            b"elst" => movie.tracks.last_mut()?.edits = edit_list(input)?,
            _ => {}
        }
        at = next;
    }
    Some(())
}

/// Ticks per second in a movie or media header.
fn timescale(input: &mut Input) -> Option<u32> {
    let wide = read::<4>(input)?[0] == 1;
    skip(input, if wide { 16 } else { 8 })?;
    Some(u32::from_be_bytes(read(input)?))
}

fn edit_list(input: &mut Input) -> Option<Vec<(u64, u64)>> {
    let wide = read::<4>(input)?[0] == 1;
    let n = u32::from_be_bytes(read(input)?).min(64);
    let mut edits = Vec::new();
    for _ in 0..n {
        let (length, start) = if wide {
            (
                u64::from_be_bytes(read(input)?),
                i64::from_be_bytes(read(input)?),
            )
        } else {
            (
                u64::from(u32::from_be_bytes(read(input)?)),
                i64::from(i32::from_be_bytes(read(input)?)),
            )
        };
        skip(input, 4)?;
        // A negative start is a pause before the track, which is left out here as everywhere.
        if let Ok(start) = u64::try_from(start) {
            edits.push((length, start));
        }
    }
    Some(edits)
}

fn read<const N: usize>(input: &mut Input) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

fn skip(input: &mut Input, n: i64) -> Option<()> {
    input.seek(SeekFrom::Current(n)).ok().map(drop)
}
