//! Layout of a model's special tokens, derived from the files in its folder.
//!
//! Special tokens follow the text tokens in openai/whisper's order (`whisper/tokenizer.py::get_encoding`), so that two
//! numbers determine all of them: the id of the end of text, and the number of languages. Fine-tunes add tokens after
//! them, pad the vocabulary to a round size, or have no timestamps, so the size alone is ambiguous and the files
//! decide. Files may be copied from another model: values that do not fit the size are ignored.

use std::collections::BTreeMap;

use super::{Language, TokenId};

/// Timestamp tokens: `<|0.00|>` to `<|30.00|>`.
const N_TIMESTAMPS: usize = 1501;

/// Special tokens between the languages and the timestamps, in order.
const AFTER_LANGUAGES: [&str; 6] = [
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
];

/// Maximum number of tokens after the special ones in a model without timestamps: added ones, and padding to a round
/// size.
const MAX_PADDING: usize = 256;

/// End of text of the published English-only vocabulary.
const ENGLISH_EOT: TokenId = 50256;
/// End of text of the published multilingual vocabularies.
const MULTILINGUAL_EOT: TokenId = 50257;

/// Positions of all special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// `<|endoftext|>`; text tokens are below.
    pub(super) eot: TokenId,
    /// Number of languages with a position, also in English-only vocabularies.
    pub(super) n_languages: usize,
    /// 1501, or 0 in a model without timestamps.
    pub(super) n_timestamps: usize,
}

/// Special tokens by name.
pub(super) type Named = BTreeMap<String, TokenId>;

/// Information about a model's special tokens.
pub(super) struct Evidence<'a> {
    /// Tokens in `generation_config.json`.
    pub(super) generation: &'a Named,
    /// Tokens in the tokenizer's files.
    pub(super) tokenizer: &'a Named,
    /// Number of mel bins, if known: 128 was introduced together with the hundredth language.
    pub(super) n_mels: Option<usize>,
}

impl Layout {
    /// Finds the layout of a vocabulary of `n_vocab` tokens.
    ///
    /// # Errors
    /// The reason why no layout fits.
    pub(super) fn find(n_vocab: usize, evidence: &Evidence<'_>) -> Result<Self, String> {
        let with_end = |eot| Self::ending_text_at(eot, n_vocab, evidence);
        let by_tokenizer = evidence.tokenizer.get("<|endoftext|>").copied();
        let start = evidence.generation.get("<|startoftranscript|>");
        let by_generation = start.and_then(|start| start.checked_sub(1));
        let eot = match (by_tokenizer, by_generation) {
            (Some(here), Some(there)) if here != there && with_end(there).is_some() => {
                return Err(disagreement(here, there));
            }
            (Some(eot), _) | (None, Some(eot)) => eot,
            (None, None) if n_vocab == 51864 => ENGLISH_EOT,
            (None, None) => MULTILINGUAL_EOT,
        };
        with_end(eot).ok_or_else(|| misfit(n_vocab, eot))
    }

    /// Returns the layout whose end of text is token `eot`, with the first known number of languages that fits
    /// `n_vocab`.
    fn ending_text_at(eot: TokenId, n_vocab: usize, evidence: &Evidence<'_>) -> Option<Self> {
        let published = match (n_vocab, evidence.n_mels) {
            (51865, None | Some(80)) => Some(99),
            (51866, None | Some(128)) => Some(100),
            _ => None,
        };
        let by_mels = evidence.n_mels.map(|n| if n == 128 { 100 } else { 99 });
        let candidates = [
            languages_before(evidence.generation, eot),
            published.filter(|_| eot == MULTILINGUAL_EOT),
            languages_before(evidence.tokenizer, eot),
            by_mels.filter(|_| eot == MULTILINGUAL_EOT),
            Some(99),
        ];
        let mut candidates = candidates.into_iter().flatten();
        candidates.find_map(|n_languages| Self::fitting(n_vocab, eot, n_languages))
    }

