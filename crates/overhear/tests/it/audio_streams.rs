//! Streams of frames and pages that change, are concatenated, or are damaged in the middle: MP3, MP2, ADTS, FLAC, Ogg.
//!
//! `fixtures/streams`: a quarter of a second of the CC0 utterance at bit rates that ISO 11172-3 does not define for
//! layer II, each with ffmpeg 5.1's decoding as FLAC; half a second as ADTS at 16 kHz.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use crate::audio_support;
use crate::audio_support::{best_shift, bytes, decode, decode_bytes, refusal, snr_db};
use overhear::Audio;
use overhear::audio::AudioWarning;

fn samples(bytes: Vec<u8>) -> Vec<f32> {
    let (samples, warnings) = decode_bytes(bytes).unwrap();
    assert_eq!(warnings, []);
    samples
}

/// Both sides pass the same resampler. ffmpeg's output was rounded to 16 bits.
#[test]
fn layer_2_at_bit_rates_without_a_mode_equals_ffmpeg() {
    for clip in [
        "mp2_mono_224k",
        "mp2_mono_320k_48k",
        "mp2_stereo_48k",
        "mp2_stereo_80k_32k",
        "mp2_stereo_32k_lsf",
    ] {
        let decoded = samples(bytes(&format!("streams/{clip}.mp2")));
        let reference = samples(bytes(&format!("streams/{clip}.flac")));
        let worst = decoded
            .iter()
            .zip(&reference)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        println!("{clip}: {} {} {worst:e}", decoded.len(), reference.len());
        assert_eq!(decoded.len(), reference.len(), "{clip}");
        assert!(worst < 1e-3, "{clip}: {worst}");
    }
}

/// Every pair of files, concatenated: both parts keep their lengths, and the second its samples.
#[test]
fn joined_streams_of_different_rates_and_channels_are_decoded_whole() {
    let mp3 = [
        ("odd/vbr_noxing.mp3", 24_000),
        ("odd/mpeg25_8k_vbr.mp3", 8_000),
        ("formats/cc0_44k1_vbr_v2.mp3", 44_100),
        ("formats/cc0_22k_mono_64k.mp3", 22_050),
        ("odd/layer2.mp2", 24_000),
        ("streams/mp2_stereo_48k.mp2", 44_100),
        ("streams/mp2_mono_224k.mp2", 44_100),
    ];
    let aac = [
        ("formats/cc0_adts_48k.aac", 48_000),
        ("streams/adts_16k_mono.aac", 16_000),
    ];
    for files in [&mp3[..], &aac] {
        for (first, first_rate) in files {
            for (second, second_rate) in files {
                let (one, two) = (samples(bytes(first)), samples(bytes(second)));
                let both = samples([bytes(first), bytes(second)].concat());
                let names = format!("{first}, {second}");
                let expected = one.len() + two.len();
                assert!(
                    both.len().abs_diff(expected) <= 1,
                    "{names}: {} {expected}",
                    both.len()
                );
                // At equal rates the resampler is not reset, so the second part is shifted by a fraction of a sample.
                if first_rate != second_rate {
                    // A decoder that is not reset adds the end of the first part.
                    let n = two.len() * 3 / 4;
                    let difference = snr_db(&both[both.len() - n..], &two[two.len() - n..]);
                    assert!(difference > 60.0, "{names}: {difference} dB");
                }
            }
        }
    }
}

#[test]
fn data_before_mp3_is_skipped_however_long() {
    let mp3 = bytes("formats/cc0_44k1_vbr_v2.mp3");
    let plain = samples(mp3.clone());
    let mut random = audio_support::Random(70);
    let junk: Vec<u8> = (0..70_000).map(|_| random.below(256) as u8).collect();
    let tag = b"ID3\x04\0\0\0\0\x02\0".to_vec();
    for front in [junk, vec![0; 70_000], [tag, vec![7; 150_000]].concat()] {
        assert!(samples([front, mp3.clone()].concat()) == plain);
    }
    let flac = bytes("odd/flac16k.flac");
    let short_tag = [&b"ID3\x04\0\0\0\0\x02\0"[..], &[1; 90_000], &flac].concat();
    assert!(samples(short_tag) == samples(flac));
}

fn id3v1() -> Vec<u8> {
    let mut tag = b"TAG".to_vec();
    tag.resize(128, b' ');
    tag
}

fn ape(items: usize, has_header: bool) -> Vec<u8> {
    let part = |flags: u8| {
        let size = (items as u32 + 32).to_le_bytes();
        let count = 1_u32.to_le_bytes();
        [
            &b"APETAGEX\xD0\x07\0\0"[..],
            &size,
            &count,
            &[0, 0, 0, flags],
            &[0; 8],
        ]
        .concat()
    };
    let header = if has_header { part(0xA0) } else { Vec::new() };
    let footer = part(if has_header { 0x80 } else { 0 });
    [header, vec![b'x'; items], footer].concat()
}

#[test]
fn tags_and_zeros_behind_the_audio_are_no_damage() {
    for file in [
        "odd/flac16k.flac",
        "formats/cc0_48k_stereo.flac",
        "formats/cc0_adts_48k.aac",
        "formats/cc0_44k1_vbr_v2.mp3",
        "odd/vbr_noxing.mp3",
        "formats/cc0_mono_24k.opus",
        "formats/cc0_16k_mono.ogg",
    ] {
        let plain = samples(bytes(file));
        for (what, tail) in [
            ("ID3v1", id3v1()),
            ("APE", ape(1_000, true)),
            ("APE and ID3v1", [ape(1_000, false), id3v1()].concat()),
            ("zeros", vec![0; 5_000]),
        ] {
            let is_ogg = file.ends_with(".opus") || file.ends_with(".ogg");
            let is_flac = file.ends_with(".flac");
            if is_ogg && what.starts_with("APE") || is_flac && what == "zeros" {
                continue;
            }
            assert!(
                samples([bytes(file), tail].concat()) == plain,
                "{file}, {what}"
            );
        }
    }
}

