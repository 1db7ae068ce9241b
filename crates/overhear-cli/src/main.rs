//! The `overhear` command: parses, dispatches, and is the only place that sets the exit code.

#![forbid(unsafe_code)]

mod args;
mod bars;
mod bench;
#[cfg(feature = "bundled-model")]
mod bundled;
mod detect;
mod documents;
mod download;
mod eval;
mod failure;
mod hexadecimal;
mod in_flight;
mod info;
mod inputs;
mod interrupt;
mod jobs;
mod journal;
mod length;
mod live;
mod manage;
mod manifest;
mod memory;
mod models;
mod naming;
mod options;
mod outputs;
mod progress;
mod shard;
mod spelling;
mod stdout;
mod transcribe;
mod vad;
mod values;
mod warnings;

use std::process::ExitCode;

use clap::error::ErrorKind;
use overhear_kernels::ExitWithoutMemory;

use args::{Cli, Command};
use failure::{Failure, say};
use interrupt::Interrupt;

fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

/// The system's allocator. If memory is exhausted, the program ends with a one-line message.
#[global_allocator]
static MEMORY: ExitWithoutMemory = ExitWithoutMemory {
    message: "overhear: out of memory; use a smaller model, or raise the limit (ulimit -v)",
    code: failure::NO_RESOURCES as i32,
};

fn run(cli: Cli) -> Result<(), Failure> {
    MEMORY.exit_on_panic();
    warnings::install();
    let interrupt = Interrupt::install();
    if cli.writes_to_stdout() {
        stdout::require_open()?;
    }
    match cli.command {
        None => transcribe::run(&cli.transcribe, &interrupt),
        Some(Command::Transcribe(args)) => transcribe::run(&args, &interrupt),
        Some(Command::Detect(args)) => detect::run(&args, &interrupt),
        Some(Command::Vad(args)) => vad::run(&args, &interrupt),
        Some(Command::Eval(args)) => eval::run(&args, &interrupt),
        Some(Command::Info(args)) => info::run(&args, &interrupt),
        Some(Command::Models(command)) => manage::run(&command, &interrupt),
        Some(Command::Bench(args)) => bench::run(&args, &interrupt),
        Some(Command::Completions { shell }) => documents::completions(shell),
        Some(Command::Man { command }) => documents::manual(command.as_deref()),
    }
}

/// Prints help in full, and errors of the command line in one line.
fn usage(error: &clap::Error) -> ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(
        error.kind(),
        DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let _ = error.print();
    } else {
        let text = error.render().to_string();
        let is_advice =
            |line: &str| line.starts_with("Usage:") || line.starts_with("For more information");
        let before_usage = text.lines().take_while(|line| !is_advice(line));
        let lines: Vec<_> = before_usage
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let message = lines.join("; ").replace(":; ", ": ");
        say(&format!(
            "{}; see overhear --help",
            message.trim_start_matches("error: ")
        ));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
