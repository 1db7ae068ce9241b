//! Equivalents of Python's `re.sub` and of its character classes.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::python::is_space;

/// Python's `\w`: letters, numbers and the underscore, but no marks.
pub(super) fn is_word(c: char) -> bool {
    use GeneralCategoryGroup::{Letter, Number};
    c == '_' || matches!(c.general_category_group(), Letter | Number)
}

/// Python's `\d`: decimal digits of every script.
pub(super) fn is_digit(c: char) -> bool {
    c.general_category() == GeneralCategory::DecimalNumber
}

/// `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Returns whether no word character stands at `at`: after a word character, this is `\b`.
pub(super) fn ends_word(chars: &[char], at: usize) -> bool {
    chars.get(at).is_none_or(|&c| !is_word(c))
}

/// Returns whether no word character stands before `at`: before a word character, this is `\b`.
pub(super) fn begins_word(chars: &[char], at: usize) -> bool {
    at == 0 || !is_word(chars[at - 1])
}

/// Returns the number of characters of a class from `at` on.
pub(super) fn run(chars: &[char], at: usize, is_of_class: impl Fn(char) -> bool) -> usize {
    let rest = chars.get(at..).unwrap_or_default();
    rest.iter().take_while(|&&c| is_of_class(c)).count()
}

/// `re.sub`: replaces the matches of `rule`, from left to right and without overlaps. A rule takes the text and a
/// position, and returns the number of characters that match there (at least one) and their replacement.
pub(super) fn sub(text: &str, rule: impl Fn(&[char], usize) -> Option<(usize, String)>) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut rewritten = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        match rule(&chars, at) {
            Some((n_matched, replacement)) => {
                rewritten.push_str(&replacement);
                at += n_matched;
            }
            None => {
                rewritten.push(chars[at]);
                at += 1;
            }
        }
    }
    rewritten
}

/// `re.sub(r"\s+", " ", text)`.
pub(super) fn collapse_spaces(text: &str) -> String {
    sub(text, |chars, at| match run(chars, at, is_space) {
        0 => None,
        n_spaces => Some((n_spaces, " ".to_owned())),
    })
}
