//! Jobs of a run: inputs with the targets of their outputs, and the order in which they are transcribed.

use std::cmp::Reverse;
use std::path::PathBuf;

use overhear::output::Format;

use crate::failure::Failure;
use crate::inputs::Input;
use crate::journal::{Identity, Journal, Verdict};
use crate::length;
use crate::naming::{Target, targets};
use crate::outputs::Destination;

/// One input with the target of its outputs.
pub(crate) struct Job<'a> {
    pub(crate) input: &'a Input,
    pub(crate) target: Target,
    /// Identity of the input in the journal.
    pub(crate) identity: Option<Identity>,
    /// Whether no other job may run at the same time.
    pub(crate) is_alone: bool,
}

/// Returns the jobs of `inputs`, in order.
pub(crate) fn jobs<'a>(
    inputs: &'a [Input],
    destination: &Destination,
    formats: &[Format],
) -> Vec<Job<'a>> {
    let folder = match destination {
        Destination::Folder(folder) => folder.clone(),
        Destination::Stdout(_) => PathBuf::new(),
    };
    let targets = targets(inputs, &folder, formats);
    inputs
        .iter()
        .zip(targets)
        .map(|(input, target)| Job {
            input,
            target,
            identity: None,
            is_alone: false,
        })
        .collect()
}

/// Removes the jobs that are done or failed according to the journal, and marks those that are to be run alone. Reports the failed ones and returns their number.
pub(crate) fn plan(
    journal: &Journal,
    jobs: &mut Vec<Job<'_>>,
    formats: &[Format],
    retry_failed: bool,
) -> usize {
    let mut n_failed = 0;
    jobs.retain_mut(|job| {
        job.identity = Identity::of(job.input);
        match journal.verdict(
            job.identity.as_ref(),
            &job.target.paths(formats),
            retry_failed,
        ) {
            Verdict::Transcribe => true,
            Verdict::TranscribeAlone => {
                job.is_alone = true;
                true
            }
            Verdict::Done => {
                // A kill may have left it.
                journal.remove_progress(job.identity.as_ref());
                false
            }
            Verdict::Failed(reason) => {
                n_failed += 1;
                Failure::Input(format!(
                    "failed in an earlier run: {reason}; --retry-failed tries again"
                ))
                .report();
                false
            }
        }
    });
    n_failed
}

/// Sorts the jobs: those last that are to be run alone, and with `long_first` long ones before short ones, so that a run of
/// several at a time does not end with a long one that runs alone.
pub(crate) fn sort(jobs: &mut [Job<'_>], long_first: bool) {
    jobs.sort_by_cached_key(|job| {
        let path = job.input.path.as_deref().filter(|_| long_first);
        (job.is_alone, Reverse(path.map_or(0, length::estimate_ms)))
    });
}
