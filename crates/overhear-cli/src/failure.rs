//! Reasons for an exit code other than 0.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use overhear::Error;

/// Exit code if memory, threads or other resources of the system are exhausted: `EX_OSERR` of sysexits.h.
pub(crate) const NO_RESOURCES: u8 = 71;

/// A failure, sorted by exit code. The message is one line: what, where, and what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Unusable flag or value: 2.
    Usage(String),
    /// Model not found, unsuitable, or damaged: 3.
    Model(String),
    /// A model could not be downloaded, because the hub could not be reached: 69.
    Network(String),
    /// One input could not be transcribed: 4.
    Input(String),
    /// An output could not be written: 74.
    Output(String),
    /// The system refused a resource that every run needs, such as a thread: 71.
    System(String),
    /// Standard output was closed by its reader: 141, without a message.
    StdoutClosed,
    /// Stopped by a signal: 128 plus its number.
    Interrupted {
        /// Number of the signal.
        signal: u8,
        /// Work that was done, and work that was not.
        left: String,
    },
    /// Inputs failed, and each was reported at once: 4 if all of them, else 1.
    Inputs {
        /// Whether none was transcribed.
        all: bool,
    },
}

impl Failure {
    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) => 2,
            Failure::Model(_) => 3,
            Failure::Input(_) | Failure::Inputs { all: true } => 4,
            Failure::Inputs { all: false } => 1,
            Failure::System(_) => NO_RESOURCES,
            Failure::Network(_) => 69,
            Failure::Output(_) => 74,
            Failure::StdoutClosed => 141,
            Failure::Interrupted { signal, .. } => 128 + signal,
        })
    }

    /// Reports the failure on standard error, in one line.
    pub(crate) fn report(&self) {
        match self {
            Failure::Usage(message)
            | Failure::Model(message)
            | Failure::Network(message)
            | Failure::Input(message)
            | Failure::Output(message)
            | Failure::System(message) => say(message),
            Failure::Interrupted { signal, left } => {
                let name = signal_hook::low_level::signal_name(i32::from(*signal));
                say(&format!("stopped by {}{left}", name.unwrap_or("a signal")));
            }
            Failure::StdoutClosed | Failure::Inputs { .. } => {}
        }
    }

    /// Converts an error of writing to standard output.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::StdoutClosed,
            _ => Failure::Output(format!("cannot write to standard output: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Model { .. } | Error::NotFinite { .. } => Failure::Model(message),
            Error::Option { .. } => Failure::Usage(message),
            Error::Network { .. } => Failure::Network(message),
            Error::Device(_) => Failure::System(message),
            Error::Spool(_) | Error::Cache { .. } => Failure::Output(message),
            _ => Failure::Input(message),
        }
    }
}

/// Prints `overhear: message` on standard error; a failure of that is ignored.
pub(crate) fn say(message: &str) {
    let line = format!("overhear: {}\n", printable(message));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Returns `text` with control characters and bidirectional overrides escaped, fit for one line of a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.extend(c.escape_unicode());
            }
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_lines_or_drive_the_terminal() {
        assert_eq!(
            printable("a\nb\u{1b}[2J\u{202e}é日"),
            "a\\nb\\u{1b}[2J\\u{202e}é日"
        );
    }
}
