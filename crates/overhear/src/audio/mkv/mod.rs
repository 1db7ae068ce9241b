//! Matroska and WebM files: the packets of one audio track.
//!
//! This reader replaces Symphonia's, which stops at the end of the first of several segments in a file and at damage,
//! and does not support content encodings. The file is read strictly forwards and its tree is treated as flat: an
//! element after the header of a segment or a cluster belongs to that. So unknown (live recordings) or wrong sizes need
//! no special care, and after damage the next cluster can be searched.
//!
//! Reference: RFC 9559.

mod ebml;
mod tracks;

use std::collections::VecDeque;

use super::coding::{Coding, choose};
use super::decode::{Attempt, Decode};
use super::packets::{Coded, Next, Packets, PacketsDecoder};
use super::source::Input;
use ebml::{Element, Reader, element, elements_in, number, signed, unsigned};
use tracks::{Packing, tracks, unlace};

const NS_PER_S: u32 = 1_000_000_000;
/// Maximum number of bytes read of an element: more than any packet or any list of tracks has.
const MAX_ELEMENT: u64 = 1 << 24;

/// IDs of the elements that the reader knows.
mod id {
    pub(super) const EBML: u32 = 0x1A45_DFA3;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const INFO: u32 = 0x1549_A966;
    pub(super) const TRACKS: u32 = 0x1654_AE6B;
    pub(super) const CLUSTER: u32 = 0x1F43_B675;
    pub(super) const TIME: u32 = 0xE7;
    pub(super) const SIMPLE_BLOCK: u32 = 0xA3;
    pub(super) const BLOCK_GROUP: u32 = 0xA0;
    /// Elements that are skipped: SeekHead, Cues, Chapters, Attachments, Tags, Void, CRC-32, Position, PrevSize,
    /// SilentTracks, EncryptedBlock.
    pub(super) const OTHERS: [u32; 11] = [
        0x114D_9B74,
        0x1C53_BB6B,
        0x1043_A770,
        0x1941_A469,
        0x1254_C367,
        0xEC,
        0xBF,
        0xA7,
        0xAB,
        0x5854,
        0xAF,
    ];
}

/// Opens a decoder of a Matroska file, or of several concatenated ones.
pub(super) fn open(input: Input, wanted: Option<usize>) -> Attempt<Box<dyn Decode>> {
    let reader = Mkv {
        reader: Reader::new(input),
        wanted,
        track: None,
        ticks_ns: 1_000_000,
        cluster_time: 0,
        cluster_end: u64::MAX,
        segment_end: None,
        begun: false,
        run_up_ns: 0,
        ready: VecDeque::new(),
        damaged: false,
        ended: false,
    };
    Ok(Box::new(PacketsDecoder::new(reader)?))
}

struct Mkv {
    reader: Reader,
    /// Number of the requested track.
    wanted: Option<usize>,
    track: Option<Selected>,
    /// Length of a tick of the segment in ns.
    ticks_ns: u64,
    cluster_time: u64,
    cluster_end: u64,
    /// Offset of the segment's end, if its size is known.
    segment_end: Option<u64>,
    /// Whether a packet of this segment was seen.
    begun: bool,
    /// Duration to drop at the start of the segment, in ns.
    run_up_ns: u64,
    ready: VecDeque<Next>,
    damaged: bool,
    ended: bool,
}

/// The track that is decoded.
struct Selected {
    number: u64,
    packings: Vec<Packing>,
    delay_ns: u64,
    /// Frames at 48 kHz to drop at the start of Opus; for other codecs, block times decide.
    pre_skip: Option<u64>,
}

/// Returns whether `bytes` begin with a block of `track`, followed by an element that may follow it.
fn is_block(bytes: &[u8], track: u64) -> bool {
    if bytes.first() != Some(&(id::SIMPLE_BLOCK as u8)) {
        return false;
    }
    let behind = element(bytes).and_then(|(block, header_len)| {
        let body = bytes.get(header_len..)?;
        let (number, _) = number(body).filter(|(number, _)| *number == Some(track))?;
        number?;
        let behind = body.get(usize::try_from(block.len?).ok()?..)?;
        Some(behind.is_empty() || element(behind).is_some_and(|(next, _)| is_known(next.id)))
    });
    behind == Some(true)
}

