//! Reader of the small text files of a model folder, with a limit on their size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Maximum size of a configuration or tokenizer file; the largest published one has 4 MB.
const MAX_BYTES: u64 = 64 << 20;

/// Beginning of the pointer that replaces a large file in a repository cloned without Git LFS
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs";
pub(crate) const LFS_REASON: &str =
    "a Git LFS pointer, not the file itself: install git-lfs and run `git lfs pull` in this folder";

/// Reads a file; `None` if it does not exist.
///
/// # Errors
/// [`Error::Model`] if the file cannot be read, is not a plain file, or is larger than [`MAX_BYTES`].
pub(crate) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>> {
    let bad = |reason: String| Error::Model {
        path: path.to_owned(),
        reason,
    };
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(bad(format!("cannot read: {e}"))),
        Ok(m) if !m.is_file() => return Err(bad("not a file".into())),
        Ok(m) if m.len() > MAX_BYTES => {
            return Err(bad(format!("{} bytes are too many for this file", m.len())));
        }
        Ok(_) => {}
    }
    let file = File::open(path).map_err(|e| bad(format!("cannot open: {e}")))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(format!("cannot read: {e}")))?;
    if bytes.starts_with(LFS_POINTER) {
        return Err(bad(LFS_REASON.into()));
    }
    Ok(Some(bytes))
}
