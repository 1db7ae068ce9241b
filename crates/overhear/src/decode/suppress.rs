//! Suppression of tokens: `suppress_tokens` of `whisper/decoding.py::DecodingOptions`.

use crate::{Error, Result, TokenId, Tokenizer};

/// Tokens that are never sampled: `suppress_tokens` of `whisper/decoding.py::DecodingOptions`.
///
/// All but [`Suppress::Nothing`] include the special tokens that control the decoder: the tasks,
/// `<|startoftranscript|>`, `<|startofprev|>`, `<|startoflm|>` and no-speech.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Suppress {
    /// No token, not even a special one: an empty list in openai/whisper.
    Nothing,
    /// Tokens that are not speech: symbols that annotate sound, such as brackets and notes. `-1` in openai/whisper.
    #[default]
    NonSpeech,
    /// Tokens that are not speech, and the listed ones: a list with `-1` in openai/whisper.
    NonSpeechAnd(Vec<TokenId>),
    /// The listed tokens: a list without `-1` in openai/whisper.
    Tokens(Vec<TokenId>),
}

impl Suppress {
    /// Returns the suppressed tokens, sorted and without duplicates: `DecodingTask._get_suppress_tokens`.
    ///
    /// # Errors
    /// [`Error::Option`] if a token does not exist.
    pub(super) fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>> {
        let (non_speech, listed) = match self {
            Self::Nothing => return Ok(Vec::new()),
            Self::NonSpeech => (tokenizer.non_speech_tokens(), &[][..]),
            Self::NonSpeechAnd(tokens) => (tokenizer.non_speech_tokens(), &tokens[..]),
            Self::Tokens(tokens) => (&[][..], &tokens[..]),
        };
        let n_vocab = tokenizer.n_vocab();
        if let Some(token) = listed.iter().find(|&&token| token as usize >= n_vocab) {
            return Err(Error::Option {
                name: "suppress_tokens",
                reason: format!(
                    "{token} is not a token of the model, which has 0 to {}",
                    n_vocab - 1
                ),
            });
        }
        let special = [
            tokenizer.transcribe(),
            tokenizer.translate(),
            tokenizer.sot(),
            tokenizer.sot_prev(),
            tokenizer.sot_lm(),
            tokenizer.no_speech(),
        ];
        let mut tokens = [&special, non_speech, listed].concat();
        tokens.sort_unstable();
        tokens.dedup();
        Ok(tokens)
    }
}