/// Returns whether an element with this ID can occur in a segment.
fn is_known(id: u32) -> bool {
    matches!(
        id,
        id::EBML
            | id::SEGMENT
            | id::CLUSTER
            | id::INFO
            | id::TRACKS
            | id::TIME
            | id::SIMPLE_BLOCK
            | id::BLOCK_GROUP
    ) || id::OTHERS.contains(&id)
}

impl Packets for Mkv {
    fn next(&mut self) -> Attempt<Next> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(next);
            }
            if self.ended {
                // No tracks were found: `choose` returns the error.
                if self.track.is_none() {
                    choose(&[], self.wanted)?;
                }
                return Ok(Next::End);
            }
            self.step()?;
        }
    }

    fn damaged(&self) -> bool {
        self.damaged
    }
}

impl Mkv {
    /// Reads the next element.
    fn step(&mut self) -> Attempt<()> {
        let start = self.reader.position;
        if self.reader.is_end()? {
            // The segment of a live recording has unknown size and ends with the file.
            self.damaged |= self.segment_end.is_some_and(|end| start < end);
            self.ended = true;
            return Ok(());
        }
        match self.reader.element()? {
            Some(element) if self.is_plausible(element) => self.take(element),
            Some(_) => self.search(0),
            // The bytes here may be an ID that is searched for, with an invalid length.
            None => self.search(1),
        }
    }

    /// Returns whether an element may occur here and may have this size.
    fn is_plausible(&self, element: Element) -> bool {
        let is_top = matches!(
            element.id,
            id::EBML | id::SEGMENT | id::CLUSTER | id::INFO | id::TRACKS
        );
        let Some(len) = element.len else {
            return matches!(element.id, id::SEGMENT | id::CLUSTER);
        };
        let end = self.reader.position.saturating_add(len);
        let is_block = matches!(element.id, id::SIMPLE_BLOCK | id::BLOCK_GROUP);
        // IDs of later versions of the format are skipped where they are plausible: inside of a cluster that contains
        // the whole element, or elsewhere with the four bytes of all top-level IDs.
        let is_within = self
            .segment_end
            .is_none_or(|segment_end| end <= segment_end)
            && self.reader.len().is_none_or(|len| end <= len);
        let is_in_cluster = self.cluster_end < u64::MAX && end <= self.cluster_end;
        let is_later = is_in_cluster || element.id > 0xFF_FFFF && is_within;
        is_top
            || (is_known(element.id) || is_later)
                && (!is_block || len <= MAX_ELEMENT && end <= self.cluster_end)
    }

    /// Searches the next cluster, segment or block of the track after invalid bytes, of which there are at least `least`.
    fn search(&mut self, least: usize) -> Attempt<()> {
        let start = self.reader.position;
        let track = self.track.as_ref().map(|track| track.number);
        let (is_found, all_zero) = self.reader.search(least, |bytes| {
            bytes.starts_with(&id::CLUSTER.to_be_bytes())
                || bytes.starts_with(&id::EBML.to_be_bytes())
                || track.is_some_and(|track| is_block(bytes, track))
        })?;
        // Bytes after the segment's end, and zero padding in a live recording, do not count as damage.
        let is_behind = self.segment_end.is_some_and(|end| start >= end);
        self.damaged |= !is_behind && !all_zero;
        self.ended = !is_found;
        Ok(())
    }

