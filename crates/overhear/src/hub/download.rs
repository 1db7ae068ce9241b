//! One download: files are written to `blobs/<etag>.incomplete`, verified, renamed, and linked into the snapshot.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::http::{Failure, header};
use super::{Hub, Progress, digest, etag};
use crate::model::find::Repository;
use crate::{Error, Result};

/// File of a repository, as described by the hub.
pub(super) struct RemoteFile {
    name: String,
    /// Name of the file's blob, and usually its checksum.
    etag: String,
    size: Option<u64>,
}

pub(super) struct Pull<'a> {
    hub: &'a Hub,
    repository: &'a Repository,
    on_progress: &'a mut dyn FnMut(Progress<'_>),
    commit: &'a str,
    blobs: PathBuf,
    locks: PathBuf,
    snapshot: PathBuf,
    /// Number of bytes of the missing files that are complete.
    done: u64,
}

impl<'a> Pull<'a> {
    pub(super) fn new(
        hub: &'a Hub,
        repository: &'a Repository,
        commit: &'a str,
        on_progress: &'a mut dyn FnMut(Progress<'_>),
    ) -> Result<Self> {
        let name = repository.folder_name();
        let folder = hub.cache.join(&name);
        let pull = Self {
            hub,
            repository,
            on_progress,
            commit,
            blobs: folder.join("blobs"),
            locks: hub.cache.join(".locks").join(name),
            snapshot: folder.join("snapshots").join(commit),
            done: 0,
        };
        for folder in [&pull.blobs, &pull.locks, &pull.snapshot] {
            fs::create_dir_all(folder).map_err(cannot_write(folder))?;
        }
        Ok(pull)
    }

    fn address(&self, name: &str) -> String {
        format!(
            "{}/{}/resolve/{}/{name}",
            self.hub.client.endpoint,
            self.repository.id(),
            self.commit
        )
    }

    /// Requests the description of a file.
    pub(super) fn ask(&mut self, name: &str) -> Result<RemoteFile> {
        let address = self.address(name);
        let (hub, repository) = (self.hub, self.repository);
        let headers = hub.retrying(repository, self.on_progress, || hub.client.head(&address))?;
        let etag = etag(&headers).ok_or_else(|| Error::Network {
            name: repository.to_string(),
            reason: format!("the response from {address} has no ETag; a mirror must pass it on"),
        })?;
        let linked = header(&headers, "x-linked-size");
        // The length of a redirect is that of its own body.
        let own = header(&headers, "content-length").filter(|_| !headers.contains_key("location"));
        Ok(RemoteFile {
            name: name.to_owned(),
            etag,
            size: linked.or(own).and_then(|size| size.parse().ok()),
        })
    }

    /// Requests and downloads one file: the index of shards.
    pub(super) fn fetch_one(&mut self, name: &str) -> Result<PathBuf> {
        let file = self.ask(name)?;
        self.fetch(&file)?;
        Ok(self.snapshot.join(name))
    }

    pub(super) fn fetch_all(&mut self, files: &[RemoteFile]) -> Result<()> {
        let missing = files.iter().filter(|file| !self.blob(file).exists());
        let (mut total, mut present) = (0, 0);
        for file in missing {
            total += file.size.unwrap_or(0);
            present += fs::metadata(self.incomplete(file)).map_or(0, |metadata| metadata.len());
        }
        self.done = 0;
        if total > 0 {
            (self.on_progress)(Progress::Begins { total, present });
        }
        files.iter().try_for_each(|file| self.fetch(file))
    }

    /// Writes the reference (the commit of the revision), and returns the snapshot's folder.
    pub(super) fn finish(self) -> Result<PathBuf> {
        let revision = self.repository.revision();
        if revision != self.commit {
            let folder = self.hub.cache.join(self.repository.folder_name());
            let refs = folder.join("refs").join(revision);
            let folder = refs.parent().unwrap_or(&refs);
            fs::create_dir_all(folder).map_err(cannot_write(folder))?;
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot_write(folder))?;
            file.write_all(self.commit.as_bytes())
                .map_err(cannot_write(&refs))?;
            file.persist(&refs)
                .map_err(|error| cannot_write(&refs)(error.error))?;
        }
        Ok(self.snapshot)
    }

    fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.blobs.join(&file.etag)
    }

    fn incomplete(&self, file: &RemoteFile) -> PathBuf {
        self.blobs.join(format!("{}.incomplete", file.etag))
    }

    /// Downloads the blob, unless it exists, and links it into the snapshot.
    fn fetch(&mut self, file: &RemoteFile) -> Result<()> {
        let blob = self.blob(file);
        if !blob.exists() {
            let path = self.locks.join(format!("{}.lock", file.etag));
            let lock = File::create(&path).map_err(cannot_write(&path))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    (self.on_progress)(Progress::Waits { file: &file.name });
                    lock.lock().map_err(cannot_write(&path))?;
                }
                Err(TryLockError::Error(error)) => return Err(cannot_write(&path)(error)),
            }
            // Another process may have completed the blob meanwhile.
            if !blob.exists() {
                self.download(file)?;
            }
            self.done += file.size.unwrap_or(0);
        }
        link(&blob, &self.snapshot.join(&file.name))
    }

    fn download(&mut self, file: &RemoteFile) -> Result<()> {
        let (blob, incomplete) = (self.blob(file), self.incomplete(file));
        for _ in 0..2 {
            self.complete(file, &incomplete)?;
            let matches =
                digest::matches(&incomplete, &file.etag).map_err(cannot_write(&incomplete))?;
            if matches != Some(false) {
                return fs::rename(&incomplete, &blob).map_err(cannot_write(&blob));
            }
            // The part left by an earlier run may have been damaged: repeat once, from the first byte.
            fs::remove_file(&incomplete).map_err(cannot_write(&incomplete))?;
        }
        Err(self.hub.refused(
            self.repository,
            &format!(
                "{} arrived damaged: its checksum is not {} as on the hub; try again later",
                file.name, file.etag
            ),
        ))
    }

    /// Appends to `incomplete` until it is complete.
    fn complete(&mut self, file: &RemoteFile, incomplete: &Path) -> Result<()> {
        let mut n_tries = 0;
        loop {
            let length = fs::metadata(incomplete).map_or(0, |metadata| metadata.len());
            if file.size.is_some_and(|size| length > size) {
                fs::remove_file(incomplete).map_err(cannot_write(incomplete))?;
                continue;
            }
            if length > 0 && file.size == Some(length) {
                return Ok(());
            }
            match self.append(file, incomplete, length)? {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    let now = fs::metadata(incomplete).map_or(0, |metadata| metadata.len());
                    // The number of tries only counts requests without progress.
                    if now > length {
                        n_tries = 0;
                    }
                    let (hub, repository) = (self.hub, self.repository);
                    n_tries = hub.wait(repository, self.on_progress, n_tries, failure)?;
                }
            }
        }
    }

    /// Makes one request. The outer error is the disk's, the inner one the network's.
    fn append(
        &mut self,
        file: &RemoteFile,
        incomplete: &Path,
        offset: u64,
    ) -> Result<std::result::Result<(), Failure>> {
        let address = self.address(&file.name);
        let (body, begins) = match self.hub.client.get(&address, offset) {
            Ok(answer) => answer,
            // The size is unknown: either all bytes are present, or they are of another file. The checksum decides.
            Err(Failure::Refused(416, _)) if file.size.is_none() => return Ok(Ok(())),
            // The hub was reached before, so being unreachable now is a passing failure.
            Err(Failure::Unreachable(reason)) => return Ok(Err(Failure::Passing(reason, None))),
            Err(failure) => return Ok(Err(failure)),
        };
        if begins > offset {
            return Ok(Err(Failure::Final(format!(
                "the response from {address} starts at byte {begins} instead of {offset}"
            ))));
        }
        let mut output = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(incomplete)
            .map_err(cannot_write(incomplete))?;
        output.set_len(begins).map_err(cannot_write(incomplete))?;
        io::Seek::seek(&mut output, io::SeekFrom::End(0)).map_err(cannot_write(incomplete))?;
        let mut length = begins;
        let mut body = body.into_reader();
        let mut block = vec![0; 256 << 10];
        loop {
            match body.read(&mut block) {
                Ok(0) => break,
                Ok(n) => {
                    output
                        .write_all(&block[..n])
                        .map_err(cannot_write(incomplete))?;
                    length += n as u64;
                    (self.on_progress)(Progress::Bytes {
                        done: self.done + length,
                    });
                    if file.size.is_some_and(|size| length > size) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reason = format!("the connection broke: {error}");
                    return Ok(Err(Failure::Passing(reason, None)));
                }
            }
        }
        output.sync_all().map_err(cannot_write(incomplete))?;
        match file.size {
            Some(size) if length < size => Ok(Err(Failure::Passing(
                format!("the connection ended after {length} of {size} bytes"),
                None,
            ))),
            Some(size) if length > size => {
                output.set_len(0).map_err(cannot_write(incomplete))?;
                let reason = format!("{} is longer than {size} bytes", file.name);
                Ok(Err(Failure::Passing(reason, None)))
            }
            _ => Ok(Ok(())),
        }
    }
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache {
        path: path.clone(),
        source,
    }
}

/// Links `name` to `blob`, relative as huggingface_hub does; copies where links are not supported.
fn link(blob: &Path, name: &Path) -> Result<()> {
    if name.exists() {
        return Ok(());
    }
    // Remove a link to a deleted blob.
    let _ = fs::remove_file(name);
    let target = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&target, name);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(&target, name);
    match linked {
        Err(_) if name.exists() => Ok(()),
        Err(_) => fs::copy(blob, name).map(drop).map_err(cannot_write(name)),
        Ok(()) => Ok(()),
    }
}
