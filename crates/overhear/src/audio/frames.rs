//! Streams of MPEG audio or ADTS frames: MP3 and MP2 files, radio recordings, concatenated files.
//!
//! Half of a header's four bytes is fixed, which is weak evidence, so a frame is accepted if it follows another one or
//! if frames of its kind follow it. Tags (ID3, APE, Lyrics3) and zeros are skipped anywhere. Other bytes between frames
//! count as damage; before the first and after the last frame they are left by recorders and do not.
//!
//! LAME's header frame ("Xing", "Info") gives the encoder delay and padding in samples and the number of frames. In
//! concatenated files, each header frame applies to its own part.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::codec::HE_AAC;
use super::decode::{Attempt, Block, Decode};
use super::frame_header::{Coding, Header, MIN_HEADER};
use super::mpeg::FrameDecoder;
use super::source::Input;

/// Maximum length of a frame in bytes: ADTS has a 13-bit length.
const MAX_FRAME: usize = 1 << 13;
/// Number of frames that must follow one another where there is no other evidence.
const N_FOLLOWING: usize = 2;
/// Number of bytes inspected to verify this.
const LOOKAHEAD: usize = (N_FOLLOWING + 1) * MAX_FRAME + MIN_HEADER;
/// Maximum number of bytes at the end that are neither frames nor known tags and do not count as damage.
const MAX_TAIL: usize = 1 << 12;
/// Divisor of the sample rate: a tenth of a second is the tolerated difference between the declared and the actual
/// length.
const TOLERANCE: u64 = 10;
/// Maximum number of consecutive damaged frames before decoding stops.
const MAX_ERRORS: usize = 1000;

/// Opens a decoder of `input`, whose first frame is at its start.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    Ok(Box::new(FramesDecoder {
        frames: Frames::new(input),
        decoder: FrameDecoder::default(),
        part: Part::default(),
        held: VecDeque::new(),
        n_errors: 0,
        damaged: false,
    }))
}

/// Iterator over frames.
struct Frames {
    input: Input,
    buffer: Vec<u8>,
    /// Offset in `buffer` from which the next frame is searched.
    at: usize,
    /// Whether `buffer` holds the end of the input.
    ended: bool,
    /// Header of the previous frame.
    last: Option<Header>,
    /// Number of bytes since the previous frame that are not frames, tags or zeros.
    n_junk: usize,
    damaged: bool,
}

impl Frames {
    fn new(input: Input) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            last: None,
            n_junk: 0,
            damaged: false,
        }
    }

    /// Returns the next frame; `None` at the end.
    fn next(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        loop {
            self.fill()?;
            let rest = &self.buffer[self.at..];
            if rest.is_empty() {
                self.damaged |= self.n_junk > MAX_TAIL;
                return Ok(None);
            }
            if let Some(len) = tag_len(rest) {
                self.skip(len)?;
                continue;
            }
            if let Some(header) = self.frame() {
                if header.len > rest.len() {
                    // The file is truncated within its last frame.
                    self.damaged = true;
                    return Ok(None);
                }
                self.damaged |= self.n_junk > 0 && self.last.is_some();
                self.n_junk = 0;
                self.last = Some(header);
                let start = self.at;
                self.at += header.len;
                return Ok(Some((header, self.buffer[start..self.at].to_vec())));
            }
            self.n_junk += usize::from(rest[0] != 0);
            self.at += 1;
        }
    }

    /// Returns the header at the current offset, if it is accepted as a frame.
    fn frame(&self) -> Option<Header> {
        let rest = &self.buffer[self.at..];
        let header = Header::read(rest)?;
        let is_next = self.n_junk == 0 && self.last.is_none_or(|last| header.continues(&last));
        let (mut at, mut n_following) = (header.len, 0);
        while n_following < N_FOLLOWING
            && let Some(next) = rest.get(at..).and_then(Header::read)
            && next.continues(&header)
        {
            at += next.len;
            n_following += 1;
        }
        let are_all = n_following > 0 && self.is_boundary(at);
        (is_next || are_all || n_following == N_FOLLOWING).then_some(header)
    }

    /// Returns whether a sequence of frames may end `at` bytes after the current offset: at the end of the file, at a
    /// tag, or before frames of another kind.
    fn is_boundary(&self, at: usize) -> bool {
        let rest = self.buffer[self.at..].get(at..).unwrap_or_default();
        rest.len() < MIN_HEADER || tag_len(rest).is_some() || Header::read(rest).is_some()
    }

    /// Reads until the buffer holds all bytes to inspect.
    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.buffer.len() - self.at >= LOOKAHEAD {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let wanted = 2 * LOOKAHEAD - self.buffer.len();
        let n = (&mut self.input)
            .take(wanted as u64)
            .read_to_end(&mut self.buffer)?;
        self.ended = n < wanted;
        Ok(())
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        let there = (self.buffer.len() - self.at) as u64;
        self.at += len.min(there) as usize;
        if len > there && !self.ended {
            io::copy(&mut (&mut self.input).take(len - there), &mut io::sink())?;
        }
        Ok(())
    }
}

/// Returns the number of bytes in the tag at the start of `bytes`, if there is one.
fn tag_len(bytes: &[u8]) -> Option<u64> {
    if let Some(len) = super::sniff::id3_len(bytes) {
        return Some(len);
    }
    if bytes.starts_with(b"APETAGEX") {
        // APEv2: the size excludes the header. A footer ends a tag that has been passed already.
        let (size, flags) = (bytes.get(12..16)?.first_chunk::<4>()?, bytes.get(23)?);
        let is_header = flags & 0x20 != 0;
        let body = if is_header {
            u32::from_le_bytes(*size)
        } else {
            0
        };
        return Some(32 + u64::from(body));
    }
    if bytes.starts_with(b"TAG+") {
        return Some(227);
    }
    if bytes.starts_with(b"TAG") {
        return Some(128);
    }
    if bytes.starts_with(b"LYRICSBEGIN") {
        let end = bytes
            .windows(9)
            .position(|part| part == b"LYRICS200" || part == b"LYRICSEND")?;
        return Some(end as u64 + 9);
    }
    None
}

