//! Containers: bit-exact PCM, timelines, tracks and packings, and damage in the middle.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write as _;

use crate::audio_support::boxes::{Mov, element, mkv, mkv_track, mp4_box, simple_block, words};
use crate::audio_support::{Random, Wav, bytes, decode, decode_bytes, refusal, snr_db};
use overhear::Audio;
use overhear::audio::{AudioOptions, AudioWarning};

/// Samples of 8 bits, which every sample width can represent.
fn noise(n: usize) -> Vec<i8> {
    let mut random = Random(5);
    (0..n).map(|_| random.below(256) as u8 as i8).collect()
}

fn as_f32(samples: &[i8]) -> Vec<f32> {
    samples.iter().map(|s| f32::from(*s) / 128.0).collect()
}

/// Name, bits, coder, endianness, version, flags and boxes of a sample description.
type QuickTime<'a> = (&'a [u8; 4], u16, Coder, bool, u16, u32, &'a [u8]);

/// Encoding of an 8-bit sample in a format.
type Coder = fn(i8) -> Vec<u8>;

fn s8(s: i8) -> Vec<u8> {
    vec![s as u8]
}
fn u8(s: i8) -> Vec<u8> {
    vec![s as u8 ^ 0x80]
}
fn s16(s: i8) -> Vec<u8> {
    vec![s as u8, 0]
}
fn s24(s: i8) -> Vec<u8> {
    vec![s as u8, 0, 0]
}
fn s32(s: i8) -> Vec<u8> {
    vec![s as u8, 0, 0, 0]
}
fn f32(s: i8) -> Vec<u8> {
    (f32::from(s) / 128.0).to_be_bytes().to_vec()
}
fn f64(s: i8) -> Vec<u8> {
    (f64::from(s) / 128.0).to_be_bytes().to_vec()
}

/// Returns the samples in this format, big-endian or byte-swapped.
fn coded(samples: &[i8], coder: Coder, little: bool) -> Vec<u8> {
    let coded = samples.iter().flat_map(|sample| {
        let mut bytes = coder(*sample);
        if little {
            bytes.reverse();
        }
        bytes
    });
    coded.collect()
}

fn s16le(samples: &[i8]) -> Vec<u8> {
    coded(samples, s16, true)
}

#[test]
fn plain_samples_in_quicktime_are_exact_in_every_format_and_description() {
    let enda = mp4_box(b"wave", &[&mp4_box(b"enda", &[&[0, 1]])]);
    let cases: [QuickTime<'_>; 24] = [
        (b"raw ", 8, u8, false, 0, 0, &[]),
        (b"twos", 8, s8, false, 0, 0, &[]),
        (b"sowt", 8, s8, true, 0, 0, &[]),
        (b"NONE", 16, s16, false, 0, 0, &[]),
        (b"twos", 16, s16, false, 0, 0, &[]),
        (b"twos", 16, s16, false, 1, 0, &[]),
        (b"sowt", 16, s16, true, 0, 0, &[]),
        (b"sowt", 16, s16, true, 1, 0, &[]),
        (b"in24", 24, s24, false, 1, 0, &[]),
        (b"in24", 24, s24, true, 1, 0, &enda),
        (b"in32", 32, s32, false, 1, 0, &[]),
        (b"in32", 32, s32, true, 1, 0, &enda),
        (b"fl32", 32, f32, false, 1, 0, &[]),
        (b"fl32", 32, f32, true, 1, 0, &enda),
        (b"fl64", 64, f64, false, 1, 0, &[]),
        (b"fl64", 64, f64, true, 1, 0, &enda),
        (b"lpcm", 8, s8, false, 2, 4, &[]),
        (b"lpcm", 8, u8, false, 2, 0, &[]),
        (b"lpcm", 16, s16, true, 2, 4, &[]),
        (b"lpcm", 24, s24, false, 2, 4 | 2, &[]),
        (b"lpcm", 32, s32, true, 2, 4, &[]),
        (b"lpcm", 32, f32, false, 2, 1 | 2, &[]),
        (b"lpcm", 64, f64, true, 2, 1, &[]),
        (
            b"ipcm",
            16,
            s16,
            true,
            0,
            0,
            &mp4_box(b"pcmC", &[&[0, 0, 0, 0, 1, 16]]),
        ),
    ];
    for (name, bits, coder, little, version, flags, boxes) in cases {
        for n_channels in [1, 2, 4] {
            let samples = noise(9_000);
            let frames: Vec<i8> = samples.iter().flat_map(|s| vec![*s; n_channels]).collect();
            let mov = Mov {
                version,
                flags,
                boxes: boxes.to_vec(),
                ..Mov::new(name, n_channels as u16, bits, coded(&frames, coder, little))
            };
            let (decoded, warnings) = decode_bytes(mov.bytes()).unwrap();
            let what = format!(
                "{} {bits} {version} {flags} {n_channels}",
                name.escape_ascii()
            );
            assert!(
                decoded == as_f32(&samples),
                "{what}: {} samples",
                decoded.len()
            );
            assert_eq!(warnings, [], "{what}");
        }
    }
}

