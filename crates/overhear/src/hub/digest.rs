//! Checksums of files, from the ETags of the hub.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// Returns whether `etag` is a valid file name in the cache.
pub(super) fn is_plain(etag: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !etag.is_empty() && etag.len() <= 200 && etag.chars().all(allowed)
}

/// Returns whether the bytes of `path` match `etag`: SHA-256 of a file in Git LFS (64 digits), git's SHA-1 of a blob
/// (40 digits). `None` for any other ETag, which is not a checksum.
pub(super) fn matches(path: &Path, etag: &str) -> io::Result<Option<bool>> {
    let is_hex = etag.chars().all(|c| c.is_ascii_hexdigit());
    let mut file = File::open(path)?;
    let mut context = match etag.len() {
        64 if is_hex => Context::new(&SHA256),
        40 if is_hex => {
            let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            context.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
            context
        }
        _ => return Ok(None),
    };
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => context.update(&block[..n]),
        }
    }
    let digest = context.finish();
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Some(hex.eq_ignore_ascii_case(etag)))
}
