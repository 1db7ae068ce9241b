//! Tokens that are never sampled.

use crate::{Error, Result, TokenId, Tokenizer};

/// Tokens that are never sampled: `suppress_tokens` of `whisper/decoding.py::DecodingOptions`.
///
/// All but [`Suppress::Nothing`] include the special tokens that steer the decoder: the tasks, the starts of transcript,
/// prompt and language model, and no speech.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Suppress {
    /// No token, not even a special one. The reference's empty list.
    Nothing,
    /// Tokens that are not speech: symbols that annotate sound, such as brackets and notes. The reference's `-1`.
    #[default]
    NonSpeech,
    /// Tokens that are not speech, and these. The reference's list that holds `-1`.
    NonSpeechAnd(Vec<TokenId>),
    /// These tokens. The reference's list without `-1`.
    Tokens(Vec<TokenId>),
}

impl Suppress {
    /// Suppressed tokens in order, each once: `DecodingTask._get_suppress_tokens`.
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
                reason: format!("{token} is no token: 0 to {}", n_vocab - 1),
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
