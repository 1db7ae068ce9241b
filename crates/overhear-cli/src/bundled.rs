//! openai's tiny.en inside the binary (feature `bundled-model`), so that an installed `overhear` works without a
//! network. It is written to the data folder on first use.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../models/tiny.en/", $name)))),*]
    };
}

/// Complete model folder with its card and licence.
const FILES: &[(&str, &[u8])] = files![
    "LICENSE",
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
];

/// Writes the model to a temporary folder, which is removed when the returned value is dropped.
pub(crate) fn install_for_now() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("overhear-").tempdir()?;
    write(folder.path())?;
    Ok(folder)
}

/// Writes the model to `folder`, completely or not at all, one process at a time. The remains of an interrupted
/// installation are replaced.
pub(crate) fn install(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.parent().unwrap_or(Path::new(".")))?;
    let lock = File::create(folder.with_file_name(".tiny.en.lock"))?;
    // Some file systems have no locks: two processes at once may fail there, and use temporary folders.
    let _ = lock.lock();
    if folder.join("config.json").is_file() {
        return Ok(());
    }
    let partial = folder.with_file_name(".tiny.en.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    write(&partial)?;
    fs::rename(&partial, folder)
}

fn write(folder: &Path) -> io::Result<()> {
    for (name, bytes) in FILES {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