#[test]
fn edit_lists_are_the_timeline_to_the_sample() {
    let samples = noise(48_000);
    let heard = as_f32(&samples);
    let part = |from: usize, n: usize| heard[from..from + n].to_vec();
    let silence = vec![0.0; 8_000];
    type Edits<'a> = &'a [(u32, i32)];
    let cases: [(Edits<'_>, Vec<f32>); 8] = [
        (&[], heard.clone()),
        (&[(1000, 16_000)], part(16_000, 16_016)),
        // Edits that cut, reorder, repeat and overlap.
        (
            &[(1000, 0), (1000, 32_000)],
            [part(0, 16_000), part(32_000, 16_000)].concat(),
        ),
        (
            &[(1000, 32_000), (1000, 5)],
            [part(32_000, 16_000), part(5, 16_016)].concat(),
        ),
        (
            &[(1000, 7), (1000, 7)],
            [part(7, 16_000), part(7, 16_016)].concat(),
        ),
        (
            &[(1000, 0), (1000, 8_000)],
            [part(0, 16_000), part(8_000, 16_016)].concat(),
        ),
        // A pause at the start is omitted, as by ffmpeg; one in the middle is silence; one at the end is omitted.
        (
            &[(500, -1), (1000, 0), (500, -1), (1000, 16_000), (500, -1)],
            [part(0, 16_000), silence, part(16_000, 16_016)].concat(),
        ),
        // Many short edits.
        (
            &[(1, 160), (1, 0), (1, 320), (1, 40_000)],
            [part(160, 16), part(0, 16), part(320, 16), part(40_000, 32)].concat(),
        ),
    ];
    for (edits, expected) in cases {
        let mov = Mov {
            edits: edits.to_vec(),
            ..Mov::new(b"sowt", 1, 16, s16le(&samples))
        };
        let (decoded, warnings) = decode_bytes(mov.bytes()).unwrap();
        assert_eq!(decoded.len(), expected.len(), "{edits:?}");
        assert!(decoded == expected, "{edits:?}");
        assert_eq!(warnings, [], "{edits:?}");
    }
}

/// `m4a`, whose index precedes the data, with an edit list of the same size in bytes: the original had one edit, and a
/// `free` box makes room.
fn with_edits(m4a: &[u8], edits: &[(u32, i32)]) -> Vec<u8> {
    fn rebuild(bytes: &[u8], elst: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = bytes;
        while rest.len() >= 8 {
            let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let name: [u8; 4] = rest[4..8].try_into().unwrap();
            match &name {
                b"moov" | b"trak" | b"edts" => {
                    out.extend(mp4_box(&name, &[&rebuild(&rest[8..len], elst)]));
                }
                b"elst" => out.extend(mp4_box(&name, &[elst])),
                _ => out.extend(&rest[..len]),
            }
            rest = &rest[len..];
        }
        out
    }
    let mut elst = words(&[0, edits.len() as u32]);
    for (length, start) in edits {
        elst.extend(words(&[*length, start.cast_unsigned(), 0x1_0000]));
    }
    rebuild(m4a, &elst)
}

#[test]
fn edits_of_compressed_audio_are_as_the_parts_of_the_whole() {
    // Files whose index follows the data, so that its length may change.
    for (file, rate, run_up, least) in [
        ("formats/cc0_alac_48k.m4a", 48_000, 0, 60.0),
        ("formats/cc0_aac_44k1.m4a", 44_100, 1024, 15.0),
    ] {
        let m4a = bytes(file);
        let (whole, _) = decode_bytes(m4a.clone()).unwrap();
        let at = |start: i32| run_up + start * rate / 1000;
        let edits = [
            (1000, at(2000)),
            (1000, at(500)),
            (1000, at(500)),
            (500, at(3000)),
        ];
        let (decoded, warnings) = decode_bytes(with_edits(&m4a, &edits)).unwrap();
        assert_eq!(warnings, []);
        let expected = [
            &whole[32_000..48_000],
            &whole[8_000..24_000],
            &whole[8_000..24_000],
            &whole[48_000..56_000],
        ]
        .concat();
        assert!(
            decoded.len().abs_diff(expected.len()) < 40,
            "{}",
            decoded.len()
        );
        // Except for the ringing of the resampler's filter at the cuts.
        for (from, to) in [
            (100, 15_900),
            (16_100, 31_900),
            (32_100, 47_900),
            (48_100, 55_900),
        ] {
            let snr = snr_db(&decoded[from..to], &expected[from..to]);
            assert!(snr > least, "{file} {from}: {snr}");
        }
    }
}

#[test]
fn boxes_of_padding_may_come_before_an_mp4() {
    let mov = Mov::new(b"sowt", 1, 16, s16le(&noise(2_000))).bytes();
    for padding in [b"free", b"skip", b"wide", b"uuid"] {
        for len in [0, 9, 100_000] {
            // Offsets in the file are relative to its start.
            let first = mp4_box(padding, &[&vec![0; len]]);
            let moved = move_chunks(&mov, first.len() as u32);
            let (decoded, warnings) = decode_bytes([first, moved].concat()).unwrap();
            assert!(
                decoded == as_f32(&noise(2_000)),
                "{}",
                padding.escape_ascii()
            );
            assert_eq!(warnings, []);
        }
    }
    let padding_only = mp4_box(b"free", &[&[0; 100]]);
    assert!(refusal(padding_only).contains("moov"));
}

/// Returns `mov` with its chunk offsets increased.
fn move_chunks(mov: &[u8], by: u32) -> Vec<u8> {
    let mut out = mov.to_vec();
    let at = mov.windows(4).position(|name| name == b"stco").unwrap() + 12;
    for entry in [at, at + 4] {
        let offset = u32::from_be_bytes(mov[entry..entry + 4].try_into().unwrap()) + by;
        out[entry..entry + 4].copy_from_slice(&offset.to_be_bytes());
    }
    out
}

#[test]
fn layer_2_in_mp4_is_decoded_as_such() {
    // Frames of an MP2 file under a description as MP3.
    let mp2 = bytes("odd/layer2.mp2");
    let (plain, _) = decode_bytes(mp2.clone()).unwrap();
    let header: [u8; 4] = mp2[..4].try_into().unwrap();
    let frames: Vec<usize> = (0..mp2.len() - 3)
        .filter(|at| mp2[*at..at + 3] == header[..3])
        .collect();
    let len = frames[1] - frames[0];
    let mov = Mov {
        frame_len: len,
        ..Mov::new(b".mp3", 1, 16, mp2[..mp2.len() / len * len].to_vec())
    };
    let (decoded, _) = decode_bytes(mov.bytes()).unwrap();
    assert!(decoded.len() >= plain.len() - 2_000 && !decoded.is_empty());
    assert!(snr_db(&decoded, &plain) > 100.0);
}

/// Half a second in blocks of 0.1 s.
fn blocks(samples: &[i8], number: u8) -> Vec<Vec<u8>> {
    let parts = samples.chunks(1_600);
    parts
        .map(|part| simple_block(number, &s16le(part)))
        .collect()
}

#[test]
fn recordings_behind_one_another_in_matroska_are_all_decoded() {
    let (first, second) = (noise(8_000), noise(9_600)[1_600..].to_vec());
    let both = as_f32(&[&first[..], &second].concat());
    let track = [mkv_track(1, true, &[])];
    for (live_first, live_second) in [(false, false), (false, true), (true, false), (true, true)] {
        let joined = [
            mkv(&track, &blocks(&first, 1), live_first),
            mkv(&track, &blocks(&second, 1), live_second),
        ]
        .concat();
        let (decoded, warnings) = decode_bytes(joined.clone()).unwrap();
        assert!(
            decoded == both,
            "{live_first} {live_second}: {}",
            decoded.len()
        );
        assert_eq!(warnings, []);
        let piped = Audio::from_reader(std::io::Cursor::new(joined), "stdin").unwrap();
        assert!(decode(&piped).unwrap().0 == both);
    }
    let webm = bytes("odd/opus_live.webm");
    let (one, _) = decode_bytes(webm.clone()).unwrap();
    let (two, warnings) = decode_bytes(webm.repeat(2)).unwrap();
    assert!(
        two.len() >= 2 * one.len() - 4,
        "{} {}",
        two.len(),
        one.len()
    );
    assert_eq!(warnings, []);
}

#[test]
fn packed_tracks_of_matroska_are_unpacked_or_named() {
    let samples = noise(8_000);
    let encoding = |algorithm: u8, settings: &[u8]| {
        let compression = [
            element(0x4254, &[&[algorithm]]),
            element(0x4255, &[settings]),
        ];
        let encoding = element(0x6240, &[&element(0x5034, &[&compression.concat()])]);
        element(0x6D80, &[&encoding])
    };
    let pack = |data: &[u8]| {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(data).unwrap();
        packed.finish().unwrap()
    };
    let zlib: Vec<Vec<u8>> = samples
        .chunks(1_600)
        .map(|part| simple_block(1, &pack(&s16le(part))))
        .collect();
    let track = mkv_track(1, true, &encoding(0, &[]));
    let (decoded, warnings) = decode_bytes(mkv(&[track], &zlib, false)).unwrap();
    assert!(decoded == as_f32(&samples));
    assert_eq!(warnings, []);

    // Each packet begins with the same sample, which is stripped.
    let stripped: Vec<Vec<u8>> = samples
        .chunks(1_600)
        .map(|part| simple_block(1, &s16le(&part[1..])))
        .collect();
    let track = mkv_track(1, true, &encoding(3, &[0, 77]));
    let (decoded, _) = decode_bytes(mkv(&[track], &stripped, false)).unwrap();
    let mut expected = samples.clone();
    expected.iter_mut().step_by(1_600).for_each(|s| *s = 77);
    assert!(decoded == as_f32(&expected));

    for (algorithm, name) in [(1, "bzip2"), (2, "LZO")] {
        let track = mkv_track(1, true, &encoding(algorithm, &[]));
        let expected = format!(
            "test: audio packed with {name} in Matroska is not built in; convert it first, e.g. with ffmpeg"
        );
        assert_eq!(
            refusal(mkv(&[track], &blocks(&samples, 1), false)),
            expected
        );
    }
}

#[test]
fn the_default_track_is_taken_or_the_one_that_is_asked_for() {
    let (first, second) = (noise(8_000), noise(9_600)[1_600..].to_vec());
    let interleaved: Vec<Vec<u8>> = blocks(&first, 1)
        .into_iter()
        .zip(blocks(&second, 2))
        .map(|(a, b)| [a, b].concat())
        .collect();
    let title = [
        element(0x22_B59C, &[b"fre"]),
        element(0x536E, &[b"Son \"1\""]),
    ]
    .concat();
    let tracks = [mkv_track(1, false, &title), mkv_track(2, true, &[])];
    let file = mkv(&tracks, &interleaved, false);
    assert!(decode_bytes(file.clone()).unwrap().0 == as_f32(&second));
    let with_track = |file: &[u8], track| {
        let mut options = AudioOptions::default();
        options.track = Some(track);
        Audio::from_bytes_with(file.to_vec(), "test", &options)
    };
    let open = |track| with_track(&file, track);
    assert!(decode(&open(1).unwrap()).unwrap().0 == as_f32(&first));
    assert!(decode(&open(2).unwrap()).unwrap().0 == as_f32(&second));
    for wrong in [0, 3] {
        assert_eq!(
            open(wrong).unwrap_err().to_string(),
            format!(
                "test: no audio track {wrong}; the file has 1: PCM mono fre \"Son \\\"1\\\"\", 2: PCM mono (default)"
            )
        );
    }
    // If none or both are marked: the first track.
    for both in [false, true] {
        let tracks = [mkv_track(1, both, &[]), mkv_track(2, both, &[])];
        let (decoded, _) = decode_bytes(mkv(&tracks, &interleaved, true)).unwrap();
        assert!(decoded == as_f32(&first));
    }
    let wav = Wav::s16(16_000, 1, &[1, 2]).bytes();
    let open = |track| with_track(&wav, track);
    assert!(open(1).is_ok());
    assert_eq!(
        open(2).unwrap_err().to_string(),
        "test: no audio track 2; the file has one"
    );
}

/// Returns a CAF of 16-bit little-endian samples at 16 kHz, whose data chunk declares `size` bytes.
fn caf(format: &[u8; 4], flags: u32, n_bytes: u32, data: &[u8], size: i64) -> Vec<u8> {
    let mut out = b"caff\0\x01\0\0desc".to_vec();
    out.extend(32_i64.to_be_bytes());
    out.extend(16_000_f64.to_be_bytes());
    out.extend(format);
    out.extend(words(&[flags, n_bytes, 1, 1, 8 * n_bytes]));
    out.extend(b"free\0\0\0\0\0\0\0\x03abcdata");
    out.extend(size.to_be_bytes());
    out.extend([0; 4]);
    out.extend(data);
    out
}

#[test]
fn pcm_in_caf_is_exact_whatever_size_is_declared_and_whatever_follows() {
    let samples = noise(5_000);
    let data = s16le(&samples);
    let size = data.len() as i64 + 4;
    let tag = [&b"TAG"[..], &[b' '; 125]].concat();
    for (size, behind) in [
        (size, &[][..]),
        (size, &tag),
        (size, &[0; 700]),
        (-1, &[]),
        (0, &[]),
    ] {
        let file = [caf(b"lpcm", 2, 2, &data, size), behind.to_vec()].concat();
        let piped = Audio::from_reader(std::io::Cursor::new(file.clone()), "stdin").unwrap();
        for (decoded, warnings) in [decode_bytes(file).unwrap(), decode(&piped).unwrap()] {
            assert!(decoded == as_f32(&samples), "{size}: {}", decoded.len());
            assert_eq!(warnings, []);
        }
    }
    let cut = caf(b"lpcm", 2, 2, &data[..6_001], size);
    let expected = (as_f32(&samples[..3_000]), vec![AudioWarning::Truncated]);
    assert_eq!(decode_bytes(cut).unwrap(), expected);
    let cases: [(u32, u32, Coder, bool); 7] = [
        (0, 1, s8, false),
        (0, 2, s16, false),
        (0, 3, s24, false),
        (2, 4, s32, true),
        (1, 4, f32, false),
        (3, 4, f32, true),
        (1, 8, f64, false),
    ];
    for (flags, n_bytes, coder, little) in cases {
        let data = coded(&samples, coder, little);
        let file = caf(b"lpcm", flags, n_bytes, &data, data.len() as i64 + 4);
        assert!(
            decode_bytes(file).unwrap().0 == as_f32(&samples),
            "{flags} {n_bytes}"
        );
    }
    // G.711: the zeros of both laws, and one other value of each.
    let (decoded, _) = decode_bytes(caf(b"ulaw", 0, 1, &[0xFF, 0x80], 6)).unwrap();
    assert_eq!(decoded, [0.0, 32_124.0 / 32_768.0]);
    let (decoded, _) = decode_bytes(caf(b"alaw", 0, 1, &[0xD5, 0xAA], 6)).unwrap();
    assert_eq!(decoded, [8.0 / 32_768.0, 32_256.0 / 32_768.0]);
}

/// `alac.caf`: half a second of `synth-en-01`, encoded by ffmpeg 5.1.
#[test]
fn tags_and_padding_behind_compressed_caf_are_no_damage() {
    let alac = bytes("odd/alac.caf");
    let (plain, warnings) = decode_bytes(alac.clone()).unwrap();
    assert!(plain.len() == 8_000 && warnings.is_empty());
    let tag = [&b"TAG"[..], &[b' '; 125]].concat();
    for behind in [tag, vec![0; 700], b"free".to_vec()] {
        let file = [alac.clone(), behind].concat();
        assert_eq!(decode_bytes(file).unwrap(), (plain.clone(), vec![]));
    }
}

/// Returns the level of each of six channels in the mono mix of a file in which each sounds alone for `n` frames.
fn shares(n_frames: usize, file: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<f32> {
    let mut data = Vec::new();
    for speaking in 0..6 {
        for _ in 0..n_frames {
            for channel in 0..6 {
                data.extend(s16(if channel == speaking { 64 } else { 0 }));
            }
        }
    }
    let (decoded, warnings) = decode_bytes(file(data)).unwrap();
    assert_eq!((decoded.len(), warnings), (6 * n_frames, vec![]));
    let speaking = decoded.chunks(n_frames);
    speaking
        .map(|samples| samples[n_frames / 2] / 0.5)
        .collect()
}

/// Levels in ffmpeg 5.1's mono mix (`-ac 1`) of files with these layouts (`-channel_layout L`).
#[test]
fn channels_of_core_audio_are_mixed_by_their_places() {
    const SURROUND: [f32; 6] = [0.2071, 0.2071, 0.2929, 0.0, 0.1464, 0.1464];
    const MEAN: [f32; 6] = [1.0 / 6.0; 6];
    // A tag, a mask, and a tag for five channels.
    let layouts = [
        (words(&[121 << 16 | 6, 0, 0]), SURROUND),
        (words(&[1 << 16, 0x3F, 0]), SURROUND),
        (words(&[117 << 16 | 5, 0, 0]), MEAN),
        (vec![], MEAN),
    ];
    for (layout, expected) in layouts {
        let in_caf = |data: Vec<u8>| {
            let mut file = b"caff\0\x01\0\0desc".to_vec();
            file.extend(32_i64.to_be_bytes());
            file.extend(16_000_f64.to_be_bytes());
            file.extend(b"lpcm");
            file.extend(words(&[0, 12, 1, 6, 16]));
            for (name, body) in [
                (b"chan", &layout),
                (b"data", &[&[0; 4], &data[..]].concat()),
            ] {
                file.extend(name);
                file.extend((body.len() as i64).to_be_bytes());
                file.extend(body);
            }
            file
        };
        let in_aiff = |data: Vec<u8>| {
            let mut comm = vec![0, 6, 0, 0, 0, 0, 0, 16];
            comm.extend(b"\x40\x0C\xFA\0\0\0\0\0\0\0");
            let sound = [&[0; 8], &data[..]].concat();
            let chunks = [
                mp4_chunk(b"CHAN", &layout),
                mp4_chunk(b"COMM", &comm),
                mp4_chunk(b"SSND", &sound),
            ];
            [b"FORM\0\0\0\0AIFF".to_vec(), chunks.concat()].concat()
        };
        let in_quicktime = |data: Vec<u8>| {
            let chan = mp4_box(b"chan", &[&[0; 4], &layout]);
            Mov {
                version: 1,
                boxes: chan,
                ..Mov::new(b"twos", 6, 16, data)
            }
            .bytes()
        };
        let heard = [
            shares(1_000, in_caf),
            shares(1_000, in_aiff),
            shares(1_000, in_quicktime),
        ];
        for (heard, container) in heard.iter().zip(["CAF", "AIFF", "QuickTime"]) {
            for (share, expected) in heard.iter().zip(expected) {
                // The levels were recorded with four digits.
                assert!(
                    (share - expected).abs() < 1e-4,
                    "{container} {layout:?}: {heard:?}"
                );
            }
        }
    }
}

/// Returns an AIFF-C file at 16 kHz, whose samples follow `offset` bytes in their chunk, which declares `size`.
fn aifc(compression: &[u8; 4], bits: u16, data: &[u8], offset: u32, size: u32) -> Vec<u8> {
    let mut comm = vec![0, 1, 0, 0, 0, 0];
    comm.extend(bits.to_be_bytes());
    comm.extend(b"\x40\x0C\xFA\0\0\0\0\0\0\0");
    comm.extend(compression);
    comm.extend(b"\0\0");
    let mut out = b"FORM\0\0\0\0AIFC".to_vec();
    out.extend(mp4_chunk(b"COMM", &comm));
    out.extend(b"SSND");
    out.extend(size.to_be_bytes());
    out.extend(words(&[offset, 0]));
    out.extend(vec![9; offset as usize]);
    out.extend(data);
    out
}

fn mp4_chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&name[..], &len, body].concat()
}

