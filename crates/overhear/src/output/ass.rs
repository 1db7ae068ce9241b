//! Advanced SubStation Alpha subtitles; if the transcript has words, with karaoke tags: a word takes its full colour as
//! it is spoken.

use std::io::{self, Write};

use super::CaptionOptions;
use super::cues::{Cue, cues};
use super::timestamp::centiseconds;
use crate::Transcript;
use crate::python::strip;

/// One style: white text at the bottom, grey before it is spoken.
const HEADER: &str = "\
[Script Info]
ScriptType: v4.00+
WrapStyle: 0
ScaledBorderAndShadow: yes
PlayResX: 1920
PlayResY: 1080

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,64,&H00FFFFFF,&H00A0A0A0,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,3,1,2,60,60,50,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
";

/// Writes a line of dialogue for each cue.
pub(super) fn write(
    transcript: &Transcript,
    options: &CaptionOptions,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(HEADER.as_bytes())?;
    for cue in cues(transcript, options) {
        let (start, end) = (centiseconds(cue.start), centiseconds(cue.end));
        let text = if cue.has_words {
            karaoke(&cue)
        } else {
            escape(&cue.text())
        };
        if !strip(&cue.text()).is_empty() {
            let (start, end) = (format(start), format(end.max(start + 1)));
            writeln!(out, "Dialogue: 0,{start},{end},Default,,0,0,0,,{text}")?;
        }
    }
    Ok(())
}

/// Formats the words, each after a karaoke tag with its duration; gaps are syllables without text. The space before a
/// word belongs to the previous syllable, so that it is not highlighted early.
fn karaoke(cue: &Cue) -> String {
    let mut text = String::new();
    let mut now = centiseconds(cue.start);
    for piece in &cue.pieces {
        let word = piece.word.trim_start();
        let space = &piece.word[..piece.word.len() - word.len()];
        text.push_str(&escape(space));
        let (start, end) = (centiseconds(piece.start), centiseconds(piece.end));
        if start > now {
            text.push_str(&format!("{{\\k{}}}", start - now));
            now = start;
        }
        text.push_str(&format!(
            "{{\\k{}}}{}",
            end.saturating_sub(now),
            escape(word)
        ));
        now = now.max(end);
    }
    text
}

/// Escapes `text`. Braces delimit tags and a backslash starts one: braces are escaped, and a word joiner, which is
/// invisible and part of no tag, is put after a backslash.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '{' => escaped.push_str("\\{"),
            '}' => escaped.push_str("\\}"),
            '\\' => escaped.push_str("\\\u{2060}"),
            '\n' => escaped.push_str("\\N"),
            '\r' | '\0' => {}
            _ => escaped.push(c),
        }
    }
    escaped
}

/// `H:MM:SS.cc`.
fn format(centiseconds: u64) -> String {
    let (seconds, rest) = (centiseconds / 100, centiseconds % 100);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours}:{minutes:02}:{:02}.{rest:02}", seconds % 60)
}
