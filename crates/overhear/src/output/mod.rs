//! Writes transcripts: `whisper/utils.py::get_writer`, byte for byte where that gives a valid file.
//!
//! Deliberate differences, all of them where the reference's file would be invalid: segments without text are left out
//! of captions; blank lines inside a caption, which would end it, are dropped; a caption never ends before it starts;
//! `<`, and `&` where it would start a character reference, are escaped in WebVTT; a line break inside a TSV field
//! becomes a space.

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

use crate::names::by_name;
use crate::{Error, Transcript};

/// File format of transcripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One line of text per segment.
    Txt,
    /// WebVTT captions.
    Vtt,
    /// SubRip captions.
    Srt,
    /// Start and end in milliseconds, and text, separated by tabs.
    Tsv,
    /// The reference's result, with all fields.
    Json,
    /// Advanced SubStation Alpha subtitles; karaoke if the transcript has words.
    Ass,
    /// LRC lyrics; the enhanced format if the transcript has words.
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

    /// The reference's formats, in its order: those that its `all` selects.
    pub const REFERENCE: &'static [Format] = Format::ALL.split_at(5).0;

    /// Returns the file name extension: `txt`.
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

/// Formats are displayed as their extension, and parse from it.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.extension())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let all = Format::ALL.iter().copied();
        by_name("format", "format", name, all, Format::extension)
    }
}

/// Layout of words in captions (srt, vtt, ass, lrc). Without effect if the transcript has no words. Names are
/// openai/whisper's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct CaptionOptions {
    /// Underline each word as it is spoken, in srt and vtt.
    pub highlight_words: bool,
    /// Maximum number of characters of a line.
    pub max_line_width: Option<usize>,
    /// Maximum number of lines of a caption. Together with `max_line_width`, captions are filled across segments.
    pub max_line_count: Option<usize>,
    /// Maximum number of words of a caption.
    pub max_words_per_line: Option<usize>,
}

/// Writes `transcript` in `format`, as UTF-8 with `\n` line ends.
///
/// # Errors
/// Errors of `out`.
pub fn write(format: Format, transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    write_with(format, transcript, &CaptionOptions::default(), out)
}

/// As [`write()`], with words laid out according to `options`.
///
/// # Errors
/// Errors of `out`.
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

impl Transcript {
    /// Returns the transcript as a file of `format`, as [`write()`] writes it.
    #[must_use]
    pub fn to_string_in(&self, format: Format) -> String {
        let mut bytes = Vec::new();
        write(format, self, &mut bytes).expect("writing to memory cannot fail");
        String::from_utf8(bytes).expect("every format is UTF-8")
    }
}
