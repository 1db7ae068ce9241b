//! Manifests: lists of recordings, as JSON lines or as tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use overhear::{Language, Task, TranscribeOptions};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::inputs::Input;
use crate::options::clips;
use crate::warnings;

/// Fields that have an effect, and those of a transcript.
const KNOWN: [&str; 16] = [
    "file",
    "audio",
    "audio_filepath",
    "path",
    "language",
    "lang",
    "locale",
    "task",
    "initial_prompt",
    "clip_timestamps",
    "text",
    "sentence",
    "translation",
    "duration",
    "duration_s",
    "set",
];

/// Options of one recording, which replace those of the command line.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clip_timestamps: Option<String>,
}

/// Line of a manifest of recordings to transcribe; the aliases are the names of NeMo's manifests and Common Voice's
/// tables, whose other fields are ignored.
#[derive(Deserialize)]
struct Row {
    #[serde(alias = "audio", alias = "audio_filepath", alias = "path")]
    file: String,
    #[serde(alias = "lang", alias = "locale")]
    language: Option<String>,
    task: Option<String>,
    initial_prompt: Option<String>,
    clip_timestamps: Option<String>,
}

impl Overrides {
    /// Replaces the options that are stated.
    ///
    /// # Errors
    /// A reason if a value cannot be parsed.
    pub(crate) fn apply(&self, options: &mut TranscribeOptions) -> Result<(), String> {
        let Self {
            language,
            task,
            initial_prompt,
            clip_timestamps,
        } = self;
        if let Some(language) = language {
            options.language = Some(parse_language(language)?);
        }
        if let Some(task) = task {
            options.task = task.parse::<Task>().map_err(|error| error.to_string())?;
        }
        if let Some(prompt) = initial_prompt {
            options.initial_prompt = Some(prompt.clone());
        }
        if let Some(times) = clip_timestamps {
            options.clip_timestamps =
                clips(times).map_err(|reason| format!("clip_timestamps: {reason}"))?;
        }
        Ok(())
    }
}

/// Returns the language that a label names: `zh-TW` is Chinese.
///
/// # Errors
/// A reason if Whisper does not have it.
pub(crate) fn parse_language(label: &str) -> Result<Language, String> {
    let code = label.split(['-', '_']).next().unwrap_or(label);
    label
        .parse()
        .or_else(|_| code.parse())
        .map_err(|error: overhear::Error| error.to_string())
}

/// Reads the recordings of the manifest at `path`, whose paths are relative to its folder. An invalid line is a failure of
/// its own.
pub(crate) fn inputs(path: &Path) -> Result<Vec<Result<Input, Failure>>, Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let input = |row: Row| -> Result<Input, String> {
        let overrides = Overrides {
            language: row.language.filter(|label| !label.is_empty()),
            task: row.task,
            initial_prompt: row.initial_prompt,
            clip_timestamps: row.clip_timestamps,
        };
        overrides.apply(&mut TranscribeOptions::default())?;
        Ok(Input {
            overrides,
            ..Input::file(folder.join(row.file), Path::new(""))
        })
    };
    warn_of_ignored(path)?;
    let rows = rows::<Row>(path)?.into_iter();
    let inputs = rows.map(|(line, row)| {
        row.and_then(input)
            .map_err(|reason| Failure::Input(format!("{}:{line}: {reason}", path.display())))
    });
    Ok(inputs.collect())
}

/// Warns of fields that have no effect, other than those of a transcript.
fn warn_of_ignored(path: &Path) -> Result<(), Failure> {
    let rows = rows::<BTreeMap<String, IgnoredAny>>(path)?;
    let rows = rows.into_iter().filter_map(|(_, row)| row.ok());
    let names: BTreeSet<String> = rows.flat_map(BTreeMap::into_keys).collect();
    let ignored: Vec<_> = names
        .iter()
        .filter(|name| !KNOWN.contains(&name.as_str()))
        .map(String::as_str)
        .collect();
    if !ignored.is_empty() {
        warnings::warn(&format!(
            "{}: these fields have no effect: {}",
            path.display(),
            ignored.join(", ")
        ));
    }
    Ok(())
}

/// Row of a manifest, or the reason why it is invalid, with the number of its line.
pub(crate) type Numbered<T> = (u64, Result<T, String>);

