//! What the hallucination guard removes, and what it wrongly removes.
//!
//! `cargo run --release --example hallucinations -- MODEL_FOLDER AUDIO_FOLDER`: all clips of the folder that hold speech,
//! by themselves, in noise, and with pauses between; and silence and noise made here, over which the end of text is
//! forbidden, as the bundled model says nothing there by itself. Greedy, at temperature 0, without the threshold that
//! skips silence. A segment counts if it has text.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;
use std::path::{Path, PathBuf};

use overhear::{Audio, ComputeType, Model, ModelOptions, TranscribeOptions};

/// Samples per second.
const RATE: usize = 16_000;
/// Clips of the folder that hold no speech.
const WITHOUT_SPEECH: [&str; 2] = ["silence-10s", "noise-35s"];
/// Decibels of full scale that noise without speech has.
const LEVELS: [i32; 4] = [-80, -60, -40, -20];

/// Recordings of one kind.
struct Set {
    name: String,
    recordings: Vec<Vec<f32>>,
    /// Whether the end of text is forbidden.
    is_forced: bool,
    /// Whether most of what lies between two times is speech.
    is_speech: fn(f64, f64, &[f32]) -> bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, audio] = &arguments[..] else {
        return Err("usage: hallucinations MODEL_FOLDER AUDIO_FOLDER".into());
    };
    let options = ModelOptions {
        compute_type: ComputeType::F32,
        ..ModelOptions::default()
    };
    let model = Model::open(model, &options)?;
    println!("| | recordings | segments | dropped | of them speech |\n|---|--:|--:|--:|--:|");
    for set in sets(Path::new(audio))? {
        let (mut n_segments, mut n_dropped, mut n_wrong) = (0, 0, 0);
        for samples in &set.recordings {
            for segment in segments(&model, samples, set.is_forced)? {
                n_segments += 1;
                n_dropped += usize::from(segment.is_dropped);
                let is_wrong =
                    segment.is_dropped && (set.is_speech)(segment.start, segment.end, samples);
                n_wrong += usize::from(is_wrong);
            }
        }
        let (name, n) = (&set.name, set.recordings.len());
        println!("| {name} | {n} | {n_segments} | {n_dropped} | {n_wrong} |");
    }
    Ok(())
}

/// A segment that had text.
struct Found {
    start: f64,
    end: f64,
    is_dropped: bool,
}

fn segments(model: &Model, samples: &[f32], is_forced: bool) -> Result<Vec<Found>, Box<dyn Error>> {
    let options = TranscribeOptions {
        temperature: vec![0.0],
        no_speech_threshold: None,
        suppress_tokens: if is_forced {
            vec![-1, 50_257]
        } else {
            vec![-1]
        },
        hallucination_guard: true,
        ..TranscribeOptions::default()
    };
    let audio = Audio::from_samples(samples.to_vec(), RATE as u32)?;
    let transcript = model.transcribe(&audio, &options)?;
    let weighed = transcript.segments.into_iter().filter_map(|segment| {
        let silence = segment.silence?;
        Some(Found {
            start: segment.start,
            end: segment.end,
            is_dropped: silence.dropped.is_some(),
        })
    });
    Ok(weighed.collect())
}

