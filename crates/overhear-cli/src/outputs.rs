//! Writes outputs so that a file is either the old one or the whole new one.
//!
//! Every format goes to a temporary file in the target's folder first; only when all of them are on the disk
//! are they renamed to their names. A full disk or a kill leaves the old files as they were.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use overhear::Transcript;
use overhear::output::{self, CaptionOptions, Format};
use tempfile::{Builder, NamedTempFile};

use crate::failure::Failure;
use crate::naming::Target;

/// Where outputs go.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Files in and below this folder.
    Folder(PathBuf),
    /// Standard output, in this format.
    Stdout(Format),
}

impl Destination {
    /// `-` is standard output, which takes one format only.
    pub(crate) fn new(output_dir: &Path, formats: &[Format]) -> Result<Self, Failure> {
        match (output_dir.as_os_str() == "-", formats) {
            (false, _) => Ok(Self::Folder(output_dir.to_owned())),
            (true, [format]) => Ok(Self::Stdout(*format)),
            (true, _) => Err(Failure::Usage(
                "--output-dir - takes one format: choose it with --output-format".to_owned(),
            )),
        }
    }
}

/// Makes sure that outputs can be written to `folder`, before any work is spent on them.
pub(crate) fn prepare(folder: &Path) -> Result<(), Failure> {
    let prepared = fs::create_dir_all(folder).and_then(|()| temporary(folder));
    prepared
        .map(drop)
        .map_err(|error| cannot_write(folder, &error))
}

/// Writes the transcript in all `formats`: to the final names, or if it is not `complete` to the partial ones.
pub(crate) fn write_files(
    target: &Target,
    formats: &[Format],
    captions: &CaptionOptions,
    transcript: &Transcript,
    complete: bool,
) -> Result<(), Failure> {
    let mut files = Vec::new();
    for &format in formats {
        let path = if complete {
            target.path(format)
        } else {
            target.partial_path(format)
        };
        let file = write_temporary(target.folder(), format, captions, transcript);
        files.push((file.map_err(|error| cannot_write(&path, &error))?, path));
    }
    for (file, path) in files {
        file.persist(&path)
            .map_err(|error| cannot_write(&path, &error.error))?;
    }
    sync_folder(target.folder());
    Ok(())
}

/// Writes the transcript to standard output.
pub(crate) fn write_stdout(
    format: Format,
    captions: &CaptionOptions,
    transcript: &Transcript,
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let mut stdout = io::stdout().lock();
    output::write_with(format, transcript, captions, &mut bytes)
        .and_then(|()| stdout.write_all(&bytes))
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}

fn write_temporary(
    folder: &Path,
    format: Format,
    captions: &CaptionOptions,
    transcript: &Transcript,
) -> io::Result<NamedTempFile> {
    let mut file = temporary(folder)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    output::write_with(format, transcript, captions, &mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    Ok(file)
}

/// A temporary file with the permissions of an ordinary new one. Its name is short, whatever the target's.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".overhear-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Puts the renames themselves on the disk. Some file systems cannot; the files are whole all the same.
fn sync_folder(folder: &Path) {
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let name = path.display();
    Failure::Output(format!(
        "cannot write {name}: {error}; make room or choose another --output-dir"
    ))
}
