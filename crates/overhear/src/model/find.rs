//! Search for models: by path, or by name in the folders of this machine and in the Hugging Face cache. Another model
//! is never substituted silently.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::checkpoint::{ADAPTER_WEIGHTS, WEIGHTS, base_of_adapter, is_adapter};
use crate::{Error, Result};

/// Names of openai/whisper (`whisper/__init__.py::_MODELS`) and of faster-whisper's distilled models, with their
/// repositories on the Hugging Face hub. `whisper-large` on the hub is the first version; openai/whisper's `large` is
/// the latest.
const NAMES: [(&str, &str); 19] = [
    ("tiny.en", "openai/whisper-tiny.en"),
    ("tiny", "openai/whisper-tiny"),
    ("base.en", "openai/whisper-base.en"),
    ("base", "openai/whisper-base"),
    ("small.en", "openai/whisper-small.en"),
    ("small", "openai/whisper-small"),
    ("medium.en", "openai/whisper-medium.en"),
    ("medium", "openai/whisper-medium"),
    ("large-v1", "openai/whisper-large"),
    ("large-v2", "openai/whisper-large-v2"),
    ("large-v3", "openai/whisper-large-v3"),
    ("large", "openai/whisper-large-v3"),
    ("large-v3-turbo", "openai/whisper-large-v3-turbo"),
    ("turbo", "openai/whisper-large-v3-turbo"),
    ("distil-small.en", "distil-whisper/distil-small.en"),
    ("distil-medium.en", "distil-whisper/distil-medium.en"),
    ("distil-large-v2", "distil-whisper/distil-large-v2"),
    ("distil-large-v3", "distil-whisper/distil-large-v3"),
    ("distil-large-v3.5", "distil-whisper/distil-large-v3.5"),
];

/// Returns the short names of models: `tiny`, `turbo`, ...
pub fn short_names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// A repository of the Hugging Face hub at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    organisation: String,
    name: String,
    revision: String,
}

