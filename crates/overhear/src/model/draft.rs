//! Speculative decoding: drafts that a model verifies several tokens at a time.

use std::path::PathBuf;

use super::handle::Model;
use crate::{ComputeType, Error, Result};

/// Smallest decoder, in channels, that [`Draft::Auto`] drafts for: base's. A step of tiny's takes too little time.
const MIN_TEXT_STATE: usize = 512;

/// Source of drafts: [`Model::with_draft`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Draft {
    /// [`Draft::Itself`] if the model is base or larger, in `float32`, `float16` or `bfloat16`, and the machine has kernels of
    /// `q4`; otherwise none, as the steps of other models take too little time.
    Auto,
    /// Prompt lookup: what followed the last tokens where they occurred before, in prompt or text.
    Lookup,
    /// The same model with the decoder in [`ComputeType::Q4`], or in [`ComputeType::Int8`] where the machine has no kernels of
    /// `q4`.
    Itself,
    /// A smaller model with the same vocabulary and mel bins.
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
    /// time and acceptance. A model that has this one's encoder, as distilled ones do, uses this one's audio features.
    ///
    /// # Errors
    /// [`Error::Option`] if the vocabularies or mel bins differ; as [`Model::open`].
    pub fn with_draft(self, draft: &Draft) -> Result<Self> {
        let has_q4 = self.kernels().has_grouped();
        let is_slow = self.dims().n_text_state >= MIN_TEXT_STATE
            && matches!(
                self.compute_type(),
                ComputeType::F32 | ComputeType::F16 | ComputeType::Bf16
            );
        let drafts = match draft {
            Draft::Auto if !(is_slow && has_q4) => return Ok(self),
            Draft::Lookup => Drafts::Lookup,
            Draft::Auto | Draft::Itself => {
                let compute_type = match has_q4 {
                    true => ComputeType::Q4,
                    false => ComputeType::Int8,
                };
                Drafts::Model(self.open_draft(None, compute_type)?)
            }
            Draft::Model {
                folder,
                compute_type,
            } => {
                let draft = self.open_draft(Some(folder), *compute_type)?;
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
