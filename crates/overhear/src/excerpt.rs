//! Excerpts of text from files for error messages, of limited length.

/// Maximum number of characters of an excerpt.
const MAX_CHARS: usize = 80;

/// Returns the beginning of `text`, followed by an ellipsis if it is longer.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the problem of malformed JSON, and its position. The parser quotes whole strings, so the middle of a long
/// message is omitted.
pub(crate) fn malformed(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let n_chars = text.chars().count();
    if n_chars <= 2 * MAX_CHARS {
        return format!("malformed: {text}");
    }
    let end: String = text.chars().skip(n_chars - MAX_CHARS / 2).collect();
    format!("malformed: {}{end}", excerpt(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(excerpt(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    }

    #[test]
    fn a_message_that_quotes_a_long_string_keeps_its_beginning_and_position() {
        let json = format!("\n\"{}\"", "x".repeat(60_000));
        let message = match serde_json::from_str::<usize>(&json) {
            Ok(_) => unreachable!("a string is no number"),
            Err(error) => malformed(&error),
        };
        assert!(
            message.starts_with("malformed: invalid type: string \"xxx"),
            "{message}"
        );
        assert!(
            message.ends_with("expected usize at line 2 column 60002"),
            "{message}"
        );
        assert!(message.chars().count() < 140, "{message}");
    }
}
