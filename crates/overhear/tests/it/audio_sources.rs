//! Sources of audio (files of all kinds, pipes, memory), and several passes over them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Cursor, Read};

use crate::audio_support::{Wav, bytes, decode, decode_bytes, fixture};
use overhear::audio::AudioReader;
use overhear::{Audio, Error};

/// A pipe: not seekable, and at most a few bytes per read.
struct Trickle(Cursor<Vec<u8>>, usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 977 + 1;
        let n = buffer.len().min(self.1);
        self.0.read(&mut buffer[..n])
    }
}

#[test]
fn a_pipe_gives_the_same_samples_as_the_file_for_every_format() {
    for file in [
        "formats/cc0_16k_mono.ogg",
        "formats/cc0_22k_mono_64k.mp3",
        "formats/cc0_aac_44k1.m4a",
        "formats/cc0_adts_48k.aac",
        "formats/cc0_au_mulaw_8k.au",
        "formats/cc0_mono_24k.opus",
        "formats/cc0_msadpcm_22k.wav",
        "formats/cc0_opus.webm",
        "odd/aac_fragmented.mp4",
        "odd/aifc_alaw.aifc",
        "odd/flac16k.flac",
        "odd/opus_chained.opus",
        "odd/pipe.wav",
        "odd/rf64.wav",
    ] {
        let (from_file, _) = decode(&Audio::open(fixture(file)).unwrap()).unwrap();
        let pipe = Audio::from_reader(Trickle(Cursor::new(bytes(file)), 0), "stdin").unwrap();
        let (from_pipe, warnings) = decode(&pipe).unwrap();
        assert_eq!(warnings, [], "{file}");
        assert_eq!(from_pipe.len(), from_file.len(), "{file}");
        assert!(from_pipe == from_file, "{file}");
        assert_eq!(
            decode(&pipe).unwrap().0.len(),
            from_file.len(),
            "{file}, second pass"
        );
    }
}

#[test]
fn bad_pipes_fail_with_their_own_name() {
    let from = |bytes: &[u8]| {
        Audio::from_reader(Cursor::new(bytes.to_vec()), "stdin")
            .unwrap_err()
            .to_string()
    };
    assert_eq!(from(b""), "stdin: empty file");
    assert_eq!(
        from(&[1; 1000]),
        "stdin: not audio (no header of a known format; raw samples need one)"
    );
    let broken = std::io::empty().chain(Broken);
    let error = Audio::from_reader(broken, "stdin").unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot read stdin: the cable was pulled");
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the cable was pulled"))
    }
}

#[test]
fn long_audio_from_a_pipe_can_be_read_twice_from_its_temporary_file() {
    // Six minutes: more than is kept in memory.
    let samples: Vec<i16> = (0..6 * 60 * 16_000).map(|i| (i % 30_011) as i16).collect();
    let wav = Wav {
        data_size: Some(u32::MAX),
        ..Wav::s16(16_000, 1, &samples)
    };
    let audio = Audio::from_reader(Cursor::new(wav.bytes()), "stdin").unwrap();
    for _ in 0..2 {
        let (decoded, _) = decode(&audio).unwrap();
        assert_eq!(decoded.len(), samples.len());
        assert!(
            decoded
                .iter()
                .zip(&samples)
                .all(|(a, b)| *a == f32::from(*b) / 32_768.0)
        );
    }
}

#[test]
fn passes_are_independent_and_clones_share_decoded_samples() {
    let audio = Audio::open(fixture("formats/cc0_22k_mono_64k.mp3")).unwrap();
    let (mut one, mut two) = (audio.reader().unwrap(), audio.clone().reader().unwrap());
    let (mut a, mut b) = (vec![0.0; 1_000], vec![0.0; 1_000]);
    let n = one.read(&mut a).unwrap();
    one.read(&mut b.clone()).unwrap();
    assert_eq!(two.read(&mut b).unwrap(), n);
    assert_eq!(a, b);
    let (first, warnings) = decode(&audio).unwrap();
    let (second, again) = decode(&audio.clone()).unwrap();
    assert!(first == second && warnings == again);
}

#[test]
fn a_reader_can_be_sent_and_reading_nothing_does_nothing() {
    fn sendable<T: Send>(_: &T) {}
    let audio = Audio::from_samples(vec![0.25; 10], 16_000).unwrap();
    let mut reader: AudioReader = audio.reader().unwrap();
    sendable(&reader);
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    let mut buffer = [0.0; 16];
    assert_eq!(reader.read(&mut buffer).unwrap(), 10);
    assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    assert_eq!(audio.name(), "samples");
}

