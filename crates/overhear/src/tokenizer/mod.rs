//! Byte-level BPE with Whisper's special tokens.
//!
//! Our own code rather than the `tokenizers` crate: the contract is openai/whisper, which encodes with tiktoken
//! (ids are merge ranks, special-token text in a prompt is plain text). That takes 250 lines; the crate brings 85
//! others and reads special tokens out of prompts. Goldens from openai/whisper, every character of Unicode
//! included, hold this code to the contract; `tokenizers` 0.23 gave the same tokens for 100 000 random texts.
//!
//! Special ids follow from the size of the vocabulary, not from the files, which call some of them by other
//! names, and may lack the timestamps.

mod bpe;
mod language;
mod vocabulary;
mod words;

use std::path::Path;

pub use language::Language;

use self::vocabulary::Vocabulary;
use crate::decode::Task;
use crate::{Error, Result};

/// A token's number in the vocabulary.
pub type TokenId = u32;

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

/// The tokenizer of one model.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    /// `<|endoftext|>`; text tokens are below, special tokens from here on.
    eot: TokenId,
    /// Languages with a place among the special tokens, English-only vocabularies included.
    n_language_tokens: usize,
    is_multilingual: bool,
    non_speech_tokens: Vec<TokenId>,
}

impl Tokenizer {
    /// Reads `vocab.json`, or else `tokenizer.json`, of a Hugging Face folder.
    ///
    /// The ids of special tokens follow from `n_vocab`, not from the file (`whisper/model.py::num_languages`):
    /// 51864 (English-only), 51865 (multilingual) or 51866 (large-v3, turbo). The text tokens of the last two
    /// are the same, so either one's file serves the other.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no such file, if it is malformed, or if it does not fit `n_vocab`.
    pub fn open(folder: &Path, n_vocab: usize) -> Result<Self> {
        let (eot, n_language_tokens) = match n_vocab {
            51864 => (50256, 99),
            51865 => (50257, 99),
            51866 => (50257, 100),
            _ => {
                let reason =
                    format!("a vocabulary of {n_vocab} tokens is none of 51864, 51865 and 51866");
                return Err(Error::Model {
                    path: folder.to_owned(),
                    reason,
                });
            }
        };
        let mut tokenizer = Self {
            vocabulary: Vocabulary::open(folder, eot as usize)?,
            eot,
            n_language_tokens,
            is_multilingual: n_vocab >= 51865,
            non_speech_tokens: Vec::new(),
        };
        debug_assert_eq!(tokenizer.n_vocab(), n_vocab);
        tokenizer.non_speech_tokens = find_non_speech_tokens(&tokenizer);
        Ok(tokenizer)
    }

