//! Formats that are not built in, decoded by the program ffmpeg: a script in its place that misbehaves, and the real
//! one.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::audio_support::{best_shift, bytes, decode, fixture};
use overhear::Audio;
use overhear::audio::{AudioOptions, AudioWarning, Ffmpeg};

/// A script in place of ffmpeg.
struct Fake {
    folder: tempfile::TempDir,
    stall_limit: Duration,
}

impl Fake {
    fn new(body: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "#!/bin/sh\necho $$ >> {0}/pids\nprintf '%s\\n' \"$@\" > {0}/arguments\n{body}\n",
            folder.path().display()
        );
        let fake = Self {
            folder,
            stall_limit: Duration::from_secs(60),
        };
        std::fs::write(fake.folder.path().join("script"), script).unwrap();
        // Copied by another process: a file written by this one may be open in a child that another test is forking,
        // and executing it would fail ("text file busy").
        let mut copy = Command::new("cp");
        copy.arg(fake.folder.path().join("script"))
            .arg(fake.program());
        assert!(copy.status().unwrap().success());
        std::fs::set_permissions(fake.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
        fake
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("ffmpeg")
    }

    fn options(&self) -> AudioOptions {
        let mut options = AudioOptions::default();
        options.ffmpeg = Ffmpeg::Program(self.program());
        options.ffmpeg_stall_limit = self.stall_limit;
        options
    }

    /// Opens and reads the AC-3 fixture.
    fn run(&self) -> Result<(Vec<f32>, Vec<AudioWarning>), String> {
        let audio = Audio::open_with(fixture("odd/ac3.ac3"), &self.options());
        let outcome = audio.and_then(|audio| decode(&audio));
        outcome.map_err(|error| {
            error
                .to_string()
                .rsplit_once("ac3.ac3: ")
                .unwrap()
                .1
                .to_owned()
        })
    }

    /// Returns whether all started processes have ended and were waited for.
    fn left_nothing(&self) -> bool {
        let pids = std::fs::read_to_string(self.folder.path().join("pids")).unwrap();
        pids.lines()
            .all(|pid| !Path::new("/proc").join(pid).exists())
    }
}

/// 16000 samples of 0x0101, without characters that are special to a shell.
const SECOND: &str = "head -c 32000 /dev/zero | tr '\\0' '\\1'";

#[test]
fn its_samples_are_unchanged_and_its_arguments_are_safe() {
    let fake = Fake::new(SECOND);
    let audio = Audio::open_with(fixture("odd/ac3.ac3"), &fake.options()).unwrap();
    assert_eq!(audio.decoded_by_ffmpeg(), Some("AC-3"));
    for _ in 0..2 {
        let (samples, warnings) = decode(&audio).unwrap();
        assert!(samples == vec![257.0 / 32_768.0; 16_000]);
        assert_eq!(warnings, []);
    }
    let arguments = std::fs::read_to_string(fake.folder.path().join("arguments")).unwrap();
    let arguments: Vec<_> = arguments.lines().collect();
    let has = |pair: [&str; 2]| arguments.windows(2).any(|two| two == pair);
    assert!(has(["-protocol_whitelist", "file,pipe"]) && arguments.contains(&"-nostdin"));
    assert!(
        arguments
            .iter()
            .any(|argument| argument.starts_with("file:/"))
    );
    assert!(has(["-ac", "1"]) && has(["-ar", "16000"]) && has(["-f", "s16le"]));
    assert!(fake.left_nothing());
}

#[test]
fn its_error_messages_become_one_line() {
    let fake = Fake::new("printf 'first\\tline\\nsecond\\n' >&2; exit 1");
    assert_eq!(
        fake.run().unwrap_err(),
        "ffmpeg could not decode it: firstline"
    );
    let fake = Fake::new("exit 3");
    assert_eq!(
        fake.run().unwrap_err(),
        "ffmpeg could not decode it: exit status: 3"
    );
    let fake = Fake::new("true");
    assert_eq!(
        fake.run().unwrap_err(),
        "nothing in it could be decoded: it is cut short or damaged"
    );
    assert!(fake.left_nothing());
}

