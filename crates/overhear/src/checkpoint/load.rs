//! Reads a Hugging Face checkpoint: configuration, and tensors by openai/whisper's names.
//!
//! Weights go from the file straight into the panels that the model keeps, some rows at a time: peak memory is the weights
//! themselves.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use overhear_kernels::{Dtype, Matrix, MatrixData};
use serde::Deserialize;

use super::ModelDimensions;
use super::config::Config;
use super::elements::{Found, Stored, read_all, read_elements, read_widened};
use super::foreign;
use super::names::openai_name;
use super::safetensors::{MAX_TENSORS, SafeTensors, Tensor, is_plausible};
use crate::excerpt::excerpt;
use crate::json::read_json;
use crate::{Error, Result};

#[cfg(not(target_endian = "little"))]
compile_error!("checkpoints are little-endian and are read as they are");

/// The matrix of token embeddings, `[n_vocab, n_state]`.
pub(crate) const TOKEN_EMBEDDING: &str = "decoder.token_embedding.weight";
/// The output matrix, if it is not that: a name of Hugging Face's, as openai/whisper has none.
pub(crate) const OUTPUT: &str = "proj_out.weight";

/// More shards than any Whisper checkpoint has; each is an open file.
const MAX_SHARDS: usize = 100;

/// An opened checkpoint. Tensors are asked for by openai/whisper's names (`decoder.blocks.0.attn.query.weight`),
/// whatever the file calls them, and read straight into place in the dtype they are stored in.
pub(crate) struct Checkpoint {
    /// The file to name when a tensor is in none.
    path: PathBuf,
    dims: ModelDimensions,
    dtype: Dtype,
    has_own_output: bool,
    files: Vec<SafeTensors>,
    /// By openai/whisper's name: which file, and which of its tensors.
    tensors: HashMap<String, (usize, Tensor)>,
    /// Those that were asked for.
    used: RefCell<HashSet<String>>,
}

impl Checkpoint {
    /// Reads configuration and tensor headers of a Hugging Face folder; no weights yet.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file (here and in all methods).
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let config = Config::read(folder)?;
        let (path, files) = open_files(folder)?;
        let mut tensors = index_by_name(&files)?;
        let Some(dtype) = commonest_dtype(&tensors) else {
            return Err(Error::Model {
                path,
                reason: "no tensor of F16, BF16, F32 or F64".into(),
            });
        };
        // Files of tied weights may have them under either name.
        if !tensors.contains_key(TOKEN_EMBEDDING)
            && !config.has_own_output()
            && let Some(tensor) = tensors.remove(OUTPUT)
        {
            tensors.insert(TOKEN_EMBEDDING.into(), tensor);
        }
        let shape = |name: &str| Some(&tensors.get(name)?.1.shape[..]);
        let dims = config.dims(&shape)?;
        let has_own_output = config.has_own_output() && tensors.contains_key(OUTPUT);
        if config.has_own_output() && !has_own_output {
            tracing::warn!(
                file = %path.display(),
                "there is no proj_out.weight, though tie_word_embeddings is false: the token embedding is used for it"
            );
        }
        Ok(Self {
            path,
            dims,
            dtype,
            has_own_output,
            files,
            tensors,
            used: RefCell::default(),
        })
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether the output matrix is another than the token embedding.
    pub(crate) fn has_own_output(&self) -> bool {
        self.has_own_output
    }

    /// Warns of tensors that were never asked for: they may be what makes the model.
    pub(crate) fn warn_of_unused(&self) {
        let used = self.used.borrow();
        let unused = self.tensors.iter().filter(|(name, _)| {
            // transformers leaves the one aside, and the embedding stands for the other.
            !used.contains(*name) && *name != OUTPUT
        });
        let mut names: Vec<&str> = unused.map(|(_, (_, tensor))| &tensor.name[..]).collect();
        names.sort_unstable();
        let Some(first) = names.first() else { return };
        let others = match names.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let is_lora = names.iter().any(|name| name.contains("lora_"));
        let advice = match is_lora {
            true => {
                ": a LoRA adapter that is not merged has no effect; merge it with PEFT's merge_and_unload"
            }
            false => "",
        };
        tracing::warn!(
            file = %self.path.display(),
            "unknown tensors are ignored: {}{others}{advice}",
            excerpt(first)
        );
    }

    pub(crate) fn dims(&self) -> &ModelDimensions {
        &self.dims
    }

    /// The dtype most weights are stored in.
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// All at once, for tests: the matrices `names`, each `[n_rows, n_cols]`, stacked into one `[names.len() * n_rows, n_cols]`.
    /// If they differ in dtype, they are widened to f32.
    #[cfg(test)]
    pub(crate) fn matrix(&self, names: &[&str], n_rows: usize, n_cols: usize) -> Result<Matrix> {
        let rows = self.rows(names, n_rows, n_cols)?;
        let data = match rows.dtype {
            Some(Dtype::F32) => MatrixData::F32(read_all(&rows.found)?),
            Some(Dtype::F16) => MatrixData::F16(read_all(&rows.found)?),
            Some(Dtype::Bf16) => MatrixData::Bf16(read_all(&rows.found)?),
            None => return rows.widened(),
        };
        Ok(Matrix::new(names.len() * n_rows, n_cols, data))
    }