impl Repository {
    /// Returns the repository that `model` names, by a short name or as `org/name`.
    fn named(model: &str) -> Option<Self> {
        let (model, revision) = model.split_once('@').unwrap_or((model, "main"));
        let short = NAMES.iter().find(|(name, _)| *name == model);
        let (organisation, name) = short.map_or(model, |(_, full)| full).split_once('/')?;
        let is_plain = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !part.is_empty() && part.chars().all(allowed) && !part.chars().all(|c| c == '.')
        };
        // The revision becomes a path below `refs` and a part of a URL.
        let is_good = is_plain(organisation) && is_plain(name) && revision.split('/').all(is_plain);
        is_good.then(|| Self {
            organisation: organisation.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Returns organisation and name, as in a URL: `openai/whisper-base`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// Returns the branch, tag or commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns the name of the repository's folder in a Hugging Face cache.
    #[must_use]
    pub fn folder_name(&self) -> String {
        format!("models--{}--{}", self.organisation, self.name)
    }

    /// Returns the repository whose folder in a cache has this name, at `main`.
    #[must_use]
    pub fn from_folder_name(name: &str) -> Option<Self> {
        let (organisation, name) = name.strip_prefix("models--")?.split_once("--")?;
        Self::named(&format!("{organisation}/{name}"))
    }

    /// Returns the repository's snapshot in `cache`: the one that `refs/<revision>` names, or the one of the revision
    /// if it is a commit, or the only one. `None` if there is no snapshot, or if a file of it is missing.
    #[must_use]
    pub fn snapshot(&self, cache: &Path) -> Option<PathBuf> {
        let folder = cache.join(self.folder_name());
        let snapshots = folder.join("snapshots");
        let complete = |path: PathBuf| Some(path).filter(|path| is_complete(path));
        if let Ok(commit) = fs::read_to_string(folder.join("refs").join(&self.revision)) {
            return complete(snapshots.join(commit.trim()));
        }
        if self.revision != "main" {
            return complete(snapshots.join(&self.revision));
        }
        let entries: Vec<_> = fs::read_dir(snapshots).ok()?.flatten().collect();
        match entries.as_slice() {
            [only] => complete(only.path()),
            _ => None,
        }
    }
}

/// Repositories parse from `turbo` or `org/name`, both optionally with `@revision`: a branch, a tag or a commit
/// (default: `main`).
impl FromStr for Repository {
    type Err = Error;

    fn from_str(model: &str) -> Result<Self> {
        Self::named(model).ok_or_else(|| {
            let names: Vec<_> = short_names().collect();
            let reason = format!(
                "`{model}` is neither ORG/NAME nor one of {}",
                names.join(", ")
            );
            Error::Option {
                name: "model",
                reason,
            }
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)?;
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// Returns whether a snapshot has its configuration and all weights: other programs may have cached only some files.
fn is_complete(folder: &Path) -> bool {
    if !is_model(folder) {
        return false;
    }
    if is_adapter(folder) {
        return ADAPTER_WEIGHTS
            .iter()
            .any(|name| folder.join(name).is_file());
    }
    // The first that is there is what is opened.
    for name in WEIGHTS {
        if folder.join(name).is_file() {
            return true;
        }
        if let Ok(index) = fs::read(folder.join(format!("{name}.index.json"))) {
            let is_here = |shard: &String| folder.join(shard).is_file();
            return shards(&index).is_some_and(|shards| shards.iter().all(is_here));
        }
    }
    folder.join("model.bin").is_file()
}

/// Returns the files that an index of shards lists; `None` if `index` is not valid.
pub(crate) fn shards(index: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).ok()?;
    let mut shards: Vec<_> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    Some(shards)
}

fn is_model(folder: &Path) -> bool {
    folder.join("config.json").is_file() || is_adapter(folder)
}

/// Returns the base model of the LoRA adapter in `folder` as the adapter names it, by a path, or by a name that [`Places::find`]
/// or [`Repository`] takes; `None` if `folder` is not an adapter.
///
/// # Errors
/// [`Error::Model`] if the adapter's configuration cannot be read or names no base.
pub fn base_of(folder: &Path) -> Result<Option<String>> {
    base_of_adapter(folder)
}

/// Folders to search for models, in this order: `folders`, which hold models by name, the Hugging Face cache,
/// `checkouts`.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Places {
    /// The folder of the caller, `$OVERHEAR_MODELS`, `models` beside the executable, and the data folder.
    pub folders: Vec<PathBuf>,
    /// Hugging Face cache.
    pub cache: Option<PathBuf>,
    /// `models` folders of the source checkouts that contain the executable and the working directory.
    pub checkouts: Vec<PathBuf>,
    /// Data folder, where a program may write its own models.
    pub data: Option<PathBuf>,
}

impl Places {
    /// Returns the places of this process; `model_dir` comes first.
    #[must_use]
    pub fn from_env(model_dir: Option<&Path>) -> Self {
        let executable = env::current_exe().and_then(|path| path.canonicalize()).ok();
        let beside = executable
            .as_deref()
            .and_then(Path::parent)
            .map(|folder| folder.join("models"));
        let data = variable("XDG_DATA_HOME")
            .or_else(|| below_home(".local/share"))
            .map(|data| data.join("overhear/models"));
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
            cache: hugging_face_cache(),
            checkouts,
            data,
        }
    }

    /// Returns the path `model` if it exists, or else the model of that name in the first place that has it.
    #[must_use]
    pub fn find(&self, model: &OsStr) -> Option<PathBuf> {
        if Path::new(model).exists() {
            return Some(PathBuf::from(model));
        }
        let repository = model.to_str().and_then(Repository::named);
        let short = repository.as_ref().filter(|r| r.revision == "main");
        let in_folder = |folder: &PathBuf| {
            let short = short.map(|repository| folder.join(&repository.name));
            [Some(folder.join(model)), short]
                .into_iter()
                .flatten()
                .find(|path| is_model(path))
        };
        let in_cache = || repository.as_ref()?.snapshot(self.cache.as_deref()?);
        self.folders
            .iter()
            .find_map(in_folder)
            .or_else(in_cache)
            .or_else(|| self.checkouts.iter().find_map(in_folder))
    }

    /// Iterates over all places, in order.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        let places = self.folders.iter().chain(&self.cache);
        places.chain(&self.checkouts).map(PathBuf::as_path)
    }
}

/// Returns the path in an environment variable, with `~` expanded as in huggingface_hub.
fn variable(name: &str) -> Option<PathBuf> {
    let value = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
    match value.strip_prefix("~") {
        Ok(rest) => env::home_dir().map(|home| home.join(rest)),
        Err(_) => Some(value),
    }
}

fn below_home(path: &str) -> Option<PathBuf> {
    env::home_dir().map(|home| home.join(path))
}

/// Returns `$HF_HOME` or its default, as `huggingface_hub/constants.py`.
pub(crate) fn hugging_face_home() -> Option<PathBuf> {
    variable("HF_HOME").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| below_home(".cache"));
        cache.map(|cache| cache.join("huggingface"))
    })
}

