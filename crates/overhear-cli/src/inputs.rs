//! List of inputs: expands files, directories, patterns and `-`, without duplicates.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use overhear::Audio;
use overhear::audio::AudioOptions;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::manifest::Overrides;

/// Extensions of audio files in a directory. A file named explicitly may have any extension.
const AUDIO_EXTENSIONS: &[&str] = &[
    "3g2", "3ga", "3gp", "3gpp", "aac", "adts", "aif", "aifc", "aiff", "alac", "au", "bw64", "caf",
    "f4a", "f4v", "flac", "m2a", "m4a", "m4b", "m4p", "m4r", "m4v", "mk3d", "mka", "mkv", "mov",
    "mp1", "mp2", "mp3", "mp4", "mpa", "mpga", "oga", "ogg", "ogv", "opus", "qt", "rf64", "snd",
    "w64", "wav", "wave", "weba", "webm",
];

/// Number of characters shown of either end of a path that is too long to be shown.
const SHOWN: usize = 100;

/// One input to transcribe.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    /// The file; `None` is standard input.
    pub(crate) path: Option<PathBuf>,
    /// Resolved path, which identifies the input.
    pub(crate) identity: PathBuf,
    /// For a file found in a directory: the folders between that directory and the file.
    pub(crate) folder: PathBuf,
    /// Path of the outputs below their folder, without extension, if the manifest states it.
    pub(crate) output: Option<PathBuf>,
    /// Options that the manifest states for it.
    pub(crate) overrides: Overrides,
}

impl Input {
    fn stdin() -> Self {
        Self {
            path: None,
            identity: PathBuf::from("stdin"),
            folder: PathBuf::new(),
            output: None,
            overrides: Overrides::default(),
        }
    }

    pub(crate) fn file(path: PathBuf, folder: &Path) -> Self {
        Self {
            identity: identity(&path),
            folder: folder.to_owned(),
            output: None,
            path: Some(path),
            overrides: Overrides::default(),
        }
    }

    /// Returns the name used in messages: the path as given, or `stdin`.
    pub(crate) fn display(&self) -> String {
        self.path
            .as_ref()
            .map_or("stdin".to_owned(), |path| path.display().to_string())
    }

    /// Opens the input. Inputs that cannot be read twice (standard input, a FIFO) are decoded to their end here.
    pub(crate) fn open(
        &self,
        options: &AudioOptions,
        interrupt: &Interrupt,
    ) -> Result<Audio, Failure> {
        let (path, options) = (self.path.clone(), options.clone());
        let opened = interrupt.run(move || match path {
            None => Audio::from_reader_with(io::stdin(), "stdin", &options),
            Some(path) => Audio::open_with(path, &options),
        })?;
        opened.map_err(Failure::from)
    }
}

/// Returns the resolved path of the directory entry `path`: its folder is resolved and its own name is kept, so that
/// two links to one file are two inputs, and `./a` and `a` are one.
pub(crate) fn identity(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    }
}

/// Expands the arguments in order, each input once. An argument that cannot be found is a failure of its own.
pub(crate) fn expand(arguments: &[OsString], recursive: bool) -> Vec<Result<Input, Failure>> {
    let mut found = Vec::new();
    for argument in arguments {
        expand_one(argument, recursive, &mut found);
    }
    retain_first(&mut found);
    found
}

/// Removes inputs that are listed before, with the same overrides and output.
pub(crate) fn retain_first(inputs: &mut Vec<Result<Input, Failure>>) {
    let mut seen = std::collections::HashSet::new();
    inputs.retain(|input| match input {
        Ok(input) => {
            let (overrides, output) = (input.overrides.clone(), input.output.clone());
            seen.insert((input.identity.clone(), overrides, output))
        }
        Err(_) => true,
    });
}

fn expand_one(argument: &OsStr, recursive: bool, found: &mut Vec<Result<Input, Failure>>) {
    if argument == "-" {
        found.push(Ok(Input::stdin()));
        return;
    }
    let path = Path::new(argument);
    match fs::metadata(path) {
        Ok(_) => expand_path(path, recursive, found),
        Err(error) => match pattern(argument) {
            Some(paths) if paths.is_empty() => {
                found.push(Err(Failure::Input(format!(
                    "{}: no file matches",
                    path.display()
                ))));
            }
            Some(paths) => {
                for path in paths {
                    match path {
                        Ok(path) => expand_path(&path, recursive, found),
                        Err(error) => found.push(Err(cannot_read(error.path(), error.error()))),
                    }
                }
            }
            None => found.push(Err(cannot_read(path, &error))),
        },
    }
}

/// Returns the files that match a pattern with `*`, `?` or `[`, and errors of reading directories; `None` if `argument`
/// is not a pattern.
fn pattern(argument: &OsStr) -> Option<Vec<glob::GlobResult>> {
    let text = argument
        .to_str()
        .filter(|text| text.contains(['*', '?', '[']))?;
    Some(glob::glob(text).ok()?.collect())
}

fn expand_path(path: &Path, recursive: bool, found: &mut Vec<Result<Input, Failure>>) {
    if !path.is_dir() {
        found.push(Ok(Input::file(path.to_owned(), Path::new(""))));
        return;
    }
    let before = found.len();
    walk(path, Path::new(""), recursive, found);
    if found.len() == before {
        let hint = if recursive {
            ""
        } else {
            "; --recursive looks into subdirectories"
        };
        let message = format!("{}: no audio files in this directory{hint}", path.display());
        found.push(Err(Failure::Input(message)));
    }
}

