//! Search for the model that `--model` names on this machine, and its download on first use.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use overhear::hub::Hub;
use overhear::model::Draft;
use overhear::model::find::{Places, Repository, base_of, short_names};
use overhear::{ComputeType, Model, ModelOptions};
use tempfile::TempDir;

use crate::args::ModelArgs;
use crate::download::pull;
use crate::failure::Failure;
use crate::hexadecimal::hexadecimal;
use crate::interrupt::Interrupt;

/// Name of the bundled model.
pub(crate) const BUNDLED: &str = "tiny.en";

/// Number of bytes from either end of a file that a model's fingerprint depends on.
const END: u64 = 1 << 16;

/// Folder of a model.
#[derive(Clone, Debug)]
pub(crate) struct ModelFolder {
    path: PathBuf,
    /// Base model, if the model is a LoRA adapter.
    base: Option<Box<ModelFolder>>,
    /// Temporary folder that is removed with the last clone; the model is opened by then.
    _temporary: Option<Arc<TempDir>>,
}

impl AsRef<Path> for ModelFolder {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl ModelFolder {
    /// Opens the model.
    pub(crate) fn open(&self, options: ModelOptions) -> overhear::Result<Model> {
        Model::open(&self.path, &self.with_base(options))
    }

    /// Returns the options with the base model, if there is one.
    pub(crate) fn with_base(&self, options: ModelOptions) -> ModelOptions {
        let base = self.base.as_deref().map(|base| base.path.clone());
        ModelOptions { base, ..options }
    }

    /// Returns a checksum of the names and sizes of the model's files, and of the ends of each: the same on every machine, and
    /// another for another model, without reading all of it.
    pub(crate) fn fingerprint(&self) -> String {
        let mut files: Vec<PathBuf> = match fs::read_dir(&self.path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![self.path.clone()],
        };
        files.sort();
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for path in files.iter().filter(|path| path.is_file()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            digest.update(name.as_bytes());
            // A file that cannot be read is reported when the model is opened.
            let _ = add_ends(path, &mut digest);
        }
        if let Some(base) = &self.base {
            digest.update(base.fingerprint().as_bytes());
        }
        hexadecimal(digest.finish().as_ref())
    }
}

/// Adds the size of a file and up to [`END`] bytes from its beginning and its end.
fn add_ends(path: &Path, digest: &mut ring::digest::Context) -> std::io::Result<()> {
    let mut file = fs::File::open(path)?;
    let len = file.metadata()?.len();
    digest.update(&len.to_le_bytes());
    let mut bytes = Vec::new();
    file.by_ref().take(END).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    file.take(END).read_to_end(&mut bytes)?;
    digest.update(&bytes);
    Ok(())
}

impl From<PathBuf> for ModelFolder {
    fn from(path: PathBuf) -> Self {
        Self {
            path,
            base: None,
            _temporary: None,
        }
    }
}

/// Location of a model.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    place: Place,
    /// Folder of models in which the base model of an adapter is looked for too.
    model_dir: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Place {
    /// On this machine.
    Here(ModelFolder),
    /// On the hub, to be downloaded.
    Hub(Repository),
}

impl From<ModelFolder> for Located {
    fn from(folder: ModelFolder) -> Self {
        Self {
            place: Place::Here(folder),
            model_dir: None,
        }
    }
}

impl Located {
    /// Returns the folder, after a download of the model and of its base if necessary.
    pub(crate) fn folder(self, interrupt: &Interrupt, quiet: bool) -> Result<ModelFolder, Failure> {
        let model_dir = self.model_dir.clone();
        let mut folder = self.fetch(interrupt, quiet)?;
        if folder.base.is_none()
            && let Some(name) = base_of(&folder.path)?
        {
            let args = ModelArgs {
                model_dir,
                ..ModelArgs::named(OsStr::new(&name))
            };
            let base = locate(&args).map_err(|failure| match failure {
                Failure::Model(reason) => Failure::Model(format!(
                    "{}: an adapter whose base model is to be found by base_model_name_or_path in adapter_config.json: {reason}",
                    folder.path.display()
                )),
                failure => failure,
            })?;
            folder.base = Some(Box::new(base.fetch(interrupt, quiet)?));
        }
        Ok(folder)
    }

    /// Returns the folder, after a download if necessary.
    fn fetch(self, interrupt: &Interrupt, quiet: bool) -> Result<ModelFolder, Failure> {
        match self.place {
            Place::Here(folder) => Ok(folder),
            Place::Hub(repository) => pull(repository, interrupt, quiet).map(ModelFolder::from),
        }
    }
}

/// Drafts for a model, located: `--draft`.
#[derive(Clone, Debug)]
pub(crate) enum LocatedDraft {
    Auto,
    Lookup,
    Itself,
    Model(Located),
}

impl LocatedDraft {
    /// Returns the drafts that `name` means for the model that `args` name, without using the network; `None` if they are off.
    pub(crate) fn new(name: &OsStr, args: &ModelArgs) -> Result<Option<Self>, Failure> {
        Ok(match name.to_str() {
            Some("off") => None,
            Some("auto") => Some(Self::Auto),
            Some("lookup") => Some(Self::Lookup),
            Some("self") => Some(Self::Itself),
            _ => {
                let args = ModelArgs {
                    model_dir: args.model_dir.clone(),
                    ..ModelArgs::named(name)
                };
                let located = locate(&args).map_err(|failure| match failure {
                    Failure::Model(reason) => Failure::Model(format!(
                        "--draft is off, auto, self, lookup or a model: {reason}"
                    )),
                    failure => failure,
                });
                Some(Self::Model(located?))
            }
        })
    }

