//! SubRip and WebVTT captions: `whisper/utils.py::WriteSRT` and `WriteVTT`.

use std::io::{self, Write};

use super::cues::{Cue, cues};
use super::timestamp::{format_milliseconds, milliseconds};
use super::{CaptionOptions, strip};
use crate::{Transcript, Word};

/// Writes SubRip: numbered captions, hours always shown, a comma before the milliseconds.
pub(super) fn write_srt(
    transcript: &Transcript,
    options: &CaptionOptions,
    out: &mut impl Write,
) -> io::Result<()> {
    let captions = captions(transcript, options, str::to_owned);
    for (i, caption) in captions.iter().enumerate() {
        let (start, end) = caption.times(true, ',');
        writeln!(out, "{}\n{start} --> {end}\n{}\n", i + 1, caption.text)?;
    }
    Ok(())
}

/// Writes WebVTT cues.
pub(super) fn write_vtt(
    transcript: &Transcript,
    options: &CaptionOptions,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "WEBVTT\n")?;
    for caption in captions(transcript, options, escape_vtt) {
        let (start, end) = caption.times(false, '.');
        writeln!(out, "{start} --> {end}\n{}\n", caption.text)?;
    }
    Ok(())
}

/// Escapes the text of a WebVTT cue. The reference escapes nothing, so only text that players would not show is
/// escaped: `<`, which starts a tag up to the next `>` or the end of the cue, and `&` where a character reference
/// (`&lt;`, `&copy`) could follow, unlike in "AT&T" or "you & me" (WebVTT, 6.4, cue text tokenizer).
fn escape_vtt(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (i, c) in text.char_indices() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' if is_reference(&text[i + 1..]) => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns whether `&` and `rest` may be a character reference: a number, a name with `;`, or a lower-case letter, as
/// the names that need no `;` are in lower case.
fn is_reference(rest: &str) -> bool {
    let name = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    rest.starts_with(|c: char| c == '#' || c.is_ascii_lowercase())
        || name.len() < rest.len() && name.starts_with(';')
}

struct Caption {
    start_ms: u64,
    end_ms: u64,
    text: String,
}

impl Caption {
    fn times(&self, always_hours: bool, marker: char) -> (String, String) {
        let format = |ms| format_milliseconds(ms, always_hours, marker);
        // WebVTT requires a cue to end after its start.
        let end_ms = self.end_ms.max(self.start_ms + 1);
        (format(self.start_ms), format(end_ms))
    }
}

/// Returns the cues, or for each of them one caption per word and per gap between words. The text of each piece is
/// escaped.
fn captions(
    transcript: &Transcript,
    options: &CaptionOptions,
    escape: impl Fn(&str) -> String,
) -> Vec<Caption> {
    let mut captions = Vec::new();
    for mut cue in cues(transcript, options) {
        for piece in &mut cue.pieces {
            piece.word = escape(&piece.word);
        }
        if options.highlight_words && cue.has_words {
            highlight(&cue, &mut captions);
        } else {
            captions.push(Caption {
                start_ms: milliseconds(cue.start),
                end_ms: milliseconds(cue.end),
                text: cue.text(),
            });
        }
    }
    for caption in &mut captions {
        caption.text = caption_text(&caption.text);
    }
    captions.retain(|caption| !caption.text.is_empty());
    captions
}

/// Appends the whole cue once per word, with that word underlined, and without underlining between words.
fn highlight(cue: &Cue, captions: &mut Vec<Caption>) {
    let plain = cue.text();
    let mut last_ms = milliseconds(cue.start);
    for (spoken, word) in cue.pieces.iter().enumerate() {
        let (start_ms, end_ms) = (milliseconds(word.start), milliseconds(word.end));
        if last_ms != start_ms {
            captions.push(Caption {
                start_ms: last_ms,
                end_ms: start_ms,
                text: plain.clone(),
            });
        }
        let piece = |(i, piece): (usize, &Word)| match i == spoken {
            true => underlined(&piece.word),
            false => piece.word.clone(),
        };
        captions.push(Caption {
            start_ms,
            end_ms,
            text: cue.pieces.iter().enumerate().map(piece).collect(),
        });
        last_ms = end_ms;
    }
}

/// Returns the word underlined, without the white space before it.
fn underlined(word: &str) -> String {
    let text = word.trim_start();
    let space = &word[..word.len() - text.len()];
    format!("{space}<u>{text}</u>")
}

/// Replaces text that must not occur in a caption: blank lines, which would end it, `-->`, which marks times, and NUL.
fn caption_text(text: &str) -> String {
    let mut text = strip(text).replace('\0', "\u{fffd}");
    // Repeated, since `--->` becomes `-->`.
    while text.contains("-->") {
        text = text.replace("-->", "->");
    }
    if !text.contains(['\n', '\r']) {
        return text;
    }
    let lines = text
        .split(['\n', '\r'])
        .filter(|line| !strip(line).is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vtt_escapes_only_text_that_players_would_not_show() {
        for (text, expected) in [
            (
                "AT&T, R&D & Q&A; you & me; 1 > 0 &",
                "AT&T, R&D & Q&amp;A; you & me; 1 > 0 &",
            ),
            ("1 < 2 <b>", "1 &lt; 2 &lt;b>"),
            (
                "&lt; &copyleft &#38; &Auml;",
                "&amp;lt; &amp;copyleft &amp;#38; &amp;Auml;",
            ),
        ] {
            assert_eq!(escape_vtt(text), expected);
        }
    }

    #[test]
    fn caption_text_has_no_blank_line_and_no_arrow() {
        let cases = [
            (" one\n\n two\r\nthree ", "one\n two\nthree"),
            ("a --> b ---> c", "a -> b -> c"),
            ("nul\0", "nul\u{fffd}"),
            (" \n \u{1c}", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(caption_text(text), expected);
        }
    }
}