    /// The first `n_rows` rows of a matrix of `n_cols` columns, to be read some at a time.
    pub(crate) fn first_rows(
        &self,
        name: &str,
        n_rows: usize,
        n_cols: usize,
    ) -> Result<Stacked<'_>> {
        let found = self.find(name)?;
        let [rows, cols] = found.1.shape[..] else {
            return Err(misshapen(found, &[n_rows, n_cols]));
        };
        if rows < n_rows as u64 || cols != n_cols as u64 {
            return Err(misshapen(found, &[n_rows, n_cols]));
        }
        Ok(Stacked {
            dtype: Some(found.2.kept()),
            found: vec![found],
            n_rows,
            n_cols,
        })
    }

    /// The same, to be read some rows at a time.
    pub(crate) fn rows(&self, names: &[&str], n_rows: usize, n_cols: usize) -> Result<Stacked<'_>> {
        let found = names
            .iter()
            .map(|name| self.find_shaped(name, &[n_rows, n_cols]))
            .collect::<Result<Vec<_>>>()?;
        let mut dtypes = found.iter().map(|(_, _, stored)| stored.kept());
        let first = dtypes.next();
        Ok(Stacked {
            dtype: first.filter(|&first| dtypes.all(|dtype| dtype == first)),
            found,
            n_rows,
            n_cols,
        })
    }

    /// A 1-d convolution `[n_out, n_in, n_tap]` as a matrix `[n_out, n_tap * n_in]`, tap-major, so that a row
    /// of the product's left side is `n_tap` consecutive frames of a time-major buffer.
    pub(crate) fn convolution(
        &self,
        name: &str,
        n_out: usize,
        n_in: usize,
        n_tap: usize,
    ) -> Result<Matrix> {
        let found = [self.find_shaped(name, &[n_out, n_in, n_tap])?];
        let data = match found[0].2.kept() {
            Dtype::F32 => MatrixData::F32(tap_major(read_all(&found)?, n_in, n_tap)),
            Dtype::F16 => MatrixData::F16(tap_major(read_all(&found)?, n_in, n_tap)),
            Dtype::Bf16 => MatrixData::Bf16(tap_major(read_all(&found)?, n_in, n_tap)),
        };
        Ok(Matrix::new(n_out, n_tap * n_in, data))
    }

    /// A vector `[len]`, widened to f32; or a matrix of `len` elements, row after row (positional embeddings).
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let (file, tensor, stored) = self.find(name)?;
        let n_elements = tensor.n_bytes() / stored.size() as u64;
        if n_elements != len as u64 || !matches!(tensor.shape.len(), 1 | 2) {
            return Err(bad(
                file,
                format!(
                    "tensor {} is {:?}, not {len} elements",
                    tensor.name, tensor.shape
                ),
            ));
        }
        read_widened(&[(file, tensor, stored)])
    }

    fn find(&self, name: &str) -> Result<Found<'_>> {
        let Some((file, tensor)) = self.tensors.get(name) else {
            let adapted = self
                .tensors
                .values()
                .any(|(_, t)| t.name.contains(".base_layer."));
            let advice = match adapted {
                true => ", but a LoRA adapter around it: merge that with PEFT's merge_and_unload",
                false => "",
            };
            return Err(Error::Model {
                path: self.path.clone(),
                reason: format!("no tensor {name}{advice}"),
            });
        };
        self.used.borrow_mut().insert(name.to_owned());
        let file = &self.files[*file];
        match Stored::of(tensor) {
            Some(stored) => Ok((file, tensor, stored)),
            None => Err(bad(
                file,
                format!(
                    "tensor {} is {}, not F16, BF16, F32 or F64",
                    excerpt(&tensor.name),
                    excerpt(&tensor.dtype)
                ),
            )),
        }
    }

    fn find_shaped(&self, name: &str, shape: &[usize]) -> Result<Found<'_>> {
        let found = self.find(name)?;
        if found
            .1
            .shape
            .iter()
            .copied()
            .eq(shape.iter().map(|&n| n as u64))
        {
            return Ok(found);
        }
        Err(misshapen(found, shape))
    }
}

fn misshapen((file, tensor, _): Found<'_>, shape: &[usize]) -> Error {
    let name = excerpt(&tensor.name);
    bad(
        file,
        format!("tensor {name} is {:?}, not {shape:?}", tensor.shape),
    )
}

/// Matrices of one shape, one behind the other, in their files.
pub(crate) struct Stacked<'a> {
    found: Vec<Found<'a>>,
    /// If all have the same.
    dtype: Option<Dtype>,
    /// Of each.
    n_rows: usize,
    n_cols: usize,
}

