//! Progress on standard error: on a terminal a line for each file in flight and one for the run, elsewhere a line a minute.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use overhear::ComputeType;
use overhear::output::format_timestamp;

use crate::failure::{printable, say};
use crate::warnings;

/// Time between two lines about the run where standard error is no terminal.
const LINES_EVERY: Duration = Duration::from_secs(60);

/// Progress of a run of several files, or of its only file.
pub(crate) struct Bars {
    is_shown: bool,
    /// Lines on the terminal.
    lines: Option<MultiProgress>,
    /// Line of the run, or of its only file.
    run: ProgressBar,
    /// Number of all files, and how many of them were done before this run.
    n_files: usize,
    n_before: usize,
    /// Compute type in use; [`ComputeType::Auto`] before the model is open.
    compute_type: ComputeType,
    started: Instant,
    /// Last line about the run where there is no terminal.
    told: Instant,
    /// Number of files that this run has done.
    n_done: usize,
    /// Seconds of audio that are done.
    done_s: f64,
}

impl Bars {
    /// Progress of `n_files` files, shown or not, of which `n_before` were done before this run.
    pub(crate) fn new(is_shown: bool, n_files: usize, n_before: usize) -> Self {
        let on_terminal = is_shown && io::stderr().is_terminal();
        let lines =
            on_terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        warnings::show_above(lines.clone());
        let run = line(lines.as_ref(), None);
        Self {
            is_shown,
            lines,
            run,
            n_files,
            n_before,
            compute_type: ComputeType::Auto,
            started: Instant::now(),
            told: Instant::now(),
            n_done: 0,
            done_s: 0.0,
        }
    }

    /// Sets the compute type, which is known when the model is open. The clock of the run begins.
    pub(crate) fn begin(&mut self, compute_type: ComputeType) {
        self.compute_type = compute_type;
        (self.started, self.told) = (Instant::now(), Instant::now());
    }

    /// Returns the line of a file that begins.
    pub(crate) fn file(&self, name: &str) -> FileBar {
        match self.n_files {
            0 | 1 => FileBar {
                bar: self.run.clone(),
                name: String::new(),
            },
            _ => FileBar {
                bar: line(self.lines.as_ref(), Some(&self.run)),
                name: printable(name),
            },
        }
    }

    /// Sets how many files and how many seconds of audio this run has done, those of files in flight included.
    pub(crate) fn update(&mut self, n_done: usize, done_s: f64) {
        (self.n_done, self.done_s) = (n_done, done_s);
        // Until its length is known, the only file has something else to say.
        if self.n_files > 1 || self.run.length().is_some() {
            self.run.set_message(self.text());
        }
        if self.lines.is_none() && self.told.elapsed() >= LINES_EVERY {
            self.tell();
        }
    }

    /// Updates the clock of the line of the run.
    pub(crate) fn tick(&self) {
        self.run.tick();
    }

    /// Removes all lines, and tells what was done if there were several files.
    pub(crate) fn finish(&mut self) {
        self.clear();
        if self.n_done > 0 {
            self.tell();
        }
    }

    /// Removes all lines.
    pub(crate) fn clear(&mut self) {
        warnings::show_above(None);
        if let Some(lines) = self.lines.take() {
            let _ = lines.clear();
        }
    }

    /// Calls `print`, whose lines come above the progress.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.lines {
            Some(lines) => lines.suspend(print),
            None => print(),
        }
    }

    /// Prints a line about a run of several files.
    fn tell(&mut self) {
        self.told = Instant::now();
        if self.is_shown && self.n_files > 1 {
            say(&self.text());
        }
    }

    fn text(&self) -> String {
        let speed = self.done_s / self.started.elapsed().as_secs_f64().max(1e-3);
        let speed = format!("{speed:.1}x real time, {}", self.compute_type);
        match self.n_files {
            0 | 1 => speed,
            n_files => {
                let (n_done, audio) = (self.n_before + self.n_done, clock(self.done_s));
                format!("{n_done} of {n_files} files done, {audio} of audio, {speed}")
            }
        }
    }
}

/// Line of a file in flight.
pub(crate) struct FileBar {
    bar: ProgressBar,
    /// Name of the file; empty if it is the only one.
    name: String,
}

impl FileBar {
    /// No line, for a file that cannot be transcribed.
    pub(crate) fn none() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            name: String::new(),
        }
    }

    /// Shows the position in seconds of the first pass over the file, whose length is not known yet.
    pub(crate) fn measuring(&self, position_s: f64) {
        let (name, read) = (&self.name, clock(position_s));
        let gap = if name.is_empty() { "" } else { ": " };
        self.bar.set_message(format!(
            "{name}{gap}reading the audio for its length and loudness: {read}"
        ));
        self.bar.tick();
    }

    /// Sets the length of the file, from which on a bar is shown.
    pub(crate) fn duration(&self, duration_s: f64) {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {elapsed} < {eta} {msg}");
        self.bar
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_length(milliseconds(duration_s));
        self.bar.set_message(self.name.clone());
    }

    /// Sets the position in seconds up to which the file is done.
    pub(crate) fn progress(&self, position_s: f64) {
        self.bar.set_position(milliseconds(position_s));
    }

    /// Updates the clock.
    pub(crate) fn tick(&self) {
        self.bar.tick();
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Adds a line before another, or at the end.
fn line(lines: Option<&MultiProgress>, before: Option<&ProgressBar>) -> ProgressBar {
    let Some(lines) = lines else {
        return ProgressBar::hidden();
    };
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let bar = ProgressBar::no_length()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    match before {
        Some(before) => lines.insert_before(before, bar),
        None => lines.add(bar),
    }
}

fn milliseconds(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds.max(0.0)).as_millis()).unwrap_or(u64::MAX)
}

/// Formats a time without fractions of a second.
fn clock(seconds: f64) -> String {
    let text = format_timestamp(seconds, true, '.');
    text.split('.').next().unwrap_or_default().to_owned()
}