/// Returns the Hugging Face cache of this process.
fn hugging_face_cache() -> Option<PathBuf> {
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| hugging_face_home().map(|home| home.join("hub")))
}

/// Returns the file that `$HF_TOKEN_PATH` names, or the one in `$HF_HOME`.
#[cfg(feature = "download")]
pub(crate) fn token_path() -> Option<PathBuf> {
    variable("HF_TOKEN_PATH").or_else(|| hugging_face_home().map(|home| home.join("token")))
}

/// Returns the `models` folder of the source checkout that contains `path`.
fn checkout(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|folder| folder.join("crates/overhear-cli/Cargo.toml").is_file())
        .map(|folder| folder.join("models"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn model(folder: PathBuf) -> PathBuf {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        fs::write(folder.join("model.safetensors"), "").unwrap();
        folder
    }

    fn places(root: &Path) -> Places {
        Places {
            folders: vec![root.join("first"), root.join("second")],
            cache: Some(root.join("hub")),
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
        assert_eq!(find("tiny@abc"), cached);
        assert_eq!(places.find(OsStr::new("tiny@other")), None);
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
    fn snapshots_are_found_by_refs_main_and_only_if_complete() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let repository = root
            .path()
            .join("hub/models--openai--whisper-large-v3-turbo");
        model(repository.join("snapshots/old"));
        let new = model(repository.join("snapshots/new"));
        fs::create_dir_all(repository.join("refs")).unwrap();
        let turbo = OsStr::new("turbo");
        assert_eq!(places.find(turbo), None, "two snapshots and no ref");
        fs::write(repository.join("refs/main"), "new\n").unwrap();
        assert_eq!(places.find(turbo), Some(new.clone()));
        fs::remove_file(new.join("model.safetensors")).unwrap();
        assert_eq!(places.find(turbo), None, "no weights");
        let index = r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;
        fs::write(new.join("model.safetensors.index.json"), index).unwrap();
        fs::write(new.join("1.safetensors"), "").unwrap();
        assert_eq!(places.find(turbo), None, "a shard is missing");
        fs::write(new.join("2.safetensors"), "").unwrap();
        assert_eq!(places.find(turbo), Some(new));
    }

    #[test]
    fn short_names_are_openais_and_faster_whispers() {
        for (model, id, revision) in [
            ("tiny.en", "openai/whisper-tiny.en", "main"),
            ("turbo", "openai/whisper-large-v3-turbo", "main"),
            ("large", "openai/whisper-large-v3", "main"),
            ("large-v1", "openai/whisper-large", "main"),
            (
                "distil-large-v3.5",
                "distil-whisper/distil-large-v3.5",
                "main",
            ),
            ("me/my_model", "me/my_model", "main"),
            ("me/my_model@v1.0", "me/my_model", "v1.0"),
            ("base@refs/pr/2", "openai/whisper-base", "refs/pr/2"),
        ] {
            let repository: Repository = model.parse().unwrap();
            assert_eq!(
                (repository.id().as_str(), repository.revision()),
                (id, revision)
            );
        }
        for model in [
            "../x", "a/b/c", "a/..", "", "a b", "bsae", "a/b@", "a/b@../c",
        ] {
            assert!(model.parse::<Repository>().is_err(), "{model}");
        }
    }
}
