//! Names of outputs: `whisper/utils.py::ResultWriter`, extended so that no output overwrites another or an input.
//!
//! An output has the name of its input without the extension. Where two inputs would share a name, or an output would
//! replace an input, the input's full name is used (`a.mp3.srt`, `a.wav.srt`), then preceded by the folders above it
//! (`d1-a.wav.srt`), then followed by a number. All clashing inputs advance together, so a name does not depend on the
//! order of the arguments. A file that a manifest lists again has the number of its occurrence (`a-2.srt`), and a name that a
//! manifest states, no two of which are the same, is kept.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::inputs::{Input, identity};

/// Maximum length of a name in common file systems, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Path of the outputs of one input, without their extension.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    folder: PathBuf,
    name: OsString,
}

impl Target {
    /// Returns the folder of the outputs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the output's path. `format`: the extension.
    pub(crate) fn path(&self, format: impl Display) -> PathBuf {
        self.folder
            .join(with_suffix(&self.name, &format!(".{format}")))
    }

    /// Returns the paths of the outputs in `formats`.
    pub(crate) fn paths(&self, formats: &[impl Display]) -> Vec<PathBuf> {
        formats.iter().map(|format| self.path(format)).collect()
    }

    /// Returns the path of an incomplete output after an interruption.
    pub(crate) fn partial_path(&self, format: impl Display) -> PathBuf {
        self.folder
            .join(with_suffix(&self.name, &format!(".partial.{format}")))
    }
}

/// Chooses a target in `output_dir` for every input. `formats`: the extensions of the outputs.
pub(crate) fn targets(
    inputs: &[Input],
    output_dir: &Path,
    formats: &[impl Display],
) -> Vec<Target> {
    let files: HashSet<&Path> = inputs
        .iter()
        .map(|input| input.identity.as_path())
        .collect();
    let n_levels = 3 + inputs
        .iter()
        .map(|input| input.identity.components().count())
        .max()
        .unwrap_or(0);
    let mut occurrences = HashMap::new();
    let numbers: Vec<usize> = inputs
        .iter()
        .map(|input| {
            let number = occurrences.entry(&input.identity).or_insert(0);
            *number += usize::from(input.output.is_none());
            *number
        })
        .collect();
    let mut levels = vec![0; inputs.len()];
    loop {
        let targets: Vec<Target> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let level = levels[i];
                let mut target = match &input.output {
                    Some(output) => stated(output, output_dir),
                    None => derived(input, numbers[i], output_dir, level),
                };
                if level == n_levels {
                    target.name = with_suffix(&target.name, &format!("-{}", i + 1));
                }
                target
            })
            .collect();
        let clashing = clashing(&targets, &files, formats);
        if clashing.iter().all(|&i| levels[i] == n_levels) {
            return targets;
        }
        for i in clashing {
            levels[i] = (levels[i] + 1).min(n_levels);
        }
    }
}

/// Returns the target that a manifest states.
fn stated(output: &Path, output_dir: &Path) -> Target {
    Target {
        folder: output_dir.join(output.parent().unwrap_or(Path::new(""))),
        name: output.file_name().unwrap_or_default().to_owned(),
    }
}

/// Returns the target at `level`: 0 stem, 1 file name, then one more folder each. `number`: of the occurrence, from 1.
fn derived(input: &Input, number: usize, output_dir: &Path, level: usize) -> Target {
    let stdin = OsStr::new("stdin");
    let file = input
        .path
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or(stdin);
    let stem = Path::new(file).file_stem().unwrap_or(file);
    let mut name = if level == 0 {
        stem.to_owned()
    } else {
        file.to_owned()
    };
    let folders = input
        .identity
        .parent()
        .into_iter()
        .flat_map(Path::iter)
        .rev();
    for folder in folders
        .take(level.saturating_sub(1))
        .filter(|folder| *folder != "/")
    {
        let mut longer = folder.to_owned();
        longer.push("-");
        longer.push(name);
        name = longer;
    }
    if number > 1 {
        name = with_suffix(&name, &format!("-{number}"));
    }
    Target {
        folder: output_dir.join(&input.folder),
        name,
    }
}

/// Returns the indices of the targets that share an output with another or would replace an input.
fn clashing(targets: &[Target], files: &HashSet<&Path>, formats: &[impl Display]) -> Vec<usize> {
    let mut owners: HashMap<PathBuf, Vec<usize>> = HashMap::new();
    let mut clashing = HashSet::new();
    for (i, target) in targets.iter().enumerate() {
        let paths = formats
            .iter()
            .flat_map(|format| [target.path(format), target.partial_path(format)]);
        for path in paths.map(|path| identity(&path)) {
            if files.contains(path.as_path()) {
                clashing.insert(i);
            }
            owners.entry(fold_case(path)).or_default().push(i);
        }
    }
    clashing.extend(
        owners
            .into_values()
            .filter(|owners| owners.len() > 1)
            .flatten(),
    );
    clashing.into_iter().collect()
}

/// Folds the case of a path: `A.srt` and `a.srt` are one file in case-insensitive file systems.
pub(crate) fn fold_case(path: PathBuf) -> PathBuf {
    if cfg!(any(target_os = "macos", windows)) {
        return PathBuf::from(path.to_string_lossy().to_lowercase());
    }
    path
}

/// Concatenates `name` and `suffix`; the name is truncated if both would be too long for a file system.
fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut whole = cut(name, MAX_NAME_BYTES - suffix.len());
    whole.push(suffix);
    whole
}

