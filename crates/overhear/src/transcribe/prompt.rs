//! Prompts from the previous text: `all_tokens` and `prompt_reset_since` in `whisper/transcribe.py`.

use super::TranscribeOptions;
use crate::{Model, TokenId, python};

/// The initial prompt, followed by all text so far.
pub(super) struct PromptHistory {
    tokens: Vec<TokenId>,
    n_initial: usize,
    is_initial_carried: bool,
    /// Index of the first token that may be part of a prompt.
    reset_since: usize,
    /// Tokens prepended to every prompt: hotwords of faster-whisper's `get_prompt`.
    hotwords: Vec<TokenId>,
    /// Maximum number of tokens of a prompt.
    max_len: usize,
}

impl PromptHistory {
    pub(super) fn new(model: &Model, options: &TranscribeOptions) -> Self {
        let prompt = options.initial_prompt.as_deref();
        let encode = |text: &str| model.tokenizer().encode_prompt(text);
        let tokens = prompt.map_or_else(Vec::new, encode);
        let max_len = model.dims().n_text_ctx / 2 - 1;
        let is_free = |prefix: &Option<String>| prefix.as_deref().is_none_or(str::is_empty);
        let hotwords = options.hotwords.as_deref();
        let hotwords =
            hotwords.filter(|words| !python::strip(words).is_empty() && is_free(&options.prefix));
        let mut hotwords = hotwords.map_or_else(Vec::new, encode);
        hotwords.truncate(max_len);
        Self {
            n_initial: tokens.len(),
            tokens,
            is_initial_carried: options.carry_initial_prompt,
            reset_since: 0,
            hotwords,
            max_len,
        }
    }

    /// Returns the prompt of the next window. Hotwords and previous text share the maximum length; in faster-whisper
    /// each may take all of it, which can leave no room for the window's text.
    pub(super) fn tokens(&self) -> Vec<TokenId> {
        let mut said = self.said_before();
        if !self.hotwords.is_empty() {
            let n_kept = said.len().min(self.max_len - self.hotwords.len());
            said.splice(..said.len() - n_kept, self.hotwords.iter().copied());
        }
        said
    }

    /// Returns the initial prompt and the text since the last reset.
    fn said_before(&self) -> Vec<TokenId> {
        if !self.is_initial_carried {
            return self.tokens[self.reset_since..].to_vec();
        }
        let said = &self.tokens[self.n_initial.max(self.reset_since)..];
        let room = self.max_len as isize - self.n_initial as isize;
        [&self.tokens[..self.n_initial], python::last(said, room)].concat()
    }

    pub(super) fn push(&mut self, tokens: &[TokenId]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Excludes the text so far from all further prompts.
    pub(super) fn reset(&mut self) {
        self.reset_at(self.tokens.len());
    }

    /// Excludes the first `n_tokens` from all further prompts.
    pub(super) fn reset_at(&mut self, n_tokens: usize) {
        self.reset_since = n_tokens.min(self.tokens.len());
    }

    /// Returns the number of tokens that are excluded.
    pub(super) fn reset_since(&self) -> usize {
        self.reset_since
    }
}
