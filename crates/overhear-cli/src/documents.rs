//! Shell completions and the manual page, generated from the clap definition.

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

/// Prints the manual page of overhear, or of its command `name`.
pub(crate) fn manual(name: Option<&str>) -> Result<(), Failure> {
    // The page must not contain this machine's instruction set: its version is the plain one.
    let mut command = command().version(env!("CARGO_PKG_VERSION"));
    command.build();
    if let Some(name) = name {
        command = page_of(&command, name)?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("overhear ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|error| Failure::stdout(&error))?;
    print(&page)
}

/// Returns the command `name` as `overhear-NAME`, the name of its page.
fn page_of(command: &clap::Command, name: &str) -> Result<clap::Command, Failure> {
    let known = || command.get_subcommands().map(clap::Command::get_name);
    let found = command.find_subcommand(name).ok_or_else(|| {
        let known = known().filter(|name| *name != "help").collect::<Vec<_>>();
        let known = known.join(", ");
        Failure::Usage(format!("man: unknown command `{name}`; known: {known}"))
    })?;
    Ok(found.clone().version(env!("CARGO_PKG_VERSION")))
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}
