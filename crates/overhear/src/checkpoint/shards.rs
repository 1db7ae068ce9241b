//! Weights of a Hugging Face folder: one file, or the shards that an index lists.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::OUTPUT;
use super::folder::only_file;
use super::foreign;
use super::gguf::{self, is_gguf};
use super::pytorch::PyTorch;
use super::safetensors;
use super::tensor_file::{MAX_TENSORS, TensorFile, is_plausible};
use crate::excerpt::excerpt;
use crate::json::read_json;
use crate::{Error, Result};

/// Names of the weights of a Hugging Face folder in one file; of shards, that of their index is one of these with
/// `.index.json`. Of several, the first is read.
pub(crate) const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// Maximum number of shards, each of which is an open file; no Whisper checkpoint has as many.
const MAX_SHARDS: usize = 100;

/// Function that opens a file of tensors.
type Open = fn(&Path) -> Result<TensorFile>;

/// Names of the one file, and functions that open it or a shard. Folders that have both have the same weights twice.
const FORMATS: [(&str, Open); 2] = [
    (WEIGHTS[0], safetensors::open),
    (WEIGHTS[1], |path| Ok(PyTorch::open(path)?.file)),
];

/// Fields of `model.safetensors.index.json` that are read: the file of each tensor.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// Opens `model.safetensors` or the shards that `model.safetensors.index.json` lists, or else `pytorch_model.bin` or its
/// shards, or the one GGUF file. Returns the file that names them all, too.
pub(super) fn open_files(folder: &Path) -> Result<(PathBuf, Vec<TensorFile>)> {
    for (name, open) in FORMATS {
        let single = folder.join(name);
        if single.exists() {
            let file = open(&single)?;
            return Ok((single, vec![file]));
        }
        let path = folder.join(format!("{name}.index.json"));
        if let Some(index) = read_json::<ShardIndex>(&path)? {
            let files = open_shards(folder, &path, &index, open)?;
            return Ok((path, files));
        }
    }
    if let Some(path) = only_file(folder, is_gguf)? {
        let file = gguf::open(&path)?;
        return Ok((path, vec![file]));
    }
    let known = foreign::describe_folder(folder);
    let nothing = "no model.safetensors, pytorch_model.bin or index of shards in this folder";
    Err(Error::Model {
        path: folder.to_owned(),
        reason: known.unwrap_or(nothing.into()),
    })
}

/// Opens the shards that the index at `path` lists.
fn open_shards(
    folder: &Path,
    path: &Path,
    index: &ShardIndex,
    open: Open,
) -> Result<Vec<TensorFile>> {
    let bad = |reason: String| Error::Model {
        path: path.to_owned(),
        reason,
    };
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(bad(format!("lists {} files", names.len())));
    }
    let is_plain =
        |name: &str| is_plausible(name) && Path::new(name).file_name() == Some(name.as_ref());
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(bad(format!(
            "{:?} is not the name of a file in this folder",
            excerpt(name)
        )));
    }
    let mut files: Vec<TensorFile> = Vec::new();
    for name in names {
        let file = open(&folder.join(name))?;
        let n_before: usize = files.iter().map(|file| file.tensors().len()).sum();
        if n_before + file.tensors().len() > MAX_TENSORS {
            return Err(bad(format!(
                "its files have more than {MAX_TENSORS} tensors"
            )));
        }
        let present: HashSet<&str> = file
            .tensors()
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        let listed = index.weight_map.iter().filter(|(_, file)| *file == name);
        // The output matrix may be missing if it was tied to the token embedding when the file was saved.
        let mut listed = listed.filter(|(tensor, _)| *tensor != OUTPUT);
        if let Some((tensor, _)) = listed.find(|(tensor, _)| !present.contains(tensor.as_str())) {
            return Err(bad(format!(
                "tensor {:?} is not in {name}",
                excerpt(tensor)
            )));
        }
        files.push(file);
    }
    Ok(files)
}
