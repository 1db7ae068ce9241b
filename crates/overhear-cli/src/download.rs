//! Downloads a model and shows name, size and progress.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use overhear::Error;
use overhear::hub::{Hub, Progress};
use overhear::model::find::Repository;

use crate::failure::{Failure, say};
use crate::interrupt::Interrupt;
use crate::models::without_network;

/// Downloads a model into the Hugging Face cache and returns its folder.
pub(crate) fn pull(
    repository: Repository,
    interrupt: &Interrupt,
    quiet: bool,
) -> Result<PathBuf, Failure> {
    let hub = Hub::from_env()?;
    let mut shown = Shown {
        name: repository.to_string(),
        cache: hub.cache().display().to_string(),
        quiet,
        bar: ProgressBar::hidden(),
    };
    let bar = shown.bar.clone();
    let pulled = interrupt.run(move || {
        let folder = hub.pull(&repository, |progress| shown.show(progress));
        shown.bar.finish_and_clear();
        folder
    });
    bar.finish_and_clear();
    pulled?.map_err(|error| match error {
        error @ Error::Network { .. } => {
            Failure::Network(format!("{error}; {}", without_network()))
        }
        error => error.into(),
    })
}

/// Display on standard error.
struct Shown {
    name: String,
    cache: String,
    quiet: bool,
    bar: ProgressBar,
}

impl Shown {
    fn show(&mut self, progress: Progress<'_>) {
        if self.quiet {
            return;
        }
        match progress {
            Progress::Begins { total, present } => {
                let kept = match present {
                    0 => String::new(),
                    n => format!(", {} of it already present", DecimalBytes(n)),
                };
                let (name, cache, total_size) = (&self.name, &self.cache, DecimalBytes(total));
                self.say(&format!(
                    "downloading {name} ({total_size}{kept}) to {cache}"
                ));
                if io::stderr().is_terminal() {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                    self.bar.set_length(total);
                    let template = "{bar:30} {percent:>3} % {decimal_bytes} of {decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
                    if let Ok(style) = ProgressStyle::with_template(template) {
                        self.bar.set_style(style);
                    }
                    // The part that was present already must not count for the speed.
                    self.bar.set_position(present);
                    self.bar.reset_eta();
                }
            }
            Progress::Waits { file } => self.say(&format!(
                "another process is downloading {file} of {}; waiting for it",
                self.name
            )),
            Progress::Bytes { done } => self.bar.set_position(done),
            Progress::Retries { reason } => {
                self.say(&format!("warning: {reason}; trying again"));
            }
            _ => {}
        }
    }

    fn say(&self, message: &str) {
        self.bar.suspend(|| say(message));
    }
}
