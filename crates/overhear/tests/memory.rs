//! Peak memory, measured by a counting allocator: opening a model takes little more than the size of its file, and
//! hours of audio no more than half a minute.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use overhear::vad::VadOptions;
use overhear::{Audio, Model, ModelOptions, TranscribeOptions};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MB: usize = 1_000_000;

/// The counter is that of the process, so measurements exclude each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Returns the peak of allocated bytes during `work`, less those allocated before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = work();
    let peak = ALLOCATOR.peak_usage() - before;
    drop(result);
    peak
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn open(folder: &Path) -> Model {
    Model::open(folder, &ModelOptions::default()).expect("the model opens")
}

/// Weights are in memory once, in the dtype of the file: at most 25 % more, and 8 MB for the tokenizer and the rest.
fn assert_opening_costs_little_more_than_the_file(folder: &Path) {
    let _alone = alone();
    let file = fs::metadata(folder.join("model.safetensors"))
        .expect("the weights are there")
        .len() as usize;
    let peak = peak_of(|| open(folder));
    eprintln!(
        "{}: {} MB of weights, peak {} MB",
        folder.display(),
        file / MB,
        peak / MB
    );
    assert!(
        peak > file / 2,
        "{peak} bytes cannot hold {file} bytes of weights: is anything measured?"
    );
    assert!(
        peak <= file / 4 * 5 + 8 * MB,
        "opening a file of {file} bytes took {peak}"
    );
}

#[test]
fn opening_nano_costs_little_more_than_its_file() {
    assert_opening_costs_little_more_than_the_file(&repository().join("models/nano"));
}

#[test]
fn opening_tiny_en_costs_little_more_than_its_file() {
    assert_opening_costs_little_more_than_the_file(&repository().join("models/tiny.en"));
}

#[test]
#[ignore = "needs OVERHEAR_INFLATED, a folder made by `just inflate small`"]
fn opening_a_checkpoint_of_the_size_of_small_costs_little_more_than_its_file() {
    let inflated = std::env::var_os("OVERHEAR_INFLATED").expect("OVERHEAR_INFLATED names a folder");
    assert_opening_costs_little_more_than_the_file(&Path::new(&inflated).join("small"));
}

/// Writes a 16-bit WAV of speech, repeated until it is `n_seconds` long.
fn write_long_wav(path: &Path, n_seconds: u32) {
    let speech =
        Audio::open(repository().join("crates/overhear/tests/fixtures/audio/long-90s.flac"))
            .and_then(|audio| audio.samples())
            .expect("the clip decodes");
    let speech: Vec<u8> = speech
        .iter()
        .flat_map(|s| ((s * 32768.0) as i16).to_le_bytes())
        .collect();
    let n_bytes = n_seconds * 32_000;
    let mut wav = BufWriter::new(File::create(path).expect("a temporary file can be made"));
    let mut write = |bytes: &[u8]| {
        wav.write_all(bytes)
            .expect("a temporary file can be written")
    };
    write(b"RIFF");
    write(&(n_bytes + 36).to_le_bytes());
    write(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    write(&16_000u32.to_le_bytes());
    write(&32_000u32.to_le_bytes());
    write(b"\x02\0\x10\0data");
    write(&n_bytes.to_le_bytes());
    let mut left = n_bytes as usize;
    while left > 0 {
        let n = left.min(speech.len());
        write(&speech[..n]);
        left -= n;
    }
}

/// Returns the options of a transcription of the part from `from_s` on.
fn from(from_s: f64) -> TranscribeOptions {
    TranscribeOptions {
        clip_timestamps: vec![from_s],
        temperatures: vec![0.0],
        condition_on_previous_text: false,
        ..Default::default()
    }
}

/// Returns the peak memory of transcribing speech of `n_seconds`, of which the end is decoded.
fn peak_of_transcribing(model: &Model, n_seconds: u32, options: &TranscribeOptions) -> usize {
    let folder =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder can be made");
    let path = folder.path().join("long.wav");
    write_long_wav(&path, n_seconds);
    peak_of(|| {
        let audio = Audio::open(&path).expect("the file opens");
        let transcript = model
            .transcribe(&audio, options)
            .expect("the file is transcribed");
        assert!((transcript.duration_s - f64::from(n_seconds)).abs() < 0.02);
        let last = transcript.segments.last().expect("something is said");
        assert!(
            last.end > f64::from(n_seconds) - 30.0,
            "the end is transcribed, not only {}",
            last.end
        );
    })
}

/// Asserts that `n_seconds` of speech take at most 60 MB more than half a minute.
fn assert_memory_does_not_grow_with_the_file(n_seconds: u32, options: &TranscribeOptions) {
    let _alone = alone();
    let model = open(&repository().join("models/nano"));
    let short = peak_of_transcribing(&model, 30, &from(0.0));
    let long = peak_of_transcribing(&model, n_seconds, options);
    eprintln!(
        "30 s: peak {} MB; {n_seconds} s: peak {} MB",
        short / MB,
        long / MB
    );
    assert!(
        long <= short + 60 * MB,
        "30 s took {short} bytes, {n_seconds} s took {long}"
    );
}

/// The whole hour is read in the first pass, its last minute is decoded.
#[test]
fn an_hour_costs_no_more_memory_than_half_a_minute() {
    assert_memory_does_not_grow_with_the_file(3600, &from(3540.0));
}

#[test]
#[ignore = "writes a file of 1.2 GB and transcribes ten hours"]
fn ten_hours_cost_no_more_memory_than_half_a_minute() {
    assert_memory_does_not_grow_with_the_file(36_000, &from(0.0));
}

/// More than the audio and the frames that are kept in memory.
#[test]
fn twenty_minutes_with_vad_cost_no_more_memory_than_half_a_minute() {
    let options = TranscribeOptions {
        vad: Some(VadOptions::default()),
        ..from(0.0)
    };
    assert_memory_does_not_grow_with_the_file(1200, &options);
}
