//! One window decoded stage by stage.

use std::ops::ControlFlow;

use crate::backend::{Batch, State};
use crate::decode::{BoostTrie, DecodingTask, detect_language, likeliest};
use crate::{DecodingOptions, DecodingResult, Language, LogMel, Model, Result, TokenId};

/// The stages of one window, for programs that time or steer them one by one; [`Model::transcribe`] walks a file
/// by the same ones. All memory is allocated when a session is made.
pub struct Session {
    model: Model,
    state: Box<dyn State>,
    batch: Batch,
}

impl Model {
    /// A session for one window of audio and up to `n_rows` rows of text over it.
    #[must_use]
    pub fn session(&self, n_rows: usize) -> Session {
        Session {
            model: self.clone(),
            state: self.new_state(1, n_rows),
            batch: Batch::default(),
        }
    }
}

impl Session {
    /// Runs the encoder over a window, the cross-attention keys and values of every decoder layer included.
    ///
    /// # Panics
    /// If `mel` is not `[n_mels, 3000]`.
    pub fn encode(&mut self, mel: &LogMel) {
        self.state.encode(0, mel);
    }

    /// Decodes the window last encoded, from its beginning: `whisper/decoding.py::decode`.
    ///
    /// # Errors
    /// [`crate::Error::Option`] if an option does not fit the model, [`crate::Error::NotFinite`].
    ///
    /// # Panics
    /// If the session has fewer rows than `options` decode side by side.
    pub fn decode(&mut self, options: &DecodingOptions) -> Result<DecodingResult> {
        options.verify()?;
        let model = &self.model;
        let boosts = BoostTrie::new(model.tokenizer(), &options.boost)?;
        let language = match options.language {
            _ if !model.is_multilingual() => Language::ENGLISH,
            Some(language) => language,
            None => likeliest(&detect_language(&mut *self.state, model.tokenizer(), 0)?).language,
        };
        let task = DecodingTask::new(
            (model.kernels(), model.pool()),
            model.tokenizer(),
            model.dims(),
            language,
            boosts.as_ref(),
            options,
        )?;
        task.run(&mut *self.state, &mut || ControlFlow::Continue(()))
    }

    /// Appends `tokens[i]` to row `i`, in one pass over the weights, and returns the logits after each,
    /// `[tokens.len(), n_vocab]`: `whisper/decoding.py::PyTorchInference.logits`.
    ///
    /// # Panics
    /// If the session has fewer rows, or one of them has no position left.
    pub fn step(&mut self, tokens: &[TokenId]) -> &[f32] {
        self.batch.clear();
        for (row, &token) in tokens.iter().enumerate() {
            self.batch.push(row, 0, &[token], &[0]);
        }
        self.state.decode(&self.batch)
    }

    /// Forgets what row `row` holds beyond its first `n_tokens` tokens.
    pub fn truncate(&mut self, row: usize, n_tokens: usize) {
        self.state.truncate(row, n_tokens);
    }
}
