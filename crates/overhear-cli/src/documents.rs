//! Shell completions and the manual page, generated from the definition that parsing uses.

use std::io::{self, Write};

use clap_complete::Shell;

use crate::args::command;
use crate::failure::Failure;

/// Prints the completion script of `shell`.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "overhear", &mut script);
    print(&script)
}

/// Prints the manual page.
pub(crate) fn manual() -> Result<(), Failure> {
    let mut page = Vec::new();
    // The page is no description of this machine: its version is the plain one.
    clap_mangen::Man::new(command().version(env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|error| Failure::stdout(&error))?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}
