//! SubRip and WebVTT captions: `whisper/utils.py::WriteSRT` and `WriteVTT`.

use std::io::{self, Write};

use super::CaptionOptions;
use super::cues::{Cue, cues};
use super::timestamp::{format_milliseconds, milliseconds};
use crate::python::strip;
use crate::{Transcript, Word};

/// Writes SubRip: numbered captions, hours always shown, a comma before the milliseconds.
pub(super) fn write_srt(
    transcript: &Transcript,
    options: &CaptionOptions,
    out: &mut impl Write,
) -> io::Result<()> {
    let captions = captions(transcript, options, |text, _| text.to_owned());
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

/// Escapes `text` of a WebVTT cue, which `rest` follows. The reference escapes nothing, so only text that players would
/// not show is escaped: `<`, which starts a tag up to the next `>` or the end of the cue, and `&` where a character
/// reference (`&lt;`, `&COPY`) could follow, unlike in "AT&T" or "you & me" (WebVTT, 6.4, cue text tokenizer).
fn escape_vtt(text: &str, rest: &str) -> String {
    let whole = [text, rest].concat();
    let mut escaped = String::with_capacity(text.len());
    for (i, c) in text.char_indices() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' if begins_reference(&whole[i + 1..]) => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns whether `text` after `&` may be a number or name of HTML: every name begins with two letters, and some need
/// no `;` (HTML, 13.5, named character references).
fn begins_reference(text: &str) -> bool {
    let mut chars = text.chars();
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
    text.starts_with('#') || is_letter(chars.next()) && is_letter(chars.next())
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

/// Returns the cues, or for each of them one caption per word and per gap between words. `escape` gets the text of each
/// piece, and the text of the cue after it.
fn captions(
    transcript: &Transcript,
    options: &CaptionOptions,
    escape: impl Fn(&str, &str) -> String,
) -> Vec<Caption> {
    let mut captions = Vec::new();
    for mut cue in cues(transcript, options) {
        let mut rest = String::new();
        for piece in cue.pieces.iter_mut().rev() {
            let escaped = escape(&piece.word, &rest);
            rest.insert_str(0, &piece.word);
            piece.word = escaped;
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
    use crate::Segment;

    #[test]
    fn vtt_escapes_only_text_that_players_would_not_show() {
        for (text, expected) in [
            (
                "AT&T, R&D & Q&A; you & me; 1 > 0 &",
                "AT&T, R&D & Q&A; you & me; 1 > 0 &",
            ),
            ("1 < 2 <b>", "1 &lt; 2 &lt;b>"),
            (
                "&lt; &copyleft &#38; &Auml;",
                "&amp;lt; &amp;copyleft &amp;#38; &amp;Auml;",
            ),
            // Names that need no `;`, with a capital.
            (
                "&GT &LTD &AMP &COPY &Eacute",
                "&amp;GT &amp;LTD &amp;AMP &amp;COPY &amp;Eacute",
            ),
        ] {
            assert_eq!(escape_vtt(text, ""), expected);
        }
    }

    #[test]
    fn vtt_escapes_references_across_words() {
        let word = |word: &str| Word {
            word: word.into(),
            ..Word::default()
        };
        for (words, expected) in [
            ([" you", " &", " me"], "you & me"),
            ([" a", " &", "lt"], "a &amp;lt"),
            ([" &", "#", "38;"], "&amp;#38;"),
            ([" &", "G", "T"], "&amp;GT"),
        ] {
            let segment = Segment {
                words: Some(words.map(word).into()),
                ..Segment::default()
            };
            let transcript = Transcript {
                segments: vec![segment],
                ..Transcript::default()
            };
            let found = captions(&transcript, &CaptionOptions::default(), escape_vtt);
            let found: Vec<&str> = found.iter().map(|caption| &*caption.text).collect();
            assert_eq!(found, [expected]);
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
