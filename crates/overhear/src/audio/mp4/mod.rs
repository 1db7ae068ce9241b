//! MP4, M4A, 3GP and QuickTime files: the packets of one track, along its edited timeline.
//!
//! This reader replaces Symphonia's, which supports neither edit lists nor most uncompressed formats of QuickTime, and
//! refuses a file for damage in irrelevant parts. `boxes` reads boxes, `movie` the index, `entry` the coding, `edits`
//! the timeline; `samples` and `fragments` locate the packets. Only needed parts are read, and nothing is read ahead.
//!
//! References: ISO 14496-12 (the format), Apple "QuickTime File Format".

mod boxes;
mod edits;
mod entry;
mod fragments;
mod movie;
mod samples;

use std::collections::VecDeque;

use super::coding::{AudioTrack, Coding, choose};
use super::decode::{Attempt, Decode, Failure};
use super::packets::{Coded, Next, Packets, PacketsDecoder};
use super::source::Input;
use boxes::{BoxAt, box_at, read_range};
use edits::{Span, timeline};
use fragments::Fragments;
use movie::{FragmentDefaults, Movie};
use samples::{Sample, Samples};

/// Maximum number of boxes inspected before the index.
const MAX_BOXES: usize = 100_000;
/// Maximum size of a packet in bytes: more than a second of lossless audio in many channels.
const MAX_PACKET: u64 = 1 << 24;
/// Number of uncompressed frames read at a time.
const PLAIN_FRAMES: u32 = 4096;

/// Opens a decoder of an MP4 file; `input` must be seekable.
pub(super) fn open(mut input: Input, wanted: Option<usize>) -> Attempt<Box<dyn Decode>> {
    let end = input.len().unwrap_or(0);
    let (moov, is_cut) = find_index(&mut input, end)?;
    let Some(moov) = moov else {
        return Err(Failure::audio(
            "MP4 without its index (moov): the recording was cut off before it was written",
        ));
    };
    let mut movie = Movie::read(&mut input, moov)?;
    movie.tracks.retain(|track| &track.handler == b"soun");
    let mut tracks: Vec<AudioTrack> = movie.tracks.iter().map(audio_track).collect();
    let index = choose(&tracks, wanted)?;
    let track = movie.tracks.swap_remove(index);
    let coding = tracks.swap_remove(index).coding;
    let plain = match &coding {
        Coding::Plain {
            encoding,
            n_channels,
            ..
        } => Some(((encoding.n_bytes() * n_channels) as u64, PLAIN_FRAMES)),
        _ => None,
    };
    let pre_skip = coding.pre_skip() * u64::from(track.ticks_per_s) / 48_000;
    let spans = timeline(&track.edits, track.ticks_per_s, movie.ticks_per_s).unwrap_or_else(|| {
        vec![Span::Media {
            start: pre_skip,
            end: u64::MAX,
        }]
    });
    let defaults = movie
        .defaults
        .into_iter()
        .find(|trex| trex.track == track.id);
    let mut reader = Mp4 {
        input,
        tables: track.tables,
        plain,
        fragments_at: defaults.map(|defaults| (defaults, moov.end)),
        samples: None,
        fragments: None,
        ahead: None,
        position: 0,
        jumped: true,
        spans: spans.into(),
        span: None,
        ticks_per_s: track.ticks_per_s,
        movie_ticks_per_s: movie.ticks_per_s,
        coding: Some(coding),
        damaged: is_cut || moov.end > end,
    };
    reader.rewind()?;
    Ok(Box::new(PacketsDecoder::new(reader)?))
}

/// Finds the index, and returns whether the file is truncated within its media data. Boxes of other kinds may precede
/// it.
fn find_index(input: &mut Input, end: u64) -> Attempt<(Option<BoxAt>, bool)> {
    let (mut at, mut index, mut is_cut) = (0, None, false);
    for _ in 0..MAX_BOXES {
        let Some(found) = box_at(input, at, end)? else {
            break;
        };
        match &found.name {
            b"moov" if index.is_none() => index = Some(found),
            b"mdat" => is_cut |= found.end > end,
            // After the index of a fragmented file, only fragments follow.
            b"moof" if index.is_some() => break,
            _ => {}
        }
        at = found.end;
    }
    Ok((index, is_cut))
}

fn audio_track(track: &movie::Track) -> AudioTrack {
    let (coding, n_channels) = match entry::description(track) {
        Some(description) => (description.coding, description.n_channels),
        None => (
            Coding::NotBuiltIn("audio without a description".to_owned()),
            0,
        ),
    };
    AudioTrack {
        coding,
        language: track.language(),
        title: None,
        n_channels,
        is_default: track.is_enabled,
    }
}