impl Stacked<'_> {
    /// The dtype of all, if they have the same.
    pub(crate) fn dtype(&self) -> Option<Dtype> {
        self.dtype
    }

    /// Rows of all, and columns.
    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.found.len() * self.n_rows, self.n_cols)
    }

    /// Reads rows from `first` on, of all of one dtype.
    ///
    /// # Panics
    /// If there are fewer than `bytes` takes.
    pub(crate) fn read(&self, first: usize, mut bytes: &mut [u8]) -> Result<()> {
        let mut row = first;
        while !bytes.is_empty() {
            let found = self.found[row / self.n_rows];
            let row_bytes = self.n_cols * found.2.kept().size();
            let (at, left) = (row % self.n_rows, self.n_rows - row % self.n_rows);
            let len = bytes.len().min(left * row_bytes);
            let (this, rest) = bytes.split_at_mut(len);
            read_elements(found, at * self.n_cols, this)?;
            (row, bytes) = (row + left, rest);
        }
        Ok(())
    }

    /// All of them, widened to f32.
    pub(crate) fn widened(&self) -> Result<Matrix> {
        let data = MatrixData::F32(read_widened(&self.found)?);
        Ok(Matrix::new(self.shape().0, self.n_cols, data))
    }
}

fn bad(file: &SafeTensors, reason: String) -> Error {
    Error::Model {
        path: file.path().to_owned(),
        reason,
    }
}

/// `model.safetensors`, or `model.safetensors.index.json` and the shards that it names.
fn open_files(folder: &Path) -> Result<(PathBuf, Vec<SafeTensors>)> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        let file = SafeTensors::open(&single)?;
        return Ok((single, vec![file]));
    }
    let path = folder.join("model.safetensors.index.json");
    let Some(index) = read_json::<ShardIndex>(&path)? else {
        let known = foreign::describe_folder(folder);
        let nothing = "no model.safetensors or model.safetensors.index.json in this folder";
        return Err(Error::Model {
            path: folder.to_owned(),
            reason: known.unwrap_or(nothing.into()),
        });
    };
    let bad = |reason: String| Error::Model {
        path: path.clone(),
        reason,
    };
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(bad(format!("names {} files", names.len())));
    }
    let is_plain =
        |name: &str| is_plausible(name) && Path::new(name).file_name() == Some(name.as_ref());
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(bad(format!(
            "{:?} is not the name of a file in this folder",
            excerpt(name)
        )));
    }
    let mut files: Vec<SafeTensors> = Vec::new();
    for name in names {
        let file = SafeTensors::open(&folder.join(name))?;
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
        // What no shard has was left out when it was saved: an output matrix that is the embedding again.
        let mut listed = listed.filter(|(tensor, _)| *tensor != OUTPUT);
        if let Some((tensor, _)) = listed.find(|(tensor, _)| !present.contains(tensor.as_str())) {
            return Err(bad(format!(
                "tensor {:?} is not in {name}",
                excerpt(tensor)
            )));
        }
        files.push(file);
    }
    Ok((path, files))
}

/// The part of `model.safetensors.index.json` that is read: which file each tensor is in.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

fn index_by_name(files: &[SafeTensors]) -> Result<HashMap<String, (usize, Tensor)>> {
    let mut tensors = HashMap::new();
    for (i, file) in files.iter().enumerate() {
        for tensor in file.tensors() {
            if let Some((_, other)) = tensors.insert(openai_name(&tensor.name), (i, tensor.clone()))
            {
                return Err(bad(
                    file,
                    format!(
                        "tensors {} and {} are the same one",
                        excerpt(&other.name),
                        excerpt(&tensor.name)
                    ),
                ));
            }
        }
    }
    Ok(tensors)
}

fn commonest_dtype(tensors: &HashMap<String, (usize, Tensor)>) -> Option<Dtype> {
    let n_elements = |wanted: Dtype| -> u64 {
        tensors
            .values()
            .filter_map(|(_, t)| Some((t, Stored::of(t)?)))
            .filter(|(_, stored)| stored.kept() == wanted)
            .map(|(t, stored)| t.n_bytes() / stored.size() as u64)
            .sum()
    };
    let (most, dtype) = [Dtype::F32, Dtype::F16, Dtype::Bf16]
        .map(|d| (n_elements(d), d))
        .into_iter()
        .max_by_key(|&(n, _)| n)?;
    (most > 0).then_some(dtype)
}

/// Turns each output's `[n_in, n_tap]` into `[n_tap, n_in]`, in place.
fn tap_major<T: Pod>(mut elements: Vec<T>, n_in: usize, n_tap: usize) -> Vec<T> {
    let mut row = vec![T::zeroed(); n_in * n_tap];
    for filter in elements.chunks_exact_mut(n_in * n_tap) {
        row.copy_from_slice(filter);
        for (i, &weight) in row.iter().enumerate() {
            filter[i % n_tap * n_in + i / n_tap] = weight;
        }
    }
    elements
}
