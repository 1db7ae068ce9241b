//! Inconsistent and truncated files, files without audio, and names that are not files.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use crate::audio_support::{Random, Wav, bytes, decode, decode_bytes, fixture, refusal};
use overhear::audio::AudioWarning;
use overhear::{Audio, Error};

fn ramp(n: usize) -> Vec<i16> {
    (0..n).map(|i| (i % 2000) as i16 * 10).collect()
}

fn exact(samples: &[i16]) -> Vec<f32> {
    samples.iter().map(|s| f32::from(*s) / 32_768.0).collect()
}

#[test]
fn an_empty_file_is_called_empty() {
    assert_eq!(refusal(Vec::new()), "test: empty file");
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Audio::open(file.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: empty file", file.path().display()));
}

#[test]
fn any_number_of_samples_comes_out_as_it_went_in() {
    for n in [0, 1, 159, 160, 400, 479_999, 480_000, 480_001] {
        let samples = ramp(n);
        let (decoded, warnings) = decode_bytes(Wav::s16(16_000, 1, &samples).bytes()).unwrap();
        assert!(decoded == exact(&samples), "{n}");
        assert_eq!(warnings, []);
    }
}

#[test]
fn content_decides_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let mp3 = folder.path().join("music.wav");
    std::fs::copy(fixture("formats/cc0_22k_mono_64k.mp3"), &mp3).unwrap();
    assert!(Audio::open(&mp3).unwrap().samples().unwrap().len() > 80_000);
    let picture = folder.path().join("picture.mp3");
    std::fs::copy(fixture("odd/picture.jpg"), &picture).unwrap();
    let error = Audio::open(&picture).unwrap_err().to_string();
    assert!(
        error.ends_with("picture.mp3: not audio (looks like JPEG)"),
        "{error}"
    );
    assert_eq!(
        refusal(b"a shopping list\n- bread\n".to_vec()),
        "test: not audio (looks like text)"
    );
}

/// Truncates a file at every 16th and at 200 random positions: the decodable part is used, with a warning. At least
/// `least` of the 215 truncated files have a third of the samples that correspond to their share of the bytes (headers
/// and Ogg's long pages reduce it).
fn cuts_are_survived(file: &str, least: usize) {
    let whole = bytes(file);
    let (full, _) = decode_bytes(whole.clone()).unwrap();
    let mut random = Random(0x5EED);
    let sixteenths = (1..16).map(|i| whole.len() * i / 16);
    let places: Vec<usize> = sixteenths
        .chain((0..200).map(|_| random.below(whole.len())))
        .collect();
    let mut n_decoded = 0;
    for at in places {
        match decode_bytes(whole[..at].to_vec()) {
            Ok((samples, warnings)) => {
                assert!(
                    samples.len() <= full.len() + 2_000,
                    "{file} cut at {at}: {} samples",
                    samples.len()
                );
                // A cut in the last block may remove padding only.
                let lost = samples.len() + 3_200 < full.len();
                let warned = warnings.contains(&AudioWarning::Truncated);
                assert!(
                    !lost || warned,
                    "{file} cut at {at}: no warning, {} samples",
                    samples.len()
                );
                n_decoded += usize::from(samples.len() * whole.len() > full.len() * at / 3);
            }
            Err(Error::Audio { .. }) => {}
            Err(error) => panic!("{file} cut at {at}: {error}"),
        }
    }
    println!("{file}: {n_decoded} of 215 cuts gave at least a third of their share");
    assert!(n_decoded >= least, "{file}: {n_decoded}");
}

#[test]
fn a_cut_wav_is_used_as_far_as_it_goes() {
    cuts_are_survived("formats/cc0_imaadpcm_16k.wav", 190);
    cuts_are_survived("formats/cc0_mulaw_8k_mono.wav", 190);
}

#[test]
fn a_cut_mp3_is_used_as_far_as_it_goes() {
    cuts_are_survived("formats/cc0_44k1_vbr_v2.mp3", 190);
    cuts_are_survived("formats/cc0_8k_mono_16kbps.mp3", 190);
}

