//! The reference's result as JSON, with the spacing, escapes and number formats of Python's `json.dump`.
//!
//! The schema is `schema/transcript.schema.json`.
//!
//! Python writes `NaN`, which is not JSON; here it becomes `null`. The temperature is an `f32`, written in its shortest
//! form (0.2, not 0.20000000298023224).

use std::fmt::{Debug, LowerExp};
use std::io::{self, Write};
use std::str::FromStr;

use crate::transcribe::Alternative;
use crate::{AudioWarning, Hypothesis, Segment, Transcript, Word};

/// Writes `{"text", "segments", "language"}` on one line (`WriteJSON`). Added if present: `"truncated": true`,
/// `"n_best"`, and in segments `"language"`, `"loop_cut"`, `"silence"`, and `"token_probabilities"` with
/// `"alternatives"`.
pub(super) fn write(transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "{{\"text\": {}, \"segments\": [",
        string(&transcript.text)
    )?;
    for (i, segment) in transcript.segments.iter().enumerate() {
        if i > 0 {
            out.write_all(b", ")?;
        }
        write_segment(segment, out)?;
    }
    write!(
        out,
        "], \"language\": {}",
        string(transcript.language.code())
    )?;
    if transcript.warnings.contains(&AudioWarning::Truncated) {
        out.write_all(b", \"truncated\": true")?;
    }
    if !transcript.n_best.is_empty() {
        let windows = list(&transcript.n_best, |window| {
            let hypotheses = list(&window.hypotheses, hypothesis);
            format!(
                "{{\"seek\": {}, \"hypotheses\": {hypotheses}}}",
                window.seek
            )
        });
        write!(out, ", \"n_best\": {windows}")?;
    }
    out.write_all(b"}")
}

fn list<T>(items: &[T], write: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(write).collect();
    format!("[{}]", items.join(", "))
}

fn hypothesis(hypothesis: &Hypothesis) -> String {
    format!(
        "{{\"text\": {}, \"tokens\": {}, \"score\": {}, \"avg_logprob\": {}}}",
        string(&hypothesis.text),
        list(&hypothesis.tokens, ToString::to_string),
        number(hypothesis.score),
        number(hypothesis.avg_logprob),
    )
}

fn alternative(alternative: &Alternative) -> String {
    format!(
        "{{\"token\": {}, \"text\": {}, \"probability\": {}}}",
        alternative.token,
        string(&alternative.text),
        number(alternative.probability),
    )
}

fn write_segment(segment: &Segment, out: &mut impl Write) -> io::Result<()> {
    let tokens = list(&segment.tokens, ToString::to_string);
    write!(
        out,
        "{{\"id\": {}, \"seek\": {}, \"start\": {}, \"end\": {}, \"text\": {}, \"tokens\": {tokens}, \
         \"temperature\": {}, \"avg_logprob\": {}, \"compression_ratio\": {}, \"no_speech_prob\": {}",
        segment.id,
        segment.seek,
        number(segment.start),
        number(segment.end),
        string(&segment.text),
        number(segment.temperature),
        number(segment.avg_logprob),
        number(segment.compression_ratio),
        number(segment.no_speech_prob),
    )?;
    if let Some(words) = &segment.words {
        write!(out, ", \"words\": {}", list(words, word))?;
    }
    if let Some(language) = segment.language {
        write!(out, ", \"language\": {}", string(language.code()))?;
    }
    if let Some(loop_cut) = segment.loop_cut {
        write!(out, ", \"loop_cut\": {loop_cut}")?;
    }
    if let Some(silence) = &segment.silence {
        let (audio, attention) = (number(silence.audio), number(silence.attention));
        write!(
            out,
            ", \"silence\": {{\"audio\": {audio}, \"attention\": {attention}"
        )?;
        if let Some(text) = &silence.dropped {
            write!(out, ", \"dropped\": {}", string(text))?;
        }
        out.write_all(b"}")?;
    }
    if !segment.alternatives.is_empty() {
        let probabilities = list(&segment.token_probabilities, |&p| number(p));
        let alternatives = list(&segment.alternatives, |tokens| list(tokens, alternative));
        write!(
            out,
            ", \"token_probabilities\": {probabilities}, \"alternatives\": {alternatives}"
        )?;
    }
    out.write_all(b"}")
}

