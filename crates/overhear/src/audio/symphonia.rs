//! Compressed formats, through Symphonia: the container's packets, and a decoder for the first audio track.
//!
//! The format is already recognised, so only its own reader is opened, without probing; tags are not collected. A
//! packet that cannot be decoded is skipped and the file is marked as damaged.

use std::io::{Read, Seek, SeekFrom};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::{Hint, Probe};
use symphonia::core::formats::{FormatReader, Track};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::packet::Packet;
use symphonia::default::formats;

use super::codec::Codec;
use super::decode::{Attempt, Block, Decode, Failure, check_shape};
use super::sniff::not_built_in;
use super::source::Input;

/// Maximum number of consecutive errors before decoding stops.
const MAX_ERRORS: usize = 1000;

/// Container that Symphonia reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// Core Audio Format with compressed audio.
    Caf,
    Flac,
}

impl Container {
    fn name(self) -> &'static str {
        match self {
            Self::Caf => "CAF",
            Self::Flac => "FLAC",
        }
    }

    fn probe(self) -> Probe {
        let mut probe = Probe::new();
        match self {
            Self::Caf => probe.register_format::<formats::CafReader<'_>>(),
            Self::Flac => probe.register_format::<formats::FlacReader<'_>>(),
        }
        probe
    }
}

/// Opens the compressed audio of a CAF file.
pub(super) fn open_caf(mut input: Input) -> Attempt<Box<dyn Decode>> {
    let end = chunks_end(&mut input)?;
    input.limit(end);
    open(Container::Caf, Box::new(input))
}

/// Returns the offset at which the last complete chunk ends; tags and padding after it are not chunks.
fn chunks_end(input: &mut Input) -> Attempt<u64> {
    let len = input.len().unwrap_or(u64::MAX);
    let mut at = 8;
    loop {
        input.seek(SeekFrom::Start(at))?;
        let mut header = Vec::new();
        input.take(12).read_to_end(&mut header)?;
        let Some(([a, b, c, d, size @ ..], _)) = header.split_first_chunk::<12>() else {
            break;
        };
        let name = [*a, *b, *c, *d];
        let size = u64::from_be_bytes(*size);
        let next = (at + 12).saturating_add(size);
        if &name == b"data" && next > len {
            at = len;
        }
        if !name.iter().all(u8::is_ascii_graphic) || next > len {
            break;
        }
        at = next;
    }
    input.seek(SeekFrom::Start(0))?;
    Ok(at.min(len))
}

/// Opens a decoder of `source`, which is a `container`.
pub(super) fn open(container: Container, source: Box<dyn MediaSource>) -> Attempt<Box<dyn Decode>> {
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let reader = container
        .probe()
        .probe(&Hint::new(), stream, Default::default(), Default::default())
        .map_err(|error| refusal(container, error))?;
    let mut decoder = PacketDecoder {
        container,
        reader,
        track: 0,
        codec: None,
        to_skip: 0,
        n_expected: 0,
        n_frames: 0,
        n_errors: 0,
        damaged: false,
    };
    decoder.select_track()?;
    Ok(Box::new(decoder))
}

fn refusal(container: Container, error: Error) -> Failure {
    match error {
        Error::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Failure::Read(error)
        }
        Error::IoError(_) => Failure::Audio(format!(
            "damaged {}: it ends within its headers",
            container.name()
        )),
        other => Failure::Audio(format!("damaged {}: {other}", container.name())),
    }
}

struct PacketDecoder {
    container: Container,
    reader: Box<dyn FormatReader>,
    /// Id of the decoded track.
    track: u32,
    /// `None` before the first track.
    codec: Option<Codec>,
    /// Number of frames to drop at the start (encoder delay).
    to_skip: u64,
    /// Number of frames that the header declares.
    n_expected: u64,
    n_frames: u64,
    n_errors: usize,
    damaged: bool,
}

impl PacketDecoder {
    /// Selects the first audio track and creates its decoder.
    fn select_track(&mut self) -> Attempt<()> {
        let tracks = self.reader.tracks();
        let Some((track, parameters)) =
            tracks.iter().find_map(|track| Some((track, audio(track)?)))
        else {
            let unknown = tracks.iter().any(|track| track.codec_params.is_none());
            return Err(if unknown {
                not_built_in(&format!("the codec in this {} file", self.container.name()))
            } else {
                Failure::audio("no audio track")
            });
        };
        self.track = track.id;
        self.n_expected += track.num_frames.unwrap_or(0);
        let codec = Codec::open(parameters)?;
        self.to_skip = codec.pre_skip();
        self.codec = Some(codec);
        Ok(())
    }

    /// Returns the next packet of the track; `None` at the end.
    fn packet(&mut self) -> Attempt<Option<Packet>> {
        loop {
            match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => return Ok(Some(packet)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.damaged = true;
                    return Ok(None);
                }
                Err(Error::IoError(error)) => return Err(Failure::Read(error)),
                Err(_) => {
                    self.damaged = true;
                    self.n_errors += 1;
                    if self.n_errors > MAX_ERRORS {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Decodes `packet` into `block`, which stays empty if the packet is damaged.
    fn decode(&mut self, packet: &Packet, block: &mut Block) -> Attempt<()> {
        block.samples.clear();
        let good = match &mut self.codec {
            Some(codec) => codec.decode(packet, block)?,
            None => false,
        };
        if good {
            self.n_errors = 0;
        } else {
            self.damaged = true;
            self.n_errors += 1;
        }
        Ok(())
    }

    /// Applies `to_skip` to a decoded block.
    fn trim(&mut self, block: &mut Block) {
        let n_frames = (block.samples.len() / block.n_channels) as u64;
        let skipped = self.to_skip.min(n_frames);
        self.to_skip -= skipped;
        self.n_frames += n_frames - skipped;
        block.samples.drain(..skipped as usize * block.n_channels);
    }
}

impl Decode for PacketDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        while block.samples.is_empty() {
            let packet = if self.n_errors > MAX_ERRORS {
                None
            } else {
                self.packet()?
            };
            let Some(packet) = packet else {
                // A difference of up to a tenth of a second does not count as damage: encoders count frames
                // differently.
                self.damaged |= self.n_frames + u64::from(block.rate) / 10 < self.n_expected;
                return Ok(false);
            };
            // FLAC numbers its frames, and Symphonia skips damaged ones silently.
            self.damaged |= self.container == Container::Flac
                && packet.pts.get() > i64::try_from(self.n_frames).unwrap_or(i64::MAX);
            self.decode(&packet, block)?;
            if !block.samples.is_empty() {
                check_shape(block.rate, block.n_channels)?;
                self.trim(block);
            }
        }
        Ok(true)
    }

    fn damaged(&self) -> bool {
        self.damaged
    }

    fn left_out(&self) -> Option<&'static str> {
        self.codec.as_ref().and_then(Codec::left_out)
    }
}

fn audio(track: &Track) -> Option<&AudioCodecParameters> {
    track.codec_params.as_ref().and_then(CodecParameters::audio)
}

impl MediaSource for Input {
    fn is_seekable(&self) -> bool {
        Input::is_seekable(self)
    }

    fn byte_len(&self) -> Option<u64> {
        self.len()
    }
}