fn sets(folder: &Path) -> Result<Vec<Set>, Box<dyn Error>> {
    let speech = speech(folder)?;
    let everywhere = |_, _, _: &[f32]| true;
    let nowhere = |_, _, _: &[f32]| false;
    let mut noise = Noise::new();
    let mut sets = Vec::new();
    let mut add = |name: String, recordings, is_speech: fn(f64, f64, &[f32]) -> bool| {
        sets.push(Set {
            is_forced: !is_speech(0.0, 1.0, &[0.0; 3 * PAUSE]),
            name,
            recordings,
            is_speech,
        });
    };
    add("speech".to_owned(), speech.clone(), everywhere);
    for snr in [20, 10, 5, 0] {
        let recordings = speech.iter().map(|s| noise.over(s, snr)).collect();
        add(
            format!("speech in white noise, {snr} dB below"),
            recordings,
            everywhere,
        );
    }
    let paused = |gain: f32, noise: &mut Noise| -> Vec<Vec<f32>> {
        let short = speech.iter().filter(|s| s.len() < 20 * RATE);
        short
            .map(|s| {
                let pause = vec![0.0; PAUSE];
                let mut samples = [&s[..], &pause, s, &pause].concat();
                samples.iter_mut().for_each(|x| *x += gain * noise.white());
                samples
            })
            .collect()
    };
    add(
        "speech with pauses of 35 s".to_owned(),
        paused(0.0, &mut noise),
        is_between_pauses,
    );
    add(
        "the same, noise of -60 dB".to_owned(),
        paused(1e-3, &mut noise),
        is_between_pauses,
    );
    let silence = (1..=12).map(|n| vec![0.0; n * 5 * RATE]).collect();
    add("digital silence, 5 to 60 s".to_owned(), silence, nowhere);
    type Sample = fn(&mut Noise) -> f32;
    for (name, sample) in [
        ("white", Noise::white as Sample),
        ("pink", Noise::pink),
        ("brown", Noise::brown),
    ] {
        let recording = |i: usize| {
            let gain = 10f32.powf(LEVELS[i % LEVELS.len()] as f32 / 20.0);
            let n_samples = (5 + 5 * (i / LEVELS.len())) * RATE;
            (0..n_samples).map(|_| gain * sample(&mut noise)).collect()
        };
        let recordings = (0..24).map(recording).collect();
        add(
            format!("{name} noise, 5 to 30 s, -80 to -20 dB"),
            recordings,
            nowhere,
        );
    }
    let mut recorded = Vec::new();
    for name in WITHOUT_SPEECH {
        recorded.push(Audio::open(folder.join(format!("{name}.flac")))?.samples()?);
    }
    add("clips without speech".to_owned(), recorded, nowhere);
    Ok(sets)
}

/// Samples of a pause.
const PAUSE: usize = 35 * RATE;

/// Whether most of a segment lies in one of the two halves' first part.
fn is_between_pauses(start: f64, end: f64, samples: &[f32]) -> bool {
    let half = samples.len() as f64 / 2.0 / RATE as f64;
    let length = half - PAUSE as f64 / RATE as f64;
    let overlap = |from: f64| (end.min(from + length) - start.max(from)).max(0.0);
    overlap(0.0) + overlap(half) > (end - start) / 2.0
}

/// The samples of every clip with speech.
fn speech(folder: &Path) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_clip = path
            .extension()
            .is_some_and(|extension| extension == "flac");
        if is_clip && !WITHOUT_SPEECH.contains(&&*stem) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut clips = Vec::new();
    for path in paths {
        clips.push(Audio::open(path)?.samples()?);
    }
    Ok(clips)
}

/// Noise of root mean square 1.
struct Noise {
    state: u64,
    /// Kellet's filters, whose sum falls by 3 dB an octave.
    poles: [f32; 3],
}

impl Noise {
    fn new() -> Self {
        Self {
            state: 1,
            poles: [0.0; 3],
        }
    }

    fn white(&mut self) -> f32 {
        // Knuth's MMIX generator; uniform, of variance 1.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = self.state.wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 12f32.sqrt()
    }

    fn pink(&mut self) -> f32 {
        let white = self.white();
        for (pole, (keep, gain)) in
            self.poles
                .iter_mut()
                .zip([(0.99765, 0.099_046), (0.963, 0.296_516), (0.57, 1.052_691)])
        {
            *pole = keep * *pole + gain * white;
        }
        // What the sum comes to for white noise of variance 1.
        (self.poles.iter().sum::<f32>() + 0.1848 * white) / 2.2
    }

    fn brown(&mut self) -> f32 {
        let white = self.white();
        self.poles[0] = 0.98 * self.poles[0] + 0.199 * white;
        self.poles[0]
    }

    /// `samples` with white noise `snr_db` below them.
    fn over(&mut self, samples: &[f32], snr_db: i32) -> Vec<f32> {
        let power = samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32;
        let gain = power.sqrt() * 10f32.powf(-snr_db as f32 / 20.0);
        samples.iter().map(|x| x + gain * self.white()).collect()
    }
}
