//! Display of a run: segments on standard output as they appear, progress on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use overhear::output::format_timestamp;
use overhear::tokenizer::{TokenId, Tokenizer};
use overhear::{ComputeType, Language, Segment};

use crate::failure::{Failure, printable, say};
use crate::warnings;

/// Confidence thresholds: words below the first are red, below the second yellow, else green.
const COLOUR_THRESHOLDS: [f32; 2] = [0.4, 0.7];

/// Parts of the display.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveOptions {
    /// Segments on standard output.
    pub(crate) segments: bool,
    /// A line with the file's name before its first segment.
    pub(crate) headers: bool,
    /// Progress and notes on standard error.
    pub(crate) notes: bool,
    /// Words coloured by confidence.
    pub(crate) colours: bool,
}

/// Display of one run of the command, file by file.
pub(crate) struct Live {
    options: LiveOptions,
    /// Compute type in use; [`ComputeType::Auto`] before the model is open.
    compute_type: ComputeType,
    bar: ProgressBar,
    /// Beginning of the run's first file.
    started: Option<Instant>,
    /// Seconds of audio of all files that are done.
    done_s: f64,
    /// Failure after which nothing more is printed on standard output.
    stdout_failure: Option<Failure>,
}

impl Live {
    pub(crate) fn new(mut options: LiveOptions) -> Self {
        options.colours &= anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self {
            options,
            compute_type: ComputeType::Auto,
            bar,
            started: None,
            done_s: 0.0,
            stdout_failure: None,
        }
    }

    /// Begins a file, computed in `compute_type`.
    pub(crate) fn begin(&mut self, name: &str, compute_type: ComputeType) {
        self.compute_type = compute_type;
        self.started.get_or_insert_with(Instant::now);
        if self.options.segments && self.options.headers {
            self.print(&format!("==> {} <==", printable(name)));
        }
    }

    /// Shows the position in seconds of the first pass over the file, whose length is not known yet.
    pub(crate) fn measuring(&mut self, position_s: f64) {
        if !self.options.notes || !io::stderr().is_terminal() {
            return;
        }
        if self.bar.is_hidden() {
            self.bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
            self.bar
                .set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            warnings::show_above(Some(self.bar.clone()));
        }
        let position = format_timestamp(position_s, true, '.');
        let read = position.split('.').next().unwrap_or_default();
        self.bar.set_message(format!(
            "reading the audio for its length and loudness: {read}"
        ));
        self.bar.tick();
    }

    /// Sets the length of the file, from which on progress is shown.
    pub(crate) fn duration(&mut self, duration_s: f64) {
        if !self.options.notes || !io::stderr().is_terminal() {
            return;
        }
        self.bar.finish_and_clear();
        let length = Duration::from_secs_f64(duration_s.max(0.0)).as_millis();
        self.bar = ProgressBar::with_draw_target(
            Some(u64::try_from(length).unwrap_or(u64::MAX)),
            ProgressDrawTarget::stderr(),
        );
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {elapsed} < {eta} {msg}");
        self.bar
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        warnings::show_above(Some(self.bar.clone()));
    }

    /// Sets the seconds of audio of all files that are done, those being transcribed at the same time included.
    pub(crate) fn all_files(&mut self, done_s: f64) {
        self.done_s = done_s;
    }

    /// Sets the position in seconds up to which the file is done. The speed shown is that of the run.
    pub(crate) fn progress(&self, position_s: f64) {
        let position = Duration::from_secs_f64(position_s.max(0.0));
        self.bar
            .set_position(u64::try_from(position.as_millis()).unwrap_or(u64::MAX));
        let elapsed = self
            .started
            .map_or(0.0, |started| started.elapsed().as_secs_f64());
        let speed = self.done_s / elapsed.max(1e-3);
        self.bar
            .set_message(format!("{speed:.1}x real time, {}", self.compute_type));
    }

    /// Updates the clock of the progress bar.
    pub(crate) fn tick(&self) {
        self.bar.tick();
    }

    /// Prints a note on standard error, unless `--quiet` is given.
    pub(crate) fn note(&self, message: &str) {
        if self.options.notes {
            self.bar.suspend(|| say(message));
        }
    }

    /// Prints a final segment. Cleared segments are not shown.
    pub(crate) fn segment(&mut self, segment: &Segment, tokenizer: &Tokenizer, language: Language) {
        if !self.options.segments || segment.text.is_empty() {
            return;
        }
        let text = match self.options.colours {
            true => coloured(segment, tokenizer, language),
            false => printable(&segment.text),
        };
        let start = format_timestamp(segment.start, false, '.');
        let end = format_timestamp(segment.end, false, '.');
        self.print(&format!("[{start} --> {end}] {text}"));
    }

    /// Ends the file, whether complete or not.
    pub(crate) fn end(&mut self) {
        warnings::show_above(None);
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
    }

    /// Returns the failure of standard output, once everything else is done.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.stdout_failure.map_or(Ok(()), Err)
    }

    /// Prints a line. After a failure nothing more is printed, but transcription continues for the output files.
    fn print(&mut self, line: &str) {
        if self.stdout_failure.is_some() {
            return;
        }
        let mut stdout = io::stdout().lock();
        let written = self
            .bar
            .suspend(|| writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
        self.stdout_failure = written.err().map(|error| Failure::stdout(&error));
    }
}

/// Formats the segment's words, each in the colour of its mean token probability.
fn coloured(segment: &Segment, tokenizer: &Tokenizer, language: Language) -> String {
    let is_text = |(token, _): &(TokenId, f32)| tokenizer.is_text(*token);
    let tokens = segment
        .tokens
        .iter()
        .copied()
        .zip(segment.token_probabilities.iter().copied());
    let (tokens, probabilities): (Vec<_>, Vec<_>) = tokens.filter(is_text).unzip();
    let mut probabilities = probabilities.as_slice();
    let mut text = String::new();
    for (word, tokens) in tokenizer.split_to_word_tokens(&tokens, language) {
        let (of_word, rest) = probabilities.split_at(tokens.len().min(probabilities.len()));
        probabilities = rest;
        let style = confidence_style(of_word.iter().sum::<f32>() / of_word.len().max(1) as f32);
        text.push_str(&format!("{style}{}{style:#}", printable(&word)));
    }
    text
}

fn confidence_style(probability: f32) -> Style {
    let colour = match probability {
        p if p < COLOUR_THRESHOLDS[0] => AnsiColor::Red,
        p if p < COLOUR_THRESHOLDS[1] => AnsiColor::Yellow,
        _ => AnsiColor::Green,
    };
    Style::new().fg_color(Some(colour.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_has_three_colours() {
        let colours = [0.1, 0.5, 0.9].map(|p| confidence_style(p).render().to_string());
        assert_eq!(colours, ["\u{1b}[31m", "\u{1b}[33m", "\u{1b}[32m"]);
    }
}