#[test]
fn plain_samples_in_aiff_are_exact_in_every_format() {
    let samples = noise(5_000);
    let cases: [(&[u8; 4], u16, Coder, bool); 12] = [
        (b"NONE", 8, s8, false),
        (b"NONE", 16, s16, false),
        (b"NONE", 24, s24, false),
        (b"twos", 32, s32, false),
        (b"sowt", 16, s16, true),
        (b"sowt", 24, s24, true),
        (b"in24", 24, s24, false),
        (b"in32", 32, s32, false),
        (b"raw ", 8, u8, false),
        (b"fl32", 32, f32, false),
        (b"FL32", 32, f32, false),
        (b"fl64", 64, f64, false),
    ];
    for (name, bits, coder, little) in cases {
        let data = coded(&samples, coder, little);
        for offset in [0, 6] {
            let size = 8 + offset + data.len() as u32;
            let file = [&aifc(name, bits, &data, offset, size)[..], b"TAGxxxx"].concat();
            let (decoded, warnings) = decode_bytes(file).unwrap();
            assert!(
                decoded == as_f32(&samples),
                "{} {bits}",
                name.escape_ascii()
            );
            assert_eq!(warnings, []);
        }
    }
    let data = coded(&samples, s16, false);
    let cut = aifc(b"NONE", 16, &data[..6_001], 0, 8 + data.len() as u32);
    let expected = (as_f32(&samples[..3_000]), vec![AudioWarning::Truncated]);
    assert_eq!(decode_bytes(cut).unwrap(), expected);
    // As written to a pipe, where the size cannot be updated.
    let unknown = aifc(b"NONE", 16, &data, 0, 0);
    assert_eq!(decode_bytes(unknown).unwrap(), (as_f32(&samples), vec![]));
    assert_eq!(
        refusal(aifc(b"MAC3", 8, &data, 0, 100)),
        "test: AIFF-C compression \"MAC3\" is not built in; convert it first, e.g. with ffmpeg"
    );
}

