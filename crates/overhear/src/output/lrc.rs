//! LRC lyrics: a time and a line. If the transcript has words, the enhanced format, with a time before every word and
//! at the end.

use std::io::{self, Write};

use super::CaptionOptions;
use super::cues::{Cue, cues};
use super::timestamp::centiseconds;
use crate::Transcript;
use crate::python::strip;

/// Writes a line for each cue.
pub(super) fn write(
    transcript: &Transcript,
    options: &CaptionOptions,
    out: &mut impl Write,
) -> io::Result<()> {
    for cue in cues(transcript, options) {
        let text = if cue.has_words {
            with_times(&cue)
        } else {
            on_one_line(&cue.text())
        };
        if !strip(&cue.text()).is_empty() {
            writeln!(out, "[{}]{}", format(cue.start), strip(&text))?;
        }
    }
    Ok(())
}

fn with_times(cue: &Cue) -> String {
    let mut text = String::new();
    for piece in &cue.pieces {
        let word = piece.word.trim_start();
        let space = &piece.word[..piece.word.len() - word.len()];
        text.push_str(&on_one_line(space));
        text.push_str(&format!("<{}>{}", format(piece.start), on_one_line(word)));
    }
    format!("{text}<{}>", format(cue.end))
}

fn on_one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\0'], " ")
}

/// Formats `MM:SS.cc`; there are no hours, minutes exceed 59.
fn format(seconds: f64) -> String {
    let centiseconds = centiseconds(seconds);
    let (seconds, rest) = (centiseconds / 100, centiseconds % 100);
    format!("{:02}:{:02}.{rest:02}", seconds / 60, seconds % 60)
}
