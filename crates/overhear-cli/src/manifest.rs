//! Manifests: lists of recordings, as JSON lines or as tables.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use overhear::{Language, Task, TranscribeOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::inputs::Input;
use crate::naming::fold_case;
use crate::options::clips;
use crate::warnings;

/// Fields that have an effect, and those of a transcript.
const KNOWN: [&str; 17] = [
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
    "output",
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
    output: Option<String>,
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

/// Recording with its place in a manifest: `list.jsonl:3`.
type Listed = (String, Input);

/// Reads the recordings of the manifests at `paths`.
///
/// # Errors
/// [`Failure::Usage`] if a manifest cannot be read, a line of it is invalid, or two lines state the same output.
pub(crate) fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    let mut listed = Vec::new();
    for path in paths {
        listed.extend(listed_in(path)?);
    }
    check_outputs(&listed)?;
    Ok(listed.into_iter().map(|(_, input)| input).collect())
}

/// Checks that no two recordings state the same output, of which one would have to be renamed. A line may be repeated as it is.
fn check_outputs(listed: &[Listed]) -> Result<(), Failure> {
    let mut owners: HashMap<PathBuf, &Listed> = HashMap::new();
    for line in listed {
        let (place, input) = line;
        let Some(output) = &input.output else {
            continue;
        };
        let (owner_place, owner) = owners.entry(fold_case(output.clone())).or_insert(line);
        if owner != input {
            let output = output.display();
            return Err(Failure::Usage(format!(
                "{owner_place} and {place} state the same output `{output}`: give one of them another"
            )));
        }
    }
    Ok(())
}

/// Reads the recordings of the manifest at `path`, whose paths are relative to its folder.
fn listed_in(path: &Path) -> Result<Vec<Listed>, Failure> {
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
            output: row.output.as_deref().map(output).transpose()?,
            ..Input::file(folder.join(row.file), Path::new(""))
        })
    };
    let Rows { rows, names } = rows::<Row>(path)?;
    let listed = rows.into_iter().map(|(line, row)| {
        let place = format!("{}:{line}", path.display());
        match row.and_then(input) {
            Ok(input) => Ok((place, input)),
            Err(reason) => Err(Failure::Usage(format!("{place}: {reason}"))),
        }
    });
    let listed = listed.collect::<Result<Vec<_>, _>>()?;
    warn_of_ignored(path, &names);
    Ok(listed)
}

/// Returns the path that the field `output` states: where below the folder of outputs they are, without their extension.
fn output(path: &str) -> Result<PathBuf, String> {
    let is_below = |component| matches!(component, Component::Normal(_));
    match path.ends_with('/') || !Path::new(path).components().all(is_below) || path.is_empty() {
        true => Err(format!(
            "output: `{path}` is no name, nor a path below the folder of outputs"
        )),
        false => Ok(PathBuf::from(path)),
    }
}

/// Warns of fields that have no effect, other than those of a transcript.
fn warn_of_ignored(path: &Path, names: &BTreeSet<String>) {
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
}

/// Rows of a manifest.
pub(crate) struct Rows<T> {
    pub(crate) rows: Vec<Numbered<T>>,
    /// Names of all fields.
    names: BTreeSet<String>,
}

/// Row of a manifest, or the reason why it is invalid, with the number of its line.
type Numbered<T> = (u64, Result<T, String>);

/// Reads the rows of the manifest at `path`: `.csv` and `.tsv` are tables with a header,
/// anything else is JSON lines.
///
/// # Errors
/// [`Failure::Usage`] if it cannot be read or has no rows.
pub(crate) fn rows<T: DeserializeOwned>(path: &Path) -> Result<Rows<T>, Failure> {
    let cannot_read = |reason: &dyn std::fmt::Display| {
        Failure::Usage(format!("cannot read {}: {reason}", path.display()))
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
    match rows.rows.is_empty() {
        true => Err(cannot_read(&"it lists no files")),
        false => Ok(rows),
    }
}

/// Returns the rows, each with its line number.
fn json_lines<T: DeserializeOwned>(text: &str) -> Rows<T> {
    let mut names = BTreeSet::new();
    let mut row = |line: &str| -> serde_json::Result<T> {
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)?;
        names.extend(fields.keys().cloned());
        serde_json::from_value(fields.into())
    };
    let lines = (1..).zip(text.lines());
    let rows = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (number, row(line).map_err(|error| error.to_string())))
        .collect();
    Rows { rows, names }
}