#[test]
fn a_wrong_block_length_in_wav_gives_way_to_the_bits() {
    let samples: Vec<i16> = noise(4_000).iter().map(|s| i16::from(*s) * 256).collect();
    let stereo: Vec<i16> = samples.iter().flat_map(|s| [*s; 2]).collect();
    let wav = Wav::s16(16_000, 2, &stereo).bytes();
    for block_len in [0_u16, 1, 2, 3, 6, 8, 64] {
        let mut wrong = wav.clone();
        wrong[32..34].copy_from_slice(&block_len.to_le_bytes());
        let (decoded, warnings) = decode_bytes(wrong).unwrap();
        assert!(
            decoded == as_f32(&noise(4_000)),
            "{block_len}: {}",
            decoded.len()
        );
        assert_eq!(warnings, []);
    }
    // 24 bits in four bytes, which only block length and byte rate show.
    let data = coded(&noise(4_000), s32, true);
    let wide = Wav {
        bits: 24,
        data,
        ..Wav::s16(16_000, 1, &[])
    };
    let mut wide = wide.bytes();
    wide[28..32].copy_from_slice(&64_000_u32.to_le_bytes());
    wide[32..34].copy_from_slice(&4_u16.to_le_bytes());
    assert!(decode_bytes(wide).unwrap().0 == as_f32(&noise(4_000)));
}

