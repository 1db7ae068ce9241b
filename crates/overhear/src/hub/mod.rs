//! Downloads models from the Hugging Face hub into its cache: layout, locks and environment variables are those of
//! huggingface_hub (`file_download.py`, `constants.py`), so that the cache is shared with it.
//!
//! ```no_run
//! use overhear::hub::Hub;
//! use overhear::model::find::Repository;
//!
//! let repository: Repository = "turbo".parse()?;
//! let folder = Hub::from_env()?.pull(&repository, |progress| drop(progress))?;
//! # Ok::<(), overhear::Error>(())
//! ```

mod digest;
mod download;
mod http;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::checkpoint::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, WEIGHTS};
use crate::model::find::{Places, Repository, shards, token_path};
use crate::{Error, Result};
use download::RemoteFile;
use http::{Client, Failure, header};

const ENDPOINT: &str = "https://huggingface.co";

/// Files that are downloaded beside the weights, if they exist.
const SMALL_FILES: [&str; 11] = [
    "config.json",
    ADAPTER_CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "added_tokens.json",
    "special_tokens_map.json",
];

/// Maximum number of tries of one request without progress.
const MAX_TRIES: u32 = 5;

/// Maximum `Retry-After` of a server that is waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Progress of a download.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The download begins.
    Begins {
        /// Total size of the files that the cache lacks, in bytes; 0 if the server does not declare it.
        total: u64,
        /// Number of these bytes kept from an earlier try.
        present: u64,
    },
    /// Another process is downloading this file.
    Waits {
        /// The file's name.
        file: &'a str,
    },
    /// More bytes of the missing files have arrived.
    Bytes {
        /// Number of bytes of all missing files so far.
        done: u64,
    },
    /// A request failed and is tried again.
    Retries {
        /// Reason of the failure.
        reason: &'a str,
    },
}

/// The Hugging Face hub or a mirror, and its local cache.
#[derive(Debug)]
pub struct Hub {
    client: Client,
    cache: PathBuf,
    offline: bool,
    first_wait: Duration,
}

