//! Every built-in container and codec, compared with the original recording or with ffmpeg's decoding.
//!
//! `fixtures/formats`: one CC0 utterance in 30 formats. `fixtures/odd`: two seconds of it (and of a synthetic voice) in
//! error-prone formats, made with ffmpeg 5.1; `opus_*.flac` are libopus's output for the Opus files.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use crate::audio_support::{
    Wav, best_shift, bytes, decode, decode_bytes, fixture, refusal, snr_db,
};
use overhear::Audio;

/// Files of the manifest that are decoded, and the minimum correlation with the original; 1.0: identical samples.
/// (ffmpeg's scale of the 16 kHz float and lossy files differs and is ignored.)
///
/// Lossless files at other rates differ by the steepness of two resamplers' filters; files at 8 kHz lack the upper half
/// of the spectrum; the rest is the loss of the codec.
const FORMATS: &[(&str, f64)] = &[
    ("cc0_48k_stereo_s16.wav", 1.0),
    ("cc0_48k_stereo.flac", 1.0),
    ("cc0_alac_48k.m4a", 1.0),
    ("cc0_caf_s16.caf", 1.0),
    ("cc0_w64_s16.w64", 1.0),
    ("cc0_s24_44k1_mono.wav", 0.9995),
    ("cc0_aiff_44k1.aiff", 0.9995),
    ("cc0_s32_16k_mono.wav", 0.9995),
    ("cc0_f32_16k_mono.wav", 0.9995),
    ("cc0_16k_mono_24bit.flac", 0.9995),
    ("cc0_s16_11025_mono.wav", 0.99),
    ("cc0_msadpcm_22k.wav", 0.998),
    ("cc0_imaadpcm_16k.wav", 0.997),
    ("cc0_u8_8k_mono.wav", 0.98),
    ("cc0_mulaw_8k_mono.wav", 0.98),
    ("cc0_alaw_8k_mono.wav", 0.98),
    ("cc0_au_mulaw_8k.au", 0.98),
    ("cc0_44k1_vbr_v2.mp3", 0.995),
    ("cc0_22k_mono_64k.mp3", 0.995),
    ("cc0_8k_mono_16kbps.mp3", 0.97),
    ("cc0_48k_stereo_q4.ogg", 0.995),
    ("cc0_16k_mono.ogg", 0.99),
    ("cc0_aac_44k1.m4a", 0.99),
    ("cc0_adts_48k.aac", 0.98),
    ("cc0_mono_24k.opus", 0.97),
    ("cc0_stereo_96k.opus", 0.995),
    ("cc0_opus.webm", 0.97),
];

fn original() -> Vec<f32> {
    Audio::open(fixture("formats/cc0_48k_stereo_s16.wav"))
        .unwrap()
        .samples()
        .unwrap()
}