#[test]
fn samples_far_beyond_full_scale_are_clamped_with_a_warning() {
    for (peak, expected) in [
        (1.0_f32, vec![]),
        (1.1, vec![]),
        (1.5, vec![AudioWarning::Overdriven]),
        (-1e30, vec![AudioWarning::Overdriven]),
        (32_767.0, vec![AudioWarning::Overdriven]),
    ] {
        let samples = [0.5, peak, -0.5];
        let clamped = [0.5, peak.clamp(-1.0, 1.0), -0.5].to_vec();
        let outcome = (clamped, expected);
        let wav = Wav::f32(16_000, &samples).bytes();
        assert_eq!(decode_bytes(wav).unwrap(), outcome);
        let audio = Audio::from_samples(samples.to_vec(), 16_000).unwrap();
        assert_eq!(decode(&audio).unwrap(), outcome);
        let mov = coded_f32(&samples);
        assert_eq!(decode_bytes(mov).unwrap(), outcome);
    }
}

fn coded_f32(samples: &[f32]) -> Vec<u8> {
    let data = samples.iter().flat_map(|s| s.to_be_bytes()).collect();
    let mov = Mov {
        version: 1,
        ..Mov::new(b"fl32", 1, 32, data)
    };
    mov.bytes()
}

/// Damage in the middle: the decodable parts are used, with a warning.
#[test]
fn damage_in_the_middle_of_a_container_loses_only_the_damaged_part() {
    let samples = noise(160_000);
    let track = [mkv_track(1, true, &[])];
    for is_live in [false, true] {
        let mut file = mkv(&track, &blocks(&samples, 1), is_live);
        let middle = file.len() / 2;
        file[middle..middle + 6_000].fill(0x55);
        let (decoded, warnings) = decode_bytes(file).unwrap();
        // Two or three blocks of a hundred.
        assert!(decoded.len() >= 155_000, "{}", decoded.len());
        assert!(decoded.ends_with(&as_f32(&samples[158_400..])));
        assert_eq!(warnings, [AudioWarning::Truncated]);
    }
    for (file, least) in [
        ("odd/aac_faststart.m4a", 0.8),
        ("odd/aac_fragmented.mp4", 0.6),
        ("odd/aac.mkv", 0.8),
        ("formats/cc0_opus.webm", 0.8),
        ("odd/opus.mp4", 0.8),
        ("odd/vorbis.mka", 0.4),
    ] {
        let whole = bytes(file);
        let (full, _) = decode_bytes(whole.clone()).unwrap();
        let mut bad = whole.clone();
        let middle = whole.len() * 3 / 5;
        bad[middle..middle + 200].fill(0x55);
        let (decoded, warnings) = decode_bytes(bad).unwrap();
        let share = decoded.len() as f64 / full.len() as f64;
        println!("{file}: {share:.3} {warnings:?}");
        assert!(share > least, "{file}: {share}");
    }
}