    /// Size of the model's vocabulary, special tokens included.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        self.timestamp_begin() as usize + N_TIMESTAMPS
    }

    /// Whether the vocabulary has language and task tokens.
    #[must_use]
    pub fn is_multilingual(&self) -> bool {
        self.is_multilingual
    }

    /// Languages with a token: 99, 100 (large-v3), or 0 for an English-only model.
    #[must_use]
    pub fn num_languages(&self) -> usize {
        if self.is_multilingual {
            self.n_language_tokens
        } else {
            0
        }
    }

    /// Encodes plain text; text that looks like a special token is plain text too.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        bpe::encode(&self.vocabulary, text)
    }

    /// Encodes text that stands before or begins a transcript, as the reference does: with one leading space.
    #[must_use]
    pub fn encode_prompt(&self, text: &str) -> Vec<TokenId> {
        self.encode(&format!(" {}", crate::python::strip(text)))
    }

    /// Text of `tokens`, timestamps left out, invalid UTF-8 replaced (`Tokenizer.decode`). Ids beyond the
    /// vocabulary are left out too.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let timestamp_begin = self.timestamp_begin();
        self.text(tokens.iter().copied().filter(|&t| t < timestamp_begin))
    }

    /// The same with timestamps written as `<|1.08|>` (`Tokenizer.decode_with_timestamps`).
    #[must_use]
    pub fn decode_with_timestamps(&self, tokens: &[TokenId]) -> String {
        self.text(tokens.iter().copied())
    }

    fn text(&self, tokens: impl Iterator<Item = TokenId>) -> String {
        let mut bytes = Vec::new();
        for token in tokens {
            match self.vocabulary.token(token) {
                Some(text) => bytes.extend_from_slice(text),
                None => {
                    bytes.extend_from_slice(self.special_text(token).unwrap_or_default().as_bytes())
                }
            }
        }
        // Rust and Python replace by the same rule: one U+FFFD for each maximal part of a sequence.
        String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// The name of special token `token`: `<|en|>`.
    fn special_text(&self, token: TokenId) -> Option<String> {
        let index = token.checked_sub(self.eot)? as usize;
        let after_languages = 2 + self.n_language_tokens;
        let timestamps = after_languages + AFTER_LANGUAGES.len();
        Some(match index {
            0 => "<|endoftext|>".into(),
            1 => "<|startoftranscript|>".into(),
            i if i < after_languages => format!("<|{}|>", Language::all().nth(i - 2)?.code()),
            i if i < timestamps => AFTER_LANGUAGES[i - after_languages].into(),
            i if i < timestamps + N_TIMESTAMPS => {
                let hundredths = 2 * (i - timestamps);
                format!("<|{}.{:02}|>", hundredths / 100, hundredths % 100)
            }
            _ => return None,
        })
    }

    /// `<|endoftext|>`, the first special token.
    #[must_use]
    pub fn eot(&self) -> TokenId {
        self.eot
    }

    /// `<|startoftranscript|>`.
    #[must_use]
    pub fn sot(&self) -> TokenId {
        self.eot + 1
    }

    /// `<|translate|>`.
    #[must_use]
    pub fn translate(&self) -> TokenId {
        self.eot + 2 + self.n_language_tokens as TokenId
    }

    /// `<|transcribe|>`.
    #[must_use]
    pub fn transcribe(&self) -> TokenId {
        self.translate() + 1
    }

    /// `<|startoflm|>`.
    #[must_use]
    pub fn sot_lm(&self) -> TokenId {
        self.translate() + 2
    }

    /// `<|startofprev|>`.
    #[must_use]
    pub fn sot_prev(&self) -> TokenId {
        self.translate() + 3
    }

    /// `<|nospeech|>`.
    #[must_use]
    pub fn no_speech(&self) -> TokenId {
        self.translate() + 4
    }

    /// `<|notimestamps|>`.
    #[must_use]
    pub fn no_timestamps(&self) -> TokenId {
        self.translate() + 5
    }

    /// `<|0.00|>`; 1500 more follow, 20 ms apart.
    #[must_use]
    pub fn timestamp_begin(&self) -> TokenId {
        self.translate() + 6
    }

    /// The language's token; `None` if this model does not know it.
    #[must_use]
    pub fn language_token(&self, language: Language) -> Option<TokenId> {
        (language.index() < self.num_languages())
            .then(|| self.sot() + 1 + language.index() as TokenId)
    }

    /// `<|startoftranscript|>`, and in multilingual models language and task (`Tokenizer.sot_sequence`).
    ///
    /// # Panics
    /// If the model is multilingual and does not know the language.
    #[must_use]
    pub fn sot_sequence(&self, language: Language, task: Task) -> Vec<TokenId> {
        if !self.is_multilingual {
            return vec![self.sot()];
        }
        let task = match task {
            Task::Transcribe => self.transcribe(),
            Task::Translate => self.translate(),
        };
        vec![
            self.sot(),
            self.language_token(language)
                .expect("a language of this model"),
            task,
        ]
    }

    /// Tokens that are not speech: brackets, notes, speaker tags (`Tokenizer.non_speech_tokens`), ascending.
    #[must_use]
    pub fn non_speech_tokens(&self) -> &[TokenId] {
        &self.non_speech_tokens
    }

    /// Splits tokens into words, each with its tokens (`Tokenizer.split_to_word_tokens`): at spaces and
    /// punctuation, in languages without spaces at every character. A special token is a word of its own.
    #[must_use]
    pub fn split_to_word_tokens(
        &self,
        tokens: &[TokenId],
        language: Language,
    ) -> Vec<(String, Vec<TokenId>)> {
        words::split(self, tokens, language)
    }
}

/// `whisper/tokenizer.py::non_speech_tokens`.
fn find_non_speech_tokens(tokenizer: &Tokenizer) -> Vec<TokenId> {
    const MARKS: &str = "\" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 \
         << >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪";
    // The notes are several tokens in some vocabularies, and their first token stands for all of U+2640 to U+267F.
    const NOTES: &str = "♩ ♪ ♫ ♬ ♭ ♮ ♯";

    let mut found = Vec::new();
    // Hyphens and quotes are speech within a word, not before one.
    found.extend([" -", " '"].map(|text| tokenizer.encode(text)[0]));
    for (symbols, first_of_many) in [(MARKS, false), (NOTES, true)] {
        for symbol in symbols.split(' ') {
            for tokens in [
                tokenizer.encode(symbol),
                tokenizer.encode(&format!(" {symbol}")),
            ] {
                if tokens.len() == 1 || first_of_many {
                    found.push(tokens[0]);
                }
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
