//! `overhear models`: the models of this machine.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::DecimalBytes;
use overhear::ModelOptions;
use overhear::convert::{Container, ElementType, convert};
use overhear::hub::verify;
use overhear::model::find::{Places, Repository};

use crate::args::{ModelArgs, ModelsCommand};
use crate::download::pull;
use crate::failure::{Failure, printable};
use crate::info;
use crate::interrupt::Interrupt;
use crate::models::{self, BUNDLED};
use crate::options::parsed;

/// Runs `command`.
pub(crate) fn run(command: &ModelsCommand, interrupt: &Interrupt) -> Result<(), Failure> {
    match command {
        ModelsCommand::List => list(),
        ModelsCommand::Pull { model } => {
            let folder = pull(repository(model)?, interrupt, false)?;
            print(&format!("{}\n", printable(&folder.display().to_string())))
        }
        ModelsCommand::Rm { model } => remove(model),
        ModelsCommand::Info { model } => info::run(&ModelArgs::named(model), interrupt),
        ModelsCommand::Convert {
            model,
            out,
            to,
            dtype,
        } => {
            let to = match to {
                Some(to) => parsed("to", to)?,
                None => container_of(out)?,
            };
            let dtype = dtype.as_deref().map(|name| parsed("dtype", name));
            convert_model(model, out, to, dtype.transpose()?, interrupt)
        }
        ModelsCommand::Verify { model } => check(model),
    }
}

/// Returns the format that the name of an output means.
fn container_of(out: &Path) -> Result<Container, Failure> {
    match out.extension().and_then(OsStr::to_str) {
        Some("bin") => Ok(Container::Ggml),
        Some(other @ ("gguf" | "pt" | "safetensors")) => Err(Failure::Usage(format!(
            "{}: no .{other} file is written, but a Hugging Face folder with model.safetensors, or a ggml file (.bin): name one of \
             these, or choose with --to",
            out.display()
        ))),
        _ => Ok(Container::Safetensors),
    }
}

/// Writes a model in another format.
fn convert_model(
    model: &OsStr,
    out: &Path,
    to: Container,
    dtype: Option<ElementType>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let path = models::find(&ModelArgs::named(model), interrupt)?;
    let mut stopped = None;
    let base = path.with_base(ModelOptions::default()).base;
    let converted = convert(path.as_ref(), base.as_deref(), out, to, dtype, || {
        stopped = interrupt.check().err();
        match stopped {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    });
    match stopped {
        Some(stopped) => Err(stopped),
        None => Ok(converted?),
    }
}

/// Prints name, size and folder of every Whisper model, separated by tabs.
fn list() -> Result<(), Failure> {
    let places = Places::from_env(None);
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for folder in places.folders.iter().chain(&places.checkouts) {
        // Names with a dot are temporary: the bundled model while it is written.
        let models =
            entries(folder).filter(|(name, path)| !name.starts_with('.') && is_whisper(path));
        found.extend(models);
    }
    if let Some(cache) = &places.cache {
        found.extend(entries(cache).filter_map(|(name, _)| {
            let repository = Repository::from_folder_name(&name)?;
            let folder = repository.snapshot(cache)?;
            is_whisper(&folder).then(|| (repository.id(), folder))
        }));
    }
    let mut text = String::new();
    for (name, path) in &found {
        let path_shown = printable(&path.display().to_string());
        text += &format!(
            "{}\t{}\t{path_shown}\n",
            printable(name),
            DecimalBytes(size(path))
        );
    }
    if cfg!(feature = "bundled-model") && !found.iter().any(|(name, _)| name == BUNDLED) {
        text += &format!("{BUNDLED}\t\tbuilt in\n");
    }
    print(&text)
}

/// Removes a model from the Hugging Face cache, or from the data folder if this program installed it there.
fn remove(model: &str) -> Result<(), Failure> {
    let repository = repository(model)?;
    let places = Places::from_env(None);
    let cached = places
        .cache
        .iter()
        .map(|cache| cache.join(repository.folder_name()));
    let installed = places
        .data
        .iter()
        .filter(|_| model == BUNDLED)
        .map(|data| data.join(BUNDLED));
    let folders: Vec<_> = cached
        .chain(installed)
        .filter(|path| path.is_dir())
        .collect();
    if folders.is_empty() {
        return Err(Failure::Model(format!(
            "model `{model}` is not in the Hugging Face cache: nothing to remove; see overhear models list"
        )));
    }
    for folder in folders {
        let freed = DecimalBytes(size(&folder));
        fs::remove_dir_all(&folder).map_err(|error| {
            Failure::Output(format!("cannot remove {}: {error}", folder.display()))
        })?;
        let shown = printable(&folder.display().to_string());
        print(&format!("removed {shown} ({freed})\n"))?;
    }
    Ok(())
}

/// Compares a downloaded model with the checksums of the hub.
fn check(model: &str) -> Result<(), Failure> {
    let repository = repository(model)?;
    let cache = Places::from_env(None).cache.unwrap_or_default();
    let Some(snapshot) = repository.snapshot(&cache) else {
        return Err(Failure::Model(format!(
            "model `{model}` is missing or incomplete in the Hugging Face cache; run overhear models pull {model}"
        )));
    };
    let n_files = verify(&snapshot)?;
    print(&format!(
        "{repository}: {n_files} files match the hub's checksums\n"
    ))
}

fn repository(model: &str) -> Result<Repository, Failure> {
    model.parse().map_err(|_| {
        Failure::Usage(format!(
            "`{model}` is neither the name of a published model (tiny, base, turbo, ...) nor ORG/NAME; see overhear models list"
        ))
    })
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    entries.sort();
    entries.into_iter()
}

fn is_whisper(folder: &Path) -> bool {
    let config = fs::read(folder.join("config.json")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&config)
        .is_ok_and(|config| config["model_type"] == "whisper")
}

/// Returns the number of bytes of all files below `folder`; a link counts as its target, unless that is counted itself.
fn size(folder: &Path) -> u64 {
    let has_blobs = folder.join("blobs").is_dir();
    entries(folder)
        .filter(|(name, _)| !has_blobs || name == "blobs")
        .map(|(_, path)| match path.is_dir() {
            true => size(&path),
            false => fs::metadata(&path).map_or(0, |metadata| metadata.len()),
        })
        .sum()
}

fn print(text: &str) -> Result<(), Failure> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Failure::stdout(&error))
}
