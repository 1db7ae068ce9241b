//! Writes transcripts: `whisper/utils.py::get_writer`, byte for byte where that gives a valid file.
//!
//! Deliberate differences, all of them where the reference's file would be wrong: segments without text are
//! left out of captions; blank lines inside a caption are dropped (they would end it); a caption never ends
//! before it begins; `<`, and `&` where it would begin a character reference, are escaped in WebVTT; a line break inside a TSV field becomes a space.

mod ass;
mod captions;
mod cues;
mod json;
mod lrc;
mod text;
mod timestamp;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

pub use timestamp::format_timestamp;

use crate::Transcript;

/// A file format for transcripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One line of text per segment.
    Txt,
    /// WebVTT captions.
    Vtt,
    /// SubRip captions.
    Srt,
    /// Start and end in milliseconds, and text, separated by tabs.
    Tsv,
    /// Everything there is to know, as the reference's result.
    Json,
    /// Advanced SubStation Alpha subtitles; karaoke if there are words.
    Ass,
    /// LRC lyrics; the enhanced form if there are words.
    Lrc,
    /// Start and end in milliseconds, and text, separated by commas.
    Csv,
}

impl Format {
    /// All formats.
    pub const ALL: &'static [Format] = &[
        Format::Txt,
        Format::Vtt,
        Format::Srt,
        Format::Tsv,
        Format::Json,
        Format::Ass,
        Format::Lrc,
        Format::Csv,
    ];

    /// The reference's formats, in its order: what its `all` stands for.
    pub const REFERENCE: &'static [Format] = Format::ALL.split_at(5).0;

    /// The file name extension: `txt`.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Format::Txt => "txt",
            Format::Vtt => "vtt",
            Format::Srt => "srt",
            Format::Tsv => "tsv",
            Format::Json => "json",
            Format::Ass => "ass",
            Format::Lrc => "lrc",
            Format::Csv => "csv",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Format::ALL
            .iter()
            .copied()
            .find(|format| format.extension() == name)
            .ok_or_else(|| {
                let known: Vec<&str> = Format::ALL.iter().map(|f| f.extension()).collect();
                format!("unknown format `{name}`; known: {}", known.join(", "))
            })
    }
}

/// How words are shown in captions (srt, vtt, ass, lrc), if the transcript has words; else it changes nothing. Names
/// are openai/whisper's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptionOptions {
    /// In srt and vtt, underline each word as it is spoken.
    pub highlight_words: bool,
    /// Characters of a line.
    pub max_line_width: Option<usize>,
    /// Lines of a caption. Together with `max_line_width`, captions are filled whatever segments the words are of.
    pub max_line_count: Option<usize>,
    /// Words of a caption.
    pub max_words_per_line: Option<usize>,
}

/// Writes `transcript` in `format`, as UTF-8 with `\n` line ends.
///
/// # Errors
/// Those of `out`.
pub fn write(format: Format, transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    write_with(format, transcript, &CaptionOptions::default(), out)
}

/// The same, with words shown as `options` say.
///
/// # Errors
/// Those of `out`.
pub fn write_with(
    format: Format,
    transcript: &Transcript,
    options: &CaptionOptions,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Txt => text::write_txt(transcript, out),
        Format::Vtt => captions::write_vtt(transcript, options, out),
        Format::Srt => captions::write_srt(transcript, options, out),
        Format::Tsv => text::write_tsv(transcript, out),
        Format::Json => json::write(transcript, out),
        Format::Ass => ass::write(transcript, options, out),
        Format::Lrc => lrc::write(transcript, options, out),
        Format::Csv => text::write_csv(transcript, out),
    }
}

/// Python's `str.strip`: its white space has four control characters more than Unicode's property.
fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\x1c'..='\x1f'))
}
