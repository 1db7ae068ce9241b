//! Manifest of an evaluation: a list of recordings with their transcripts.

use std::path::{Path, PathBuf};

use overhear::Language;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::manifest::{parse_language, rows};

/// Recording with its transcript.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    /// The file as the manifest names it.
    pub(super) name: String,
    /// Path, relative to the manifest's folder.
    pub(super) path: PathBuf,
    /// Reference transcript.
    pub(super) text: String,
    /// Its English translation.
    pub(super) translation: Option<String>,
    /// The language as the manifest names it.
    pub(super) label: Option<String>,
    /// Name of the set of recordings that it belongs to.
    pub(super) set: Option<String>,
}

impl Entry {
    /// Returns the language, if Whisper has it.
    pub(super) fn language(&self) -> Option<Language> {
        parse_language(self.label.as_deref()?).ok()
    }
}

/// Line of a manifest; the aliases are the names of NeMo's manifests and Common Voice's tables.
#[derive(Deserialize)]
struct Row {
    #[serde(alias = "audio", alias = "audio_filepath", alias = "path")]
    file: String,
    #[serde(alias = "sentence")]
    text: String,
    #[serde(default)]
    translation: Option<String>,
    #[serde(default, alias = "language", alias = "locale")]
    lang: Option<String>,
    #[serde(default)]
    set: Value,
}

/// Reads the manifest at `path`. An invalid line is an error of its own, with its place and the reason.
pub(super) fn read(path: &Path) -> Result<Vec<Result<Entry, String>>, Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let entry = |(line, row): (u64, Result<Row, String>)| match row {
        Ok(row) => Ok(Entry {
            path: folder.join(&row.file),
            name: row.file,
            text: row.text,
            translation: row.translation,
            label: row.lang.filter(|label| !label.is_empty()),
            set: match row.set {
                Value::Null => None,
                Value::String(set) => Some(set).filter(|set| !set.is_empty()),
                other => Some(other.to_string()),
            },
        }),
        Err(reason) => Err(format!("{}:{line}: {reason}", path.display())),
    };
    Ok(rows(path)?.rows.into_iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn read_text(name: &str, text: &str) -> Vec<Result<Entry, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        read(&path).unwrap_or_else(|failure| vec![Err(format!("{failure:?}"))])
    }

    fn failure(rows: &[Result<Entry, String>]) -> String {
        let failures = rows.iter().filter_map(|row| row.as_ref().err());
        failures.map(String::as_str).collect()
    }

    #[test]
    fn json_lines_and_tables_give_the_same() {
        let json = "{\"file\": \"a/b.wav\", \"text\": \"Say \\\"hi\\\", you.\", \"lang\": \"zh-TW\", \"duration_s\": 3}\n\n\
            {\"audio_filepath\": \"/c.wav\", \"text\": \"\"}\n";
        let tsv = "client_id\tpath\tsentence\tlocale\n1\ta/b.wav\tSay \"hi\", you.\tzh-TW\n2\t/c.wav\t\t\n";
        let csv =
            "\u{feff}path,sentence,locale\na/b.wav,\"Say \"\"hi\"\", you.\",zh-TW\n/c.wav,,\n";
        for (name, text) in [("m.jsonl", json), ("m.tsv", tsv), ("m.csv", csv)] {
            let rows = read_text(name, text);
            let [Ok(first), Ok(second)] = &rows[..] else {
                panic!("{name}: {rows:?}")
            };
            assert!(first.path.ends_with("a/b.wav") && first.path != Path::new("a/b.wav"));
            assert_eq!(first.text, "Say \"hi\", you.");
            assert_eq!(first.language(), "zh".parse().ok());
            assert_eq!(second.path, Path::new("/c.wav"));
            assert_eq!((second.text.as_str(), second.language()), ("", None));
        }
    }

    #[test]
    fn a_bad_line_fails_alone_and_is_named() {
        let rows = read_text(
            "m.jsonl",
            "{\"file\": \"a.wav\", \"text\": \"a\"}\n{\"file\": \"b.wav\"}\nnonsense\n",
        );
        assert!(rows[0].is_ok());
        let said = failure(&rows);
        assert!(said.contains("m.jsonl:2: missing field `text`"), "{said}");
        assert!(said.contains("m.jsonl:3: expected"), "{said}");
        let said = failure(&read_text("m.csv", "file,text\na.wav,hello\nb.wav,c,d\n"));
        assert!(
            said.contains("m.csv:3: 3 fields where the header has 2"),
            "{said}"
        );
        let said = failure(&read_text("m.csv", "name,words\na.wav,hello\n"));
        assert!(said.contains("m.csv:2: missing field `file`"), "{said}");
        assert!(failure(&read_text("m.jsonl", "\n")).contains("lists no files"));
    }
}
