//! Memory is independent of the length of a file and of the sizes that it declares. A single test, since it measures
//! the peak of the process, on Linux.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod audio_support;

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use audio_support::{Wav, bytes, decode_bytes};
use overhear::Audio;

/// Returns the peak resident memory of this process in MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn n_samples(audio: &Audio) -> (u64, f32) {
    let mut reader = audio.reader().unwrap();
    let (mut n, mut last, mut buffer) = (0, 0.0, vec![0.0; 1 << 14]);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => return (n, last),
            more => (n, last) = (n + more as u64, buffer[more - 1]),
        }
    }
}

#[test]
fn neither_length_nor_declared_sizes_take_memory() {
    let thirty_s = Wav::s16(16_000, 1, &vec![5; 30 * 16_000]).bytes();
    assert_eq!(
        n_samples(&Audio::from_bytes(thirty_s, "30 s").unwrap()).0,
        480_000
    );
    let base = peak_mb();
    let within = |what: &str, limit: u64| {
        let grown = peak_mb() - base;
        println!("{what}: {grown} MB more");
        assert!(grown < limit, "{what}: {grown} MB more");
    };

    // RF64 of a little more than 4 GiB, sparse, with 64 channels of f64.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.wav");
    let n_frames: u64 = (1 << 32) / 512 + 1000;
    let mut wide = Wav {
        tag: 3,
        n_channels: 64,
        bits: 64,
        data_size: Some(u32::MAX),
        ..Wav::s16(16_000, 1, &[])
    };
    wide.riff_size = Some(u32::MAX);
    let header = wide.bytes();
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"RF64\xFF\xFF\xFF\xFFWAVEds64\x1C\0\0\0")
        .unwrap();
    file.write_all(&(n_frames * 512 + 72).to_le_bytes())
        .unwrap();
    file.write_all(&(n_frames * 512).to_le_bytes()).unwrap();
    file.write_all(&[0; 12]).unwrap();
    file.write_all(&header[12..]).unwrap();
    let data_at = file.stream_position().unwrap();
    file.seek(SeekFrom::Start(data_at + (n_frames - 1) * 512))
        .unwrap();
    file.write_all(&0.5_f64.to_le_bytes().repeat(64)).unwrap();
    file.write_all(b"LIST\x04\0\0\0INFO").unwrap();
    drop(file);
    assert!(std::fs::metadata(&path).unwrap().len() > 1 << 32);
    let start = Instant::now();
    assert_eq!(n_samples(&Audio::open(&path).unwrap()), (n_frames, 0.5));
    println!("4 GiB in {:?}", start.elapsed());
    within("4 GiB of RF64", 60);

    // Three hours of 8 kHz A-law from a sparse file, resampled but not kept.
    let path = folder.path().join("long.au");
    let mut file = std::fs::File::create(&path).unwrap();
    let n_frames: u64 = 3 * 3600 * 8_000;
    file.write_all(b".snd\0\0\0\x18\xFF\xFF\xFF\xFF\0\0\0\x1B\0\0\x1F\x40\0\0\0\x01")
        .unwrap();
    file.set_len(24 + n_frames).unwrap();
    drop(file);
    let start = Instant::now();
    assert_eq!(n_samples(&Audio::open(&path).unwrap()).0, 2 * n_frames);
    println!("3 h in {:?}", start.elapsed());
    within("3 h of A-law", 60);

    // Headers that declare more than the file holds.
    for (what, forged) in forged() {
        let start = Instant::now();
        match decode_bytes(forged) {
            Ok((samples, warnings)) => println!("{what}: {} samples {warnings:?}", samples.len()),
            Err(error) => println!("{what}: {error}"),
        }
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{what}: {:?}",
            start.elapsed()
        );
        within(what, 100);
    }
}

/// Replaces the bytes at `offset` from the first `mark`.
fn patch(file: &str, mark: &[u8], offset: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes(file);
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)
        .unwrap()
        + offset;
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn forged() -> Vec<(&'static str, Vec<u8>)> {
    const MANY: &[u8] = &[0xFF; 4];
    vec![
        // Sample rate (20 bits), channels (3 bits), bits (5), number of samples (36).
        (
            "FLAC of 655350 Hz, 8 channels, 2^36 - 1 frames",
            patch(
                "odd/flac16k.flac",
                b"fLaC",
                18,
                &[0x9F, 0xFF, 0x6F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            ),
        ),
        (
            "FLAC with blocks of 65535",
            patch("odd/flac16k.flac", b"fLaC", 8, &[0xFF; 4]),
        ),
        (
            "MP4 with 2^32 - 1 stts entries",
            patch("odd/aac_faststart.m4a", b"stts", 8, MANY),
        ),
        (
            "MP4 with 2^32 - 1 stsc entries",
            patch("odd/aac_faststart.m4a", b"stsc", 8, MANY),
        ),
        (
            "MP4 with 2^32 - 1 stsz entries",
            patch("odd/aac_faststart.m4a", b"stsz", 12, MANY),
        ),
        (
            "MP4 with 2^32 - 1 stco entries",
            patch("odd/aac_faststart.m4a", b"stco", 8, MANY),
        ),
        (
            "MP4 with samples of 2^32 - 1 bytes",
            patch("odd/aac_faststart.m4a", b"stsz", 8, MANY),
        ),
        (
            "MP4 with 2^32 - 1 edits",
            patch("odd/aac_faststart.m4a", b"elst", 8, MANY),
        ),
        (
            "MP4 with a delta of 2^32 - 1",
            patch("odd/aac_faststart.m4a", b"stts", 16, MANY),
        ),
        (
            "Matroska with laced blocks",
            patch("odd/opus_live.webm", b"\xA3", 4, &[0x06, 0xFF, 0xFF, 0xFF]),
        ),
        (
            "Matroska with huge codec data",
            patch(
                "odd/opus_live.webm",
                b"\x63\xA2",
                2,
                &[0x08, 0xFF, 0xFF, 0xFF, 0xFF],
            ),
        ),
        (
            "CAF with a chunk of 2^62 bytes",
            patch(
                "formats/cc0_caf_s16.caf",
                b"desc",
                4,
                &[0x3F, 0xFF, 0xFF, 0xFF],
            ),
        ),
        (
            "AIFF with a chunk of 2^32 - 1 bytes",
            patch("odd/aifc_alaw.aifc", b"COMM", 4, MANY),
        ),
        (
            "Ogg with a granule position of 2^63",
            patch("odd/opus_silk8.opus", b"OggS", 6, &[0xFF; 8]),
        ),
        ("WAV with a chunk of 4 GiB in front", {
            let wav = Wav::s16(16_000, 1, &[1; 100]).bytes();
            [&wav[..12], b"LIST\xF0\xFF\xFF\xFF", &wav[12..]].concat()
        }),
        (
            "ADTS frame of 8191 bytes",
            patch("formats/cc0_adts_48k.aac", &[0xFF], 3, &[0x83, 0xFF, 0xE0]),
        ),
    ]
}
