//! How option values are written: openai/whisper's `str2bool`, `optional_int`, `optional_float` and lists.

use std::ffi::{OsStr, OsString};
use std::str::FromStr;

use clap::{ArgAction, Command};

/// A value, or the word `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Optional<T>(pub(crate) Option<T>);

/// Parses a value, or the word `None`.
pub(crate) fn optional<T>(text: &str) -> Result<Optional<T>, String>
where
    T: FromStr,
    T::Err: ToString,
{
    match text {
        "None" => Ok(Optional(None)),
        _ => text
            .parse()
            .map(|value| Optional(Some(value)))
            .map_err(|e: T::Err| e.to_string()),
    }
}

/// Parses numbers separated by commas; nothing gives none.
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

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "True" => Ok(true),
        "False" => Ok(false),
        _ => Err("expected True or False".to_owned()),
    }
}

/// Gives every long option its snake_case twin, and makes every switch accept `=True` and `=False` too.
pub(crate) fn whisper_style(command: Command) -> Command {
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

/// Joins a switch and a following word that is literally `True` or `False`: `--fp16 False` to `--fp16=False`.
pub(crate) fn join_switch_values(
    command: &Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let switches = switches(command);
    let mut joined: Vec<OsString> = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(mut argument) = arguments.next() {
        if argument == "--" {
            joined.push(argument);
            joined.extend(arguments);
            break;
        }
        let is_switch = switches.iter().any(|switch| OsStr::new(switch) == argument);
        let is_boolean = |next: &OsString| next == "True" || next == "False";
        if is_switch && let Some(value) = arguments.next_if(is_boolean) {
            argument.push("=");
            argument.push(value);
        }
        joined.push(argument);
    }
    joined
}

/// Every spelling of every switch: `--skip-existing`, `--skip_existing`, `-q`.
fn switches(command: &Command) -> Vec<String> {
    let mut switches = Vec::new();
    for arg in command
        .get_arguments()
        .filter(|arg| arg.is_require_equals_set())
    {
        for long in arg
            .get_long()
            .into_iter()
            .chain(arg.get_all_aliases().unwrap_or_default())
        {
            switches.push(format!("--{long}"));
        }
        switches.extend(arg.get_short().map(|short| format!("-{short}")));
    }
    switches.extend(command.get_subcommands().flat_map(self::switches));
    switches
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn optional_takes_none_and_numbers_only() {
        assert_eq!(optional::<usize>("None"), Ok(Optional(None)));
        assert_eq!(optional::<f32>("-1e3"), Ok(Optional(Some(-1000.0))));
        assert!(optional::<usize>("none").is_err());
        assert!(optional::<usize>("2.5").is_err());
    }

    #[test]
    fn list_takes_commas_and_nothing() {
        assert_eq!(list::<i64>("-1, 50257").unwrap(), [-1, 50257]);
        assert_eq!(list::<i64>("").unwrap(), [0; 0]);
        assert!(list::<f64>("0,,5").is_err());
    }
}