#[test]
fn flac_streams_behind_one_another_are_all_decoded() {
    let (first, second) = (
        bytes("odd/flac16k.flac"),
        bytes("formats/cc0_48k_stereo.flac"),
    );
    let tag = [&b"ID3\x04\0\0\0\0\x07\x68"[..], &[3; 1000]].concat();
    let (one, two) = (samples(first.clone()), samples(second.clone()));
    let expected = [one.clone(), two, one].concat();
    for between in [Vec::new(), tag, id3v1()] {
        let joined = [&first[..], &between, &second, &between, &first].concat();
        assert!(samples(joined.clone()) == expected);
        let pipe = Audio::from_reader(std::io::Cursor::new(joined), "stdin").unwrap();
        assert!(decode(&pipe).unwrap().0 == expected);
    }
}

/// Returns the offsets of the pages of an Ogg file.
fn pages(ogg: &[u8]) -> Vec<usize> {
    let starts = ogg.windows(4).enumerate();
    starts
        .filter_map(|(at, bytes)| (bytes == b"OggS").then_some(at))
        .collect()
}

/// Flips a bit in the header and in the body of each page in turn: the other pages are decoded, with a warning. The
/// first page is used even if it is damaged; without Vorbis's third header nothing can be decoded.
#[test]
fn a_damaged_ogg_page_is_lost_with_a_warning_and_no_other() {
    for file in [
        "odd/opus_celt_2_5ms.opus",
        "odd/opus_silk8.opus",
        "odd/opus_51.opus",
        "formats/cc0_16k_mono.ogg",
    ] {
        let ogg = bytes(file);
        let full = samples(ogg.clone());
        let starts = pages(&ogg);
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(ogg.len());
            for at in [start + 6, start + 15, end - 1] {
                let mut bad = ogg.clone();
                bad[at] ^= 4;
                let outcome = decode_bytes(bad);
                if index == 1 && file.ends_with(".ogg") {
                    assert!(outcome.is_err(), "{file}, page {index}");
                    continue;
                }
                let (decoded, warnings) = outcome.unwrap();
                assert_eq!(
                    warnings,
                    [AudioWarning::Truncated],
                    "{file}, page {index}, {at}"
                );
                let n_sound = starts.len() - 2;
                let least = if index < 2 {
                    full.len()
                } else {
                    full.len() - 2 * full.len() / n_sound.max(2)
                };
                println!("{file}, page {index}: {} of {}", decoded.len(), full.len());
                assert!(
                    decoded.len() + 4_000 > least || n_sound < 3,
                    "{file}, page {index}"
                );
            }
        }
    }
}

#[test]
fn damage_in_the_middle_loses_the_damaged_part_with_a_warning() {
    // Without checksums, only damage of headers is detected.
    for (file, n_bad, lost) in [
        ("formats/cc0_44k1_vbr_v2.mp3", 1_500, 8_000),
        ("odd/vbr_noxing.mp3", 1_500, 8_000),
        ("formats/cc0_adts_48k.aac", 1_500, 8_000),
        ("odd/layer2.mp2", 1_500, 8_000),
        ("odd/flac16k.flac", 40, 10_000),
        ("formats/cc0_stereo_96k.opus", 40, 40_000),
        ("formats/cc0_16k_mono.ogg", 40, 40_000),
    ] {
        let whole = bytes(file);
        let full = samples(whole.clone());
        let mut bad = whole.clone();
        let middle = whole.len() / 2;
        bad[middle..middle + n_bad].fill(0x55);
        let (decoded, warnings) = decode_bytes(bad).unwrap();
        println!("{file}: {} of {} {warnings:?}", decoded.len(), full.len());
        assert_eq!(warnings, [AudioWarning::Truncated], "{file}");
        assert!(
            decoded.len() + lost > full.len(),
            "{file}: {}",
            decoded.len()
        );
        // The length of the audio is unchanged.
        let n = full.len() / 4;
        let (tail, expected) = (&decoded[decoded.len() - n..], &full[full.len() - n..]);
        let (_, correlation) = best_shift(tail, expected);
        assert!(correlation > 0.95, "{file}: {correlation}");
    }
}

/// The only mode of layer II that is not supported; here in the header only.
#[test]
fn mono_layer_2_at_384_kbit_is_refused_by_name() {
    let frame = [&[0xFF, 0xFD, 0xE8, 0xC0][..], &[0; 1724]].concat();
    assert_eq!(
        refusal(frame.repeat(5)),
        "test: MP2 of 384 kbit/s in mono is not built in; convert it first, e.g. with ffmpeg"
    );
}

#[test]
fn ogg_without_audio_or_start_is_an_error() {
    let opus = bytes("odd/opus_silk8.opus");
    let starts = pages(&opus);
    assert_eq!(
        refusal(opus[starts[2]..].to_vec()),
        "test: damaged Ogg: the start of its streams is missing"
    );
    // Without its first page, Opus is assumed to be stereo, which gives the same samples.
    let (decoded, warnings) = decode_bytes(opus[starts[1]..].to_vec()).unwrap();
    assert_eq!(warnings, [AudioWarning::Truncated]);
    assert!(decoded.len() + 200 > samples(opus).len());
}