    /// Returns the drafts for a model in `folder` that is opened in `compute_type`, after a download if necessary, and the
    /// folder that must exist until they are opened.
    pub(crate) fn draft(
        self,
        folder: &ModelFolder,
        compute_type: ComputeType,
        interrupt: &Interrupt,
        quiet: bool,
    ) -> Result<(Draft, ModelFolder), Failure> {
        let located = match self {
            Self::Auto => return Ok((Draft::Auto, folder.clone())),
            Self::Lookup => return Ok((Draft::Lookup, folder.clone())),
            Self::Itself => return Ok((Draft::Itself, folder.clone())),
            Self::Model(located) => located,
        };
        // Drafts need not be exact.
        let compute_type = match compute_type {
            ComputeType::Int8
            | ComputeType::Int8Bfloat16
            | ComputeType::Int8Float32
            | ComputeType::Q5
            | ComputeType::Q4 => ComputeType::Int8,
            _ => ComputeType::Auto,
        };
        let folder = located.folder(interrupt, quiet)?;
        let draft = Draft::Model {
            folder: folder.path.clone(),
            compute_type,
        };
        Ok((draft, folder))
    }
}

/// Returns the folder of the model that `args` name, after a download if necessary.
pub(crate) fn find(args: &ModelArgs, interrupt: &Interrupt) -> Result<ModelFolder, Failure> {
    locate(args)?.folder(interrupt, false)
}

/// Returns the location of the model that `args` name, without using the network.
pub(crate) fn locate(args: &ModelArgs) -> Result<Located, Failure> {
    Ok(Located {
        place: place(args)?,
        model_dir: args.model_dir.clone(),
    })
}

fn place(args: &ModelArgs) -> Result<Place, Failure> {
    let places = Places::from_env(args.model_dir.as_deref());
    if let Some(path) = places.find(&args.model) {
        return Ok(Place::Here(path.into()));
    }
    let repository: Option<Repository> = args.model.to_str().and_then(|model| model.parse().ok());
    if repository.as_ref().is_some_and(is_bundled)
        && let Some(folder) = install_bundled(&places)?
    {
        return Ok(Place::Here(folder));
    }
    match repository {
        None => Err(not_found(&args.model, &places, false)),
        Some(_) if Hub::from_env()?.is_offline() => Err(not_found(&args.model, &places, true)),
        Some(repository) => Ok(Place::Hub(repository)),
    }
}

fn not_found(model: &OsStr, places: &Places, offline: bool) -> Failure {
    let name = model.to_string_lossy();
    let looked: Vec<_> = places
        .all()
        .map(|place| place.display().to_string())
        .collect();
    let looked = looked.join(", ");
    Failure::Model(match offline {
        true => format!(
            "model `{name}` not found: there is no such path, it is not in {looked}, and HF_HUB_OFFLINE forbids the \
             download; {}",
            without_network()
        ),
        false => {
            let names: Vec<_> = short_names().collect();
            format!(
                "model `{name}` not found: there is no such path, it is not in {looked}, and it is not the name of a model to \
                 download: those are {}, and ORG/NAME on the Hugging Face hub",
                names.join(", ")
            )
        }
    })
}

/// Returns advice for a machine without a network.
pub(crate) fn without_network() -> String {
    format!("--model {BUNDLED} works without a network (English only)")
}

fn is_bundled(repository: &Repository) -> bool {
    BUNDLED.parse().ok().as_ref() == Some(repository)
}

/// Writes the bundled model to the data folder, or if that is not writable to a temporary one.
#[cfg(feature = "bundled-model")]
fn install_bundled(places: &Places) -> Result<Option<ModelFolder>, Failure> {
    if let Some(data) = &places.data {
        let folder = data.join(BUNDLED);
        if crate::bundled::install(&folder).is_ok() {
            return Ok(Some(folder.into()));
        }
    }
    let temporary = crate::bundled::install_for_now().map_err(|error| {
        Failure::Model(format!(
            "cannot write the model `{BUNDLED}` to {}: {error}",
            std::env::temp_dir().display()
        ))
    })?;
    Ok(Some(ModelFolder {
        path: temporary.path().to_owned(),
        base: None,
        _temporary: Some(Arc::new(temporary)),
    }))
}

#[cfg(not(feature = "bundled-model"))]
fn install_bundled(_: &Places) -> Result<Option<ModelFolder>, Failure> {
    Ok(None)
}
