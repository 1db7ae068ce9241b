//! Hallucinations of a model: the number without guards, and what each guard removes of them and of spoken words.
//!
//! `cargo run --release --example hallucinations -- MODEL_FOLDER AUDIO_FOLDER`: the recordings are generated sounds
//! without speech (`sounds`), and clips of people's speech from the folder's `manifest.jsonl` (names that begin with
//! `real-` or `jfk`): by themselves, in noise, and joined with pauses. Each is transcribed in f32, with the default
//! options, and greedily at temperature 0 only; without a guard, with the hallucination guard, and with the loop guard.
//! English-only models transcribe only the English clips.
//!
//! The output begins with one line per segment that has text or whose text was dropped, tab-separated: set, options,
//! guard, times, evidence, `kept`, `cut` or `dropped`, text. A table follows. Words are those of openai/whisper's
//! normalisers. *Words said* are the words of the reference that the transcript has in their places; *made up* are the
//! words that the transcript inserts: in sounds without speech, all. *Lost* is the number of words said without the
//! guard less that with it, summed over the recordings in which it is positive.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

mod sounds;

use std::error::Error;
use std::path::Path;

use overhear::decode::DecodingRules;
use overhear::eval::normalize::comparable;
use overhear::eval::score::{Edit, align};
use overhear::{
    Audio, ComputeType, Language, Model, ModelOptions, Segment, TranscribeOptions, Transcript,
};
use serde_json::Value;
use sounds::{Noise, RATE, decibels};

/// Lengths in seconds of the pauses after clips, used in turn.
const PAUSES_S: [usize; 4] = [35, 8, 20, 13];
/// Number of clips in a recording with pauses.
const N_JOINED: usize = 3;

/// A recording with the text that is spoken in it.
#[derive(Clone)]
struct Recording {
    samples: Vec<f32>,
    text: String,
    language: Language,
}

/// Recordings of one kind.
struct Set {
    name: String,
    recordings: Vec<Recording>,
}

#[derive(Clone, Copy, PartialEq)]
enum Guard {
    None,
    Hallucination,
    Loop,
}

/// Sums over a set with one of the guards.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Number of segments with text.
    n_segments: usize,
    /// Total length in seconds of the segments with text.
    length_s: f64,
    n_said: usize,
    n_made_up: usize,
    n_lost: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, audio] = &arguments[..] else {
        return Err("usage: hallucinations MODEL_FOLDER AUDIO_FOLDER".into());
    };
    let options = ModelOptions {
        compute_type: ComputeType::F32,
        ..ModelOptions::default()
    };
    let model = Model::open(folder, &options)?;
    let sets = sets(Path::new(audio), model.is_multilingual())?;
    let mut table = Vec::new();
    for (mode, temperatures) in [
        ("default", TranscribeOptions::default().temperatures),
        ("greedy", vec![0.0]),
    ] {
        for set in &sets {
            table.push(row(&model, set, mode, &temperatures)?);
        }
    }
    println!();
    println!(
        "| | | recordings | segments | seconds | words said | made up | hallucination guard: made up | lost | loop guard: made up | lost |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in table {
        println!("{row}");
    }
    Ok(())
}

/// Returns the line of the table for one set.
fn row(
    model: &Model,
    set: &Set,
    mode: &str,
    temperatures: &[f32],
) -> Result<String, Box<dyn Error>> {
    let guards = [Guard::None, Guard::Hallucination, Guard::Loop];
    let mut sums = [Sums::default(); 3];
    for recording in &set.recordings {
        let mut n_said_freely = 0;
        for (guard, sums) in guards.into_iter().zip(&mut sums) {
            let transcript = transcribe(model, recording, temperatures, guard)?;
            print_segments(&transcript, &[&set.name, mode], guard);
            let with_text = || transcript.segments.iter().filter(|s| !s.text.is_empty());
            sums.n_segments += with_text().count();
            sums.length_s += with_text().map(|s| s.end - s.start).sum::<f64>();
            let edits = edits(&recording.text, &transcript.text, recording.language);
            let count = |of: Edit| edits.iter().filter(|&&edit| edit == of).count();
            let n_said = count(Edit::Match);
            if guard == Guard::None {
                n_said_freely = n_said;
            }
            sums.n_said += n_said;
            sums.n_made_up += count(Edit::Insertion);
            sums.n_lost += n_said_freely.saturating_sub(n_said);
        }
    }
    let [free, hallucination, looped] = sums;
    Ok(format!(
        "| {} | {mode} | {} | {} | {:.0} | {} | {} | {} | {} | {} | {} |",
        set.name,
        set.recordings.len(),
        free.n_segments,
        free.length_s,
        free.n_said,
        free.n_made_up,
        hallucination.n_made_up,
        hallucination.n_lost,
        looped.n_made_up,
        looped.n_lost,
    ))
}

fn transcribe(
    model: &Model,
    recording: &Recording,
    temperatures: &[f32],
    guard: Guard,
) -> Result<Transcript, Box<dyn Error>> {
    let options = TranscribeOptions {
        language: Some(recording.language),
        temperatures: temperatures.to_vec(),
        hallucination_guard: guard == Guard::Hallucination,
        rules: DecodingRules {
            loop_guard: guard == Guard::Loop,
            ..DecodingRules::default()
        },
        ..TranscribeOptions::default()
    };
    let audio = Audio::from_samples(recording.samples.clone(), RATE as u32)?;
    Ok(model.transcribe(&audio, &options)?)
}

