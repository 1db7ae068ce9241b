//! JSON with the spacing, escapes and number formats of Python's `json.dump`, as the reference writes its result.
//!
//! The `Serialize` implementations of [`Transcript`] and its parts alone define the fields; the schema is
//! `schema/transcript.schema.json`.
//!
//! Python writes `NaN`, which is not JSON; here it becomes `null`. The temperature is an `f32`, written in its shortest
//! form (0.2, not 0.20000000298023224).

use std::fmt::{Debug, LowerExp};
use std::io::{self, Write};
use std::str::FromStr;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::Transcript;

/// Writes the transcript on one line (`WriteJSON`).
pub(super) fn write(transcript: &Transcript, out: &mut impl Write) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(out, Python);
    transcript.serialize(&mut serializer)?;
    Ok(())
}

/// Formatter of Python's `json.dump` with its default arguments.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        separate(out, first)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_f32<W: ?Sized + Write>(&mut self, out: &mut W, value: f32) -> io::Result<()> {
        out.write_all(number(value).as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(number(value).as_bytes())
    }

    /// Escapes everything except printable ASCII (`ensure_ascii`, the reference's setting); quotes, backslashes and
    /// control characters are no part of `fragment`.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for printable in fragment.split_inclusive(|c| !matches!(c, ' '..='~')) {
            match printable.char_indices().next_back() {
                Some((at, c)) if !matches!(c, ' '..='~') => {
                    out.write_all(&printable.as_bytes()[..at])?;
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
                _ => out.write_all(printable.as_bytes())?,
            }
        }
        Ok(())
    }
}

fn separate<W: ?Sized + Write>(out: &mut W, first: bool) -> io::Result<()> {
    out.write_all(if first { b"" } else { b", " })
}

/// Formats a float as Python's `repr`: the fewest digits that identify it, and of two equally near numbers with that
/// many digits the one with an even last digit. Rust's debug format has as many digits and the same thresholds for an
/// exponent, but occasionally takes the other of two, and writes `e-5` where Python writes `e-05`.
fn number<F: Debug + LowerExp + FromStr + PartialEq + Copy>(value: F) -> String {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(value: impl Serialize) -> String {
        let mut out = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut out, Python);
        value.serialize(&mut serializer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        let cases: [(f64, &str); 8] = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (30.0, "30.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.000_043, "4.3e-05"),
            (1.5e-123, "1.5e-123"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
        assert_eq!(number(0.2_f32), "0.2");
        assert_eq!(
            written((vec![f64::NAN, 1.0], Vec::<u8>::new(), f32::INFINITY, true)),
            "[[null, 1.0], [], null, true]"
        );
    }

    #[test]
    fn of_two_equally_near_shortest_numbers_the_even_one_is_written() {
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
            written("a\"\\/\u{7f}\u{1}é\u{1f600}\t"),
            r#""a\"\\/\u007f\u0001\u00e9\ud83d\ude00\t""#
        );
    }
}
