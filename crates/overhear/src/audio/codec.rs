//! Packets of compressed audio to samples, whichever container they come from.

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

/// What is left out of HE-AAC.
pub(super) const HE_AAC: &str = "the upper part of the band of HE-AAC";

/// The decoder of one track.
pub(super) enum Codec {
    Symphonia {
        decoder: Box<dyn AudioDecoder>,
        /// Whether the codec says which speaker a channel is for. Plain samples do not: Symphonia makes it up.
        has_places: bool,
        /// Set for AAC.
        sbr: Option<SbrWatch>,
    },
    Opus(Opus),
    /// MPEG audio, whatever layer the container says: MP4 has one name for all.
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

    /// Frames at the start of the track that are not part of the recording.
    pub(super) fn pre_skip(&self) -> u64 {
        match self {
            Self::Opus(opus) => opus.pre_skip(),
            _ => 0,
        }
    }

    /// What of the coding is left out.
    pub(super) fn left_out(&self) -> Option<&'static str> {
        match self {
            Self::Symphonia { sbr: Some(sbr), .. } if sbr.is_found() => Some(HE_AAC),
            _ => None,
        }
    }

    /// Replaces the content of `block` by the frames of one packet; false if the packet is damaged.
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