#[cfg(unix)]
fn cut(name: &OsStr, max_bytes: usize) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_bytes();
    let mut end = bytes.len().min(max_bytes);
    if let Some(text) = name.to_str() {
        end = text.floor_char_boundary(end);
    }
    OsStr::from_bytes(&bytes[..end]).to_owned()
}

#[cfg(not(unix))]
fn cut(name: &OsStr, max_bytes: usize) -> OsString {
    if name.len() <= max_bytes {
        return name.to_owned();
    }
    let text = name.to_string_lossy();
    OsString::from(&text[..text.floor_char_boundary(max_bytes)])
}

#[cfg(test)]
mod tests {
    use overhear::output::Format;

    use super::*;
    use crate::manifest::Overrides;

    fn names(paths: &[&str], formats: &[Format]) -> Vec<String> {
        let inputs: Vec<_> = paths
            .iter()
            .map(|path| Input {
                path: Some(PathBuf::from(path)),
                identity: Path::new("/home/me").join(path),
                folder: PathBuf::new(),
                output: None,
                overrides: Overrides::default(),
            })
            .collect();
        names_of(&inputs, formats)
    }

    fn names_of(inputs: &[Input], formats: &[Format]) -> Vec<String> {
        let output_dir = Path::new("/home/me");
        let targets = targets(inputs, output_dir, formats);
        let relative = |target: &Target| {
            let path = target.path(formats[0]);
            path.strip_prefix(output_dir)
                .map_or(String::new(), |path| path.display().to_string())
        };
        targets.iter().map(relative).collect()
    }

    #[test]
    fn outputs_have_the_same_names_as_in_openai_whisper() {
        let names = names(
            &["a.wav", "b.tar.gz", "sub/c", "/x/.hidden"],
            &[Format::Srt],
        );
        assert_eq!(names, ["a.srt", "b.tar.srt", "c.srt", ".hidden.srt"]);
    }

    #[test]
    fn inputs_of_one_stem_get_names_of_their_own() {
        let srt = &[Format::Srt];
        assert_eq!(
            names(&["a.mp3", "a.wav", "b.wav"], srt),
            ["a.mp3.srt", "a.wav.srt", "b.srt"]
        );
        assert_eq!(
            names(&["d1/a.wav", "d2/a.wav"], srt),
            ["d1-a.wav.srt", "d2-a.wav.srt"]
        );
        let three = names(&["a.mp3", "a.wav", "a.mp3.wav"], srt);
        assert_eq!(three.iter().collect::<HashSet<_>>().len(), 3, "{three:?}");
        assert_eq!(names(&["a-b/c.x", "a/b-c.x", "c.x"], srt)[1], "b-c.srt");
    }

    #[test]
    fn names_that_folders_do_not_distinguish_get_numbers() {
        let names = names(&["a-b/c.x", "a/b-c.x", "b-c.y", "c.y"], &[Format::Txt]);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 4, "{names:?}");
    }

    #[test]
    fn files_listed_again_are_numbered_and_stated_names_are_kept() {
        let srt = &[Format::Srt];
        assert_eq!(
            names(&["a.wav", "b.wav", "a.wav", "a.wav"], srt),
            ["a.srt", "b.srt", "a-2.srt", "a-3.srt"]
        );
        assert_eq!(
            names(&["a.wav", "a.wav", "a-2.mp3"], srt),
            ["a.srt", "a.wav-2.srt", "a-2.mp3.srt"]
        );
        let input = |path: &str, output: Option<&str>| Input {
            identity: Path::new("/home/me").join(path),
            output: output.map(Into::into),
            ..Input::file(path.into(), Path::new(""))
        };
        let stated = |second: &str| {
            let inputs = [
                input("a.wav", Some("x/b.1")),
                input("a.wav", Some(second)),
                input("a.wav", None),
                input("b.wav", None),
            ];
            names_of(&inputs, srt)
        };
        assert_eq!(stated("b"), ["x/b.1.srt", "b.srt", "a.srt", "b.wav.srt"]);
        assert_eq!(
            stated("x/b.1"),
            ["x/b.1-1.srt", "x/b.1-2.srt", "a.srt", "b.srt"]
        );
    }

    #[test]
    fn an_output_never_falls_on_an_input_or_a_partial_one() {
        assert_eq!(names(&["a.json"], &[Format::Json]), ["a.json.json"]);
        assert_eq!(names(&["a.json"], &[Format::Txt]), ["a.txt"]);
        let names = names(&["a.wav", "a.partial.mp3"], &[Format::Txt]);
        assert_eq!(names, ["a.wav.txt", "a.partial.mp3.txt"]);
    }

    #[test]
    fn long_names_are_cut_to_fit() {
        let name = format!("{}é.wav", "x".repeat(248));
        let target = Target {
            folder: PathBuf::new(),
            name: Path::new(&name).file_stem().unwrap_or_default().into(),
        };
        assert_eq!(target.path(Format::Txt).as_os_str().len(), 254);
        assert_eq!(target.path(Format::Json).as_os_str().len(), 255);
        assert_eq!(target.partial_path(Format::Json).as_os_str().len(), 255);
    }

    #[cfg(unix)]
    #[test]
    fn names_stay_byte_exact() {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let path = PathBuf::from(OsString::from_vec(b"/d/caf\xe9 \n;$(x).wav".to_vec()));
        let input = Input {
            identity: path.clone(),
            path: Some(path),
            folder: PathBuf::new(),
            output: None,
            overrides: Overrides::default(),
        };
        let target = &targets(&[input], Path::new("/out"), &[Format::Txt])[0];
        assert_eq!(
            target.path(Format::Txt).as_os_str().as_bytes(),
            b"/out/caf\xe9 \n;$(x).txt"
        );
    }
}
