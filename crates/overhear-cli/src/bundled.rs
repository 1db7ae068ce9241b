//! openai's tiny.en inside the binary (feature `bundled-model`), so that an installed `overhear` works without a
//! network. It is put into the data folder when it is first asked for.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../models/tiny.en/", $name)))),*]
    };
}

/// A complete model folder with its card and licence.
const FILES: &[(&str, &[u8])] = files![
    "LICENSE",
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
];

/// Writes the model to a temporary folder, which is removed when it is dropped.
pub(crate) fn install_for_now() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("overhear-").tempdir()?;
    write(folder.path())?;
    Ok(folder)
}

/// Writes the model to `folder`: whole or not at all, also if two processes do it at once.
pub(crate) fn install(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let temporary = tempfile::Builder::new()
        .prefix(".tiny.en-")
        .tempdir_in(parent)?;
    write(temporary.path())?;
    let renamed = fs::rename(temporary.path(), folder);
    match renamed {
        // Another process was first.
        Err(_) if folder.join("config.json").is_file() => Ok(()),
        renamed => renamed,
    }
}

fn write(folder: &Path) -> io::Result<()> {
    for (name, bytes) in FILES {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
