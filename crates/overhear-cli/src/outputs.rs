//! Writes outputs atomically: a file is either the old one or the complete new one.
//!
//! Every format is written to a temporary file in the target's folder first; only when all of them are on the disk are
//! they renamed. After a full disk or a kill the old files are unchanged.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use overhear::Transcript;
use overhear::output::{self, CaptionOptions, Format};
use overhear::temporary;
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::naming::Target;

/// Destination of the outputs.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Files in and below this folder.
    Folder(PathBuf),
    /// Standard output, in this format.
    Stdout(Format),
}

impl Destination {
    /// Creates the destination; `-` is standard output, which takes one format only.
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

/// Creates `folder` and verifies that it is writable, before any other work.
pub(crate) fn prepare(folder: &Path) -> Result<(), Failure> {
    let prepared = fs::create_dir_all(folder).and_then(|()| temporary::file(folder));
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
        let file = write_temporary(target.folder(), |writer| {
            output::write_with(format, transcript, captions, writer)
        });
        files.push((file.map_err(|error| cannot_write(&path, &error))?, path));
    }
    for (file, path) in files {
        file.persist(&path)
            .map_err(|error| cannot_write(&path, &error.error))?;
    }
    sync_folder(target.folder());
    Ok(())
}

/// Writes `bytes` to the target's file with this extension.
pub(crate) fn write_file(target: &Target, extension: &str, bytes: &[u8]) -> Result<(), Failure> {
    let (folder, path) = (target.folder(), target.path(extension));
    prepare(folder)?;
    let file = write_temporary(folder, |writer| writer.write_all(bytes));
    file.and_then(|file| file.persist(&path).map_err(|error| error.error))
        .map_err(|error| cannot_write(&path, &error))?;
    sync_folder(folder);
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
    let written = output::write_with(format, transcript, captions, &mut bytes);
    if format == Format::Json {
        // One line per transcript: several are JSON lines.
        bytes.push(b'\n');
    }
    written
        .and_then(|()| stdout.write_all(&bytes))
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}

fn write_temporary(
    folder: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let mut file = temporary::file(folder)?;
    let mut buffered = BufWriter::new(file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    Ok(file)
}

/// Flushes the renames to the disk. Some file systems do not support it; the files are complete nevertheless.
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