#[test]
fn a_cut_flac_is_used_as_far_as_it_goes() {
    cuts_are_survived("formats/cc0_16k_mono_24bit.flac", 190);
}

#[test]
fn a_cut_ogg_is_used_as_far_as_it_goes() {
    cuts_are_survived("formats/cc0_16k_mono.ogg", 130);
    cuts_are_survived("formats/cc0_stereo_96k.opus", 165);
}

#[test]
fn a_cut_m4a_with_its_index_in_front_is_used_as_far_as_it_goes() {
    cuts_are_survived("odd/aac_faststart.m4a", 165);
}

#[test]
fn a_cut_webm_is_used_as_far_as_it_goes() {
    cuts_are_survived("formats/cc0_opus.webm", 190);
}

#[test]
fn an_m4a_without_its_index_says_what_is_missing() {
    let m4a = bytes("formats/cc0_aac_44k1.m4a");
    let moov = m4a.windows(4).position(|name| name == b"moov").unwrap() - 4;
    assert!(
        moov > m4a.len() / 2,
        "the index of this fixture is at the end"
    );
    assert_eq!(
        refusal(m4a[..moov].to_vec()),
        "test: MP4 without its index (moov): the recording was cut off before it was written"
    );
}

#[test]
fn samples_that_are_not_finite_are_replaced_with_a_warning() {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e30,
        -1e30,
        1e-40,
        0.25,
        -0.0,
    ];
    let (decoded, warnings) = decode_bytes(Wav::f32(16_000, &odd).bytes()).unwrap();
    assert_eq!(decoded, [0.0, 1.0, -1.0, 1.0, -1.0, 1e-40, 0.25, -0.0]);
    assert_eq!(
        warnings,
        [AudioWarning::Overdriven, AudioWarning::NotFinite]
    );
    let (decoded, warnings) = decode(&Audio::from_samples(odd.to_vec(), 16_000).unwrap()).unwrap();
    assert_eq!(decoded, [0.0, 1.0, -1.0, 1.0, -1.0, 1e-40, 0.25, -0.0]);
    assert_eq!(
        warnings,
        [AudioWarning::Overdriven, AudioWarning::NotFinite]
    );
    let (decoded, _) = decode_bytes(Wav::f32(44_100, &odd.repeat(5_000)).bytes()).unwrap();
    assert!(decoded.iter().all(|sample| sample.abs() <= 1.0));
}

#[test]
fn rates_from_1_khz_to_768_khz_are_taken_and_others_refused() {
    for rate in [
        1_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000, 655_350, 768_000,
    ] {
        let (decoded, _) =
            decode_bytes(Wav::s16(rate, 1, &ramp(rate as usize / 10)).bytes()).unwrap();
        assert!(
            decoded.len().abs_diff(1_600) <= 1,
            "{rate}: {}",
            decoded.len()
        );
    }
    for rate in [0, 1, 999, 768_001, u32::MAX] {
        let message = refusal(Wav::s16(rate, 1, &ramp(100)).bytes());
        assert_eq!(
            message,
            format!("test: sample rate {rate} Hz is outside 1 kHz to 768 kHz")
        );
        assert!(Audio::from_samples(vec![0.0; 10], rate).is_err());
    }
}

