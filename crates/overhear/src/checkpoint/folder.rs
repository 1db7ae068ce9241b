//! The model of a folder whose file has any name: one of a kind that is recognised from its first bytes.

use std::path::{Path, PathBuf};

use super::ggml::is_ggml;
use crate::{Error, Result};

/// Maximum number of files that are looked at.
const MAX_ENTRIES: usize = 1000;

/// Returns the ggml file in a folder that holds no model of another kind, else `path` itself.
pub(super) fn ggml_in(path: &Path) -> Result<PathBuf> {
    let has = |name: &str| path.join(name).exists();
    if !path.is_dir() || has("config.json") || has("model.bin") {
        return Ok(path.to_owned());
    }
    let file = only_file(path, is_ggml)?;
    Ok(file.unwrap_or_else(|| path.to_owned()))
}

/// Returns the one file in `folder` of which `is_kind` is true, if there is one.
///
/// # Errors
/// [`Error::Model`] that lists the files if there are several.
pub(super) fn only_file(folder: &Path, is_kind: fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    let Ok(entries) = folder.read_dir() else {
        return Ok(None);
    };
    let paths = entries
        .flatten()
        .take(MAX_ENTRIES)
        .map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| is_kind(path)).collect();
    if found.len() < 2 {
        return Ok(found.pop());
    }
    found.sort();
    let names: Vec<_> = found
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy()))
        .collect();
    let (first, others) = names.split_at(names.len().min(5));
    let more = if others.is_empty() { "" } else { ", ..." };
    Err(Error::Model {
        path: folder.to_owned(),
        reason: format!(
            "a folder of several models, of which one must be named: {}{more}",
            first.join(", ")
        ),
    })
}