    fn take(&mut self, element: Element) -> Attempt<()> {
        let len = element.len.unwrap_or(0);
        match element.id {
            id::EBML => {
                // Another segment follows.
                (self.segment_end, self.cluster_end) = (None, u64::MAX);
                (self.ticks_ns, self.begun) = (1_000_000, false);
                self.reader.skip(len)?;
            }
            id::SEGMENT => {
                self.segment_end = element
                    .len
                    .and_then(|len| self.reader.position.checked_add(len));
                // In a file, truncation is known from the segment's size.
                self.damaged |= match (self.segment_end, self.reader.len()) {
                    (Some(end), Some(len)) => end > len,
                    _ => false,
                };
            }
            id::CLUSTER => {
                self.cluster_end = element
                    .len
                    .map_or(u64::MAX, |len| self.reader.position.saturating_add(len));
            }
            id::INFO => {
                let body = self.content(len)?;
                if let Some((_, scale)) = elements_in(&body).find(|(id, _)| *id == 0x2A_D7B1) {
                    self.ticks_ns = unsigned(scale).max(1);
                }
            }
            id::TRACKS => {
                let body = self.content(len)?;
                self.choose_track(&body)?;
            }
            id::TIME => self.cluster_time = unsigned(&self.content(len)?),
            id::SIMPLE_BLOCK => {
                let body = self.content(len)?;
                self.take_block(&body, 0);
            }
            id::BLOCK_GROUP => {
                let body = self.content(len)?;
                let find = |wanted: u32| {
                    let mut elements = elements_in(&body);
                    elements.find_map(|(id, body)| (id == wanted).then_some(body))
                };
                let padding = find(0x75A2).map_or(0, signed);
                if let Some(block) = find(0xA1) {
                    self.take_block(block, u64::try_from(padding).unwrap_or(0));
                }
            }
            _ => drop(self.reader.skip(len)?),
        }
        Ok(())
    }

    /// Reads the content of an element, truncated at the end of the file and at the size limit.
    fn content(&mut self, len: u64) -> Attempt<Vec<u8>> {
        let n = len.min(MAX_ELEMENT);
        let body = self.reader.read(n as usize)?;
        // The end of a live recording is where it was stopped; only a segment of known size can be truncated.
        self.damaged |= (body.len() as u64) < n && self.segment_end.is_some();
        self.reader.skip(len - n)?;
        Ok(body)
    }

    fn choose_track(&mut self, body: &[u8]) -> Attempt<()> {
        let (mut selected, mut audio) = (Vec::new(), Vec::new());
        for track in tracks(body) {
            audio.push(track.audio);
            selected.push(Selected {
                number: track.number,
                packings: track.packings,
                delay_ns: track.delay_ns,
                pre_skip: None,
            });
        }
        let index = choose(&audio, self.wanted)?;
        let coding = audio.swap_remove(index).coding;
        let mut track = selected.swap_remove(index);
        let is_opus = matches!(&coding, Coding::Packets(parameters)
            if parameters.codec == symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS);
        track.pre_skip = is_opus.then(|| coding.pre_skip());
        self.track = Some(track);
        self.begun = false;
        self.ready.push_back(Next::Coding(coding));
        Ok(())
    }

    /// Takes the packets of a block of the track. `padding_ns`: discard padding at the end of the last packet.
    fn take_block(&mut self, body: &[u8], padding_ns: u64) {
        let Some(track) = &self.track else {
            return;
        };
        let header = number(body).and_then(|(number, n)| {
            let ([t0, t1, flags], data) = body.get(n..)?.split_first_chunk::<3>()?;
            Some((number?, i16::from_be_bytes([*t0, *t1]), *flags, data))
        });
        let Some((number, time, flags, data)) = header else {
            self.ready.push_back(Next::Lost);
            return;
        };
        if number != track.number {
            return;
        }
        let Some(packets) = unlace(flags >> 1 & 3, data) else {
            self.ready.push_back(Next::Lost);
            return;
        };
        let time_ns = (i128::from(self.cluster_time) + i128::from(time))
            * i128::from(self.ticks_ns)
            - i128::from(track.delay_ns);
        if !self.begun {
            // Packets before time 0 are encoder delay; a delay of more than a second is treated as an error.
            self.run_up_ns = match track.pre_skip {
                Some(n_frames) => n_frames * u64::from(NS_PER_S) / 48_000,
                None => (-time_ns).clamp(0, i128::from(NS_PER_S)) as u64,
            };
        }
        let n_packets = packets.len();
        for (i, packet) in packets.into_iter().enumerate() {
            let undone = track
                .packings
                .iter()
                .try_fold(packet.to_vec(), |data, packing| packing.undo(data));
            let Some(data) = undone else {
                self.ready.push_back(Next::Lost);
                continue;
            };
            self.ready.push_back(Next::Packet(Coded {
                data,
                jump: (!self.begun).then_some(0),
                duration: 0,
                keep: self.run_up_ns..u64::MAX,
                padding: if i + 1 == n_packets { padding_ns } else { 0 },
                ticks_per_s: NS_PER_S,
            }));
            self.begun = true;
        }
    }
}