fn word(word: &Word) -> String {
    format!(
        "{{\"word\": {}, \"start\": {}, \"end\": {}, \"probability\": {}}}",
        string(&word.word),
        number(word.start),
        number(word.end),
        number(word.probability),
    )
}

/// Formats a float as Python's `repr`: the fewest digits that identify it, and of two equally near numbers with that
/// many digits the one with an even last digit. Rust's debug format has as many digits and the same thresholds for an
/// exponent, but occasionally takes the other of two, and writes `e-5` where Python writes `e-05`.
fn number<F: Debug + LowerExp + FromStr + PartialEq + Copy + Into<f64>>(value: F) -> String {
    if !value.into().is_finite() {
        return "null".to_owned();
    }
    let text = format!("{value:?}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mut digits = shortest_digits(value).into_iter();
    // Leading and trailing zeros are not part of the digits.
    let is_digit = |c: char| c.is_ascii_digit();
    let mut has_begun = false;
    let mantissa: String = mantissa
        .chars()
        .map(|c| {
            has_begun |= is_digit(c) && c != '0';
            match has_begun && is_digit(c) {
                true => digits.next().unwrap_or('0'),
                false => c,
            }
        })
        .collect();
    match (text.contains('e'), exponent.strip_prefix('-')) {
        (false, _) => mantissa,
        (true, Some(exponent)) => format!("{mantissa}e-{exponent:0>2}"),
        (true, None) => format!("{mantissa}e+{exponent:0>2}"),
    }
}

/// Returns the digits of `value` in its shortest form, ties to even, which is how Rust rounds to a given number of
/// digits.
fn shortest_digits<F: LowerExp + FromStr + PartialEq + Copy>(value: F) -> Vec<char> {
    let digits = |text: &str| -> Vec<char> {
        let mantissa = text.split('e').next().unwrap_or_default();
        mantissa.chars().filter(char::is_ascii_digit).collect()
    };
    let shortest = digits(&format!("{value:e}"));
    let even = format!("{value:.*e}", shortest.len() - 1);
    match even.parse::<F>() {
        Ok(parsed) if parsed == value => digits(&even),
        _ => shortest,
    }
}

/// Formats a string in quotes, with everything except printable ASCII escaped (`ensure_ascii`, the reference's
/// setting).
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            ' '..='~' => quoted.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let cases: [(f64, &str); 9] = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (30.0, "30.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.000_043, "4.3e-05"),
            (1.5e-123, "1.5e-123"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (f64::NAN, "null"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
        assert_eq!(number(0.2_f32), "0.2");
    }

    #[test]
    fn of_two_shortest_numbers_equally_near_the_even_one_is_written_as_python_does() {
        // Python's repr of a quotient of a mean log-probability, and of powers of two.
        let cases: [(f64, &str); 5] = [
            (65_537.0 / 131_072.0, "0.5000076293945312"),
            (65_539.0 / 131_072.0, "0.5000228881835938"),
            (-65_537.0 / 131_072.0, "-0.5000076293945312"),
            (2f64.powi(-44), "5.684341886080802e-14"),
            (5e-324, "5e-324"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
        // Odd multiples of half a unit in the 16th place.
        for n in (65_537..131_072).step_by(2) {
            let written = number(f64::from(n) / 131_072.0);
            assert_eq!(written.parse(), Ok(f64::from(n) / 131_072.0));
            assert!(written.ends_with(['0', '2', '4', '6', '8']), "{written}");
        }
    }

    #[test]
    fn strings_are_escaped_as_python_escapes_them() {
        assert_eq!(
            string("a\"\\/\u{7f}\u{1}é\u{1f600}\t"),
            r#""a\"\\/\u007f\u0001\u00e9\ud83d\ude00\t""#
        );
    }
}