/// Adds the audio files of `root/folder`, sorted by name, files before subdirectories.
fn walk(root: &Path, folder: &Path, recursive: bool, found: &mut Vec<Result<Input, Failure>>) {
    let path = root.join(folder);
    let entries = match entries(&path) {
        Ok(entries) => entries,
        Err(error) => return found.push(Err(cannot_read(&path, &error))),
    };
    for (name, _) in entries.iter().filter(|(name, _)| is_audio_name(name)) {
        let file = path.join(name);
        match fs::metadata(&file) {
            Ok(kind) if kind.is_file() => found.push(Ok(Input::file(file, folder))),
            Ok(_) => {}
            // A dangling link is skipped.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.push(Err(cannot_read(&file, &error))),
        }
    }
    // Links to directories are not followed: they may form cycles.
    for (name, _) in entries.iter().filter(|(_, is_dir)| recursive && *is_dir) {
        walk(root, &folder.join(name), recursive, found);
    }
}

/// Returns the names in `folder`, sorted, and whether each is a directory.
fn entries(folder: &Path) -> io::Result<Vec<(OsString, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.file_name(), entry.file_type()?.is_dir()));
    }
    entries.sort();
    Ok(entries)
}

fn is_audio_name(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().map(OsStr::to_ascii_lowercase);
    extension.is_some_and(|extension| AUDIO_EXTENSIONS.iter().any(|known| *known == extension))
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Input(format!("cannot read {}: {error}", shortened(path)))
}

/// Returns the path, without its middle if it is longer than a few lines.
fn shortened(path: &Path) -> String {
    let text = path.display().to_string();
    let n_characters = text.chars().count();
    if n_characters <= 3 * SHOWN {
        return text;
    }
    let begin: String = text.chars().take(SHOWN).collect();
    let end: String = text.chars().skip(n_characters - SHOWN).collect();
    format!("{begin}...{end}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn found(root: &Path, arguments: &[&str], recursive: bool) -> Vec<String> {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| root.join(argument).into())
            .collect();
        let relative = |input: Input| {
            let path = input.path.unwrap();
            path.strip_prefix(root).unwrap().display().to_string()
        };
        expand(&arguments, recursive)
            .into_iter()
            .map(|input| input.map_or_else(|failure| format!("{failure:?}"), relative))
            .collect()
    }

    #[test]
    fn recordings_of_telephones_count_as_audio_files() {
        let root = tree(&["d/a.3gp", "d/b.3G2", "d/c.m4r", "d/d.adts", "d/e.txt"]);
        assert_eq!(
            found(root.path(), &["d"], false),
            ["d/a.3gp", "d/b.3G2", "d/c.m4r", "d/d.adts"]
        );
    }

    #[test]
    fn directories_give_their_audio_files_sorted() {
        let root = tree(&[
            "d/b.MP3",
            "d/a.wav",
            "d/notes.txt",
            "d/x/c.flac",
            "d/.hidden",
        ]);
        assert_eq!(found(root.path(), &["d"], false), ["d/a.wav", "d/b.MP3"]);
        assert_eq!(
            found(root.path(), &["d"], true),
            ["d/a.wav", "d/b.MP3", "d/x/c.flac"]
        );
        let inputs = expand(&[root.path().join("d").into()], true);
        assert_eq!(inputs[2].as_ref().unwrap().folder, Path::new("x"));
    }

    #[test]
    fn patterns_match_files_and_a_literal_name_wins() {
        let root = tree(&["a.wav", "b.wav", "[x]*.wav"]);
        assert_eq!(found(root.path(), &["?.wav"], false), ["a.wav", "b.wav"]);
        assert_eq!(found(root.path(), &["[x]*.wav"], false), ["[x]*.wav"]);
        assert!(found(root.path(), &["*.mp3"], false)[0].contains("no file matches"));
    }

    #[test]
    fn an_input_given_twice_is_done_once() {
        let root = tree(&["d/a.wav"]);
        assert_eq!(
            found(root.path(), &["d/a.wav", "d/../d/./a.wav", "d"], false),
            ["d/a.wav"]
        );
        assert_eq!(expand(&["-".into(), "-".into()], false).len(), 1);
    }

    #[test]
    fn a_missing_file_or_empty_directory_fails_alone() {
        let root = tree(&["a.wav", "empty/notes.txt"]);
        let found = found(root.path(), &["nosuch.wav", "empty", "a.wav"], false);
        assert!(found[0].contains("cannot read"), "{found:?}");
        assert!(found[1].contains("no audio files"), "{found:?}");
        assert_eq!(found[2], "a.wav");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_deeper_than_the_system_takes_is_an_error_in_one_short_line() {
        let root = tree(&["d/a.wav"]);
        // Created from the inside out, as a path to the innermost folder would be too long.
        let name = "n".repeat(200);
        let (inner, outer) = (root.path().join("inner"), root.path().join("outer"));
        fs::create_dir(&inner).unwrap();
        for _ in 0..25 {
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join(&name)).unwrap();
            fs::rename(&outer, &inner).unwrap();
        }
        fs::rename(&inner, root.path().join("d/deep")).unwrap();
        let found = found(root.path(), &["d"], true);
        assert_eq!(found[0], "d/a.wav");
        assert!(found[1].contains("File name too long"), "{found:?}");
        assert!(found[1].len() < 400 && found.len() == 2, "{found:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_circle_of_links_ends() {
        let root = tree(&["d/a.wav"]);
        std::os::unix::fs::symlink(root.path().join("d"), root.path().join("d/again")).unwrap();
        assert_eq!(found(root.path(), &["d"], true), ["d/a.wav"]);
    }
}
