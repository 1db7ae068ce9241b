//! The decoders of compressed audio: Symphonia's, and Opus.

use symphonia::core::codecs::audio::well_known as codec;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;
use symphonia::default::codecs;

use super::decode::{Attempt, Block, Failure};
use super::opus::Opus;
use super::sniff::not_built_in;

/// The decoder of a track's packets.
pub(super) enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Opus),
}

impl Codec {
    /// A decoder of what `parameters` tell of.
    pub(super) fn open(parameters: &AudioCodecParameters) -> Attempt<Self> {
        if parameters.codec == codec::CODEC_ID_OPUS {
            let opus = Opus::new(parameters.extra_data.as_deref())?;
            return Ok(Self::Opus(opus));
        }
        codec_decoder(parameters).map(Self::Symphonia)
    }

    /// Frames at the start of the stream that are not part of the recording, where the codec tells.
    pub(super) fn pre_skip(&self) -> u64 {
        match self {
            Self::Opus(opus) => opus.pre_skip(),
            Self::Symphonia(_) => 0,
        }
    }

    /// Replaces the content of `block` by the frames of `packet`; false if it is damaged.
    pub(super) fn decode(&mut self, packet: &Packet, block: &mut Block) -> Attempt<bool> {
        block.samples.clear();
        match self {
            Self::Opus(opus) => {
                let good = opus.decode(&packet.data, block);
                let n_frames = block.samples.len() / block.n_channels.max(1);
                let n_kept = n_frames.saturating_sub(packet.trim_end.get() as usize);
                block.samples.truncate(n_kept * block.n_channels);
                Ok(good)
            }
            Self::Symphonia(decoder) => match decoder.decode(packet) {
                Ok(buffer) => {
                    block.rate = buffer.spec().rate();
                    block.n_channels = buffer.spec().channels().count();
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
