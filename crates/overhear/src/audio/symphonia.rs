//! Compressed formats, through Symphonia: the container's packets, and a decoder for the first audio track.
//!
//! The format is known by now, so only its own reader is asked, without a search through the file; tags are never
//! collected. A packet that cannot be decoded is left out and the file marked as damaged. `ResetRequired` means that
//! another stream is chained behind the first one (Ogg): the tracks are looked at anew.

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::{Hint, Probe};
use symphonia::core::formats::{FormatReader, Track};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::packet::Packet;
use symphonia::default::{codecs, formats};

use super::decode::{Attempt, Block, Decode, Failure, check_shape};
use super::mp4;
use super::opus::Opus;
use super::sniff::not_built_in;
use super::source::Input;

/// Errors in a row, without a good packet between them, after which a file is given up.
const MAX_ERRORS: usize = 1000;

/// A container that Symphonia reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Adts,
    Aiff,
    Caf,
    Flac,
    Mkv,
    Mp4,
    /// MPEG audio frames, layers I to III, as they are.
    Mpeg,
    Ogg,
}

impl Container {
    fn name(self) -> &'static str {
        match self {
            Self::Adts => "AAC (ADTS)",
            Self::Aiff => "AIFF",
            Self::Caf => "CAF",
            Self::Flac => "FLAC",
            Self::Mkv => "Matroska/WebM",
            Self::Mp4 => "MP4",
            Self::Mpeg => "MP3",
            Self::Ogg => "Ogg",
        }
    }

    fn probe(self) -> Probe {
        let mut probe = Probe::new();
        match self {
            Self::Adts => probe.register_format::<formats::AdtsReader<'_>>(),
            Self::Aiff => probe.register_format::<formats::AiffReader<'_>>(),
            Self::Caf => probe.register_format::<formats::CafReader<'_>>(),
            Self::Flac => probe.register_format::<formats::FlacReader<'_>>(),
            Self::Mkv => probe.register_format::<formats::MkvReader<'_>>(),
            Self::Mp4 => probe.register_format::<formats::IsoMp4Reader<'_>>(),
            Self::Mpeg => probe.register_format::<formats::MpaReader<'_>>(),
            Self::Ogg => probe.register_format::<formats::OggReader<'_>>(),
        }
        probe
    }
}

/// Starts to decode `input`, which holds a `container`.
pub(super) fn open(container: Container, mut input: Input) -> Attempt<Box<dyn Decode>> {
    let (mut edits, mut cut) = (Vec::new(), false);
    match container {
        Container::Mp4 => (edits, cut) = mp4::edits(&mut input)?,
        Container::Mkv => cut = mkv_is_cut(&mut input)?,
        Container::Ogg => refuse_speex(&mut input)?,
        _ => {}
    }
    // From the length of an MP3 file Symphonia would guess its duration, and cut it there.
    if cut || container == Container::Mpeg {
        input.read_as_stream();
    }
    let stream = MediaSourceStream::new(Box::new(input), MediaSourceStreamOptions::default());
    let reader = container
        .probe()
        .probe(&Hint::new(), stream, Default::default(), Default::default())
        .map_err(|error| refusal(container, error))?;
    let mut decoder = PacketDecoder {
        container,
        reader,
        track: 0,
        codec: Codec::None,
        edits,
        padding: 0,
        to_skip: 0,
        left: u64::MAX,
        started: false,
        n_expected: 0,
        n_frames: 0,
        n_errors: 0,
        damaged: cut,
    };
    decoder.select_track()?;
    Ok(Box::new(decoder))
}

/// Symphonia looks for a codec that it knows up to the end of the file; Speex is the one there is to meet.
fn refuse_speex(input: &mut Input) -> Attempt<()> {
    let head = input.peek(64)?;
    if head
        .get(28..)
        .is_some_and(|packet| packet.starts_with(b"Speex   "))
    {
        return Err(not_built_in("Speex"));
    }
    Ok(())
}