#[test]
fn every_format_gives_the_recording_without_a_shift() {
    let original = original();
    assert_eq!(original.len(), 81_157);
    let mut failures = Vec::new();
    for (file, least) in FORMATS {
        let audio = Audio::open(fixture("formats").join(file)).unwrap();
        let (samples, warnings) = decode(&audio).unwrap();
        let (shift, correlation) = best_shift(&samples, &original);
        println!(
            "{file}: {} samples, shift {shift}, {correlation:.5} {warnings:?}",
            samples.len()
        );
        // ADTS cannot declare that its first 1024 frames are encoder delay.
        let run_up = if *file == "cc0_adts_48k.aac" { 341 } else { 0 };
        let misplaced = (shift - run_up).abs() > 1;
        let too_long = samples.len().abs_diff(original.len()) > 500;
        let unlike = correlation < *least - 1e-9 || (*least == 1.0 && samples != original);
        if misplaced || too_long || unlike || !warnings.is_empty() {
            failures.push(*file);
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_silent_channel_halves_the_other_one() {
    let both = original();
    let (samples, _) = decode_bytes(bytes("formats/cc0_right_channel_silent.wav")).unwrap();
    assert!((f64::from(samples.len() as u32) - both.len() as f64).abs() < 2.0);
    let (shift, correlation) = best_shift(&samples, &both);
    assert!(shift == 0 && correlation > 0.5, "{shift} {correlation}");
    let energy = |samples: &[f32]| samples.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    assert!(energy(&samples) < 0.6 * energy(&both));
}

#[test]
fn wide_samples_at_a_high_rate_equal_the_original() {
    let wav = bytes("formats/cc0_48k_stereo_s16.wav");
    let frames: Vec<f64> = wav[44..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|b| f64::from(i16::from_le_bytes(*b)) / 32_768.0)
        .collect();
    let data = frames.iter().flat_map(|x| x.to_le_bytes()).collect();
    let f64s = Wav {
        tag: 3,
        bits: 64,
        data,
        ..Wav::s16(48_000, 2, &[])
    };
    let (from_f64, _) = decode_bytes(f64s.bytes()).unwrap();
    let (from_s16, _) = decode_bytes(wav[..44 + 2 * frames.len()].to_vec()).unwrap();
    assert_eq!(from_f64, from_s16);
}

#[test]
fn sixteen_bits_at_16_khz_pass_bit_for_bit_in_wav_and_flac() {
    let (from_flac, _) = decode_bytes(bytes("odd/flac16k.flac")).unwrap();
    let samples: Vec<i16> = from_flac.iter().map(|x| (x * 32_768.0) as i16).collect();
    let (from_wav, _) = decode_bytes(Wav::s16(16_000, 1, &samples).bytes()).unwrap();
    let exact: Vec<f32> = samples.iter().map(|s| f32::from(*s) / 32_768.0).collect();
    assert!(samples.iter().any(|s| *s != 0) && exact.len() == 32_000);
    assert_eq!(from_wav, exact);
    assert_eq!(from_flac, exact);
}

/// Lengths at 16 kHz by ffmpeg 5.1 (`ffmpeg -i FILE -ac 1 -ar 16000`), and a tolerance in samples for its different
/// rules; 320 samples are 20 ms.
#[test]
fn odd_files_have_the_length_that_ffmpeg_gives_them() {
    let cases: &[(&str, usize, usize)] = &[
        ("aac.mkv", 32_427, 640),
        ("aac_faststart.m4a", 32_085, 320),
        ("aac_fragmented.mp4", 32_427, 640),
        ("aifc_alaw.aifc", 32_000, 0),
        ("flac16k.flac", 32_000, 0),
        ("layer2.mp2", 32_256, 320),
        ("mpeg25_8k_vbr.mp3", 34_560, 320),
        ("opus.mp4", 32_216, 320),
        ("opus_51.opus", 32_000, 2),
        ("opus_celt_2_5ms.opus", 32_000, 2),
        ("opus_chained.opus", 64_040, 320),
        ("opus_dtx.opus", 63_896, 2),
        ("opus_hybrid_fec.opus", 32_000, 2),
        ("opus_silk8.opus", 32_000, 2),
        ("opus_live.webm", 32_000, 320),
        ("pipe.wav", 32_000, 0),
        ("rf64.wav", 32_000, 0),
        ("s8.au", 32_000, 0),
        ("vbr_noxing.mp3", 33_024, 320),
        ("video.mp4", 32_085, 320),
        ("vorbis.mka", 32_192, 640),
    ];
    let mut failures = Vec::new();
    for (file, expected, leeway) in cases {
        match decode_bytes(bytes(&format!("odd/{file}"))) {
            Ok((samples, warnings)) => {
                println!(
                    "{file}: {} samples, ffmpeg {expected} {warnings:?}",
                    samples.len()
                );
                if samples.len().abs_diff(*expected) > *leeway || !warnings.is_empty() {
                    failures.push(*file);
                }
            }
            Err(error) => {
                println!("{file}: {error}");
                failures.push(*file);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// Both sides pass the same resampler. The reference was rounded to 16 bits: 1.6e-5 and some ringing. `opus_dtx.flac`
/// is libopus 1.6.1's output, as comfort noise differs between versions of libopus.
#[test]
fn opus_equals_libopus() {
    for (clip, tolerance) in [
        ("opus_51", 4e-5),
        ("opus_silk8", 4e-5),
        ("opus_hybrid_fec", 4e-5),
        ("opus_celt_2_5ms", 4e-5),
        ("opus_dtx", 4e-5),
    ] {
        let (samples, _) = decode_bytes(bytes(&format!("odd/{clip}.opus"))).unwrap();
        let (reference, _) = decode_bytes(bytes(&format!("odd/{clip}.flac"))).unwrap();
        assert!(
            samples.len().abs_diff(reference.len()) <= 1,
            "{clip}: {} {}",
            samples.len(),
            reference.len()
        );
        let worst = samples
            .iter()
            .zip(&reference)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{clip}: {worst:e}, {:.1} dB", snr_db(&samples, &reference));
        assert!(worst < tolerance, "{clip}: {worst}");
        assert!(snr_db(&samples, &reference) > 30.0, "{clip}");
    }
}

#[test]
fn the_parts_of_a_chained_file_follow_one_another() {
    let (chained, _) = decode_bytes(bytes("odd/opus_chained.opus")).unwrap();
    let (first, _) = decode_bytes(bytes("odd/opus_silk8.opus")).unwrap();
    let (second, _) = decode_bytes(bytes("odd/opus_celt_2_5ms.opus")).unwrap();
    assert!(snr_db(&chained[..31_000], &first[..31_000]) > 100.0);
    let tail = &chained[chained.len() - 30_000..];
    assert!(snr_db(tail, &second[second.len() - 30_000..]) > 50.0);
}

#[test]
fn opus_output_gain_is_applied() {
    let plain = bytes("odd/opus_silk8.opus");
    let mut louder = plain.clone();
    let head = plain
        .windows(8)
        .position(|bytes| bytes == b"OpusHead")
        .unwrap();
    louder[head + 16..head + 18].copy_from_slice(&(-6 * 256_i16).to_le_bytes());
    fix_first_crc(&mut louder);
    let (plain, _) = decode_bytes(plain).unwrap();
    let (quieter, _) = decode_bytes(louder).unwrap();
    let halved: Vec<f32> = plain.iter().map(|x| x * 0.501_187_2).collect();
    assert!(snr_db(&quieter, &halved) > 60.0);
}

/// Recomputes the checksum of the first Ogg page.
fn fix_first_crc(ogg: &mut [u8]) {
    let n_segments = usize::from(ogg[26]);
    let body: usize = ogg[27..27 + n_segments]
        .iter()
        .map(|n| usize::from(*n))
        .sum();
    ogg[22..26].fill(0);
    let crc = ogg[..27 + n_segments + body]
        .iter()
        .fold(0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
                crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
            })
        });
    ogg[22..26].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn formats_that_are_not_built_in_are_errors_with_advice() {
    for (file, name) in [
        ("ac3.ac3", "AC-3"),
        ("ac3.mkv", "AC-3"),
        ("wma.wma", "WMA/WMV (ASF)"),
        ("video.avi", "AVI"),
        ("speex.ogg", "Speex"),
        (
            "aac_51.m4a",
            "AAC other than AAC-LC in mono or stereo (HE-AAC, xHE-AAC, 5.1)",
        ),
    ] {
        let expected = format!("test: {name} is not built in; convert it first, e.g. with ffmpeg");
        assert_eq!(refusal(bytes(&format!("odd/{file}"))), expected, "{file}");
    }
}

/// No free encoder writes HE-AAC, so its object type is patched into the header of an AAC-LC file.
#[test]
fn he_aac_is_refused_by_name() {
    let mut m4a = bytes("odd/aac_faststart.m4a");
    let tag = b"\x05\x80\x80\x80";
    let at = m4a.windows(4).position(|window| window == tag).unwrap() + 5;
    m4a[at] = m4a[at] & 0x07 | 5 << 3;
    let expected = "test: AAC other than AAC-LC in mono or stereo (HE-AAC, xHE-AAC, 5.1) is not built in; \
                    convert it first, e.g. with ffmpeg";
    assert_eq!(refusal(m4a), expected);
}

#[test]
fn mp3_in_a_wav_coat_is_decoded() {
    let mp3 = bytes("formats/cc0_22k_mono_64k.mp3");
    let (plain, _) = decode_bytes(mp3.clone()).unwrap();
    // After the tag, which a WAV cannot contain.
    let frames = mp3
        .windows(2)
        .position(|bytes| bytes[0] == 0xFF && bytes[1] & 0xE0 == 0xE0);
    let data = mp3[frames.unwrap()..].to_vec();
    let coat = Wav {
        tag: 0x55,
        bits: 0,
        data,
        ..Wav::s16(22_050, 1, &[])
    };
    assert!(decode_bytes(coat.bytes()).unwrap().0 == plain);
    let piped = std::io::Cursor::new(coat.bytes());
    assert!(
        decode(&Audio::from_reader(piped, "stdin").unwrap())
            .unwrap()
            .0
            == plain
    );
}

#[test]
fn files_without_audio_are_errors() {
    for (file, expected) in [
        ("odd/silent_video.mp4", "test: no audio track"),
        ("odd/silent_video.webm", "test: no audio track"),
        ("odd/picture.jpg", "test: not audio (looks like JPEG)"),
        ("odd/picture.png", "test: not audio (looks like PNG)"),
        (
            "formats/cc0_raw_s16le_16k_mono.raw",
            "test: not audio (no header of a known format; raw samples need one)",
        ),
    ] {
        assert_eq!(refusal(bytes(file)), expected);
    }
}
