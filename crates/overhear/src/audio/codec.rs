//! Decodes packets of compressed audio to samples, independent of the container.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;
use symphonia::default::codecs;

use super::decode::{Attempt, Block, Failure};
use super::downmix::Downmix;
use super::mpeg::FrameDecoder;
use super::opus::Opus;
use super::sbr::SbrWatch;
use super::sniff::not_built_in;

/// Description of the part of HE-AAC that is not decoded.
pub(super) const HE_AAC: &str = "the upper part of the band of HE-AAC";

/// Decoder of one track.
pub(super) enum Codec {
    Symphonia {
        decoder: Box<dyn AudioDecoder>,
        /// Whether the codec defines a speaker for each channel. Linear PCM does not; Symphonia assumes a layout.
        has_places: bool,
        /// Detector of HE-AAC; set for AAC.
        sbr: Option<SbrWatch>,
    },
    Opus(Opus),
    /// MPEG audio of any layer: MP4 uses one codec name for all layers.
    Mpeg(FrameDecoder),
}

impl Codec {
    pub(super) fn open(parameters: &AudioCodecParameters) -> Attempt<Self> {
        Ok(match parameters.codec {
            codec::CODEC_ID_OPUS => Self::Opus(Opus::new(parameters.extra_data.as_deref())?),
            codec::CODEC_ID_MP1 | codec::CODEC_ID_MP2 | codec::CODEC_ID_MP3 => {
                Self::Mpeg(FrameDecoder::default())
            }
            id => Self::Symphonia {
                sbr: (id == codec::CODEC_ID_AAC).then(SbrWatch::default),
                decoder: codec_decoder(parameters)?,
                has_places: matches!(
                    id,
                    codec::CODEC_ID_AAC
                        | codec::CODEC_ID_ALAC
                        | codec::CODEC_ID_FLAC
                        | codec::CODEC_ID_VORBIS
                ),
            },
        })
    }

    /// Returns the number of frames to drop at the start of the track (encoder delay).
    pub(super) fn pre_skip(&self) -> u64 {
        match self {
            Self::Opus(opus) => opus.pre_skip(),
            _ => 0,
        }
    }

    /// Returns a description of the part of the coding that is not decoded, if any.
    pub(super) fn left_out(&self) -> Option<&'static str> {
        match self {
            Self::Symphonia { sbr: Some(sbr), .. } if sbr.is_found() => Some(HE_AAC),
            _ => None,
        }
    }

    /// Replaces the content of `block` by the frames of one packet. Returns false if the packet is damaged.
    pub(super) fn decode(&mut self, packet: &Packet, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        match self {
            Self::Mpeg(decoder) => decoder.decode(&packet.data, block),
            Self::Opus(opus) => {
                let good = opus.decode(&packet.data, block);
                let n_frames = block.samples.len() / block.n_channels.max(1);
                let n_kept = n_frames.saturating_sub(packet.trim_end.get() as usize);
                block.samples.truncate(n_kept * block.n_channels);
                Ok(good)
            }
            Self::Symphonia {
                decoder,
                has_places,
                sbr,
            } => match decoder.decode(packet) {
                Ok(buffer) => {
                    if let Some(sbr) = sbr {
                        sbr.see(&packet.data);
                    }
                    block.rate = buffer.spec().rate();
                    block.n_channels = buffer.spec().channels().count();
                    block.downmix = match buffer.spec().channels() {
                        Channels::Positioned(places) if *has_places => {
                            Downmix::from_mask(places.bits(), block.n_channels)
                        }
                        _ => Downmix::default(),
                    };
                    buffer.copy_to_vec_interleaved(&mut block.samples);
                    Ok(true)
                }
                Err(Error::Unsupported(what)) => {
                    Err(not_built_in(&format!("this file's coding ({what})")))
                }
                Err(_) => {
                    decoder.reset();
                    Ok(false)
                }
            },
        }
    }
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
