//! Conversion of checkpoints: a model in any format that is read becomes a Hugging Face folder or a ggml file of
//! whisper.cpp.
//!
//! Weights are read, rounded and written some rows at a time. Outputs are written under a temporary name and renamed
//! when they are complete; nothing is overwritten.

mod element;
mod ggml;
mod huggingface;
mod quantize;
mod tensors;

use std::fmt::Display;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

pub use self::element::ElementType;
use self::tensors::Source;
use crate::names::{by_name, display_name};
use crate::{Error, Result, temporary};

/// Format of a converted model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// Hugging Face folder: `model.safetensors`, `config.json`, `tokenizer.json`, ...
    Safetensors,
    /// ggml file of whisper.cpp.
    Ggml,
}

impl Container {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Safetensors, Self::Ggml];

    /// Returns the name: `safetensors`, `ggml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Ggml => "ggml",
        }
    }
}

impl std::str::FromStr for Container {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("to", "format", name, Self::ALL, Self::name)
    }
}

display_name!(Container);

/// Writes the model at `model` to `out`, as a folder or a file of format `to`. If it is a LoRA adapter, what is written is its base
/// model (`base`, or the one that it names) with the adapter in it.
///
/// `element`: type of the weights. `None`: that of most weights of the model in a folder, or f32 if they are
/// quantised; f16 in a ggml file, as by
/// whisper.cpp's own converters. `on_tensor` is called before every tensor, so that the caller can cancel.
///
/// # Errors
/// [`Error::Cache`] if `out` exists or cannot be written; [`Error::Option`] if the format has no such elements, or if a
/// weight exceeds their range; [`Error::Model`] if the model is damaged, or has what the format cannot express;
/// [`Error::Canceled`] if `on_tensor` breaks.
pub fn convert(
    model: &Path,
    base: Option<&Path>,
    out: &Path,
    to: Container,
    element: Option<ElementType>,
    mut on_tensor: impl FnMut() -> ControlFlow<()>,
) -> Result<()> {
    let source = Source::open(model, base)?;
    if out.symlink_metadata().is_ok() {
        let exists = "it exists, and is not overwritten";
        return Err(cannot_write(out, io::Error::other(exists)));
    }
    let folder = parent(out);
    if !folder.is_dir() {
        let missing = format!("there is no folder {}", folder.display());
        return Err(cannot_write(out, io::Error::other(missing)));
    }
    temporary::remove_all_left_over(folder);
    match to {
        Container::Safetensors => huggingface::write(&source, out, element, &mut on_tensor),
        Container::Ggml => ggml::write(&source, out, element, &mut on_tensor),
    }
}

/// Error of writing `path`.
fn cannot_write(path: &Path, source: io::Error) -> Error {
    Error::Cache {
        path: path.to_owned(),
        source: without_name(source),
    }
}

/// Error of a model that a format cannot express.
fn inexpressible(model: &Path, reason: impl Display) -> Error {
    Error::Model {
        path: model.to_owned(),
        reason: reason.to_string(),
    }
}

/// Returns the folder that `out` is in.
fn parent(out: &Path) -> &Path {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns an error of the crate tempfile without the temporary name, which it appends: `... at path "/x/.overhear-a.tmp"`.
fn without_name(error: io::Error) -> io::Error {
    let message = error.to_string();
    match message.split_once(" at path ") {
        Some((reason, _)) => io::Error::new(error.kind(), reason),
        None => error,
    }
}