fn table<T: DeserializeOwned>(text: &str, format: &csv::ReaderBuilder) -> Rows<T> {
    let mut reader = format.from_reader(text.as_bytes());
    let (mut rows, mut names) = (Vec::new(), BTreeSet::new());
    let headers = match reader.headers() {
        Ok(headers) => headers.clone(),
        Err(error) => {
            rows.push((1, Err(error.to_string())));
            return Rows { rows, names };
        }
    };
    names.extend(headers.iter().map(str::to_owned));
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
    Rows { rows, names }
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

    /// The only row of a manifest with this line, and what it is refused for.
    fn refusal(name: &str, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        match inputs(&[path]) {
            Err(Failure::Usage(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn recordings_state_their_options() {
        let folder = tempfile::tempdir().unwrap();
        let json = "{\"audio_filepath\": \"a.wav\", \"lang\": \"zh-TW\", \"task\": \"translate\", \"duration\": 3.5}\n\
            {\"file\": \"/b.wav\", \"language\": \"\", \"initial_prompt\": \"Names.\", \"clip_timestamps\": \"0,1.5\", \"output\": \"x/1\"}\n";
        let tsv = "path\tlocale\ttask\tinitial_prompt\tclip_timestamps\toutput\n\
            a.wav\tzh-TW\ttranslate\t\t\t\n/b.wav\t\t\tNames.\t0,1.5\tx/1\n";
        for (name, text) in [("m.jsonl", json), ("m.tsv", tsv)] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let inputs = inputs(&[path]).unwrap();
            let options = inputs.into_iter().map(|input| {
                let mut options = TranscribeOptions::default();
                input.overrides.apply(&mut options).unwrap();
                (input.path.unwrap(), input.output, options)
            });
            let [(a, a_out, first), (b, b_out, second)] =
                options.collect::<Vec<_>>().try_into().unwrap();
            assert_eq!((a, b), (folder.path().join("a.wav"), "/b.wav".into()));
            assert_eq!((a_out, b_out), (None, Some("x/1".into())));
            assert_eq!(first.language, "zh".parse().ok());
            assert_eq!(
                (first.task, second.task),
                (Task::Translate, Task::Transcribe)
            );
            assert_eq!((first.initial_prompt, second.language), (None, None));
            assert_eq!(second.initial_prompt.as_deref(), Some("Names."));
            assert_eq!(second.clip_timestamps, [0.0, 1.5]);
        }
    }

    #[test]
    fn two_lines_with_one_output_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let first = "{\"file\": \"a.wav\", \"output\": \"x/one\"}\n";
        let [a, b] = [
            written("a.jsonl", first),
            written("b.tsv", "file\toutput\nb.wav\tx//one\n"),
        ];
        let said = match inputs(&[a.clone(), b]) {
            Err(Failure::Usage(said)) => said,
            other => panic!("{other:?}"),
        };
        let (rest, places) = (
            said.split(" state ").nth(1).unwrap(),
            ["a.jsonl:1 and ", "b.tsv:2 state "],
        );
        assert!(places.iter().all(|place| said.contains(place)), "{said}");
        assert_eq!(rest, "the same output `x//one`: give one of them another");
        for other in [
            "{\"file\": \"b.wav\", \"output\": \"x/one\"}",
            "{\"file\": \"a.wav\", \"output\": \"x/one\", \"language\": \"en\"}",
        ] {
            let said = refusal("m.jsonl", &format!("{first}\n{other}\n"));
            assert!(
                said.contains("m.jsonl:1 and ") && said.contains("m.jsonl:3 state"),
                "{said}"
            );
        }
        // The same recording, listed again.
        assert_eq!(inputs(&[a.clone(), a]).unwrap().len(), 2);
    }

    #[test]
    fn an_invalid_line_is_named() {
        for (field, value) in [
            ("task", "sing"),
            ("clip_timestamps", "x"),
            ("language", "Klingon"),
            ("output", "../a"),
            ("output", "/a"),
            ("output", "a/"),
            ("output", "."),
        ] {
            let json = format!(
                "{{\"file\": \"a.wav\"}}\n\n{{\"file\": \"c.wav\", \"{field}\": \"{value}\"}}\n"
            );
            let tsv = format!("file\t{field}\na.wav\t\nc.wav\t{value}\n");
            for (name, text) in [("m.jsonl", json), ("m.tsv", tsv)] {
                let said = refusal(name, &text);
                assert!(said.contains(&format!("{name}:3: ")), "{said}");
                assert!(said.contains(value), "{said}");
            }
        }
        assert!(refusal("m.jsonl", "{\"file\": 1}").contains("m.jsonl:1: invalid type"));
        assert!(refusal("m.jsonl", "\n[]").contains("m.jsonl:2: invalid type"));
        assert!(refusal("m.csv", "file\na.wav,b\n").contains("m.csv:2: 2 fields"));
        assert!(refusal("m.jsonl", "\n").contains("it lists no files"));
    }
}