struct Mp4 {
    input: Input,
    tables: [Option<BoxAt>; 4],
    plain: Option<(u64, u32)>,
    /// Defaults of the fragments, and the offset from which they are searched.
    fragments_at: Option<(FragmentDefaults, u64)>,
    samples: Option<Samples>,
    fragments: Option<Fragments>,
    /// Sample that was read but lies beyond the current span.
    ahead: Option<Sample>,
    /// Ticks of the media up to which samples were returned or skipped.
    position: u64,
    /// Whether the next packet is not contiguous with the previous one.
    jumped: bool,
    spans: VecDeque<Span>,
    span: Option<Span>,
    ticks_per_s: u32,
    movie_ticks_per_s: u32,
    coding: Option<Coding>,
    damaged: bool,
}

impl Mp4 {
    fn rewind(&mut self) -> Attempt<()> {
        self.samples = Samples::open(&mut self.input, &self.tables, self.plain)?;
        self.fragments = self
            .fragments_at
            .map(|(defaults, at)| Fragments::new(defaults, at));
        (self.ahead, self.position, self.jumped) = (None, 0, true);
        Ok(())
    }

    /// Returns the next sample of the media: those of the index's tables first, then those of fragments.
    fn sample(&mut self) -> Attempt<Option<Sample>> {
        if let Some(sample) = self.ahead.take() {
            return Ok(Some(sample));
        }
        if let Some(samples) = &mut self.samples {
            if let Some(sample) = samples.next(&mut self.input)? {
                return Ok(Some(sample));
            }
            if let Some(fragments) = &mut self.fragments {
                fragments.start = samples.start;
            }
            self.samples = None;
        }
        let Some(fragments) = &mut self.fragments else {
            return Ok(None);
        };
        let sample = fragments.next(&mut self.input)?;
        self.damaged |= fragments.damaged;
        Ok(sample)
    }

    /// Seeks to the sample from which a decoder has to start for correct output at `start`: codecs depend on earlier
    /// packets.
    fn go_to(&mut self, start: u64) -> Attempt<()> {
        let run_up = u64::from(self.ticks_per_s) / 5;
        let from = start.saturating_sub(run_up);
        if start < self.position {
            self.rewind()?;
        } else if from <= self.position {
            return Ok(());
        }
        while let Some(sample) = self.sample()? {
            if sample.start.saturating_add(sample.duration) > from {
                self.ahead = Some(sample);
                break;
            }
            self.position = sample.start.saturating_add(sample.duration);
            self.jumped = true;
        }
        Ok(())
    }

    /// Reads a sample; `None` if it is missing or too large for a packet.
    fn read(&mut self, sample: Sample) -> Attempt<Option<Vec<u8>>> {
        if sample.len == 0 || sample.len > MAX_PACKET {
            return Ok(None);
        }
        let end = sample.at.saturating_add(sample.len);
        let data = read_range(&mut self.input, sample.at, end, MAX_PACKET as usize)?;
        let is_whole = data.len() as u64 == sample.len;
        // Of uncompressed samples, the part before the truncation is usable.
        self.damaged |= !is_whole;
        Ok(Some(data).filter(|data| is_whole || self.plain.is_some() && !data.is_empty()))
    }
}

impl Packets for Mp4 {
    fn next(&mut self) -> Attempt<Next> {
        if let Some(coding) = self.coding.take() {
            return Ok(Next::Coding(coding));
        }
        loop {
            let Some(span) = self.span else {
                match self.spans.pop_front() {
                    None => return Ok(Next::End),
                    Some(Span::Gap(ticks)) => return Ok(Next::Gap(ticks, self.movie_ticks_per_s)),
                    Some(media @ Span::Media { start, .. }) => {
                        self.span = Some(media);
                        self.go_to(start)?;
                    }
                }
                continue;
            };
            let Span::Media { start, end } = span else {
                self.span = None;
                continue;
            };
            let sample = match self.sample()? {
                Some(sample) if sample.start < end => sample,
                other => {
                    (self.ahead, self.span) = (other, None);
                    continue;
                }
            };
            self.position = sample.start.saturating_add(sample.duration);
            let Some(data) = self.read(sample)? else {
                return Ok(Next::Lost);
            };
            let jump = self.jumped.then_some(sample.start);
            self.jumped = false;
            return Ok(Next::Packet(Coded {
                data,
                jump,
                duration: sample.duration,
                keep: start..end,
                padding: 0,
                ticks_per_s: self.ticks_per_s,
            }));
        }
    }

    fn damaged(&self) -> bool {
        self.damaged
    }
}