fn print_segments(transcript: &Transcript, names: &[&str], guard: Guard) {
    let guard = match guard {
        Guard::None => "none",
        Guard::Hallucination => "hallucination",
        Guard::Loop => "loop",
    };
    for segment in &transcript.segments {
        let Segment {
            start,
            end,
            no_speech_prob,
            avg_logprob,
            ..
        } = segment;
        let evidence = segment.silence.as_ref();
        let dropped = evidence.and_then(|silence| silence.dropped.as_deref());
        let text = dropped.unwrap_or(&segment.text);
        if text.is_empty() {
            continue;
        }
        print!("{}\t{guard}\t{start:.2}\t{end:.2}", names.join("\t"));
        let (audio, attention) = evidence.map_or((0.0, 0.0), |s| (s.audio, s.attention));
        print!("\t{audio:.3}\t{attention:.3}\t{no_speech_prob:.3}\t{avg_logprob:.2}");
        let kept = match dropped {
            Some(_) => "dropped",
            None if segment.loop_cut == Some(true) => "cut",
            None => "kept",
        };
        println!("\t{kept}\t{text}");
    }
}

/// Returns the edits that turn the words of `reference` into those of `text`.
fn edits(reference: &str, text: &str, language: Language) -> Vec<Edit> {
    let [reference, text] = [reference, text].map(|text| comparable(text, Some(language)));
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    align(&words(&reference), &words(&text))
}

fn sets(folder: &Path, is_multilingual: bool) -> Result<Vec<Set>, Box<dyn Error>> {
    let mut sets = Vec::new();
    for kind in sounds::kinds() {
        let recording = |samples| Recording {
            samples,
            text: String::new(),
            language: Language::ENGLISH,
        };
        sets.push(Set {
            name: kind.name.to_owned(),
            recordings: kind.recordings.into_iter().map(recording).collect(),
        });
    }
    let speech = speech(folder, is_multilingual)?;
    let mut noise = Noise::new();
    for snr_db in [10, 0] {
        let noisy = |clip: &Recording| Recording {
            samples: noise.over(&clip.samples, snr_db),
            ..clip.clone()
        };
        sets.push(Set {
            name: format!("speech in white noise, {snr_db} dB below"),
            recordings: speech
                .iter()
                .filter(|clip| is_short(clip))
                .map(noisy)
                .collect(),
        });
    }
    for (name, gain) in [
        ("speech with pauses of 8 to 35 s", 0.0),
        ("the same, noise of -50 dB", decibels(-50)),
    ] {
        let mut recordings = with_pauses(&speech);
        for recording in &mut recordings {
            let samples = recording.samples.iter_mut();
            samples.for_each(|x| *x += gain * noise.white());
        }
        sets.push(Set {
            name: name.to_owned(),
            recordings,
        });
    }
    sets.push(Set {
        name: "speech".to_owned(),
        recordings: speech,
    });
    Ok(sets)
}

/// Returns whether the recording is a single short clip.
fn is_short(recording: &Recording) -> bool {
    recording.samples.len() < 20 * RATE
}

/// Joins the short clips of each language, [`N_JOINED`] at a time, with a pause before and after each clip.
fn with_pauses(speech: &[Recording]) -> Vec<Recording> {
    let mut pauses = PAUSES_S.iter().cycle();
    let mut recordings = Vec::new();
    let short: Vec<&Recording> = speech.iter().filter(|clip| is_short(clip)).collect();
    for clips in short.chunk_by(|a, b| a.language == b.language) {
        for clips in clips.chunks(N_JOINED) {
            let mut joined = Recording {
                samples: vec![0.0; 8 * RATE],
                text: String::new(),
                language: clips[0].language,
            };
            for (clip, n_seconds) in clips.iter().zip(&mut pauses) {
                joined.samples.extend(&clip.samples);
                joined
                    .samples
                    .resize(joined.samples.len() + n_seconds * RATE, 0.0);
                joined.text += &format!(" {}", clip.text);
            }
            recordings.push(joined);
        }
    }
    recordings
}

/// Returns the clips of people's speech in the folder, sorted by language.
fn speech(folder: &Path, is_multilingual: bool) -> Result<Vec<Recording>, Box<dyn Error>> {
    let mut clips = Vec::new();
    for line in std::fs::read_to_string(folder.join("manifest.jsonl"))?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let file = text("file");
        // `zh-TW` is Chinese.
        let code = text("lang")
            .split('-')
            .next()
            .unwrap_or_default()
            .to_owned();
        let Ok(language) = code.parse::<Language>() else {
            continue;
        };
        let is_person = file.starts_with("real-") || file.starts_with("jfk");
        if is_person && (is_multilingual || language == Language::ENGLISH) {
            clips.push(Recording {
                samples: Audio::open(folder.join(&file))?.samples()?,
                text: text("text"),
                language,
            });
        }
    }
    clips.sort_by_key(|clip| clip.language.code());
    Ok(clips)
}
