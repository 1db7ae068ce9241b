//! JSON files of a model folder as Python reads and writes them: with a byte-order mark, `NaN` and `Infinity`.

use std::borrow::Cow;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::excerpt::malformed;
use crate::file::read_if_present;
use crate::{Error, Result};

/// Numbers in the output of Python's `json.dumps` that are not JSON.
const CONSTANTS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a JSON file; `None` if it does not exist.
///
/// # Errors
/// [`Error::Model`] if the file cannot be read, is too large, or is malformed.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read_if_present(path)? else {
        return Ok(None);
    };
    let contents = parse(&bytes).map_err(|reason| Error::Model {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Some(contents))
}

/// Reads a JSON file; `None` if it does not exist or is empty. (transformers ignores an empty
/// `generation_config.json`.)
///
/// # Errors
/// As [`read_json`].
pub(crate) fn read_json_if_any<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let is_blank = |bytes: Vec<u8>| {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        bytes.trim_ascii().is_empty()
    };
    if read_if_present(path)?.is_none_or(is_blank) {
        return Ok(None);
    }
    read_json(path)
}

/// Parses JSON text, in which Python's constants are null.
///
/// # Errors
/// `malformed: ` followed by the problem and its position, in one short line.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| match without_constants(bytes) {
        Cow::Borrowed(_) => Err(malformed(&error)),
        Cow::Owned(bytes) => serde_json::from_slice(&bytes).map_err(|error| malformed(&error)),
    })
}

/// Replaces Python's constants outside of strings by `null`.
fn without_constants(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut replaced = Vec::new();
    // End of the text that has been copied to `replaced`.
    let mut done = 0;
    let (mut at, mut is_string) = (0, false);
    while at < bytes.len() {
        let constant = CONSTANTS.iter().find(|c| bytes[at..].starts_with(c));
        at += match (bytes[at], constant) {
            (b'\\', _) if is_string => 2,
            (b'"', _) => {
                is_string = !is_string;
                1
            }
            (_, Some(constant)) if !is_string => {
                replaced.extend_from_slice(&bytes[done..at]);
                replaced.extend_from_slice(b"null");
                done = at + constant.len();
                constant.len()
            }
            _ => 1,
        };
    }
    if done == 0 {
        return Cow::Borrowed(bytes);
    }
    replaced.extend_from_slice(&bytes[done..]);
    Cow::Owned(replaced)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::parse;

    #[test]
    fn json_written_by_python_is_read() {
        let cases = [
            (
                "{\"a\": Infinity, \"b\": -Infinity}",
                json!({"a": null, "b": null}),
            ),
            ("[NaN,1]", json!([null, 1])),
            ("\u{feff}{\"a\": 1}", json!({"a": 1})),
            (
                "{\"NaN\\\"Infinity\": \"NaN\", \"x\": NaN}",
                json!({"NaN\"Infinity": "NaN", "x": null}),
            ),
        ];
        for (text, value) in cases {
            assert_eq!(parse::<Value>(text.as_bytes()).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn other_malformed_json_is_an_error() {
        for text in ["", "nan", "Inf", "{\"a\": infinity}", "\"\\", "NaN NaN"] {
            assert!(parse::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