    fn fitting(n_vocab: usize, eot: TokenId, n_languages: usize) -> Option<Self> {
        let without_times = Self {
            eot,
            n_languages,
            n_timestamps: 0,
        };
        match n_vocab.checked_sub(without_times.end())? {
            0..MAX_PADDING => Some(without_times),
            MAX_PADDING..N_TIMESTAMPS => None,
            _ => Some(Self {
                n_timestamps: N_TIMESTAMPS,
                ..without_times
            }),
        }
    }

    /// Returns whether the model was trained with language and task tokens.
    pub(super) fn is_multilingual(self) -> bool {
        self.eot != ENGLISH_EOT
    }

    /// `<|translate|>`; the others of [`AFTER_LANGUAGES`] follow.
    pub(super) fn translate(self) -> TokenId {
        self.eot + 2 + self.n_languages as TokenId
    }

    /// `<|0.00|>`, or the position that it would have.
    pub(super) fn timestamp_begin(self) -> TokenId {
        self.translate() + AFTER_LANGUAGES.len() as TokenId
    }

    /// First id after the special tokens.
    pub(super) fn end(self) -> usize {
        self.timestamp_begin() as usize + self.n_timestamps
    }

    /// Returns whether a special token has this name.
    pub(super) fn has(self, name: &str) -> bool {
        (self.eot..self.end() as TokenId).any(|token| self.name(token).as_deref() == Some(name))
    }

    /// Returns the name of special token `token`: `<|en|>`.
    pub(super) fn name(self, token: TokenId) -> Option<String> {
        let index = token.checked_sub(self.eot)? as usize;
        let after_languages = 2 + self.n_languages;
        let timestamps = after_languages + AFTER_LANGUAGES.len();
        Some(match index {
            0 => "<|endoftext|>".into(),
            1 => "<|startoftranscript|>".into(),
            i if i < after_languages => format!("<|{}|>", Language::all().nth(i - 2)?.code()),
            i if i < timestamps => AFTER_LANGUAGES[i - after_languages].into(),
            i if i < timestamps + self.n_timestamps => {
                let hundredths = 2 * (i - timestamps);
                format!("<|{}.{:02}|>", hundredths / 100, hundredths % 100)
            }
            _ => return None,
        })
    }
}

/// Returns whether `text` has the form of a special token, of this model or another.
pub(super) fn is_special(text: &str) -> bool {
    text.len() > 4 && text.starts_with("<|") && text.ends_with("|>")
}

fn disagreement(here: TokenId, there: TokenId) -> String {
    format!(
        "does not fit generation_config.json: <|endoftext|> is token {here} here ({}) and {there} there ({})",
        flavour(here),
        flavour(there)
    )
}

/// Returns the number of languages, if the position of a token after them is known.
fn languages_before(named: &Named, eot: TokenId) -> Option<usize> {
    let places = (2..).zip(AFTER_LANGUAGES.into_iter().chain(["<|0.00|>"]));
    let known = places.filter_map(|(n_others, name)| {
        let index = named.get(name)?.checked_sub(eot)?;
        index.checked_sub(n_others)
    });
    // From the last one: the first ones have had several names.
    let n_languages = known.last()? as usize;
    (n_languages <= Language::all().count()).then_some(n_languages)
}

fn misfit(n_vocab: usize, eot: TokenId) -> String {
    let fitting = match n_vocab {
        51864 => ENGLISH_EOT,
        _ => MULTILINGUAL_EOT,
    };
    if eot != fitting && (51864..=51866).contains(&n_vocab) {
        return format!(
            "does not fit the model: <|endoftext|> is token {eot} here ({}) and {fitting} in the model ({})",
            flavour(eot),
            flavour(fitting)
        );
    }
    format!(
        "does not fit the model: after <|endoftext|>, which is token {eot} ({}), Whisper's special tokens do not fit \
         into a vocabulary of {n_vocab} tokens",
        flavour(eot)
    )
}

fn flavour(eot: TokenId) -> &'static str {
    match eot {
        ENGLISH_EOT => "English-only",
        MULTILINGUAL_EOT => "multilingual",
        _ => "neither English-only nor multilingual",
    }
}
