//! `overhear detect`: the language of each input.

use std::io::{self, Write};

use overhear::transcribe::LanguageOptions;
use overhear::{Audio, Model};

use crate::args::DetectArgs;
use crate::failure::{Failure, printable};
use crate::inputs;
use crate::interrupt::Interrupt;
use crate::models;
use crate::options::{audio_options, language_options, model_options};
use crate::warnings;

/// Prints `name`, language code and probability of each input, separated by tabs.
pub(crate) fn run(args: &DetectArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let options = model_options(&args.model)?;
    let detection = language_options(&args.detection)?;
    let audio_options = audio_options(&args.audio);
    let inputs = inputs::expand(&args.files, args.recursive);
    let path = models::find(&args.model, interrupt)?;
    let model = interrupt.run(move || path.open(options))??;
    let n_inputs = inputs.len();
    let mut n_failed = 0;
    for input in inputs {
        interrupt.check()?;
        let language = input.and_then(|input| {
            warnings::about(&input.display());
            let audio = input.open(&audio_options, interrupt)?;
            detect(&model, &detection, &input.display(), audio, interrupt)
        });
        match language {
            Ok(()) => {}
            Err(failure @ Failure::Input(_)) => {
                failure.report();
                n_failed += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    match n_failed {
        0 => Ok(()),
        _ => Err(Failure::Inputs {
            all: n_failed == n_inputs,
        }),
    }
}

fn detect(
    model: &Model,
    options: &LanguageOptions,
    name: &str,
    audio: Audio,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let (worker, options) = (model.clone(), options.clone());
    let found = interrupt.run(move || worker.detect_language(&audio, &options))??;
    let found = found.first().expect("detection finds a language");
    let name = printable(name);
    let (code, probability) = (found.language.code(), found.probability);
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{name}\t{code}\t{probability:.4}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}
