//! The text formats txt, tsv and csv.

use std::io::{self, Write};

use super::timestamp::milliseconds;
use crate::Transcript;
use crate::python::strip;

/// Writes one line per segment (`WriteTXT`).
pub(super) fn write_txt(transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    for segment in &transcript.segments {
        writeln!(out, "{}", strip(&segment.text))?;
    }
    Ok(())
}

/// Writes `start` and `end` in milliseconds and text, separated by tabs, with a header line (`WriteTSV`).
pub(super) fn write_tsv(transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "start\tend\ttext")?;
    for segment in &transcript.segments {
        let (start_ms, end_ms) = (milliseconds(segment.start), milliseconds(segment.end));
        let text = strip(&segment.text).replace(['\t', '\n', '\r'], " ");
        writeln!(out, "{start_ms}\t{end_ms}\t{text}")?;
    }
    Ok(())
}

/// Writes the rows of [`write_tsv`] separated by commas, with the text in quotes (RFC 4180).
pub(super) fn write_csv(transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "start,end,text")?;
    for segment in &transcript.segments {
        let (start_ms, end_ms) = (milliseconds(segment.start), milliseconds(segment.end));
        let text = strip(&segment.text).replace(['\n', '\r'], " ");
        writeln!(out, "{start_ms},{end_ms},\"{}\"", text.replace('"', "\"\""))?;
    }
    Ok(())
}
