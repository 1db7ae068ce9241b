//! Ogg files: Opus, Vorbis and FLAC, chained streams, and damaged pages.
//!
//! A damaged page is skipped, with all packets that lie in it; the others are decoded. Only the first page of a stream,
//! which identifies the codec, is read even if its checksum is wrong.
//!
//! References: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), Xiph's "Vorbis I" appendix A and "FLAC to Ogg mapping".

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{CODEC_ID_FLAC, CODEC_ID_OPUS, CODEC_ID_VORBIS};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::codec::Codec;
use super::decode::{Attempt, Block, Decode, Failure, check_shape};
use super::ogg_pages::{Page, Pages};
use super::sniff::not_built_in;
use super::source::Input;

/// Maximum length of a packet assembled from pages; Vorbis setup headers are shorter.
const MAX_PACKET: usize = 1 << 24;
/// Maximum number of consecutive damaged packets before decoding stops.
const MAX_ERRORS: usize = 1000;

/// Opens a decoder of `input`.
pub(super) fn open(input: Input) -> Attempt<Box<dyn Decode>> {
    let mut decoder = OggDecoder {
        pages: Pages::new(input),
        stream: None,
        packets: Vec::new().into_iter(),
        ready: Block::default(),
        others: None,
        has_start: false,
        n_errors: 0,
        damaged: false,
    };
    // Read up to the first audio packet, so that a codec that cannot be decoded is an error at once.
    while !decoder.has_packets() && decoder.advance()? {}
    match &decoder.stream {
        Some(stream) if stream.codec.is_some() => Ok(Box::new(decoder)),
        Some(_) => Err(Failure::audio("damaged Ogg: it ends within its headers")),
        None => Err(decoder.others.unwrap_or_else(|| {
            Failure::audio(if decoder.has_start {
                "no audio track"
            } else {
                "damaged Ogg: the start of its streams is missing"
            })
        })),
    }
}

/// Codec of a stream, by its first packet.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Opus,
    Vorbis,
    Flac,
}

/// Stream in progress.
struct Stream {
    /// Serial number; `None` until a page with a correct checksum provides it.
    serial: Option<u32>,
    kind: Kind,
    /// Whether the checksum of its first page is wrong.
    is_doubtful: bool,
    /// Sequence number of the last page.
    sequence: u32,
    /// Header packets that the decoder needs, so far, and the number of header packets still to come.
    headers: Vec<u8>,
    n_headers_left: usize,
    /// Created when all headers are complete.
    codec: Option<Codec>,
    /// Start of a packet that continues on the next page.
    partial: Vec<u8>,
    /// Granule position of the last page, in samples; `None` before the first.
    position: Option<u64>,
    /// Number of samples still to be dropped at the start.
    to_skip: u64,
    /// Whether the stream's last page was seen.
    ended: bool,
}

impl Stream {
    /// Creates the stream that begins with `page`, if it is an audio stream that can be decoded.
    fn begin(page: &Page) -> Result<Self, Option<Failure>> {
        let packet = page.packets().next().unwrap_or_default();
        let (kind, n_headers, headers) = if packet.starts_with(b"OpusHead") {
            (Kind::Opus, 1, packet)
        } else if packet.starts_with(b"\x01vorbis") {
            (Kind::Vorbis, 2, packet)
        } else if let Some(rest) = packet.strip_prefix(b"\x7FFLAC") {
            // Version, number of headers, then "fLaC" and STREAMINFO with a header of 4 bytes.
            let n = rest
                .get(2..4)
                .map_or(0, |n| usize::from(n[0]) << 8 | usize::from(n[1]));
            (Kind::Flac, n, rest.get(12..).unwrap_or_default())
        } else if packet.starts_with(b"Speex   ") {
            return Err(Some(not_built_in("Speex")));
        } else if [
            &b"\x80theora"[..],
            b"fishead\0",
            b"fisbone\0",
            b"BBCD",
            b"\x01video",
            b"CMML",
            b"\x80kate",
        ]
        .iter()
        .any(|other| packet.starts_with(other))
        {
            return Err(None);
        } else {
            return Err(Some(not_built_in("the codec in this Ogg file")));
        };
        Ok(Self::new(page, kind, n_headers, headers))
    }

