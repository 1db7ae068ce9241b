//! `overhear bench`: speed of a model on this machine, stage by stage, in relation to the machine's limits.

mod compare;
mod input;
mod measure;
mod memory;
mod report;
mod work;

use std::io::{self, Write};

use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::models;
use crate::options::model_options;

/// Measures and prints one report.
pub(crate) fn run(args: &BenchArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    if args.repeats == 0 {
        return Err(Failure::Usage("--repeats: must be 1 or more".to_owned()));
    }
    let options = model_options(&args.model)?;
    let earlier = args.compare.as_deref().map(compare::read).transpose()?;
    let path = models::find(&args.model, interrupt)?;
    let options = path.with_base(options);
    let repeats = args.repeats;
    let mut report =
        interrupt.run(move || measure::measure(path.as_ref(), &options, repeats))??;
    if let Some(earlier) = &earlier {
        report.compare(earlier);
    }
    let text = match (args.json, args.csv) {
        (true, _) => report.json(),
        (_, true) => report.csv(),
        _ => report.table(),
    };
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::stdout(&error))
}