/// Whether a Matroska segment that states its length (RFC 8794 section 4) reaches beyond the end of the file.
fn mkv_is_cut(input: &mut Input) -> Attempt<bool> {
    let Some(len) = input.len() else {
        return Ok(false);
    };
    let head = input.peek(4096)?;
    // Where the number at `at` ends, and its value; `None` for "unknown" and for nonsense.
    let number = |at: usize| {
        let n_bytes = head.get(at)?.leading_zeros() as usize + 1;
        let bytes = head.get(at..at + n_bytes).filter(|_| n_bytes <= 8)?;
        let value = bytes
            .iter()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let mask = (1 << (7 * n_bytes)) - 1;
        (value & mask != mask).then_some((at + n_bytes, value & mask))
    };
    let segment_end = || {
        let (header, header_len) = number(4)?;
        let segment = header.checked_add(usize::try_from(header_len).ok()?)?;
        if !head.get(segment..)?.starts_with(b"\x18\x53\x80\x67") {
            return None;
        }
        let (body, body_len) = number(segment + 4)?;
        (body as u64).checked_add(body_len)
    };
    Ok(segment_end().is_some_and(|end| end > len))
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

enum Codec {
    None,
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Opus),
}

struct PacketDecoder {
    container: Container,
    reader: Box<dyn FormatReader>,
    /// Id of the track that is decoded.
    track: u32,
    codec: Codec,
    edits: Vec<mp4::Edit>,
    /// Frames that an MP3 encoder added at the end.
    padding: u64,
    /// Frames to drop: what encoders put in front to warm their decoder up.
    to_skip: u64,
    /// Frames to keep after those.
    left: u64,
    /// Whether a packet of this track was seen.
    started: bool,
    /// Frames that the header promises.
    n_expected: u64,
    n_frames: u64,
    n_errors: usize,
    damaged: bool,
}

impl PacketDecoder {
    /// Takes the first audio track and makes its decoder.
    fn select_track(&mut self) -> Attempt<()> {
        let tracks = self.reader.tracks();
        let Some((track, parameters)) =
            tracks.iter().find_map(|track| Some((track, audio(track)?)))
        else {
            let unknown = tracks.iter().any(|track| track.codec_params.is_none());
            return Err(if unknown || self.container == Container::Ogg {
                not_built_in(&format!("the codec in this {} file", self.container.name()))
            } else {
                Failure::audio("no audio track")
            });
        };
        self.track = track.id;
        self.started = false;
        self.padding = track.padding.unwrap_or(0).into();
        self.n_expected += track.num_frames.unwrap_or(0);
        (self.to_skip, self.left) = (0, u64::MAX);
        if parameters.codec == codec::CODEC_ID_OPUS {
            let opus = Opus::new(parameters.extra_data.as_deref())?;
            self.to_skip = opus.pre_skip();
            self.codec = Codec::Opus(opus);
        } else {
            let decoder = codec_decoder(parameters)?;
            self.codec = Codec::Symphonia(decoder);
        }
        if let Some(edit) = self.edits.iter().find(|edit| edit.track == track.id) {
            let rate = parameters.sample_rate.unwrap_or(0);
            (self.to_skip, self.left) = edit.in_frames(rate);
            self.n_expected = 0;
        }
        Ok(())
    }

