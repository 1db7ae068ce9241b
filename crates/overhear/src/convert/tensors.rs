//! Source of a conversion: the tensors of a model, in a fixed order, read and encoded some rows at a time.

use std::path::{Path, PathBuf};

use bytemuck::cast_slice_mut;

use super::{ElementType, inexpressible};
use crate::checkpoint::{Checkpoint, OUTPUT, Stacked, TOKEN_EMBEDDING};
use crate::model::handle::{open_checkpoint, open_tokenizer};
use crate::{Error, Result, Tokenizer};

/// Number of elements that are encoded at a time.
const CHUNK: usize = 1 << 16;

/// An open model that is converted.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) checkpoint: Checkpoint,
    pub(super) tokenizer: Tokenizer,
}

/// Kind of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bias, or weights of a layer normalisation.
    Vector,
    /// Positional embedding, a matrix.
    Positions,
    /// Weights of a convolution, `[n_out, n_in, n_tap]`.
    Filters,
    Matrix,
}

/// A tensor of a model.
pub(super) struct Part {
    /// openai/whisper's name.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
}

impl Part {
    pub(super) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Source {
    pub(super) fn open(path: &Path, base: Option<&Path>) -> Result<Self> {
        let checkpoint = open_checkpoint(path, base)?;
        let path = checkpoint.folder().to_owned();
        let tokenizer = open_tokenizer(&path, &checkpoint)?;
        Ok(Self {
            path,
            checkpoint,
            tokenizer,
        })
    }

    /// Returns the tensors, with the first `n_vocab` rows of the token embedding.
    pub(super) fn parts(&self, n_vocab: usize) -> Vec<Part> {
        let dims = self.checkpoint.dims();
        let n_state = dims.n_audio_state;
        let mut parts = Vec::new();
        let mut add = |name: String, shape: &[usize], kind| {
            parts.push(Part {
                name,
                shape: shape.to_vec(),
                kind,
            });
        };
        for (name, n_in) in [("conv1", dims.n_mels), ("conv2", n_state)] {
            let filters = [n_state, n_in, 3];
            add(format!("encoder.{name}.weight"), &filters, Kind::Filters);
            add(format!("encoder.{name}.bias"), &[n_state], Kind::Vector);
        }
        let embedding = [n_vocab, n_state];
        add(TOKEN_EMBEDDING.to_owned(), &embedding, Kind::Matrix);
        for (side, n_ctx, n_layer, norm) in [
            ("encoder", dims.n_audio_ctx, dims.n_audio_layer, "ln_post"),
            ("decoder", dims.n_text_ctx, dims.n_text_layer, "ln"),
        ] {
            let positions = format!("{side}.positional_embedding");
            add(positions, &[n_ctx, n_state], Kind::Positions);
            for layer in 0..n_layer {
                let block = format!("{side}.blocks.{layer}");
                let attentions: &[&str] = match side {
                    "encoder" => &["attn"],
                    _ => &["attn", "cross_attn"],
                };
                for attention in attentions {
                    for linear in ["query", "key", "value", "out"] {
                        let name = format!("{block}.{attention}.{linear}");
                        add(format!("{name}.weight"), &[n_state, n_state], Kind::Matrix);
                        // As in openai/whisper, a key projection has no bias.
                        if linear != "key" {
                            add(format!("{name}.bias"), &[n_state], Kind::Vector);
                        }
                    }
                    for kind in ["weight", "bias"] {
                        add(
                            format!("{block}.{attention}_ln.{kind}"),
                            &[n_state],
                            Kind::Vector,
                        );
                    }
                }
                let n_mlp = 4 * n_state;
                for (linear, n_out, n_in) in [("mlp.0", n_mlp, n_state), ("mlp.2", n_state, n_mlp)]
                {
                    let name = format!("{block}.{linear}");
                    add(format!("{name}.weight"), &[n_out, n_in], Kind::Matrix);
                    add(format!("{name}.bias"), &[n_out], Kind::Vector);
                }
                for kind in ["weight", "bias"] {
                    add(format!("{block}.mlp_ln.{kind}"), &[n_state], Kind::Vector);
                }
            }
            for kind in ["weight", "bias"] {
                add(format!("{side}.{norm}.{kind}"), &[n_state], Kind::Vector);
            }
        }
        if self.checkpoint.has_own_output() {
            add(OUTPUT.to_owned(), &embedding, Kind::Matrix);
        }
        parts
    }

    /// Reads `part`, and calls `write` with its elements encoded, some rows at a time.
    pub(super) fn encode(
        &self,
        part: &Part,
        element: ElementType,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        let mut put = |elements: &[f32]| {
            bytes.clear();
            if element.encode(elements, &mut bytes) {
                return write(&bytes);
            }
            Err(Error::Option {
                name: "dtype",
                reason: format!(
                    "tensor {} exceeds the range of {element}: choose f32",
                    part.name
                ),
            })
        };
        let n_cols = part.shape[1..].iter().product();
        let rows: Stacked<'_> = match part.kind {
            Kind::Vector | Kind::Positions => {
                let elements = self.checkpoint.vector(&part.name, part.n_elements())?;
                return elements.chunks(CHUNK).try_for_each(put);
            }
            Kind::Matrix => self
                .checkpoint
                .first_rows(&part.name, part.shape[0], n_cols)?,
            Kind::Filters => {
                let [n_out, n_in, n_tap] = part.shape[..] else {
                    return Err(inexpressible(
                        &self.path,
                        format!("{} is no filter", part.name),
                    ));
                };
                self.checkpoint.filters(&part.name, n_out, n_in, n_tap)?
            }
        };
        let rows = rows.in_f32();
        let n_at_once = (CHUNK / n_cols).max(1);
        let mut elements = vec![0_f32; n_at_once.min(part.shape[0]) * n_cols];
        for first in (0..part.shape[0]).step_by(n_at_once) {
            let elements = &mut elements[..n_at_once.min(part.shape[0] - first) * n_cols];
            rows.read(first, cast_slice_mut(elements))?;
            put(elements)?;
        }
        Ok(())
    }
}