#[test]
fn samples_at_another_rate_are_resampled() {
    let audio = Audio::from_samples(vec![0.5; 48_000], 48_000).unwrap();
    let samples = audio.samples().unwrap();
    assert_eq!(samples.len(), 16_000);
    assert!(
        samples[2_000..14_000]
            .iter()
            .all(|sample| (sample - 0.5).abs() < 1e-5)
    );
    assert_eq!(
        Audio::from_samples(vec![], 44_100)
            .unwrap()
            .samples()
            .unwrap(),
        [0.0f32; 0]
    );
}

#[test]
fn a_missing_file_and_a_folder_are_reported_by_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Audio::open(folder.path().join("missing.wav")).unwrap_err();
    assert!(matches!(missing, Error::Read { .. }));
    assert!(
        missing
            .to_string()
            .contains("missing.wav: No such file or directory"),
        "{missing}"
    );
    let error = Audio::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert!(
        error.to_string().to_lowercase().contains("is a directory"),
        "{error}"
    );
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn sockets_and_bad_links_are_read_errors() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let _listener = UnixListener::bind(at("socket")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        symlink(at("loop2"), at("loop1")).unwrap();
        symlink(at("loop1"), at("loop2")).unwrap();
        for (name, text) in [
            ("socket", "No such device or address"),
            ("dangling", "No such file or directory"),
            ("loop1", "Too many levels of symbolic links"),
        ] {
            let error = Audio::open(at(name)).unwrap_err();
            assert!(matches!(error, Error::Read { .. }), "{name}: {error}");
            assert!(
                cfg!(not(target_os = "linux")) || error.to_string().contains(text),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_file_without_permission_is_a_read_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), Wav::s16(16_000, 1, &[1]).bytes()).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
        match Audio::open(file.path()) {
            Err(error) => assert!(error.to_string().contains("Permission denied"), "{error}"),
            // The superuser can read everything.
            Ok(audio) => assert_eq!(audio.samples().unwrap().len(), 1),
        }
    }

    #[test]
    fn an_endless_device_of_no_audio_is_refused_at_once() {
        let error = Audio::open("/dev/zero").unwrap_err().to_string();
        assert_eq!(
            error,
            "/dev/zero: not audio (no header of a known format; raw samples need one)"
        );
        assert_eq!(
            Audio::open("/dev/null").unwrap_err().to_string(),
            "/dev/null: empty file"
        );
    }

    #[test]
    fn a_named_pipe_is_decoded_and_can_be_read_twice() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        if !Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .is_ok_and(|status| status.success())
        {
            println!("skipped: no mkfifo here");
            return;
        }
        for file in ["odd/flac16k.flac", "formats/cc0_aac_44k1.m4a"] {
            let writer = std::thread::spawn({
                let pipe = pipe.clone();
                move || std::fs::write(pipe, bytes(file)).unwrap()
            });
            let audio = Audio::open(&pipe).unwrap();
            writer.join().unwrap();
            let (expected, _) = decode_bytes(bytes(file)).unwrap();
            assert!(decode(&audio).unwrap().0 == expected);
            assert!(decode(&audio).unwrap().0 == expected);
        }
    }

    #[test]
    fn a_file_that_changes_between_or_during_passes_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let long = Wav::s16(16_000, 1, &vec![100; 6 * 60 * 16_000]);
        std::fs::write(&path, long.bytes()).unwrap();
        let audio = Audio::open(&path).unwrap();
        let mut reader = audio.reader().unwrap();
        let mut buffer = vec![0.0; 1_000];
        assert_eq!(reader.read(&mut buffer).unwrap(), 1_000);
        // Truncated while it is read, which is detected.
        std::fs::write(&path, &long.bytes()[..100_000]).unwrap();
        let mut n = 1_000;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(n < 6 * 60 * 16_000);
        assert_eq!(
            reader.warnings(),
            [overhear::audio::AudioWarning::Truncated]
        );
        std::fs::write(&path, b"not a recording any more").unwrap();
        let later = Audio::open(&path).unwrap_err().to_string();
        assert!(later.contains("looks like text"), "{later}");
        std::fs::remove_file(&path).unwrap();
    }
}