/// Channel `c` of `n` holds `c` parts of the ramp, so that the mean is known and swapped channels are detected.
#[test]
fn one_to_64_channels_are_mixed_by_their_mean_in_every_width() {
    let ramp: Vec<f64> = (0..500).map(|i| f64::from(i - 250) / 512.0).collect();
    for n in [1, 2, 3, 4, 5, 6, 7, 8, 64] {
        let interleaved: Vec<f64> = ramp
            .iter()
            .flat_map(|x| (0..n).map(move |c| x * f64::from(c) / f64::from(n)))
            .collect();
        let expected: Vec<f64> = ramp
            .iter()
            .map(|x| x * f64::from(n - 1) / 2.0 / f64::from(n))
            .collect();
        let scaled = |x: f64, bits: i32| (x * 2f64.powi(bits - 1)).round() as i32;
        let encode = |x: f64, tag, bits| match (tag, bits) {
            (1, 8) => vec![(scaled(x, 8) + 128) as u8],
            (1, _) => scaled(x, bits).to_le_bytes()[..bits as usize / 8].to_vec(),
            (_, 32) => (x as f32).to_le_bytes().to_vec(),
            _ => x.to_le_bytes().to_vec(),
        };
        for (tag, bits) in [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)] {
            let wav = Wav {
                tag,
                bits: bits as u16,
                data: interleaved
                    .iter()
                    .flat_map(|&x| encode(x, tag, bits))
                    .collect(),
                ..Wav::s16(16_000, n as u16, &[])
            };
            let (samples, _) = decode_bytes(wav.bytes()).unwrap();
            assert_eq!(samples.len(), expected.len(), "{n} channels of {bits} bits");
            let half_a_step = 0.5 / 2f64.powi(bits.min(24) - 1) + 1e-7;
            for (got, want) in samples.iter().zip(&expected) {
                let error = (f64::from(*got) - want).abs();
                assert!(
                    error <= half_a_step,
                    "{n} channels of {bits} bits: {got} for {want}"
                );
            }
        }
    }
}

#[test]
fn channel_counts_that_cannot_be_are_refused() {
    for n_channels in [0, 65, 255, u16::MAX] {
        let message = refusal(Wav::s16(16_000, n_channels, &ramp(1_000)).bytes());
        assert_eq!(
            message,
            format!("test: {n_channels} channels: from 1 to 64 can be mixed")
        );
    }
    let (decoded, _) = decode_bytes(Wav::s16(16_000, 64, &[3_277; 640]).bytes()).unwrap();
    assert_eq!(decoded, [3_277.0 / 32_768.0; 10]);
}

