//! Rules of Python that results depend on and that differ from Rust's.

/// `text.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `c.isspace()`, which also holds for the ASCII separators 0x1c to 0x1f; `\s` of `re`, and the separators of `str.split`.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `items[-n:]`: all items for `n` = 0, and all but the first `-n` for a negative `n`.
pub(crate) fn last<T>(items: &[T], n: isize) -> &[T] {
    let skipped = if n > 0 {
        items.len().saturating_sub(n.unsigned_abs())
    } else {
        n.unsigned_abs()
    };
    &items[skipped.min(items.len())..]
}

/// `round(x, 2)` of a NumPy float: scaled, rounded half to even, scaled back (Python's own rounds the decimal value).
pub(crate) fn round_2(x: f64) -> f64 {
    (x * 100.0).round_ties_even() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_slices_as_python() {
        let items = [1, 2, 3];
        assert_eq!(last(&items, 2), [2, 3]);
        assert_eq!(last(&items, 5), [1, 2, 3]);
        assert_eq!(last(&items, 0), [1, 2, 3]);
        assert_eq!(last(&items, -1), [2, 3]);
        assert_eq!(last(&items, -7), [0; 0]);
    }

    #[test]
    fn round_2_rounds_as_numpy() {
        // 2.675 is 2.67499... and Python's own round gives 2.67.
        for (x, expected) in [(2.675, 2.68), (1.005, 1.0), (0.125, 0.12), (3.0, 3.0)] {
            assert_eq!(round_2(x), expected);
        }
    }

    #[test]
    fn strip_strips_pythons_white_space() {
        assert_eq!(strip("\u{1f}\u{a0} a b\u{3000}\n"), "a b");
    }
}
