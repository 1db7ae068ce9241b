//! Speculative decoding: drafts that a model verifies several tokens at a time.

use std::path::PathBuf;

use super::handle::Model;
use crate::{ComputeType, Error, Result};

/// Source of drafts: [`Model::with_draft`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Draft {
    /// Prompt lookup: what followed the last tokens where they occurred before, in prompt or text.
    Lookup,
    /// A smaller model with the same vocabulary and mel bins, or the same model in a faster compute type.
    Model {
        /// Folder of the model.
        folder: PathBuf,
        /// Arithmetic of the model.
        compute_type: ComputeType,
    },
}

/// Source of drafts, opened.
pub(crate) enum Drafts {
    Lookup,
    Model(Model),
}

impl Model {
    /// Returns the model with speculative decoding: `draft` proposes tokens, and one decoder call verifies several. Applies to
    /// windows with one text: greedy search ([`crate::TranscribeOptions`] without `beam_size`), and sampling without `best_of`.
    /// The result does not change by a bit: at temperatures above 0 a drafted token is right if it is the one that the model
    /// draws with the random number of its position. How many tokens are drafted, or whether any, is chosen by their measured
    /// time and acceptance.
    ///
    /// # Errors
    /// [`Error::Option`] if the vocabularies or mel bins differ; as [`Model::open`].
    pub fn with_draft(self, draft: &Draft) -> Result<Self> {
        let drafts = match draft {
            Draft::Lookup => Drafts::Lookup,
            Draft::Model {
                folder,
                compute_type,
            } => {
                let host = self.host().clone();
                let draft = Self::open_on(folder, None, self.device(), *compute_type, host)?;
                let properties = |model: &Self| {
                    let dims = model.dims();
                    (
                        dims.n_vocab,
                        dims.n_mels,
                        dims.n_text_ctx,
                        model.is_multilingual(),
                    )
                };
                if properties(&draft) != properties(&self) {
                    let [(n_vocab, n_mels, ..), (own_vocab, own_mels, ..)] =
                        [properties(&draft), properties(&self)];
                    return Err(Error::Option {
                        name: "draft",
                        reason: format!(
                            "{} has {n_vocab} tokens and {n_mels} mel bins, the model {own_vocab} and {own_mels}; \
                             choose one of the same family",
                            folder.display()
                        ),
                    });
                }
                Drafts::Model(draft)
            }
        };
        Ok(self.drafted_by(drafts))
    }
}
