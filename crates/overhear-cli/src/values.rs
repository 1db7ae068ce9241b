//! Parsers of option values: openai/whisper's `str2bool`, `optional_int`, `optional_float` and lists.

use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::{ArgAction, Command};

/// Value, or the word `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Optional<T>(pub(crate) Option<T>);

/// Number of files transcribed at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchSize {
    Auto,
    Number(NonZeroUsize),
}

impl BatchSize {
    /// Returns whether files are transcribed one after another.
    pub(crate) fn is_one(self) -> bool {
        matches!(self, Self::Number(n) if n.get() == 1)
    }
}

/// Parses a number, or the word `auto`.
pub(crate) fn batch_size(text: &str) -> Result<BatchSize, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(BatchSize::Auto),
        (_, Ok(n)) => Ok(BatchSize::Number(n)),
        _ => Err("expected auto, or a number above 0".to_owned()),
    }
}

/// Parses a value, or the word `None`.
pub(crate) fn optional<T>(text: &str) -> Result<Optional<T>, String>
where
    T: FromStr,
    T::Err: ToString,
{
    if is_none(text) {
        return Ok(Optional(None));
    }
    text.parse()
        .map(|value| Optional(Some(value)))
        .map_err(|e: T::Err| e.to_string())
}

/// Parses numbers separated by commas; an empty text gives an empty list.
pub(crate) fn list<T>(text: &str) -> Result<Vec<T>, String>
where
    T: FromStr,
    T::Err: ToString,
{
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|item| {
            item.trim()
                .parse()
                .map_err(|e: T::Err| format!("`{item}`: {}", e.to_string()))
        })
        .collect()
}

/// Returns whether `text` spells Python's `None`.
pub(crate) fn is_none(text: &str) -> bool {
    text.eq_ignore_ascii_case("none")
}

/// Parses a boolean, if `text` spells one: openai/whisper's `True` and `False`, and words that are common in other
/// programs.
pub(crate) fn spelt_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    spelt_boolean(text).ok_or_else(|| "expected True or False".to_owned())
}

/// Display while files are transcribed: openai/whisper's `verbose`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verbosity {
    /// `True`: segments as they appear.
    Segments,
    /// `False`: progress.
    Progress,
    /// `None`: neither.
    Nothing,
}

/// Parses a boolean, or the word `None`.
pub(crate) fn verbosity(text: &str) -> Result<Verbosity, String> {
    match (spelt_boolean(text), is_none(text)) {
        (Some(true), _) => Ok(Verbosity::Segments),
        (Some(false), _) => Ok(Verbosity::Progress),
        (None, true) => Ok(Verbosity::Nothing),
        (None, false) => Err("expected True, False or None".to_owned()),
    }
}

/// Adds a snake_case alias to every long option, makes every switch accept `=True` and `=False`, and lets the last of
/// repeated options win.
pub(crate) fn whisper_style(command: Command) -> Command {
    let command = command.args_override_self(true);
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| {
        let snake = arg
            .get_long()
            .filter(|long| long.contains('-'))
            .map(|long| long.replace('-', "_"));
        let arg = match snake {
            Some(snake) => arg.alias(snake),
            None => arg,
        };
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        let default = if arg.get_default_values().is_empty() {
            "False"
        } else {
            "True"
        };
        arg.action(ArgAction::Set)
            .value_name("True|False")
            .num_args(0..=1)
            .require_equals(true)
            .default_value(default)
            .hide_default_value(default == "False")
            .default_missing_value("True")
            .value_parser(boolean)
    });
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, whisper_style)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn optional_takes_none_and_numbers_only() {
        assert_eq!(optional::<usize>("None"), Ok(Optional(None)));
        assert_eq!(optional::<f32>("-1e3"), Ok(Optional(Some(-1000.0))));
        assert_eq!(optional::<usize>("none"), Ok(Optional(None)));
        assert!(optional::<usize>("2.5").is_err());
    }

    #[test]
    fn booleans_are_spelt_in_any_case_and_nothing_else_is_one() {
        for text in ["True", "true", "YES", "on", "1"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["False", "FALSE", "no", "Off", "0"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "None", "2", "y", "tru", "true "] {
            assert!(boolean(text).is_err(), "{text}");
        }
        assert_eq!(verbosity("none"), Ok(Verbosity::Nothing));
        assert_eq!(verbosity("0"), Ok(Verbosity::Progress));
        assert!(verbosity("loud").is_err());
    }

    #[test]
    fn list_takes_commas_and_nothing() {
        assert_eq!(list::<i64>("-1, 50257").unwrap(), [-1, 50257]);
        assert_eq!(list::<i64>("").unwrap(), [0; 0]);
        assert!(list::<f64>("0,,5").is_err());
    }
}
