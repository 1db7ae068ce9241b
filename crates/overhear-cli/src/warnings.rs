//! Warnings on standard error: the program's own, and those that the library logs with `tracing`.
//!
//! [`install`] prints the library's `tracing::warn!` events as lines like `overhear: warning: FILE: problem`. The file
//! is the event's `file` field, or else the current file of the thread ([`about`]). A warning is printed once per file,
//! whatever its origin; while progress is shown, it is printed above it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::MultiProgress;
use overhear::audio::AudioWarning;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::failure::say;

/// State of standard error. One per process, like standard error itself.
static TERMINAL: Mutex<Terminal> = Mutex::new(Terminal {
    is_quiet: false,
    progress: None,
    told: BTreeSet::new(),
});

thread_local! {
    /// The file that the thread works on.
    static FILE: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Terminal {
    is_quiet: bool,
    /// The lines of progress on the screen.
    progress: Option<MultiProgress>,
    /// All warnings printed so far, each with its file in front.
    told: BTreeSet<String>,
}

/// Prints the library's warnings from now on.
pub(crate) fn install() {
    // Fails only if another subscriber is set, and this is the only place that sets one.
    let _ = tracing::subscriber::set_global_default(Warnings);
}

/// Suppresses warnings from now on.
pub(crate) fn silence() {
    terminal().is_quiet = true;
}

/// Prints warnings above `progress` from now on; `None`: without.
pub(crate) fn show_above(progress: Option<MultiProgress>) {
    terminal().progress = progress;
}

/// Sets the file to which this thread's warnings without a file refer from now on.
pub(crate) fn about(file: &str) {
    FILE.with_borrow_mut(|current| file.clone_into(current));
}

/// Returns the file to which this thread's warnings without a file refer.
pub(crate) fn current_file() -> String {
    FILE.with_borrow(String::clone)
}

/// Warns about the whole run.
pub(crate) fn warn(message: &str) {
    print(message.to_owned());
}

/// Warns about the current file.
pub(crate) fn warn_file(message: &str) {
    print(format!("{}: {message}", current_file()));
}

/// Warns about the audio of the current file.
pub(crate) fn warn_audio(warnings: &[AudioWarning]) {
    for warning in warnings {
        match warning {
            AudioWarning::Truncated => {
                warn_file("ends early or is damaged in places; the decodable parts are used");
            }
            AudioWarning::NotFinite => {
                warn_file("holds samples that are not finite; they are replaced");
            }
            AudioWarning::Overdriven => {
                warn_file("holds samples far beyond full scale; they are clamped to it");
            }
            other => warn_file(&format!("{other:?}")),
        }
    }
}

fn print(message: String) {
    let progress = {
        let mut terminal = terminal();
        if terminal.is_quiet || !terminal.told.insert(message.clone()) {
            return;
        }
        terminal.progress.clone()
    };
    let print = || say(&format!("warning: {message}"));
    match progress {
        Some(progress) => progress.suspend(print),
        None => print(),
    }
}

fn terminal() -> MutexGuard<'static, Terminal> {
    TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Subscriber that prints the library's warnings and errors, and nothing else.
struct Warnings;

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::WARN
            && metadata.target().starts_with("overhear")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let Line {
            file,
            message,
            fields,
        } = line;
        let rest = match fields.is_empty() {
            true => String::new(),
            false => format!(" ({})", fields.join(", ")),
        };
        let file = file.unwrap_or_else(current_file);
        match file.is_empty() {
            true => print(format!("{message}{rest}")),
            false => print(format!("{file}: {message}{rest}")),
        }
    }

    // Spans are not enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Fields of one event.
#[derive(Default)]
struct Line {
    file: Option<String>,
    message: String,
    /// Other fields, as `name: value`.
    fields: Vec<String>,
}

impl Line {
    fn add(&mut self, name: &str, value: String) {
        match name {
            "message" => self.message = value,
            "file" => self.file = Some(value),
            name => self.fields.push(format!("{name}: {value}")),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{value:?}");
        self.add(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value.to_owned());
    }
}
