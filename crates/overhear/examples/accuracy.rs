//! What the faster compute types cost: tokens and word error rates beside f32's.
//!
//! `cargo run --release --example accuracy -- MODEL_FOLDER AUDIO_FOLDER`: the folder has a `manifest.jsonl` with a
//! line `{"file", "text"}` a clip. Greedy, without conditioning on the text before, which would amplify any flip.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;
use std::path::Path;

use overhear::{Audio, ComputeType, Model, ModelOptions, TokenId, TranscribeOptions};
use serde_json::Value;

const TYPES: [ComputeType; 4] = [
    ComputeType::F32,
    ComputeType::F16,
    ComputeType::Bf16,
    ComputeType::Int8,
];
/// Groups of clips by how their names begin; the first two are what the accuracy gates are about.
const GROUPS: [(&str, &[&str]); 3] = [
    ("synth", &["synth-"]),
    ("synth, long", &["synth-", "long-90s", "long-5min"]),
    ("real", &["real-"]),
];

struct Clip {
    file: String,
    reference: Vec<String>,
    /// By compute type: the tokens, and the words in error.
    results: Vec<(Vec<TokenId>, usize)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, audio] = &arguments[..] else {
        return Err("usage: accuracy MODEL_FOLDER AUDIO_FOLDER".into());
    };
    let audio = Path::new(audio);
    let mut clips = read_manifest(audio)?;
    for compute_type in TYPES {
        let options = ModelOptions {
            compute_type,
            ..ModelOptions::default()
        };
        let model = Model::open(model, &options)?;
        for clip in &mut clips {
            let result = transcribe(&model, &audio.join(&clip.file), &clip.reference)?;
            clip.results.push(result);
        }
    }
    println!(
        "{:<28} {:>5}  {:>8} {:>8} {:>8} {:>8}  {:>6} {:>6} {:>6}",
        "clip", "words", "f32 err", "f16 err", "bf16 err", "int8 err", "f16 =", "bf16 =", "int8 ="
    );
    for clip in &clips {
        let [exact, f16, bf16, int8] = &clip.results[..] else {
            continue;
        };
        println!(
            "{:<28} {:>5}  {:>8} {:>8} {:>8} {:>8}  {:>6} {:>6} {:>6}",
            clip.file,
            clip.reference.len(),
            exact.1,
            f16.1,
            bf16.1,
            int8.1,
            exact.0 == f16.0,
            exact.0 == bf16.0,
            exact.0 == int8.0,
        );
    }
    println!();
    for (group, prefixes) in GROUPS {
        summarise(group, prefixes, &clips);
    }
    Ok(())
}

/// Prints a line per compute type over the clips of a group.
fn summarise(group: &str, prefixes: &[&str], clips: &[Clip]) {
    let of_group = |clip: &&Clip| prefixes.iter().any(|prefix| clip.file.starts_with(prefix));
    let clips: Vec<&Clip> = clips.iter().filter(of_group).collect();
    let n_words: usize = clips.iter().map(|clip| clip.reference.len()).sum();
    for (i, compute_type) in TYPES.iter().enumerate() {
        let same = clips
            .iter()
            .filter(|clip| clip.results[i].0 == clip.results[0].0)
            .count();
        let errors: usize = clips.iter().map(|clip| clip.results[i].1).sum();
        println!(
            "{group:<12} {:<5} same tokens {same} of {}, WER {:.2} % of {n_words} words",
            compute_type.name(),
            clips.len(),
            100.0 * errors as f64 / n_words.max(1) as f64,
        );
    }
}

fn read_manifest(folder: &Path) -> Result<Vec<Clip>, Box<dyn Error>> {
    let mut clips = Vec::new();
    for line in std::fs::read_to_string(folder.join("manifest.jsonl"))?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let file = text("file");
        let wanted = GROUPS.iter().flat_map(|(_, prefixes)| prefixes.iter());
        if wanted.into_iter().any(|prefix| file.starts_with(prefix)) {
            clips.push(Clip {
                file,
                reference: words(&text("text")),
                results: Vec::new(),
            });
        }
    }
    Ok(clips)
}

/// Tokens, and words in error.
fn transcribe(
    model: &Model,
    file: &Path,
    reference: &[String],
) -> Result<(Vec<TokenId>, usize), Box<dyn Error>> {
    let options = TranscribeOptions {
        temperature: vec![0.0],
        condition_on_previous_text: false,
        ..TranscribeOptions::default()
    };
    let transcript = model.transcribe(&Audio::open(file)?, &options)?;
    let tokens = transcript.segments.iter().flat_map(|s| s.tokens.clone());
    let errors = edit_distance(reference, &words(&transcript.text));
    Ok((tokens.collect(), errors))
}

/// Words without case and punctuation.
fn words(text: &str) -> Vec<String> {
    let bare = |word: &str| -> String {
        let letters = word.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let words = text.split_whitespace().map(bare);
    words.filter(|word| !word.is_empty()).collect()
}

/// Words to substitute, insert and delete.
fn edit_distance(a: &[String], b: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