/// The extensible form, with a channel mask that names more speakers than there are channels.
#[test]
fn an_extensible_header_is_read_and_its_channel_mask_is_not_believed() {
    let samples = ramp(500);
    let plain = Wav::s16(16_000, 1, &samples).bytes();
    let mut wav = plain[..16].to_vec();
    wav.extend(40_u32.to_le_bytes());
    wav.extend([0xFE, 0xFF]);
    wav.extend(&plain[22..36]);
    wav.extend([22, 0, 16, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    wav.extend(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71");
    wav.extend(&plain[36..]);
    assert_eq!(decode_bytes(wav).unwrap().0, exact(&samples));
}

#[test]
fn big_endian_riff_is_read() {
    let mut wav = b"RIFX\0\0\0\0WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3E\x80\0\0\x7D\0\0\x02\0\x10data\0\0\0\x04".to_vec();
    wav.extend([0x40, 0, 0xC0, 0]);
    assert_eq!(decode_bytes(wav).unwrap().0, [0.5, -0.5]);
}

#[test]
fn wrong_sizes_do_not_change_the_samples() {
    let samples: Vec<i16> = ramp(10_000).iter().map(|s| s - 10_000).collect();
    let true_size = 20_000;
    let base = || Wav::s16(16_000, 1, &samples);
    for riff_size in [0, 1, 36, u32::MAX] {
        for data_size in [
            0,
            u32::MAX,
            0x7FFF_FFDA,
            100,
            101,
            true_size - 1_001,
            true_size,
        ] {
            let wav = Wav {
                riff_size: Some(riff_size),
                data_size: Some(data_size),
                ..base()
            };
            let (decoded, warnings) = decode_bytes(wav.bytes()).unwrap();
            assert!(
                decoded == exact(&samples),
                "RIFF size {riff_size}, data size {data_size}"
            );
            assert_eq!(warnings, [], "RIFF size {riff_size}, data size {data_size}");
        }
    }
    let too_big = Wav {
        data_size: Some(true_size + 1_000),
        ..base()
    };
    assert_eq!(
        decode_bytes(too_big.bytes()).unwrap(),
        (exact(&samples), vec![AudioWarning::Truncated])
    );
    let mut odd = base();
    odd.data.push(7);
    assert_eq!(decode_bytes(odd.bytes()).unwrap().0, exact(&samples));
}

#[test]
fn chunks_after_the_data_are_no_samples() {
    let samples = ramp(1_001);
    let list = b"LIST\x04\0\0\0INFO".to_vec();
    let wav = Wav {
        trailer: list.clone(),
        ..Wav::s16(16_000, 1, &samples)
    };
    assert_eq!(decode_bytes(wav.bytes()).unwrap().0, exact(&samples));
    // With data of odd size, followed by its pad byte or, as some writers do, not.
    for pad in [&b"\0"[..], b""] {
        let mut wav = Wav {
            bits: 8,
            ..Wav::s16(16_000, 1, &[])
        };
        wav.data = vec![192; 101];
        wav.trailer = [pad, &list].concat();
        assert_eq!(decode_bytes(wav.bytes()).unwrap().0, [0.5; 101]);
    }
}

#[test]
fn a_mutilated_wav_header_is_an_error() {
    let wav = Wav::s16(16_000, 1, &ramp(100)).bytes();
    assert_eq!(
        refusal(wav[..30].to_vec()),
        "test: WAV format chunk is cut short"
    );
    assert_eq!(
        refusal(wav[..36].to_vec()),
        "test: WAV without a data chunk"
    );
    let mut no_format = wav.clone();
    no_format[12..16].copy_from_slice(b"junk");
    assert_eq!(
        refusal(no_format),
        "test: WAV without a format chunk before its data"
    );
    let bits_12 = Wav {
        bits: 64,
        ..Wav::s16(16_000, 1, &ramp(100))
    };
    assert_eq!(
        refusal(bits_12.bytes()),
        "test: WAV: samples of 8 bytes cannot be"
    );
}

#[test]
fn tags_in_front_of_mp3_are_skipped_whatever_they_claim() {
    let mp3 = bytes("odd/vbr_noxing.mp3");
    let (plain, _) = decode_bytes(mp3.clone()).unwrap();
    let tag = |size: usize| {
        let size = [size >> 21, size >> 14, size >> 7, size].map(|part| part as u8 & 0x7F);
        [&b"ID3\x04\0\0"[..], &size].concat()
    };
    let cover = 50 << 20;
    let with_cover = [tag(cover), vec![0xFF; cover], mp3.clone()].concat();
    let start = Instant::now();
    assert_eq!(decode_bytes(with_cover).unwrap().0, plain);
    assert!(start.elapsed() < Duration::from_secs(5));
    let nested = [tag(12), tag(2), vec![0; 2], mp3].concat();
    assert_eq!(decode_bytes(nested).unwrap().0, plain);
    let bomb = [tag((1 << 28) - 1), vec![0; 23]].concat();
    assert_eq!(
        refusal(bomb),
        "test: not audio (an ID3 tag and nothing after it)"
    );
}

#[test]
fn junk_before_and_inside_mp3_is_stepped_over() {
    let mp3 = bytes("odd/vbr_noxing.mp3");
    let (plain, _) = decode_bytes(mp3.clone()).unwrap();
    let mut random = Random(7);
    let junk: Vec<u8> = (0..5_000).map(|_| random.below(256) as u8).collect();
    let (decoded, _) = decode_bytes([junk, mp3.clone()].concat()).unwrap();
    assert!(
        decoded.len().abs_diff(plain.len()) < 2_000,
        "{} {}",
        decoded.len(),
        plain.len()
    );
    // Titles that internet radio inserts every 2 kB.
    let icy: Vec<u8> = mp3
        .chunks(2_048)
        .flat_map(|part| [part, b"\x02StreamTitle='a song';\0\0\0\0\0\0\0\0\0\0\0\0"].concat())
        .collect();
    let (decoded, _) = decode_bytes(icy).unwrap();
    assert!(
        decoded.len() > plain.len() / 2,
        "{} {}",
        decoded.len(),
        plain.len()
    );
}

#[test]
fn mp3_files_behind_one_another_are_all_decoded() {
    for file in ["odd/vbr_noxing.mp3", "formats/cc0_44k1_vbr_v2.mp3"] {
        let mp3 = bytes(file);
        let (one, _) = decode_bytes(mp3.clone()).unwrap();
        let (two, _) = decode_bytes(mp3.repeat(2)).unwrap();
        assert!(
            two.len() >= 2 * one.len(),
            "{file}: {} {}",
            two.len(),
            one.len()
        );
    }
}

#[test]
fn free_format_mp3_is_refused_by_name() {
    let frame = [&[0xFF, 0xFB, 0x00, 0xC4][..], &[0; 400]].concat();
    assert_eq!(
        refusal(frame.repeat(10)),
        "test: free-format MP3 is not built in; convert it first, e.g. with ffmpeg"
    );
}

#[test]
fn a_browser_recording_that_was_cut_off_in_a_cluster_is_used_as_far_as_it_goes() {
    let webm = bytes("odd/opus_live.webm");
    let (one, _) = decode_bytes(webm.clone()).unwrap();
    let (cut, _) = decode_bytes(webm[..webm.len() * 3 / 4].to_vec()).unwrap();
    assert!(cut.len() > one.len() / 2);
}

#[test]
fn damaged_bytes_never_make_the_reader_panic_or_hang() {
    let files = [
        "formats/cc0_16k_mono.ogg",
        "formats/cc0_mono_24k.opus",
        "formats/cc0_8k_mono_16kbps.mp3",
        "formats/cc0_imaadpcm_16k.wav",
        "formats/cc0_msadpcm_22k.wav",
        "formats/cc0_opus.webm",
        "odd/aac_faststart.m4a",
        "odd/aac_fragmented.mp4",
        "odd/aifc_alaw.aifc",
        "odd/flac16k.flac",
        "odd/layer2.mp2",
        "odd/opus.mp4",
        "odd/opus_51.opus",
        "odd/rf64.wav",
        "odd/s8.au",
        "odd/vorbis.mka",
    ];
    let mut random = Random(0xBAD);
    for file in files {
        let whole = bytes(file);
        for round in 0..25 {
            let mut bad = whole.clone();
            // Half of the damage is in headers, which declare sizes.
            let reach = if round % 2 == 0 {
                whole.len()
            } else {
                whole.len().min(600)
            };
            for _ in 0..1 + random.below(12) {
                let at = random.below(reach);
                bad[at] = random.below(256) as u8;
            }
            let start = Instant::now();
            match decode_bytes(bad) {
                Ok((samples, _)) => assert!(samples.iter().all(|sample| sample.abs() <= 1.0)),
                Err(Error::Audio { .. }) => {}
                Err(error) => panic!("{file}, round {round}: {error}"),
            }
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{file}, round {round}"
            );
        }
    }
}

#[test]
fn noise_of_any_length_is_refused_or_decoded_but_survived() {
    let mut random = Random(99);
    for len in (1..40).chain([100, 1_000, 70_000]) {
        for magic in [
            &b""[..],
            b"RIFF\xFF\xFF\xFF\xFFWAVE",
            b"OggS",
            b"fLaC",
            b"\0\0\0\x20ftyp",
            b"\x1A\x45\xDF\xA3",
            b"caff",
            b"ID3",
            b".snd",
        ] {
            let noise = (0..len).map(|_| random.below(256) as u8);
            let bad: Vec<u8> = magic.iter().copied().chain(noise).collect();
            let _ = decode_bytes(bad);
        }
    }
}