/// One of several concatenated files.
#[derive(Default)]
struct Part {
    /// Number of samples to drop at the start (encoder delay).
    to_skip: u64,
    /// Number of samples to drop at the end (encoder padding).
    padding: u64,
    /// Number of frames that the header frame declares.
    n_expected: u64,
    n_frames: u64,
    /// Whether a frame of this part was decoded.
    begun: bool,
}

impl Part {
    /// Parses a header frame of LAME, Xing or Fraunhofer; `None` if the frame holds audio.
    fn read(header: &Header, frame: &[u8]) -> Option<Self> {
        if header.coding != Coding::Layer3 {
            return None;
        }
        let word = |at: usize| {
            let bytes = frame.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*bytes))
        };
        if frame.get(36..40) == Some(b"VBRI") {
            return Some(Self {
                n_expected: word(36 + 14).unwrap_or(0).into(),
                ..Self::default()
            });
        }
        let mut at = 4 + header.side_len();
        if !matches!(frame.get(at..at + 4)?, b"Xing" | b"Info") {
            return None;
        }
        let flags = word(at + 4)?;
        at += 8;
        let mut part = Self::default();
        if flags & 1 != 0 {
            part.n_expected = word(at)?.into();
        }
        for (flag, len) in [(1, 4), (2, 4), (4, 100), (8, 4)] {
            at += if flags & flag != 0 { len } else { 0 };
        }
        let lame = frame.get(at..).unwrap_or_default();
        if matches!(lame.get(..4), Some(b"LAME" | b"Lavf" | b"Lavc"))
            && let Some([a, b, c]) = lame.get(21..24)
        {
            /// Decoder delay, which LAME's values exclude.
            const DECODER: u64 = 528 + 1;
            let both = u64::from(*a) << 16 | u64::from(*b) << 8 | u64::from(*c);
            part.to_skip = (both >> 12) + DECODER;
            part.padding = (both & 0xFFF).saturating_sub(DECODER);
        }
        Some(part)
    }

    /// Returns whether frames are missing.
    fn is_cut(&self, header: Option<Header>) -> bool {
        header.is_some_and(|header| {
            let leeway = u64::from(header.rate) / TOLERANCE / header.n_samples();
            self.n_frames + leeway < self.n_expected
        })
    }
}

struct FramesDecoder {
    frames: Frames,
    decoder: FrameDecoder,
    part: Part,
    /// Decoded blocks, held back as long as they may be encoder padding.
    held: VecDeque<Block>,
    n_errors: usize,
    damaged: bool,
}

impl FramesDecoder {
    /// Decodes one more frame into `held`. Returns false at the end.
    fn advance(&mut self) -> Attempt<bool> {
        let Some((header, frame)) = self.frames.next()? else {
            self.end_part(None);
            return Ok(false);
        };
        if let Some(part) = Part::read(&header, &frame) {
            self.end_part(Some(part));
            return Ok(true);
        }
        if self.part.n_expected > 0 && self.part.n_frames >= self.part.n_expected {
            // Frames beyond the declared count belong to the next concatenated file.
            self.end_part(None);
        }
        let mut block = Block::default();
        let good = self.decoder.decode(&frame, &mut block)?;
        self.part.n_frames += 1;
        if good {
            self.n_errors = 0;
            self.part.begun = true;
        } else {
            // The first frames of a radio recording may depend on frames before its start.
            self.damaged |= self.part.begun;
            self.n_errors += 1;
        }
        let n_frames = (block.samples.len() / block.n_channels.max(1)) as u64;
        let skipped = self.part.to_skip.min(n_frames);
        self.part.to_skip -= skipped;
        block.samples.drain(..skipped as usize * block.n_channels);
        if !block.samples.is_empty() {
            self.held.push_back(block);
        }
        Ok(self.n_errors <= MAX_ERRORS)
    }

    /// Drops the padding of the current part, and begins the next one.
    fn end_part(&mut self, next: Option<Part>) {
        let part = std::mem::replace(&mut self.part, next.unwrap_or_default());
        if part.is_cut(self.frames.last) {
            self.damaged = true;
            return;
        }
        let mut padding = part.padding as usize;
        while padding > 0
            && let Some(block) = self.held.back_mut()
        {
            let n_frames = block.samples.len() / block.n_channels;
            let dropped = padding.min(n_frames);
            block
                .samples
                .truncate((n_frames - dropped) * block.n_channels);
            padding -= dropped;
            if block.samples.is_empty() {
                self.held.pop_back();
            } else {
                break;
            }
        }
    }

    /// Returns whether the first held block cannot be padding.
    fn is_ready(&self) -> bool {
        let behind = self.held.iter().skip(1);
        let n_behind: usize = behind
            .map(|block| block.samples.len() / block.n_channels)
            .sum();
        !self.held.is_empty() && n_behind as u64 >= self.part.padding
    }
}

impl Decode for FramesDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        while !self.is_ready() && self.advance()? {}
        match self.held.pop_front() {
            Some(next) => *block = next,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn damaged(&self) -> bool {
        self.damaged || self.frames.damaged
    }

    fn left_out(&self) -> Option<&'static str> {
        self.decoder.sbr.is_found().then_some(HE_AAC)
    }
}
