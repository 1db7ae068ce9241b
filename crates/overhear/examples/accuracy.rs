//! Accuracy of the faster compute types: word error rates, and their differences from those of f32.
//!
//! `cargo run --release --example accuracy -- MODEL_FOLDER MANIFEST [TYPE..]`: each line of the manifest is
//! `{"file", "text", "lang", "set"}`, the last two optional, as `tools/speech_corpus.py` writes them. Every file is
//! transcribed in f32 and in the given types, or in all. The search is greedy, without fallback, and not conditioned on
//! previous text, which would amplify small differences. Texts are normalised as by openai/whisper. English-only models
//! transcribe only the English files.
//!
//! The output begins with one line per file, tab-separated: number of words, then errors, seconds and `same` or `other`
//! text of each type. A table of all sets follows. Differences of word error rates are paired, and their standard
//! errors are those of a ratio of sums over files.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use overhear::eval::normalize::comparable;
use overhear::eval::score::{Errors, align};
use overhear::{Audio, ComputeType, Language, Model, ModelOptions, TranscribeOptions};
use serde_json::Value;

const TYPES: [ComputeType; 7] = [
    ComputeType::F16,
    ComputeType::Bf16,
    ComputeType::Int8,
    ComputeType::Int8Float32,
    ComputeType::Int8Bfloat16,
    ComputeType::Q5,
    ComputeType::Q4,
];

/// Line of the manifest.
struct Clip {
    file: String,
    text: String,
    language: Language,
    /// Name of the set; by default, the name of the file up to a hyphen.
    set: String,
}

/// Transcript of a clip by one type.
struct Heard {
    text: String,
    /// Number of word errors.
    n_errors: usize,
    /// Time of the transcription in seconds.
    elapsed_s: f64,
}

/// Transcripts of a clip by all types.
struct Scored {
    clip: Clip,
    n_words: usize,
    /// Transcript of each type, f32 first.
    heard: Vec<Heard>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, manifest, names @ ..] = &arguments[..] else {
        return Err("usage: accuracy MODEL_FOLDER MANIFEST [TYPE..]".into());
    };
    let mut types = vec![ComputeType::F32];
    for name in names {
        types.push(name.parse()?);
    }
    if names.is_empty() {
        types.extend(TYPES);
    }
    let open = |compute_type: &ComputeType| {
        let options = ModelOptions {
            compute_type: *compute_type,
            ..ModelOptions::default()
        };
        Model::open(folder, &options)
    };
    let models = types.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let is_multilingual = models[0].is_multilingual();
    let audio = Path::new(manifest).parent().unwrap_or(Path::new(""));
    let mut all = Vec::new();
    for clip in read_manifest(manifest)? {
        if !is_multilingual && clip.language != Language::ENGLISH {
            continue;
        }
        let scored = score(&models, &audio.join(&clip.file), clip)?;
        print_clip(&scored);
        all.push(scored);
    }
    println!("\n| set | type | files | words | WER, % | above f32 | ± | same text | seconds |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut sets: Vec<&str> = all.iter().map(|scored| &*scored.clip.set).collect();
    sets.dedup();
    for set in sets {
        summarise(set, &types, |scored| scored.clip.set == set, &all);
    }
    summarise("all", &types, |_| true, &all);
    Ok(())
}

fn read_manifest(path: &str) -> Result<Vec<Clip>, Box<dyn Error>> {
    let mut clips = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let text = |name: &str| Some(entry[name].as_str()?.to_owned());
        let file = text("file").ok_or("a line without a file")?;
        let prefix = || file.split('-').next().unwrap_or_default().to_owned();
        let code = text("lang").unwrap_or_else(|| "en".to_owned());
        // `zh-TW` is Chinese.
        let language = code.split('-').next().unwrap_or_default().parse();
        clips.push(Clip {
            text: text("text").ok_or("a line without text")?,
            language: language?,
            set: text("set").unwrap_or_else(prefix),
            file,
        });
    }
    // Sets are summed up in this order, each from a run of files.
    clips.sort_by(|a, b| a.set.cmp(&b.set));
    Ok(clips)
}

fn score(models: &[Model], file: &Path, clip: Clip) -> Result<Scored, Box<dyn Error>> {
    let audio = Audio::open(file)?;
    let reference = comparable(&clip.text, Some(clip.language));
    let said: Vec<&str> = reference.split_whitespace().collect();
    let options = TranscribeOptions {
        language: Some(clip.language),
        temperatures: vec![0.0],
        condition_on_previous_text: false,
        ..TranscribeOptions::default()
    };
    let mut heard = Vec::new();
    for model in models {
        let start = Instant::now();
        let text = model.transcribe(&audio, &options)?.text;
        let elapsed_s = start.elapsed().as_secs_f64();
        let normalized = comparable(&text, Some(clip.language));
        let words: Vec<&str> = normalized.split_whitespace().collect();
        heard.push(Heard {
            text,
            n_errors: Errors::of(&align(&said, &words)).total(),
            elapsed_s,
        });
    }
    Ok(Scored {
        n_words: said.len(),
        heard,
        clip,
    })
}

fn print_clip(scored: &Scored) {
    print!("{}\t{}", scored.clip.file, scored.n_words);
    for heard in &scored.heard {
        let is_same = heard.text == scored.heard[0].text;
        let same = if is_same { "same" } else { "other" };
        print!("\t{}\t{:.2}\t{same}", heard.n_errors, heard.elapsed_s);
    }
    println!();
}

/// Prints a line of the table for each compute type, over the clips of a set.
fn summarise(set: &str, types: &[ComputeType], is_in: impl Fn(&&Scored) -> bool, all: &[Scored]) {
    let clips: Vec<&Scored> = all.iter().filter(is_in).collect();
    let n_words = clips.iter().map(|clip| clip.n_words).sum::<usize>().max(1) as f64;
    for (i, compute_type) in types.iter().enumerate() {
        let of = |clip: &Scored| clip.heard[i].n_errors as f64;
        let above = |clip: &Scored| of(clip) - clip.heard[0].n_errors as f64;
        let n_errors: f64 = clips.iter().map(|clip| of(clip)).sum();
        let mean = clips.iter().map(|clip| above(clip)).sum::<f64>() / n_words;
        let deviation = |clip: &&Scored| (above(clip) - mean * clip.n_words as f64).powi(2);
        let error = clips.iter().map(deviation).sum::<f64>().sqrt() / n_words;
        let is_same = |clip: &&&Scored| clip.heard[i].text == clip.heard[0].text;
        println!(
            "| {set} | {} | {} | {n_words} | {:.2} | {:+.2} | {:.2} | {} of {} | {:.1} |",
            compute_type.name(),
            clips.len(),
            100.0 * n_errors / n_words,
            100.0 * mean,
            100.0 * error,
            clips.iter().filter(is_same).count(),
            clips.len(),
            clips
                .iter()
                .map(|clip| clip.heard[i].elapsed_s)
                .sum::<f64>(),
        );
    }
}