/// Reads the rows of the manifest at `path`: `.csv` and `.tsv` are tables with a header,
/// anything else is JSON lines.
pub(crate) fn rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<Numbered<T>>, Failure> {
    let cannot_read = |reason: &dyn std::fmt::Display| {
        Failure::Input(format!("cannot read {}: {reason}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|error| cannot_read(&error))?;
    let text = text.trim_start_matches('\u{feff}');
    let rows = match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => table(text, csv::ReaderBuilder::new().delimiter(b',')),
        // Quotation marks in a TSV are part of the text.
        Some("tsv") => table(
            text,
            csv::ReaderBuilder::new().delimiter(b'\t').quoting(false),
        ),
        _ => json_lines(text),
    };
    match rows.is_empty() {
        true => Err(cannot_read(&"it lists no files")),
        false => Ok(rows),
    }
}

/// Returns the rows, each with its line number.
fn json_lines<T: DeserializeOwned>(text: &str) -> Vec<Numbered<T>> {
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            (
                number,
                serde_json::from_str(line).map_err(|e| e.to_string()),
            )
        })
        .collect()
}

fn table<T: DeserializeOwned>(text: &str, format: &csv::ReaderBuilder) -> Vec<Numbered<T>> {
    let mut reader = format.from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let headers = match reader.headers() {
        Ok(headers) => headers.clone(),
        Err(error) => return vec![(1, Err(error.to_string()))],
    };
    for record in reader.records() {
        let line = |position: Option<&csv::Position>| position.map_or(0, csv::Position::line);
        rows.push(match record {
            Ok(record) => {
                let row = record.deserialize(Some(&headers));
                (line(record.position()), row.map_err(|error| reason(&error)))
            }
            Err(error) => (line(error.position()), Err(reason(&error))),
        });
    }
    rows
}

/// Returns the reason of an error without its position, which the caller adds.
fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} fields where the header has {expected_len}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn recordings_state_their_options() {
        let folder = tempfile::tempdir().unwrap();
        let json = "{\"audio_filepath\": \"a.wav\", \"lang\": \"zh-TW\", \"task\": \"translate\", \"duration\": 3.5}\n\
            {\"file\": \"/b.wav\", \"language\": \"\", \"initial_prompt\": \"Names.\", \"clip_timestamps\": \"0,1.5\"}\n\
            {\"file\": \"c.wav\", \"task\": \"sing\"}\n\
            {\"file\": \"c.wav\", \"clip_timestamps\": \"x\"}\n\
            {\"file\": \"c.wav\", \"language\": \"Klingon\"}\n";
        let tsv = "path\tlocale\ttask\tinitial_prompt\tclip_timestamps\n\
            a.wav\tzh-TW\ttranslate\t\t\n/b.wav\t\t\tNames.\t0,1.5\n\
            c.wav\t\tsing\t\t\nc.wav\t\t\t\tx\nc.wav\tKlingon\t\t\t\n";
        for (name, text) in [("m.jsonl", json), ("m.tsv", tsv)] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let mut inputs = inputs(&path).unwrap();
            let failures: Vec<_> = inputs
                .split_off(2)
                .into_iter()
                .map(Result::unwrap_err)
                .collect();
            let options = inputs.into_iter().map(|input| {
                let mut options = TranscribeOptions::default();
                let input = input.unwrap();
                input.overrides.apply(&mut options).unwrap();
                (input.path.unwrap(), options)
            });
            let [(a, first), (b, second)] = options.collect::<Vec<_>>().try_into().unwrap();
            assert_eq!((a, b), (folder.path().join("a.wav"), "/b.wav".into()));
            assert_eq!(first.language, "zh".parse().ok());
            assert_eq!(
                (first.task, second.task),
                (Task::Translate, Task::Transcribe)
            );
            assert_eq!((first.initial_prompt, second.language), (None, None));
            assert_eq!(second.initial_prompt.as_deref(), Some("Names."));
            assert_eq!(second.clip_timestamps, [0.0, 1.5]);
            for (line, (failure, reason)) in failures
                .iter()
                .zip(["sing", "clip_timestamps", "Klingon"])
                .enumerate()
            {
                let said = format!("{failure:?}");
                let line = line + if name == "m.tsv" { 4 } else { 3 };
                assert!(said.contains(&format!("{name}:{line}: ")), "{said}");
                assert!(said.contains(reason), "{said}");
            }
        }
    }
}
