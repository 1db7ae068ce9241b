//! Byte-level BPE with Whisper's special tokens.
//!
//! This implementation replaces the `tokenizers` crate, because the reference is openai/whisper, which encodes with
//! tiktoken (ids are merge ranks; special-token text in a prompt is plain text). It takes 250 lines; the crate has 85
//! dependencies and parses special tokens in prompts. It is tested against goldens from openai/whisper, which include
//! every character of Unicode; `tokenizers` 0.23 gave the same tokens for 100 000 random texts.
//!
//! Special ids are derived from `generation_config.json`, the tokenizer's files, the mel bins and the size of the
//! vocabulary, in this order (`special`).

mod bpe;
mod huggingface;
pub(crate) mod language;
mod published;
mod special;
mod vocabulary;
mod words;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

pub(crate) use language::Language;

pub(crate) use self::published::published_tokens;
use self::special::{Evidence, Layout, Named};
use self::vocabulary::{Entries, TokenizerFiles, Vocabulary};
use crate::Task;
use crate::checkpoint::GenerationConfig;
use crate::{Error, Result};

/// Number of a token in the vocabulary.
pub type TokenId = u32;

/// Tokenizer of one model.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    layout: Layout,
    /// Text of the tokens that a fine-tune added after the special ones.
    added: BTreeMap<TokenId, String>,
    n_vocab: usize,
    non_speech_tokens: Vec<TokenId>,
}

impl Tokenizer {
    /// Reads `vocab.json` and `added_tokens.json`, or else `tokenizer.json`, of a Hugging Face folder, for a model whose
    /// vocabulary has `n_vocab` tokens.
    ///
    /// The positions of special tokens come from `generation_config.json`, or else from the tokenizer's files; without
    /// either they follow from the published sizes: 51864 (English-only), 51865 (multilingual) and 51866 (large-v3,
    /// turbo). The text tokens of the last two are the same, so either one's file is valid for the other.
    ///
    /// # Errors
    /// [`Error::Model`] if there is no such file, if it is malformed, or if it does not fit `n_vocab`.
    pub fn open(folder: &Path, n_vocab: usize) -> Result<Self> {
        Self::open_for(folder, n_vocab, None)
    }

    /// As [`Tokenizer::open`], for a model with `n_mels` mel bins.
    pub(crate) fn open_for(folder: &Path, n_vocab: usize, n_mels: Option<usize>) -> Result<Self> {
        let files = TokenizerFiles::read(folder)?;
        let generation = GenerationConfig::read(folder)?.special_tokens();
        Self::new(files, &generation, n_vocab, n_mels)
    }

    /// Returns the tokenizer of a published vocabulary whose text tokens begin with `tokens`, for a model in the file at `path`
    /// with `n_mels` mel bins.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokens do not fit `n_vocab`.
    pub(crate) fn of_tokens(
        path: &Path,
        tokens: &[Vec<u8>],
        n_vocab: usize,
        n_mels: usize,
    ) -> Result<Self> {
        let files = TokenizerFiles {
            path: path.to_owned(),
            vocabulary: Entries::of_tokens(tokens),
            named: Named::new(),
        };
        Self::new(files, &Named::new(), n_vocab, Some(n_mels))
    }

    fn new(
        files: TokenizerFiles,
        generation: &Named,
        n_vocab: usize,
        n_mels: Option<usize>,
    ) -> Result<Self> {
        let TokenizerFiles {
            path,
            vocabulary,
            named,
        } = files;
        let bad = |reason| Error::Model {
            path: path.clone(),
            reason,
        };
        let evidence = Evidence {
            generation,
            tokenizer: &named,
            n_mels,
        };
        let layout = Layout::find(n_vocab, &evidence).map_err(bad)?;
        // A name that the layout has at another position comes from another model's file.
        let is_added = |text: &str| !layout.has(text);
        let added: BTreeMap<TokenId, String> = named
            .into_iter()
            .filter(|(text, id)| {
                (layout.end()..n_vocab).contains(&(*id as usize)) && is_added(text)
            })
            .map(|(text, id)| (id, text))
            .collect();
        let last_added = added.last_key_value().map_or(0, |(id, _)| *id as usize + 1);
        let mut tokenizer = Self {
            vocabulary: Vocabulary::new(vocabulary, layout.eot as usize).map_err(bad)?,
            layout,
            n_vocab: layout.end().max(last_added),
            added,
            non_speech_tokens: Vec::new(),
        };
        tokenizer.non_speech_tokens = find_non_speech_tokens(&tokenizer);
        Ok(tokenizer)
    }

