//! Stage-by-stage decoding of one window.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backend::{Batch, Capacity, State};
use crate::decode::{BoostTrie, DecodingTask, Window, detect_language, most_probable};
use crate::engine::{Place, Stepper};
use crate::mel::MelWindow;
use crate::{DecodingOptions, DecodingResult, Language, LogMel, Model, Result, TokenId};

/// A session runs the stages of one window one by one, for programs that time or control them; [`Model::transcribe`]
/// runs the same stages over a file. All memory is allocated when the session is made.
pub struct Session {
    model: Model,
    state: Box<dyn State>,
    stepper: Stepper,
    batch: Batch,
}

impl Model {
    /// Returns a session for one window of audio and up to `n_rows` rows of text.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is not enough memory.
    pub fn session(&self, n_rows: usize) -> Result<Session> {
        let capacity = Capacity::of_seats(1, n_rows, 0, self.dims().n_text_ctx);
        Ok(Session {
            model: self.clone(),
            state: self.new_state(capacity)?,
            stepper: Stepper::new(self.host(), capacity, None),
            batch: Batch::default(),
        })
    }
}

impl Session {
    /// Runs the encoder over a window, and computes the cross-attention keys and values of every decoder layer.
    ///
    /// # Errors
    /// [`crate::Error::Option`] if `mel` is not `[n_mels, 3000]`, [`crate::Error::Device`].
    pub fn encode(&mut self, mel: &LogMel) -> Result<()> {
        let mel = MelWindow::of(mel, self.model.dims().n_mels)?;
        let goes_on = &mut || ControlFlow::Continue(());
        self.state.encode(&[(0, &mel)], goes_on)
    }

    /// Returns the audio features, the encoder's output for the window that was encoded last,
    /// `[n_audio_ctx, n_audio_state]`.
    #[must_use]
    pub fn audio_features(&self) -> &[f32] {
        self.state.audio_features(0)
    }

    /// Decodes the window that was encoded last: `whisper/decoding.py::decode`.
    ///
    /// # Errors
    /// [`crate::Error::Option`] if an option does not fit the model, [`crate::Error::Capacity`] if `options` need more
    /// rows than the session has, [`crate::Error::NotFinite`], [`crate::Error::Device`].
    pub fn decode(&mut self, options: &DecodingOptions) -> Result<DecodingResult> {
        options.verify()?;
        self.stepper.check_rows(options.n_group())?;
        let model = &self.model;
        let boosts = BoostTrie::new(model.tokenizer(), &options.rules.boost)?.map(Arc::new);
        let place = Place {
            slot: 0,
            first_row: 0,
        };
        let language = match options.language {
            _ if !model.is_multilingual() => Language::ENGLISH,
            Some(language) => language,
            None => {
                most_probable(&detect_language(
                    &mut *self.state,
                    model.tokenizer(),
                    place,
                )?)
                .language
            }
        };
        let task = DecodingTask::new(model, language, boosts, options)?;
        let mut windows = [Some(Window::new(task, 0, 0))];
        loop {
            self.stepper.step(&mut *self.state, &mut windows);
            if let Some(window) = windows[0].take_if(|window| window.is_done()) {
                return window.finish();
            }
        }
    }

    /// Appends `tokens[i]` to row `i`, in one pass over the weights, and returns the logits after each,
    /// `[tokens.len(), n_vocab]`: `whisper/decoding.py::PyTorchInference.logits`.
    ///
    /// # Errors
    /// [`crate::Error::Capacity`] if the session has fewer rows, or if a row has no position left;
    /// [`crate::Error::Device`].
    pub fn step(&mut self, tokens: &[TokenId]) -> Result<&[f32]> {
        self.batch.clear();
        for (row, &token) in tokens.iter().enumerate() {
            self.batch.push(row, 0, &[token], &[0]);
        }
        Ok(self.state.decode(&self.batch)?)
    }

    /// Removes all but the first `n_tokens` tokens of row `row`.
    pub fn truncate(&mut self, row: usize, n_tokens: usize) {
        self.state.truncate(row, n_tokens);
    }
}