#[test]
fn a_hanging_ffmpeg_is_killed() {
    for body in ["exec sleep 100", "exec sleep 100 <&- 1>&-"] {
        let (mut fake, start) = (Fake::new(body), Instant::now());
        fake.stall_limit = Duration::from_secs(3);
        let error = fake.run().unwrap_err();
        println!("{body}: {error}, {:?}", start.elapsed());
        assert!(
            error.starts_with("ffmpeg gave nothing") || error.ends_with("does not end"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(20));
        assert!(fake.left_nothing());
    }
    // Some sound, and then nothing.
    let mut fake = Fake::new(&format!("{SECOND}; exec sleep 100"));
    fake.stall_limit = Duration::from_secs(3);
    let (samples, warnings) = fake.run().unwrap();
    assert_eq!(
        (samples.len(), &warnings[..]),
        (16_000, &[AudioWarning::Truncated][..])
    );
    assert!(fake.left_nothing());
}

#[test]
fn a_flood_of_messages_and_of_sound_is_survived() {
    let fake = Fake::new(&format!(
        "head -c 3000000 /dev/zero | tr '\\0' x >&2; {SECOND}"
    ));
    let (samples, warnings) = fake.run().unwrap();
    assert_eq!(
        (samples.len(), &warnings[..]),
        (16_000, &[AudioWarning::Truncated][..])
    );
    let (fake, start) = (Fake::new("exec cat /dev/zero"), Instant::now());
    let (samples, warnings) = fake.run().unwrap();
    println!("{} samples in {:?}", samples.len(), start.elapsed());
    assert_eq!(warnings, [AudioWarning::Truncated]);
    assert!(samples.len() < 3_600 * 16_000 * 2);
    assert!(fake.left_nothing());
}

#[test]
fn the_output_of_a_killed_ffmpeg_is_used() {
    let fake = Fake::new(&format!("{SECOND}; kill -9 $$"));
    let (samples, warnings) = fake.run().unwrap();
    assert_eq!(
        (samples.len(), &warnings[..]),
        (16_000, &[AudioWarning::Truncated][..])
    );
    // An odd byte at the end is half a sample.
    let fake = Fake::new(&format!("{SECOND}; printf x"));
    assert_eq!(fake.run().unwrap().0.len(), 16_000);
}

#[test]
fn dropping_the_reader_ends_ffmpeg() {
    let fake = Fake::new("exec cat /dev/zero");
    let audio = Audio::open_with(fixture("odd/ac3.ac3"), &fake.options()).unwrap();
    let mut reader = audio.reader().unwrap();
    assert_eq!(reader.read(&mut [0.0; 100]).unwrap(), 100);
    drop(reader);
    assert!(fake.left_nothing());
}

#[test]
fn ffmpeg_is_not_started_unless_requested_or_for_built_in_formats() {
    let fake = Fake::new(SECOND);
    let error = Audio::open(fixture("odd/ac3.ac3")).unwrap_err().to_string();
    assert!(error.ends_with("AC-3 is not built in; convert it first, e.g. with ffmpeg"));
    for file in [
        "formats/cc0_22k_mono_64k.mp3",
        "formats/cc0_aac_44k1.m4a",
        "formats/cc0_16k_mono.ogg",
    ] {
        let audio = Audio::open_with(fixture(file), &fake.options()).unwrap();
        assert_eq!(audio.decoded_by_ffmpeg(), None);
    }
    for file in ["odd/picture.jpg", "odd/silent_video.mp4"] {
        assert!(Audio::open_with(fixture(file), &fake.options()).is_err());
    }
    assert!(!fake.folder.path().join("pids").exists());
}

#[test]
fn a_missing_ffmpeg_is_reported() {
    let mut options = AudioOptions::default();
    options.ffmpeg = Ffmpeg::Program("/nowhere/ffmpeg".into());
    let audio = Audio::open_with(fixture("odd/ac3.ac3"), &options);
    let error = audio
        .and_then(|audio| audio.samples())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("AC-3 needs ffmpeg: cannot start /nowhere/ffmpeg: No such file"),
        "{error}"
    );
}

#[test]
fn a_stream_reaches_it_as_a_file_that_it_can_seek_in() {
    let fake = Fake::new("cat /dev/stdin > $(dirname $0)/input; head -c 32000 /dev/zero");
    let ac3 = bytes("odd/ac3.ac3");
    let audio =
        Audio::from_reader_with(Cursor::new(ac3.clone()), "stdin", &fake.options()).unwrap();
    for _ in 0..2 {
        assert_eq!(decode(&audio).unwrap().0.len(), 16_000);
        assert!(std::fs::read(fake.folder.path().join("input")).unwrap() == ac3);
    }
}