    /// Returns the number of tokens with a meaning, special and added ones included: the size of the model's vocabulary
    /// without padding.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Returns whether the vocabulary has language and task tokens.
    #[must_use]
    pub fn is_multilingual(&self) -> bool {
        self.layout.is_multilingual()
    }

    /// Returns the number of languages with a token: 99, 100 (large-v3), or 0 for an English-only model.
    #[must_use]
    pub fn num_languages(&self) -> usize {
        if self.is_multilingual() {
            self.layout.n_languages
        } else {
            0
        }
    }

    /// Returns whether the vocabulary has timestamps.
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.layout.n_timestamps > 0
    }

    /// Returns the timestamps, `<|0.00|>` to `<|30.00|>`; an empty range in a model without.
    #[must_use]
    pub fn timestamps(&self) -> Range<TokenId> {
        self.timestamp_begin()..self.layout.end() as TokenId
    }

    /// Returns whether `token` is text: of the vocabulary, or a word that a fine-tune added.
    #[must_use]
    pub fn is_text(&self, token: TokenId) -> bool {
        token < self.eot()
            || self
                .added
                .get(&token)
                .is_some_and(|text| !special::is_special(text))
    }

    /// Returns the bytes of text token `id`; `None` from the first special token on.
    pub(crate) fn text_token(&self, id: TokenId) -> Option<&[u8]> {
        self.vocabulary.token(id)
    }

    /// Encodes plain text; text that looks like a special token is plain text too.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        bpe::encode(&self.vocabulary, text)
    }

    /// Encodes text of a prompt or prefix as the reference does: with one leading space.
    #[must_use]
    pub fn encode_prompt(&self, text: &str) -> Vec<TokenId> {
        self.encode(&format!(" {}", crate::python::strip(text)))
    }

    /// Decodes `tokens` without timestamps, with invalid UTF-8 replaced (`Tokenizer.decode`). Ids beyond the vocabulary
    /// are skipped.
    #[must_use]
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let timestamps = self.timestamps();
        self.text(tokens.iter().copied().filter(|t| !timestamps.contains(t)))
    }

    /// As [`Tokenizer::decode`], with timestamps written as `<|1.08|>` (`Tokenizer.decode_with_timestamps`).
    #[must_use]
    pub fn decode_with_timestamps(&self, tokens: &[TokenId]) -> String {
        self.text(tokens.iter().copied())
    }

    fn text(&self, tokens: impl Iterator<Item = TokenId>) -> String {
        let mut bytes = Vec::new();
        for token in tokens {
            match self.vocabulary.token(token) {
                Some(text) => bytes.extend_from_slice(text),
                None => match self.added.get(&token) {
                    Some(text) => bytes.extend_from_slice(text.as_bytes()),
                    None => bytes
                        .extend_from_slice(self.layout.name(token).unwrap_or_default().as_bytes()),
                },
            }
        }
        // Rust and Python apply the same rule: one U+FFFD for each maximal part of a sequence.
        String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// `<|endoftext|>`, the first special token.
    #[must_use]
    pub fn eot(&self) -> TokenId {
        self.layout.eot
    }

    /// `<|startoftranscript|>`.
    #[must_use]
    pub fn sot(&self) -> TokenId {
        self.eot() + 1
    }

    /// `<|translate|>`.
    #[must_use]
    pub fn translate(&self) -> TokenId {
        self.layout.translate()
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

    /// `<|0.00|>`; 1500 more follow, 20 ms apart. In a model without timestamps, the position that they would have.
    #[must_use]
    pub fn timestamp_begin(&self) -> TokenId {
        self.layout.timestamp_begin()
    }

    /// Returns the language's token; `None` if this model does not have it.
    #[must_use]
    pub fn language_token(&self, language: Language) -> Option<TokenId> {
        (language.index() < self.num_languages())
            .then(|| self.sot() + 1 + language.index() as TokenId)
    }

    /// Returns `<|startoftranscript|>`, followed in multilingual models by language and task
    /// (`Tokenizer.sot_sequence`).
    ///
    /// # Panics
    /// If the model is multilingual and does not have the language.
    #[must_use]
    pub fn sot_sequence(&self, language: Language, task: Task) -> Vec<TokenId> {
        if !self.is_multilingual() {
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

/// Returns the tokens of symbols that are not speech: `whisper/tokenizer.py::non_speech_tokens`.
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