    fn new(page: &Page, kind: Kind, n_headers_left: usize, headers: &[u8]) -> Self {
        let mut headers = headers.to_vec();
        // Vorbis I, 4.2.2: the header's last byte holds nothing but the framing bit, so that it can be restored.
        if kind == Kind::Vorbis
            && !page.good
            && let Some(framing) = headers.last_mut()
        {
            *framing = 1;
        }
        Self {
            serial: page.good.then_some(page.serial),
            kind,
            is_doubtful: !page.good,
            sequence: page.sequence,
            headers,
            n_headers_left,
            codec: None,
            partial: Vec::new(),
            position: None,
            to_skip: 0,
            ended: false,
        }
    }

    /// Takes one of the header packets after the first; creates the decoder after the last one.
    fn take_header(&mut self, packet: &[u8]) -> Attempt<()> {
        if self.kind == Kind::Vorbis && packet.starts_with(b"\x05vorbis") {
            self.headers.extend_from_slice(packet);
        }
        self.n_headers_left -= 1;
        if self.n_headers_left == 0 {
            self.make_codec()?;
        }
        Ok(())
    }

    fn make_codec(&mut self) -> Attempt<()> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(match self.kind {
            Kind::Opus => CODEC_ID_OPUS,
            Kind::Vorbis => CODEC_ID_VORBIS,
            Kind::Flac => CODEC_ID_FLAC,
        });
        if !self.headers.is_empty() {
            parameters.with_extra_data(std::mem::take(&mut self.headers).into_boxed_slice());
        }
        let codec = match Codec::open(&parameters) {
            // The damaged first page has impossible fields: mono or stereo is the most likely layout.
            Err(_) if self.is_doubtful && self.kind == Kind::Opus => {
                Codec::open(AudioCodecParameters::new().for_codec(CODEC_ID_OPUS))?
            }
            opened => opened?,
        };
        self.to_skip = codec.pre_skip();
        self.codec = Some(codec);
        Ok(())
    }

    /// Returns whether this packet is a header of a kind of which the stream may have more than declared.
    fn is_header(&self, packet: &[u8]) -> bool {
        match self.kind {
            Kind::Opus => packet.starts_with(b"OpusTags"),
            Kind::Vorbis => packet.first().is_some_and(|first| first & 1 == 1),
            Kind::Flac => packet.first() != Some(&0xFF),
        }
    }

    /// Returns the complete audio packets that end in `page`, and whether a page before it is missing.
    fn take_page(&mut self, page: &Page) -> Attempt<(Vec<Vec<u8>>, bool)> {
        let is_next = page.sequence == self.sequence.wrapping_add(1);
        // Some writers do not count pages.
        let lost = !is_next && page.sequence != self.sequence;
        self.sequence = page.sequence;
        if lost || !page.continued {
            self.partial.clear();
        }
        // The rest of a packet whose start is missing.
        let is_orphan = page.continued && self.partial.is_empty();
        let n_parts = page.packets().len();
        let mut packets = Vec::new();
        for (index, part) in page.packets().enumerate() {
            if index == 0 && is_orphan {
                continue;
            }
            if self.partial.len() + part.len() <= MAX_PACKET {
                self.partial.extend_from_slice(part);
            }
            if index + 1 == n_parts && page.unfinished {
                break;
            }
            let packet = std::mem::take(&mut self.partial);
            if self.n_headers_left > 0 && self.is_header(&packet) {
                self.take_header(&packet)?;
            } else if !packet.is_empty() && !self.is_header(&packet) {
                if self.codec.is_none() {
                    // A missing header is either irrelevant to decoding, or its absence is an error when the decoder is
                    // created.
                    self.make_codec()?;
                }
                packets.push(packet);
            }
        }
        Ok((packets, lost))
    }
}

struct OggDecoder {
    pages: Pages,
    stream: Option<Stream>,
    /// Packets of the last page that are still to be decoded.
    packets: std::vec::IntoIter<Vec<u8>>,
    /// Samples of a page that had to be decoded as a whole.
    ready: Block,
    /// Reason why a stream before the first decodable one was skipped.
    others: Option<Failure>,
    /// Whether any stream begins.
    has_start: bool,
    n_errors: usize,
    damaged: bool,
}

impl OggDecoder {
    fn has_packets(&self) -> bool {
        self.packets.len() > 0 || !self.ready.samples.is_empty()
    }

