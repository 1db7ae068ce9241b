//! Temporary files and folders in which outputs and converted models are written, beside their final names. Not part of the API:
//! the program has them in common with the library.
//!
//! One is locked while it is written (`flock`), which distinguishes those of a killed process from those in use, on any machine:
//! the next run into that folder removes the files, the next conversion the folders, too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempDir};

/// Prefix and suffix of the names.
const NAME: (&str, &str) = (".overhear-", ".tmp");

/// Creates a file in `folder` with the permissions of an ordinary new file. Its name is short, whatever the final one.
///
/// # Errors
/// That of the operating system, with the temporary name in its message.
pub fn file(folder: &Path) -> io::Result<NamedTempFile> {
    let builder = builder(0o666);
    loop {
        let file = builder.tempfile_in(folder)?;
        // Some file systems have no locks: left-over files are not removed there.
        let _ = file.as_file().lock();
        // Another process may have removed the file as a left-over before it was locked.
        if file.path().symlink_metadata().is_ok() {
            return Ok(file);
        }
    }
}

/// Creates a folder in `parent` with the permissions of an ordinary new folder. Returns what holds its lock, too.
///
/// # Errors
/// As [`file`].
pub(crate) fn folder(parent: &Path) -> io::Result<(TempDir, Option<File>)> {
    let builder = builder(0o777);
    loop {
        let folder = builder.tempdir_in(parent)?;
        // Windows does not open folders: left-over ones are not removed there.
        let lock = File::open(folder.path()).ok();
        let _ = lock.as_ref().map(File::lock);
        if folder.path().symlink_metadata().is_ok() {
            return Ok((folder, lock));
        }
    }
}

/// Removes the files of killed processes, which are not locked, from `folder`. What cannot be examined or removed remains.
pub fn remove_left_over_files(folder: &Path) {
    remove_left_over(folder, false);
}

/// As [`remove_left_over_files`], and the folders of killed conversions, too.
pub(crate) fn remove_all_left_over(folder: &Path) {
    remove_left_over(folder, true);
}

fn remove_left_over(folder: &Path, with_folders: bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name.starts_with(NAME.0) && name.ends_with(NAME.1);
        let Some(kind) = entry.file_type().ok().filter(|_| is_ours) else {
            continue;
        };
        let path = entry.path();
        let opened = match kind.is_dir() {
            true if with_folders => File::open(&path),
            false if kind.is_file() => OpenOptions::new().read(true).write(true).open(&path),
            _ => continue,
        };
        if let Ok(file) = opened
            && file.try_lock().is_ok()
        {
            // Still under the lock, for which a process that is about to take it waits.
            let _ = match kind.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
        }
    }
}

fn builder(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(NAME.0).suffix(NAME.1);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_a_killed_process_left_is_removed_and_what_another_writes_is_not() {
        let root = tempfile::tempdir().unwrap();
        for name in [".overhear-a.tmp", ".overhear-mine", "other.tmp"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let killed = root.path().join(".overhear-b.tmp");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join("model.safetensors"), "half").unwrap();
        std::os::unix::fs::symlink("other.tmp", root.path().join(".overhear-c.tmp")).unwrap();
        let (file, (folder, lock)) = (file(root.path()).unwrap(), folder(root.path()).unwrap());
        remove_all_left_over(root.path());
        assert!(file.path().exists() && folder.path().exists());
        assert!(!killed.exists() && !root.path().join(".overhear-a.tmp").exists());
        for name in [".overhear-mine", "other.tmp", ".overhear-c.tmp"] {
            assert!(root.path().join(name).exists(), "{name}");
        }
        drop(lock);
        remove_all_left_over(root.path());
        assert!(!folder.path().exists());
    }
}
