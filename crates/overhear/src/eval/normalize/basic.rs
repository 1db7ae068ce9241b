//! Normalisation for any language: `whisper/normalizers/basic.py`.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_segmentation::UnicodeSegmentation;

use super::rewrite::{collapse_spaces, run, sub};
use crate::Language;

/// Normaliser for any language, `BasicTextNormalizer`: lower case, without text in brackets and symbols.
#[derive(Clone, Copy, Debug, Default)]
pub struct BasicTextNormalizer {
    /// Whether accents and other marks are removed: é to e. Default: false.
    pub remove_diacritics: bool,
    /// Whether every letter becomes a word of its own, for languages written without spaces. Default: false.
    pub split_letters: bool,
}

impl BasicTextNormalizer {
    /// Creates the normaliser for `language`, which splits letters if it is written without spaces.
    #[must_use]
    pub fn for_language(language: Option<Language>) -> Self {
        Self {
            split_letters: language.is_some_and(Language::is_written_without_spaces),
            ..Self::default()
        }
    }

    /// Returns the normalised form of `text`. As in the reference it may start or end with a space.
    #[must_use]
    pub fn normalize(&self, text: &str) -> String {
        let text = remove_brackets(&text.to_lowercase());
        let text = match self.remove_diacritics {
            true => remove_symbols_and_diacritics(&text, ""),
            false => remove_symbols(&text),
        };
        let mut text = text.to_lowercase();
        if self.split_letters {
            text = text.graphemes(true).collect::<Vec<_>>().join(" ");
        }
        collapse_spaces(&text)
    }
}

/// Removes `<...>`, `[...]` and `(...)`: remarks, not speech.
pub(super) fn remove_brackets(text: &str) -> String {
    let text = sub(text, |chars, at| {
        let is_opening = matches!(chars[at], '<' | '[');
        let n_inside = run(chars, at + 1, |c| !matches!(c, '>' | ']'));
        let is_closed = at + 1 + n_inside < chars.len();
        (is_opening && is_closed).then(|| (n_inside + 2, String::new()))
    });
    sub(&text, |chars, at| {
        let n_inside = run(chars, at + 1, |c| c != ')');
        let is_closed = n_inside > 0 && at + 1 + n_inside < chars.len();
        (chars[at] == '(' && is_closed).then(|| (n_inside + 2, String::new()))
    })
}

/// Replaces symbols, punctuation and marks by spaces; letters with diacritics stay as they are.
fn remove_symbols(text: &str) -> String {
    let space_out = |c: char| if is_symbol(c) { ' ' } else { c };
    text.nfkc().map(space_out).collect()
}

/// Replaces symbols and punctuation by spaces, but for those in `keep`, and drops diacritics.
pub(super) fn remove_symbols_and_diacritics(text: &str, keep: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.nfkd() {
        match undecomposed(c) {
            _ if keep.contains(c) => plain.push(c),
            Some(letters) => plain.push_str(letters),
            None if c.general_category() == GeneralCategory::NonspacingMark => {}
            None if is_symbol(c) => plain.push(' '),
            None => plain.push(c),
        }
    }
    plain
}

fn is_symbol(c: char) -> bool {
    use GeneralCategoryGroup::{Mark, Punctuation, Symbol};
    matches!(c.general_category_group(), Mark | Symbol | Punctuation)
}

/// Returns plain letters for letters that NFKD does not decompose: `ADDITIONAL_DIACRITICS`.
fn undecomposed(c: char) -> Option<&'static str> {
    Some(match c {
        'œ' => "oe",
        'Œ' => "OE",
        'ø' => "o",
        'Ø' => "O",
        'æ' => "ae",
        'Æ' => "AE",
        'ß' => "ss",
        'ẞ' => "SS",
        'đ' | 'ð' => "d",
        'Đ' | 'Ð' => "D",
        'þ' | 'Þ' => "th",
        'ł' => "l",
        'Ł' => "L",
        _ => return None,
    })
}
