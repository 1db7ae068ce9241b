//! Conversion of seconds to timestamps: `whisper/utils.py::format_timestamp`.

/// Rounds seconds to milliseconds as Python's `round(seconds * 1000)`: half to even. Negative and NaN give 0.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    // A float-to-integer `as` saturates, and converts NaN to 0.
    (seconds * 1000.0).round_ties_even() as u64
}

/// Rounds seconds to centiseconds, likewise half to even.
pub(super) fn centiseconds(seconds: f64) -> u64 {
    (seconds * 100.0).round_ties_even() as u64
}

/// Formats seconds as `[HH:]MM:SS.mmm`, with hours only if not zero or `always_include_hours`; `decimal_marker` stands
/// before the milliseconds.
#[must_use]
pub fn format_timestamp(seconds: f64, always_include_hours: bool, decimal_marker: char) -> String {
    format_milliseconds(milliseconds(seconds), always_include_hours, decimal_marker)
}

pub(super) fn format_milliseconds(total_ms: u64, always_hours: bool, marker: char) -> String {
    let (hours, rest) = (total_ms / 3_600_000, total_ms % 3_600_000);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    let (seconds, ms) = (rest / 1_000, rest % 1_000);
    if always_hours || hours > 0 {
        format!("{hours:02}:{minutes:02}:{seconds:02}{marker}{ms:03}")
    } else {
        format!("{minutes:02}:{seconds:02}{marker}{ms:03}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_equal_those_of_openai_whisper() {
        // Made with whisper.utils.format_timestamp(seconds, always_include_hours, decimal_marker).
        let cases = [
            (0.0, false, '.', "00:00.000"),
            (0.0005, false, '.', "00:00.000"),
            (0.0015, false, '.', "00:00.002"),
            (1.0005, true, ',', "00:00:01.000"),
            (59.9996, false, '.', "01:00.000"),
            (3599.9999, false, '.', "01:00:00.000"),
            (36_000.02, false, '.', "10:00:00.020"),
            (360_000.5, true, ',', "100:00:00,500"),
        ];
        for (seconds, hours, marker, expected) in cases {
            let expected = expected.replace('.', &marker.to_string());
            assert_eq!(
                format_timestamp(seconds, hours, marker),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn impossible_times_become_zero() {
        for seconds in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(milliseconds(seconds), 0);
        }
    }
}