#[test]
fn padding_behind_a_container_is_no_damage() {
    for file in [
        "odd/aac.mkv",
        "odd/opus_live.webm",
        "formats/cc0_opus.webm",
        "odd/aac_faststart.m4a",
        "odd/aac_fragmented.mp4",
        "formats/cc0_aac_44k1.m4a",
    ] {
        let whole = bytes(file);
        let (full, _) = decode_bytes(whole.clone()).unwrap();
        let padded = [whole, vec![0; 5_000]].concat();
        assert_eq!(decode_bytes(padded).unwrap(), (full, vec![]), "{file}");
    }
}

#[test]
fn a_track_with_a_forged_index_ends() {
    // Counts of four thousand million, and chunks beyond the end of the file.
    for (mark, at) in [
        (b"stsc", 20),
        (b"stsz", 12),
        (b"stts", 12),
        (b"stco", 12),
        (b"stco", 8),
    ] {
        let mut file = Mov::new(b"sowt", 1, 16, s16le(&noise(5_000))).bytes();
        let start = file.windows(4).position(|name| name == mark).unwrap();
        file[start + at..start + at + 4].fill(0xFF);
        let _ = decode_bytes(file);
    }
}

/// Making the resampler of an unusual rate takes long: a small file with many of them took minutes.
#[test]
fn usual_rates_may_change_without_end_and_unusual_ones_a_few_times() {
    // 480 samples of each rate.
    let joined = |rates: &[u32]| {
        let of_rate = |rate: &u32| {
            let rate = element(0xB5, &[&(*rate as f32).to_be_bytes()]);
            let track = mkv_track(1, true, &element(0xE1, &[&rate]));
            mkv(&[track], &[simple_block(1, &[1; 960])], false)
        };
        rates.iter().flat_map(of_rate).collect::<Vec<u8>>()
    };
    let n_samples = |rates: &[u32]| -> usize {
        let resampled = |rate: &u32| (480.0 * 16_000.0 / f64::from(*rate)).round() as usize;
        rates.iter().map(resampled).sum()
    };
    let usual: Vec<u32> = [44_100, 48_000, 11_025].repeat(20);
    let unusual: Vec<u32> = (0..40).map(|i| 47_001 + 2 * i).collect();
    let (decoded, warnings) = decode_bytes(joined(&usual)).unwrap();
    assert_eq!((decoded.len(), warnings), (n_samples(&usual), vec![]));
    let (decoded, warnings) = decode_bytes(joined(&unusual[..4])).unwrap();
    assert_eq!(
        (decoded.len(), warnings),
        (n_samples(&unusual[..4]), vec![])
    );
    let (decoded, warnings) = decode_bytes(joined(&unusual)).unwrap();
    let expected = (n_samples(&unusual[..4]), vec![AudioWarning::Truncated]);
    assert_eq!((decoded.len(), warnings), expected);
}

/// The reader searched the next cluster where it was, for ever.
#[test]
fn a_cluster_of_invalid_length_is_damage() {
    let audio = [7; 640];
    let file = mkv(
        &[mkv_track(1, true, &[])],
        &[simple_block(1, &audio)],
        false,
    );
    let cluster = file
        .windows(4)
        .position(|id| id == [0x1F, 0x43, 0xB6, 0x75]);
    let cluster = cluster.unwrap();
    // An ID without a length, before the cluster and at the end of the file.
    let invalid = [0x1F, 0x43, 0xB6, 0x75, 0];
    let damaged = [&file[..cluster], &invalid, &file[cluster..], &invalid].concat();
    let (decoded, warnings) = decode_bytes(damaged).unwrap();
    assert_eq!(
        (decoded.len(), warnings),
        (320, vec![AudioWarning::Truncated])
    );
}
