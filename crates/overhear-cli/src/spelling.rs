//! Normalises the spellings of command lines for clap.
//!
//! As with argparse, which openai/whisper's command uses, a long option may be abbreviated if that is unambiguous. A
//! switch consumes a following word that spells a boolean, so that no such word is taken for a file; and after a switch
//! that has a value in openai/whisper, a word that is neither a boolean nor a file is an error.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

use crate::values::{is_none, spelt_boolean};

/// openai/whisper's options (`whisper/transcribe.py::cli`), to which an abbreviation refers if it is ambiguous
/// otherwise.
const REFERENCE: &[&str] = &[
    "model",
    "model-dir",
    "device",
    "output-dir",
    "output-format",
    "verbose",
    "task",
    "language",
    "temperature",
    "best-of",
    "beam-size",
    "patience",
    "length-penalty",
    "suppress-tokens",
    "initial-prompt",
    "carry-initial-prompt",
    "condition-on-previous-text",
    "fp16",
    "temperature-increment-on-fallback",
    "compression-ratio-threshold",
    "logprob-threshold",
    "no-speech-threshold",
    "word-timestamps",
    "prepend-punctuations",
    "append-punctuations",
    "highlight-words",
    "max-line-width",
    "max-line-count",
    "max-words-per-line",
    "hallucination-silence-threshold",
    "threads",
    "clip-timestamps",
];

/// Returns whether `-h`, which shows less than `--help`, is among the options.
pub(crate) fn asks_for_brief_help(arguments: &[OsString]) -> bool {
    let mut options = arguments.iter().take_while(|word| *word != "--");
    options.any(|word| word == "-h")
}

/// Returns `arguments`, the program's name first, with every long option of `command` in full, and every switch joined
/// with its value: `--word_t yes` becomes `--word-timestamps=yes`.
///
/// # Errors
/// Usage errors: an ambiguous abbreviation, a switch with an invalid value.
pub(crate) fn in_full(command: &Command, arguments: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let verb = arguments.get(1).and_then(|verb| verb.to_str());
    let subcommand = verb.and_then(|verb| command.find_subcommand(verb));
    let spelling = Spelling(subcommand.unwrap_or(command));
    let mut written = Vec::with_capacity(arguments.len());
    let mut words = arguments.into_iter().peekable();
    written.extend(words.next());
    if subcommand.is_some() {
        written.extend(words.next());
    }
    while let Some(word) = words.next() {
        if word == "--" {
            written.push(word);
            written.extend(words);
            break;
        }
        spelling.one(word, &mut words, &mut written)?;
    }
    Ok(written)
}

/// Options of one command.
struct Spelling<'a>(&'a Command);

impl Spelling<'_> {
    /// Writes `word`, joined with its value among the following `words`.
    fn one(
        &self,
        word: OsString,
        words: &mut Peekable<impl Iterator<Item = OsString>>,
        written: &mut Vec<OsString>,
    ) -> Result<(), Error> {
        let option = match word.to_str() {
            Some(text) if text.starts_with("--") => self.long(text)?,
            Some(text) if text.starts_with('-') => self
                .last_short(text)
                .map(|(arg, has_value)| (arg, text.to_owned(), has_value)),
            _ => None,
        };
        let Some((arg, mut option, has_value)) = option else {
            written.push(word);
            return Ok(());
        };
        if has_value || !arg.get_action().takes_values() {
            written.push(option.into());
        } else if !arg.is_require_equals_set() {
            written.push(option.into());
            written.extend(words.next());
        } else if let Some(value) = words.next_if(|next| is_value(arg, next)) {
            option.push('=');
            option.push_str(&value.to_string_lossy());
            written.push(option.into());
        } else if let Some(next) = words.peek().filter(|next| !may_follow(arg, next)) {
            let name = arg.get_long().unwrap_or_default();
            let next = next.to_string_lossy();
            let message =
                format!("--{name}: `{next}` is neither True nor False, and there is no such file");
            return Err(self.0.clone().error(ErrorKind::InvalidValue, message));
        } else {
            written.push(option.into());
        }
        Ok(())
    }

    /// Returns the option that `text` names, its full spelling, and whether it has a value after an equals sign.
    fn long(&self, text: &str) -> Result<Option<(&Arg, String, bool)>, Error> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (&name[2..], Some(value)),
            None => (&text[2..], None),
        };
        let Some(arg) = self.named(name)? else {
            return Ok(None);
        };
        let mut full = format!("--{}", arg.get_long().unwrap_or(name));
        if let Some(value) = value {
            full.push('=');
            full.push_str(value);
        }
        Ok(Some((arg, full, value.is_some())))
    }

    /// Finds the option by its exact name, or the only one with this prefix, or the only one of openai/whisper with
    /// this prefix.
    fn named(&self, name: &str) -> Result<Option<&Arg>, Error> {
        let longs = |arg: &Arg| -> Vec<String> {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            let longs = arg.get_long().into_iter().chain(aliases);
            longs.map(str::to_owned).collect()
        };
        let mut arguments = self.0.get_arguments();
        if let Some(arg) = arguments.find(|arg| longs(arg).iter().any(|long| long == name)) {
            return Ok(Some(arg));
        }
        let begins = |arg: &&Arg| longs(arg).iter().any(|long| long.starts_with(name));
        let is_shown = |arg: &&Arg| !arg.is_hide_set() || is_of_reference(arg);
        let found: Vec<&Arg> = (self.0.get_arguments())
            .filter(|arg| begins(arg) && is_shown(arg))
            .collect();
        let mut of_reference = found.iter().filter(|arg| is_of_reference(arg));
        match (found.as_slice(), of_reference.next(), of_reference.next()) {
            ([], ..) => Ok(None),
            ([only], ..) => Ok(Some(only)),
            (_, Some(only), None) => Ok(Some(only)),
            (several, ..) => {
                let several: Vec<String> = several
                    .iter()
                    .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
                    .collect();
                let message = format!("--{name} may be any of {}", several.join(", "));
                Err(self.0.clone().error(ErrorKind::UnknownArgument, message))
            }
        }
    }

    /// Returns the last option of a word like `-rq`, and whether its value is in the word.
    fn last_short(&self, text: &str) -> Option<(&Arg, bool)> {
        let mut letters = text.chars().skip(1).peekable();
        while let Some(letter) = letters.next() {
            let mut arguments = self.0.get_arguments();
            let arg = arguments.find(|arg| arg.get_short() == Some(letter))?;
            let is_last = letters.peek().is_none();
            let takes_value = arg.get_action().takes_values();
            let is_switch = arg.is_require_equals_set() && letters.peek() != Some(&'=');
            if is_last || takes_value && !is_switch {
                return Some((arg, !is_last));
            }
        }
        None
    }
}

/// Returns whether `next` is the value of the switch `arg`.
fn is_value(arg: &Arg, next: &OsStr) -> bool {
    let is_none_allowed = arg.get_long() == Some("verbose");
    next.to_str()
        .is_some_and(|text| spelt_boolean(text).is_some() || is_none_allowed && is_none(text))
}

fn is_of_reference(arg: &Arg) -> bool {
    arg.get_long().is_some_and(|long| REFERENCE.contains(&long))
}

/// Returns whether `next` may follow the switch `arg` without being its value: as an option, or as a file.
fn may_follow(arg: &Arg, next: &OsStr) -> bool {
    let text = next.to_string_lossy();
    !is_of_reference(arg)
        || text.starts_with('-')
        || text.contains(['*', '?', '['])
        || Path::new(next).symlink_metadata().is_ok()
}