    /// The next packet of the track; `None` at the end.
    fn packet(&mut self) -> Attempt<Option<Packet>> {
        loop {
            match self.reader.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => return Ok(Some(packet)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(Error::ResetRequired) => self.select_track()?,
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    // A live recording in Matroska has no other end; whether one that states its
                    // length is cut is known.
                    self.damaged |= self.container != Container::Mkv;
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

    /// Decodes `packet` into `block`, which stays empty if it cannot be.
    fn decode(&mut self, packet: &Packet, block: &mut Block) -> Attempt<()> {
        block.samples.clear();
        let good = match &mut self.codec {
            Codec::None => false,
            Codec::Opus(opus) => {
                let good = opus.decode(&packet.data, block);
                let n_frames = block.samples.len() / block.n_channels.max(1);
                let n_kept = n_frames.saturating_sub(packet.trim_end.get() as usize);
                block.samples.truncate(n_kept * block.n_channels);
                good
            }
            Codec::Symphonia(decoder) => match decoder.decode(packet) {
                Ok(buffer) => {
                    block.rate = buffer.spec().rate();
                    block.n_channels = buffer.spec().channels().count();
                    buffer.copy_to_vec_interleaved(&mut block.samples);
                    true
                }
                Err(Error::Unsupported(what)) => {
                    return Err(not_built_in(&format!("this file's coding ({what})")));
                }
                Err(_) => {
                    decoder.reset();
                    false
                }
            },
        };
        if good {
            self.n_errors = 0;
        } else {
            self.damaged = true;
            self.n_errors += 1;
        }
        Ok(())
    }

    /// Applies `to_skip` and `left` to a decoded block.
    fn trim(&mut self, block: &mut Block) {
        let n_frames = (block.samples.len() / block.n_channels) as u64;
        let skipped = self.to_skip.min(n_frames);
        let kept = self.left.min(n_frames - skipped);
        self.to_skip -= skipped;
        self.left -= kept;
        self.n_frames += kept;
        block
            .samples
            .truncate((skipped + kept) as usize * block.n_channels);
        block.samples.drain(..skipped as usize * block.n_channels);
    }

    /// Matroska gives what precedes the recording a negative time.
    fn note_start(&mut self, packet: &Packet) {
        if self.started || self.container != Container::Mkv || matches!(self.codec, Codec::Opus(_))
        {
            self.started = true;
            return;
        }
        self.started = true;
        let track = self
            .reader
            .tracks()
            .iter()
            .find(|track| track.id == self.track);
        let base = track.and_then(|track| track.time_base);
        let rate = track
            .and_then(audio)
            .and_then(|parameters| parameters.sample_rate);
        if let (Some(base), Some(rate)) = (base, rate) {
            let seconds = -(packet.pts.get() as f64) * f64::from(base.numer.get())
                / f64::from(base.denom.get());
            self.to_skip = (seconds.clamp(0.0, 1.0) * f64::from(rate)).round() as u64;
        }
    }
}

impl Decode for PacketDecoder {
    fn next(&mut self, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        while block.samples.is_empty() {
            let packet = if self.left == 0 || self.n_errors > MAX_ERRORS {
                None
            } else {
                self.packet()?
            };
            let Some(mut packet) = packet else {
                // A tenth of a second is no loss, but the difference between an encoder's counts and another's.
                self.damaged |= self.n_frames + u64::from(block.rate) / 10 < self.n_expected;
                return Ok(false);
            };
            if self.container == Container::Mpeg {
                // Frames beyond the count in the header (of a file behind the first one) are no padding.
                packet.trim_end = packet.trim_end.min(self.padding.into());
                self.padding -= packet.trim_end.get();
            }
            self.note_start(&packet);
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
}

fn audio(track: &Track) -> Option<&AudioCodecParameters> {
    track.codec_params.as_ref().and_then(CodecParameters::audio)
}

fn codec_decoder(parameters: &AudioCodecParameters) -> Attempt<Box<dyn AudioDecoder>> {
    let options = AudioDecoderOptions::default();
    let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &options);
    decoder.map_err(|error| match error {
        Error::Unsupported(_) if parameters.codec == codec::CODEC_ID_AAC => {
            not_built_in("AAC other than AAC-LC in mono or stereo (HE-AAC, xHE-AAC, 5.1)")
        }
        Error::Unsupported(_) => not_built_in(codec_name(parameters.codec)),
        other => Failure::Audio(format!("damaged stream header: {other}")),
    })
}

fn codec_name(id: AudioCodecId) -> &'static str {
    const NAMES: &[(AudioCodecId, &str)] = &[
        (codec::CODEC_ID_AC3, "AC-3"),
        (codec::CODEC_ID_EAC3, "E-AC-3"),
        (codec::CODEC_ID_AC4, "AC-4"),
        (codec::CODEC_ID_DCA, "DTS"),
        (codec::CODEC_ID_SPEEX, "Speex"),
        (codec::CODEC_ID_WMA, "WMA"),
        (codec::CODEC_ID_TRUEHD, "TrueHD"),
        (codec::CODEC_ID_WAVPACK, "WavPack"),
        (codec::CODEC_ID_TTA, "TTA"),
        (
            codec::CODEC_ID_ADPCM_MS,
            "Microsoft ADPCM in this container",
        ),
        (codec::CODEC_ID_ADPCM_IMA_WAV, "IMA ADPCM in this container"),
        (codec::CODEC_ID_ADPCM_IMA_QT, "IMA ADPCM in this container"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == id)
        .map_or("the codec of this file's audio track", |(_, name)| name)
}

// Named here so that dropping a Symphonia feature fails to compile instead of at run time.
const _: fn() = || {
    let _ = (
        size_of::<codecs::AacDecoder>(),
        size_of::<codecs::AlacDecoder>(),
        size_of::<codecs::FlacDecoder>(),
        size_of::<codecs::MpaDecoder>(),
        size_of::<codecs::PcmDecoder>(),
        size_of::<codecs::VorbisDecoder>(),
    );
};