/// The real ffmpeg on the fixtures that are not built in: the samples are the recording, without a shift.
#[test]
fn ffmpeg_decodes_formats_that_are_not_built_in() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("skipped: no ffmpeg here");
        return;
    }
    let mut options = AudioOptions::default();
    options.ffmpeg = Ffmpeg::Auto;
    for (file, what, like, least) in [
        ("odd/ac3.ac3", "AC-3", "odd/flac16k.flac", 0.9),
        ("odd/ac3.mkv", "AC-3", "odd/flac16k.flac", 0.9),
        ("odd/wma.wma", "WMA/WMV (ASF)", "odd/flac16k.flac", 0.9),
        // Speex models the voice, so its waveform differs.
        ("odd/speex.ogg", "Speex", "odd/flac16k.flac", 0.7),
        (
            "odd/aac_51.m4a",
            "AAC other than AAC-LC",
            "odd/opus_51.flac",
            0.8,
        ),
    ] {
        let (expected, _) = decode(&Audio::open(fixture(like)).unwrap()).unwrap();
        let from_file = Audio::open_with(fixture(file), &options).unwrap();
        let piped = Cursor::new(bytes(file));
        let from_pipe = Audio::from_reader_with(piped, "stdin", &options).unwrap();
        for audio in [from_file, from_pipe] {
            assert!(
                audio
                    .decoded_by_ffmpeg()
                    .is_some_and(|found| found.starts_with(what)),
                "{file}"
            );
            let (samples, warnings) = decode(&audio).unwrap();
            let (shift, correlation) = best_shift(&samples, &expected);
            println!(
                "{file}: {} samples, {shift}, {correlation} {warnings:?}",
                samples.len()
            );
            assert!(
                correlation > least && warnings.is_empty(),
                "{file}: {correlation}"
            );
        }
    }
}

/// Every file in `OVERHEAR_SHARED/cases/audio`, compared with ffmpeg's decoding: length and samples.
#[test]
#[ignore = "needs OVERHEAR_SHARED and ffmpeg"]
fn the_odd_files_of_the_shared_folder_are_heard_as_ffmpeg_hears_them() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("skipped: no ffmpeg on the PATH");
        return;
    }
    let folder = Path::new(&std::env::var_os("OVERHEAR_SHARED").unwrap()).join("cases/audio");
    let mut failures = Vec::new();
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "quiet", "-i"]).arg(&file);
        command.args(["-f", "s16le", "-ac", "1", "-ar", "16000", "-"]);
        let bytes = command.output().unwrap().stdout;
        let (words, _) = bytes.as_chunks::<2>();
        let words = words
            .iter()
            .map(|word| f32::from(i16::from_le_bytes(*word)) / 32_768.0);
        let expected: Vec<f32> = words.collect();
        match Audio::open(&file).and_then(|audio| decode(&audio)) {
            Ok((samples, warnings)) => {
                // Where streams are joined, ffmpeg drops or shifts samples: only the first part and the length are
                // compared.
                let is_joined = ["-two-in-one", "-then-"]
                    .iter()
                    .any(|part| name.contains(part));
                let first = if is_joined { 25_000 } else { usize::MAX };
                let [ours, theirs] = [&samples, &expected].map(|s| &s[..s.len().min(first)]);
                let (shift, correlation) = best_shift(ours, theirs);
                let (n, n_expected) = (samples.len(), expected.len());
                println!("{name}: {n} of {n_expected}, {shift}, {correlation:.5} {warnings:?}");
                let is_long_enough = match is_joined {
                    true => n + 2_000 > n_expected,
                    false => n.abs_diff(n_expected) <= 2_000,
                };
                // Opus fills noise with random numbers: libopus and ffmpeg agree to 0.97 on speech and to 0.82 on
                // noise.
                let least = match name.rsplit_once('.') {
                    _ if name.starts_with("surround") => 0.8,
                    Some((_, "opus" | "webm")) => 0.95,
                    _ => 0.98,
                };
                if !is_long_enough || correlation < least {
                    failures.push(name);
                }
            }
            Err(error) => {
                println!("{error}");
                failures.push(name);
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}
