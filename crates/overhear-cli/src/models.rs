//! Finds a model by path or name. Never a silent other model: what is not found is an error that says where
//! it was looked for.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::args::ModelArgs;
use crate::failure::Failure;

/// The name of the model in the repository, for trying overhear out.
#[cfg(feature = "bundled-model")]
const BUNDLED: &str = "nano";

/// Where a model is.
#[derive(Clone, Debug)]
pub(crate) struct ModelFolder {
    path: PathBuf,
    /// A folder of this process that goes away with the last clone; the model is opened by then.
    _temporary: Option<Arc<TempDir>>,
}

impl AsRef<Path> for ModelFolder {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl From<PathBuf> for ModelFolder {
    fn from(path: PathBuf) -> Self {
        Self {
            path,
            _temporary: None,
        }
    }
}

/// The folder of the model that `args` name.
pub(crate) fn find(args: &ModelArgs) -> Result<ModelFolder, Failure> {
    let places = Places::of_this_process(args.model_dir.as_deref());
    match places.find(&args.model) {
        Err(_) if is_bundled(&args.model) => install_bundled(&places),
        found => found.map(ModelFolder::from),
    }
}

/// Where models may be. Each `folders` entry holds models by name.
#[derive(Debug, Default)]
struct Places {
    folders: Vec<PathBuf>,
    hugging_face: Option<PathBuf>,
    checkouts: Vec<PathBuf>,
    data: Option<PathBuf>,
}

impl Places {
    fn of_this_process(model_dir: Option<&Path>) -> Self {
        let variable = |name: &str| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let executable = env::current_exe().and_then(|path| path.canonicalize()).ok();
        let beside = executable
            .as_deref()
            .and_then(Path::parent)
            .map(|folder| folder.join("models"));
        let home = env::home_dir();
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));

        let data_home = variable("XDG_DATA_HOME").or_else(|| below_home(".local/share"));
        let data = data_home.map(|data| data.join("overhear/models"));
        let cache_home = variable("XDG_CACHE_HOME").or_else(|| below_home(".cache"));
        let hugging_face = variable("HF_HUB_CACHE")
            .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| variable("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| cache_home.map(|cache| cache.join("huggingface/hub")));

        let folders = [
            model_dir.map(Path::to_owned),
            variable("OVERHEAR_MODELS"),
            beside,
            data.clone(),
        ];
        let working = env::current_dir().ok();
        let checkouts = [executable, working]
            .iter()
            .flatten()
            .filter_map(|path| checkout(path))
            .collect();
        Self {
            folders: folders.into_iter().flatten().collect(),
            hugging_face,
            checkouts,
            data,
        }
    }

    /// A path, then a name in every place in order.
    fn find(&self, model: &OsStr) -> Result<PathBuf, Failure> {
        if Path::new(model).exists() {
            return Ok(PathBuf::from(model));
        }
        let repository = model.to_str().and_then(repository);
        let in_folder = |folder: &PathBuf| {
            let short = repository
                .as_ref()
                .map(|repository| folder.join(&repository.1));
            [Some(folder.join(model)), short]
                .into_iter()
                .flatten()
                .find(|path| is_model(path))
        };
        let in_cache = || snapshot(self.hugging_face.as_deref()?, repository.as_ref()?);
        self.folders
            .iter()
            .find_map(in_folder)
            .or_else(in_cache)
            .or_else(|| self.checkouts.iter().find_map(in_folder))
            .ok_or_else(|| self.not_found(model))
    }

    fn not_found(&self, model: &OsStr) -> Failure {
        let name = model.to_string_lossy();
        let places = self
            .folders
            .iter()
            .chain(&self.hugging_face)
            .chain(&self.checkouts);
        let looked: Vec<_> = places.map(|place| place.display().to_string()).collect();
        Failure::Model(format!(
            "model `{name}` not found: there is no such path, and it is not in {}; pass --model PATH with the \
             folder of a published Whisper model (config.json, model.safetensors, tokenizer.json), or --model \
             nano to try overhear at once",
            looked.join(", ")
        ))
    }
}

fn is_model(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// The `models` folder of the source checkout that `path` is in.
fn checkout(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|folder| folder.join("crates/overhear-cli/Cargo.toml").is_file())
        .map(|folder| folder.join("models"))
}

/// Organisation and name on the Hugging Face hub: of `org/name` itself, or of one of openai/whisper's and
/// distil-whisper's short names.
fn repository(model: &str) -> Option<(String, String)> {
    let (organisation, name) = match model.split_once('/') {
        Some((organisation, name)) => (organisation, name.to_owned()),
        None if model.starts_with("distil-") => ("distil-whisper", model.to_owned()),
        None if model.is_empty() => return None,
        None => {
            // On the hub `whisper-large` is the first version; to openai/whisper `large` is the latest.
            let name = match model {
                "turbo" => "large-v3-turbo",
                "large" => "large-v3",
                "large-v1" => "large",
                other => other,
            };
            ("openai", format!("whisper-{name}"))
        }
    };
    let is_plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        !part.is_empty() && part.chars().all(allowed) && !part.chars().all(|c| c == '.')
    };
    (is_plain(organisation) && is_plain(&name)).then(|| (organisation.to_owned(), name))
}