impl Hub {
    /// Creates the hub that the environment describes: `HF_ENDPOINT`, `HF_HUB_CACHE` and `HF_HOME`, `HF_TOKEN` and
    /// `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`; `HTTPS_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// [`Error::Option`] if there is no folder for the cache: no home folder, and no variable that names one.
    pub fn from_env() -> Result<Self> {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let is_set = |name: &str| {
            text(name).is_some_and(|value| {
                matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
            })
        };
        let cache = Places::from_env(None).cache.ok_or(Error::Option {
            name: "HF_HOME",
            reason: "no home folder for the cache of models: set it to a folder".into(),
        })?;
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                fs::read_to_string(token_path()?)
                    .ok()
                    .filter(|_| !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
            })
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Self {
            client: Client::new(&endpoint, token),
            cache,
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            first_wait: Duration::from_millis(500),
        })
    }

    /// Returns whether the environment forbids the network: then no method opens a socket.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Returns the folder of the cache.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Downloads the files of `repository` that the cache lacks, at the current commit of its revision, and returns the
    /// snapshot's folder. Downloads interrupted by a kill or a failure are continued; a second process waits for the
    /// first.
    ///
    /// # Errors
    /// [`Error::Network`] if the hub cannot be reached, or offline; [`Error::Model`] if it has no such model, requires
    /// terms to be accepted or a token, or sends data that contradict its checksums; [`Error::Cache`] if the disk is
    /// full or the cache cannot be written.
    pub fn pull(
        &self,
        repository: &Repository,
        mut on_progress: impl FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        self.pull_to(repository, &mut on_progress)
    }

    /// [`Hub::pull`], compiled once for all progress functions.
    fn pull_to(
        &self,
        repository: &Repository,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        if self.offline {
            return Err(Error::Network {
                name: repository.to_string(),
                reason: "HF_HUB_OFFLINE forbids the network, and the model is not in the cache"
                    .into(),
            });
        }
        let listing = self.list(repository, on_progress)?;
        let mut pull = download::Pull::new(self, repository, &listing.sha, on_progress)?;
        let has = |name: &str| listing.siblings.iter().any(|file| file.rfilename == name);
        let mut names: Vec<String> = SMALL_FILES
            .iter()
            .filter(|name| has(name))
            .map(|name| (*name).to_owned())
            .collect();
        let of_adapter = ADAPTER_WEIGHTS.into_iter().find(|name| has(name));
        let indices = WEIGHTS.map(|name| format!("{name}.index.json"));
        let forms = WEIGHTS.iter().zip(&indices);
        match forms
            .into_iter()
            .find(|(name, index)| has(name) || has(index))
        {
            Some((name, _)) if has(name) => names.push((*name).to_owned()),
            Some((_, index)) => {
                let index = pull.fetch_one(index)?;
                names.extend(self.shards_of(&index)?);
            }
            None => match of_adapter.filter(|_| has(ADAPTER_CONFIG)) {
                Some(name) => names.push(name.to_owned()),
                None => {
                    let reason = format!(
                        "has no {}, the weights that overhear downloads",
                        WEIGHTS.join(" or ")
                    );
                    return Err(self.refused(repository, &reason));
                }
            },
        }
        let files = names
            .iter()
            .map(|name| pull.ask(name))
            .collect::<Result<Vec<RemoteFile>>>()?;
        pull.fetch_all(&files)?;
        pull.finish()
    }

    fn shards_of(&self, index: &Path) -> Result<Vec<String>> {
        let bad = |reason: &str| Error::Model {
            path: index.to_owned(),
            reason: reason.to_owned(),
        };
        let json = fs::read(index).map_err(|error| bad(&format!("cannot read: {error}")))?;
        let shards = shards(&json).ok_or_else(|| bad("is not an index of shards"))?;
        let is_plain = |name: &String| {
            [".safetensors", ".bin"]
                .iter()
                .any(|end| name.ends_with(end))
                && !name.contains(['/', '\\', '?', '#', '%'])
        };
        match shards.iter().all(is_plain) {
            true => Ok(shards),
            false => Err(bad(
                "names shards that are not plain .safetensors or .bin files",
            )),
        }
    }

    fn list(
        &self,
        repository: &Repository,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Listing> {
        let address = format!(
            "{}/api/models/{}/revision/{}",
            self.client.endpoint,
            repository.id(),
            repository.revision().replace('/', "%2F")
        );
        let json = self.retrying(repository, on_progress, || {
            let (mut body, _) = self.client.get(&address, 0)?;
            body.with_config()
                .limit(16 << 20)
                .read_to_vec()
                .map_err(|error| Failure::Passing(error.to_string(), None))
        })?;
        let listing: Listing = serde_json::from_slice(&json).map_err(|error| Error::Network {
            name: repository.to_string(),
            reason: format!("unexpected response from {address}: {error}"),
        })?;
        match listing.sha.len() == 40 && listing.sha.chars().all(|c| c.is_ascii_hexdigit()) {
            true => Ok(listing),
            false => Err(Error::Network {
                name: repository.to_string(),
                reason: format!("the response from {address} has no commit"),
            }),
        }
    }

    /// Repeats `request` while its failures are passing, with increasing delays.
    fn retrying<T>(
        &self,
        repository: &Repository,
        on_progress: &mut dyn FnMut(Progress<'_>),
        mut request: impl FnMut() -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut n_tries = 0;
        loop {
            match request() {
                Ok(value) => return Ok(value),
                Err(failure) => n_tries = self.wait(repository, on_progress, n_tries, failure)?,
            }
        }
    }

    /// Waits before the next try, or returns the error if none is left.
    fn wait(
        &self,
        repository: &Repository,
        on_progress: &mut dyn FnMut(Progress<'_>),
        n_tries: u32,
        failure: Failure,
    ) -> Result<u32> {
        match failure {
            Failure::Passing(reason, after) if n_tries + 1 < MAX_TRIES => {
                on_progress(Progress::Retries { reason: &reason });
                let wait = after.unwrap_or(self.first_wait * 2_u32.pow(n_tries));
                std::thread::sleep(wait.min(MAX_WAIT));
                Ok(n_tries + 1)
            }
            failure => Err(self.explain(repository, failure)),
        }
    }

    fn explain(&self, repository: &Repository, failure: Failure) -> Error {
        let endpoint = &self.client.endpoint;
        let page = format!("{endpoint}/{}", repository.id());
        let with_token = self.client.token.is_some();
        let reason = match failure {
            Failure::Unreachable(reason) | Failure::Passing(reason, _) | Failure::Final(reason) => {
                return Error::Network {
                    name: repository.to_string(),
                    reason,
                };
            }
            Failure::Refused(_, code) if code == "GatedRepo" => match with_token {
                true => {
                    format!("is gated, and your token has no access: accept the terms on {page}")
                }
                false => format!(
                    "is gated: accept the terms on {page}, then set HF_TOKEN to a token of your account"
                ),
            },
            Failure::Refused(404, code) if code == "RevisionNotFound" => {
                format!("has no revision {}", repository.revision())
            }
            Failure::Refused(404, code) if code == "EntryNotFound" => {
                format!("has no such file any more; see {page}")
            }
            Failure::Refused(401, code) if code != "RepoNotFound" && with_token => {
                format!("{endpoint} does not accept your token: check HF_TOKEN, or unset it")
            }
            Failure::Refused(401 | 404, _) if with_token => {
                format!("not found on {endpoint}, or your token has no access to it")
            }
            Failure::Refused(401 | 404, _) => format!(
                "not found on {endpoint}; if it is private or gated, set HF_TOKEN to a token that has access"
            ),
            Failure::Refused(403, _) => format!(
                "access is refused: accept the terms on {page}, and set HF_TOKEN to a token that may read it"
            ),
            Failure::Refused(status, _) => format!("{endpoint} answers with status {status}"),
        };
        self.refused(repository, &reason)
    }

    fn refused(&self, repository: &Repository, reason: &str) -> Error {
        Error::Model {
            path: PathBuf::from(repository.to_string()),
            reason: reason.to_owned(),
        }
    }
}

/// The hub's description of a repository at a revision: `GET /api/models/<id>/revision/<revision>`.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Verifies the files of a cached snapshot against the checksums that the hub gave when they were downloaded; returns
/// the number of files verified.
///
/// # Errors
/// [`Error::Model`] naming the first file that is damaged or cannot be read.
pub fn verify(snapshot: &Path) -> Result<usize> {
    let bad = |path: &Path, reason: String| Error::Model {
        path: path.to_owned(),
        reason,
    };
    let unreadable = |error: std::io::Error| bad(snapshot, format!("cannot read: {error}"));
    let mut n_verified = 0;
    for entry in fs::read_dir(snapshot).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A file that is not a link into `blobs` has no checksum.
        let Ok(blob) = fs::read_link(&path) else {
            continue;
        };
        let etag = blob.file_name().and_then(|name| name.to_str());
        let matches = digest::matches(&path, etag.unwrap_or_default())
            .map_err(|error| bad(&path, format!("cannot read: {error}")))?;
        match matches {
            Some(true) => n_verified += 1,
            Some(false) => {
                return Err(bad(
                    &path,
                    "is damaged: its checksum differs from the hub's; remove the model (overhear models rm) and pull it again".into(),
                ));
            }
            None => {}
        }
    }
    Ok(n_verified)
}

fn etag(headers: &ureq::http::HeaderMap) -> Option<String> {
    let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"))?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    digest::is_plain(etag).then(|| etag.to_owned())
}