    /// Takes one more page. Returns false at the end.
    fn advance(&mut self) -> Attempt<bool> {
        let Some(page) = self.pages.next()? else {
            // A file that ends before its last page is truncated.
            self.damaged |= self.stream.as_ref().is_some_and(|stream| !stream.ended);
            return Ok(false);
        };
        let is_over = self
            .stream
            .as_ref()
            .is_none_or(|stream| stream.ended || stream.position.is_some());
        self.has_start |= page.first;
        if page.first && is_over {
            self.begin(&page);
            return Ok(true);
        }
        if !page.good {
            return Ok(true);
        }
        let is_opus = page
            .packets()
            .next()
            .is_some_and(|part| part.starts_with(b"OpusTags"));
        if self.stream.is_none() && is_opus {
            // The first page is missing: mono or stereo is the most likely layout.
            self.stream = Some(Stream::new(&page, Kind::Opus, 1, b""));
            self.damaged = true;
        }
        if let Some(stream) = &mut self.stream
            && *stream.serial.get_or_insert(page.serial) == page.serial
        {
            self.take_page(&page)?;
        }
        Ok(true)
    }

    /// Switches to the stream that begins with `page`, if it is an audio stream.
    fn begin(&mut self, page: &Page) {
        match Stream::begin(page) {
            Ok(stream) => {
                // The previous stream was truncated.
                self.damaged |= self.stream.as_ref().is_some_and(|stream| !stream.ended);
                self.stream = Some(stream);
            }
            Err(Some(failure)) if page.good => {
                self.damaged |= self.stream.is_some();
                self.others.get_or_insert(failure);
            }
            Err(_) => {}
        }
    }

    /// Takes the packets of a page of the stream.
    fn take_page(&mut self, page: &Page) -> Attempt<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let (packets, lost) = stream.take_page(page)?;
        self.damaged |= lost;
        stream.ended |= page.last;
        if packets.is_empty() {
            return Ok(());
        }
        let before = stream.position;
        stream.position = page.granule.or(before).or(Some(0));
        // The granule position trims samples at the start of Vorbis streams, and at the end of all streams.
        let is_start = before.is_none() && stream.kind == Kind::Vorbis;
        if !is_start && !page.last {
            self.packets = packets.into_iter();
            return Ok(());
        }
        let (mut all, mut block) = (Block::default(), Block::default());
        for packet in packets {
            self.decode(packet, &mut block)?;
            let samples = std::mem::take(&mut all.samples);
            let more = std::mem::take(&mut block.samples);
            all = Block {
                samples: [samples, more].concat(),
                ..std::mem::take(&mut block)
            };
        }
        let n_channels = all.n_channels.max(1);
        let n_frames = (all.samples.len() / n_channels) as u64;
        if let Some(granule) = page.granule {
            let n_true = granule.saturating_sub(before.unwrap_or(0)).min(n_frames);
            let surplus = (n_frames - n_true) as usize * n_channels;
            if page.last && granule >= before.unwrap_or(0) {
                all.samples.truncate(all.samples.len() - surplus);
            } else if is_start {
                all.samples.drain(..surplus);
            }
        }
        self.ready = all;
        Ok(())
    }

    /// Replaces the content of `block` by the samples of `packet`.
    fn decode(&mut self, packet: Vec<u8>, block: &mut Block) -> Attempt<()> {
        block.samples.clear();
        let packet = Packet::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let codec = self
            .stream
            .as_mut()
            .and_then(|stream| stream.codec.as_mut());
        if codec.map_or(Ok(false), |codec| codec.decode(&packet, block))? {
            self.n_errors = 0;
        } else {
            self.damaged = true;
            self.n_errors += 1;
        }
        Ok(())
    }
}

impl Decode for OggDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        while block.samples.is_empty() {
            if !self.ready.samples.is_empty() {
                *block = std::mem::take(&mut self.ready);
            } else if let Some(packet) = self.packets.next() {
                self.decode(packet, block)?;
            } else if self.n_errors > MAX_ERRORS || !self.advance()? {
                return Ok(false);
            }
            if let Some(stream) = &mut self.stream
                && !block.samples.is_empty()
            {
                check_shape(block.rate, block.n_channels)?;
                let n_frames = block.samples.len() / block.n_channels;
                let skipped = stream.to_skip.min(n_frames as u64);
                stream.to_skip -= skipped;
                block.samples.drain(..skipped as usize * block.n_channels);
            }
        }
        Ok(true)
    }

    fn damaged(&self) -> bool {
        self.damaged || self.pages.damaged
    }
}