/// The snapshot that `refs/main` names in a Hugging Face cache, or the only one.
fn snapshot(cache: &Path, (organisation, name): &(String, String)) -> Option<PathBuf> {
    let repository = cache.join(format!("models--{organisation}--{name}"));
    let snapshots = repository.join("snapshots");
    if let Ok(commit) = fs::read_to_string(repository.join("refs/main")) {
        return Some(snapshots.join(commit.trim())).filter(|path| is_model(path));
    }
    let entries: Vec<_> = fs::read_dir(snapshots).ok()?.flatten().collect();
    match entries.as_slice() {
        [only] => Some(only.path()).filter(|path| is_model(path)),
        _ => None,
    }
}

#[cfg(feature = "bundled-model")]
fn is_bundled(model: &OsStr) -> bool {
    model == BUNDLED
}

#[cfg(not(feature = "bundled-model"))]
fn is_bundled(_: &OsStr) -> bool {
    false
}

/// Puts the bundled model into the data folder; where there is none that can be written to, into a temporary one.
#[cfg(feature = "bundled-model")]
fn install_bundled(places: &Places) -> Result<ModelFolder, Failure> {
    if let Some(data) = &places.data {
        let folder = data.join(BUNDLED);
        if crate::bundled::install(&folder).is_ok() {
            return Ok(folder.into());
        }
    }
    let temporary = crate::bundled::install_for_now().map_err(|error| {
        Failure::Model(format!(
            "cannot put the model `{BUNDLED}` into {}: {error}",
            env::temp_dir().display()
        ))
    })?;
    Ok(ModelFolder {
        path: temporary.path().to_owned(),
        _temporary: Some(Arc::new(temporary)),
    })
}

#[cfg(not(feature = "bundled-model"))]
fn install_bundled(places: &Places) -> Result<ModelFolder, Failure> {
    Err(places.not_found(OsStr::new("nano")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn model(folder: PathBuf) -> PathBuf {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        folder
    }

    fn places(root: &Path) -> Places {
        Places {
            folders: vec![root.join("first"), root.join("second")],
            hugging_face: Some(root.join("hub")),
            checkouts: vec![root.join("checkout/models")],
            data: None,
        }
    }

    #[test]
    fn the_first_place_wins_and_the_checkout_comes_last() {
        let root = tempfile::tempdir().unwrap();
        let (root, places) = (root.path(), places(root.path()));
        let find = |name: &str| places.find(OsStr::new(name)).unwrap();
        let last = model(root.join("checkout/models/tiny"));
        assert_eq!(find("tiny"), last);
        let cached = model(root.join("hub/models--openai--whisper-tiny/snapshots/abc"));
        assert_eq!(find("tiny"), cached);
        assert_eq!(find("openai/whisper-tiny"), cached);
        let second = model(root.join("second/whisper-tiny"));
        assert_eq!(find("tiny"), second);
        let first = model(root.join("first/tiny"));
        assert_eq!(find("tiny"), first);
        assert_eq!(
            find(last.to_str().unwrap()),
            last,
            "a path comes before any name"
        );
    }

    #[test]
    fn the_cache_is_read_through_refs_main() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let repository = root
            .path()
            .join("hub/models--openai--whisper-large-v3-turbo");
        model(repository.join("snapshots/old"));
        let new = model(repository.join("snapshots/new"));
        fs::create_dir_all(repository.join("refs")).unwrap();
        assert!(
            places.find(OsStr::new("turbo")).is_err(),
            "two snapshots and no ref"
        );
        fs::write(repository.join("refs/main"), "new\n").unwrap();
        assert_eq!(places.find(OsStr::new("turbo")).unwrap(), new);
    }

    #[test]
    fn short_names_are_openais() {
        for (model, organisation, name) in [
            ("tiny.en", "openai", "whisper-tiny.en"),
            ("turbo", "openai", "whisper-large-v3-turbo"),
            ("large", "openai", "whisper-large-v3"),
            ("large-v1", "openai", "whisper-large"),
            ("distil-large-v3", "distil-whisper", "distil-large-v3"),
            ("me/my_model", "me", "my_model"),
        ] {
            assert_eq!(
                repository(model),
                Some((organisation.to_owned(), name.to_owned()))
            );
        }
        for model in ["../x", "a/b/c", "a/..", "", "a b"] {
            assert_eq!(repository(model), None, "{model}");
        }
    }

    #[test]
    fn not_found_names_every_place_and_both_ways_on() {
        let root = tempfile::tempdir().unwrap();
        let Failure::Model(message) = places(root.path()).find(OsStr::new("turbo")).unwrap_err()
        else {
            panic!("not a model failure")
        };
        for part in [
            "first",
            "second",
            "hub",
            "checkout",
            "--model PATH",
            "--model nano",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
