//! Whisper's languages, in the order of their tokens.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::names::unknown;

/// Code and name of every language (`whisper/tokenizer.py::LANGUAGES`); the last one was added with large-v3.
#[rustfmt::skip]
const LANGUAGES: [(&str, &str); 100] = [
    ("en", "english"), ("zh", "chinese"), ("de", "german"), ("es", "spanish"), ("ru", "russian"),
    ("ko", "korean"), ("fr", "french"), ("ja", "japanese"), ("pt", "portuguese"), ("tr", "turkish"),
    ("pl", "polish"), ("ca", "catalan"), ("nl", "dutch"), ("ar", "arabic"), ("sv", "swedish"),
    ("it", "italian"), ("id", "indonesian"), ("hi", "hindi"), ("fi", "finnish"), ("vi", "vietnamese"),
    ("he", "hebrew"), ("uk", "ukrainian"), ("el", "greek"), ("ms", "malay"), ("cs", "czech"),
    ("ro", "romanian"), ("da", "danish"), ("hu", "hungarian"), ("ta", "tamil"), ("no", "norwegian"),
    ("th", "thai"), ("ur", "urdu"), ("hr", "croatian"), ("bg", "bulgarian"), ("lt", "lithuanian"),
    ("la", "latin"), ("mi", "maori"), ("ml", "malayalam"), ("cy", "welsh"), ("sk", "slovak"),
    ("te", "telugu"), ("fa", "persian"), ("lv", "latvian"), ("bn", "bengali"), ("sr", "serbian"),
    ("az", "azerbaijani"), ("sl", "slovenian"), ("kn", "kannada"), ("et", "estonian"), ("mk", "macedonian"),
    ("br", "breton"), ("eu", "basque"), ("is", "icelandic"), ("hy", "armenian"), ("ne", "nepali"),
    ("mn", "mongolian"), ("bs", "bosnian"), ("kk", "kazakh"), ("sq", "albanian"), ("sw", "swahili"),
    ("gl", "galician"), ("mr", "marathi"), ("pa", "punjabi"), ("si", "sinhala"), ("km", "khmer"),
    ("sn", "shona"), ("yo", "yoruba"), ("so", "somali"), ("af", "afrikaans"), ("oc", "occitan"),
    ("ka", "georgian"), ("be", "belarusian"), ("tg", "tajik"), ("sd", "sindhi"), ("gu", "gujarati"),
    ("am", "amharic"), ("yi", "yiddish"), ("lo", "lao"), ("uz", "uzbek"), ("fo", "faroese"),
    ("ht", "haitian creole"), ("ps", "pashto"), ("tk", "turkmen"), ("nn", "nynorsk"), ("mt", "maltese"),
    ("sa", "sanskrit"), ("lb", "luxembourgish"), ("my", "myanmar"), ("bo", "tibetan"), ("tl", "tagalog"),
    ("mg", "malagasy"), ("as", "assamese"), ("tt", "tatar"), ("haw", "hawaiian"), ("ln", "lingala"),
    ("ha", "hausa"), ("ba", "bashkir"), ("jw", "javanese"), ("su", "sundanese"), ("yue", "cantonese"),
];

/// Other names, with their codes (`whisper/tokenizer.py::TO_LANGUAGE_CODE`).
#[rustfmt::skip]
const ALIASES: [(&str, &str); 12] = [
    ("burmese", "my"), ("valencian", "ca"), ("flemish", "nl"), ("haitian", "ht"), ("letzeburgesch", "lb"),
    ("pushto", "ps"), ("panjabi", "pa"), ("moldavian", "ro"), ("moldovan", "ro"), ("sinhalese", "si"),
    ("castilian", "es"), ("mandarin", "zh"),
];

/// One of Whisper's languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Language(usize);

/// Serialised as its code.
impl serde::Serialize for Language {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl Language {
    /// English.
    pub const ENGLISH: Language = Language(0);

    /// Iterates over all 100 languages in the order of their tokens (`whisper/tokenizer.py::LANGUAGES`); models before
    /// large-v3 have the first 99.
    pub fn all() -> impl Iterator<Item = Language> {
        (0..LANGUAGES.len()).map(Language)
    }

    /// Returns the two- or three-letter code: `en`.
    #[must_use]
    pub fn code(self) -> &'static str {
        LANGUAGES[self.0].0
    }

    /// Returns the English name, in lower case: `english`.
    #[must_use]
    pub fn name(self) -> &'static str {
        LANGUAGES[self.0].1
    }

    /// Returns the position in [`Language::all`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }

    /// Returns whether words are written without spaces, so that each character counts as one
    /// (`whisper/tokenizer.py::split_to_word_tokens`).
    #[must_use]
    pub fn is_written_without_spaces(self) -> bool {
        matches!(self.code(), "zh" | "ja" | "th" | "lo" | "my" | "yue")
    }
}

/// Languages parse from their code, name or alias (`whisper/tokenizer.py::TO_LANGUAGE_CODE`), case-insensitively.
impl FromStr for Language {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let alias = ALIASES
            .iter()
            .find(|(alias, _)| alias.eq_ignore_ascii_case(text));
        let code = alias.map_or(text, |(_, code)| code);
        Language::all()
            .find(|l| l.code().eq_ignore_ascii_case(code) || l.name().eq_ignore_ascii_case(code))
            .ok_or_else(|| {
                let codes = Language::all().map(Language::code);
                unknown("language", "language", text, codes)
            })
    }
}

/// Languages are displayed as their code.
impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Language;

    #[test]
    fn every_code_and_name_parses_to_its_language() {
        assert_eq!(Language::all().count(), 100);
        for language in Language::all() {
            assert_eq!(language.to_string().parse::<Language>().unwrap(), language);
            let name = language.name().to_uppercase();
            assert_eq!(name.parse::<Language>().unwrap(), language);
        }
        assert_eq!(Language::ENGLISH.code(), "en");
        assert_eq!(Language::all().last().map(Language::code), Some("yue"));
    }

    #[test]
    fn aliases_and_title_case_are_understood_as_by_the_reference() {
        let cases = [
            ("Haitian Creole", "ht"),
            ("haitian", "ht"),
            ("Mandarin", "zh"),
            ("Castilian", "es"),
            ("BURMESE", "my"),
            ("Moldovan", "ro"),
            ("Flemish", "nl"),
            ("EN", "en"),
            ("Yue", "yue"),
        ];
        for (text, code) in cases {
            let language: Language = text.parse().unwrap();
            assert_eq!(language.code(), code, "{text}");
        }
        for text in ["", "xx", "english ", "klingon", "e"] {
            assert!(text.parse::<Language>().is_err(), "{text:?}");
        }
    }
}
