//! Display of a run: segments on standard output as they appear, notes and progress ([`Bars`]) on standard error.

use std::io::{self, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use overhear::output::format_timestamp;
use overhear::tokenizer::{TokenId, Tokenizer};
use overhear::{Language, Segment};

use crate::bars::Bars;
use crate::failure::{Failure, printable, say};

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
    pub(crate) bars: Bars,
    /// Failure after which nothing more is printed on standard output.
    stdout_failure: Option<Failure>,
}

impl Live {
    /// Display of a run of `n_files` files, of which `n_before` were done before.
    pub(crate) fn new(mut options: LiveOptions, n_files: usize, n_before: usize) -> Self {
        options.colours &= anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self {
            options,
            bars: Bars::new(options.notes, n_files, n_before),
            stdout_failure: None,
        }
    }

    /// Begins to show a file.
    pub(crate) fn begin(&mut self, name: &str) {
        if self.options.segments && self.options.headers {
            self.print(&format!("==> {} <==", printable(name)));
        }
    }

    /// Prints a note on standard error, unless `--quiet` is given.
    pub(crate) fn note(&self, message: &str) {
        if self.options.notes {
            self.bars.above(|| say(message));
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
            .bars
            .above(|| writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
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
