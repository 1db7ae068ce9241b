//! Reads a Hugging Face checkpoint: configuration, and tensors by openai/whisper's names.
//!
//! Weights go from the file straight into the panels that the model keeps, some rows at a time: peak memory is the weights
//! themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytemuck::{Pod, cast_slice_mut, zeroed_vec};
use half::{bf16, f16};
use overhear_kernels::{Dtype, Matrix, MatrixData};
use serde::Deserialize;

use super::ModelDimensions;
use super::config::read_dims;
use super::names::openai_name;
use super::safetensors::{SafeTensors, Tensor, is_plausible};
use crate::file::read_if_present;
use crate::{Error, Result};

#[cfg(not(target_endian = "little"))]
compile_error!("checkpoints are little-endian and are read as they are");

/// More shards than any Whisper checkpoint has; each is an open file.
const MAX_SHARDS: usize = 100;

/// An opened checkpoint. Tensors are asked for by openai/whisper's names (`decoder.blocks.0.attn.query.weight`),
/// whatever the file calls them, and read straight into place in the dtype they are stored in.
pub(crate) struct Checkpoint {
    /// The file to name when a tensor is in none.
    path: PathBuf,
    dims: ModelDimensions,
    dtype: Dtype,
    files: Vec<SafeTensors>,
    /// By openai/whisper's name: which file, and which of its tensors.
    tensors: HashMap<String, (usize, Tensor)>,
}

impl Checkpoint {
    /// Reads configuration and tensor headers of a Hugging Face folder; no weights yet.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file (here and in all methods).
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let dims = read_dims(folder)?;
        let (path, files) = open_files(folder)?;
        let tensors = index_by_name(&files)?;
        let Some(dtype) = commonest_dtype(&tensors) else {
            return Err(Error::Model {
                path,
                reason: "no tensor of F16, BF16 or F32".into(),
            });
        };
        Ok(Self {
            path,
            dims,
            dtype,
            files,
            tensors,
        })
    }

    pub(crate) fn dims(&self) -> &ModelDimensions {
        &self.dims
    }

    /// The dtype most weights are stored in.
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The matrices `names`, each `[n_rows, n_cols]`, stacked into one `[names.len() * n_rows, n_cols]`.
    /// If they differ in dtype, they are widened to f32.
    pub(crate) fn matrix(&self, names: &[&str], n_rows: usize, n_cols: usize) -> Result<Matrix> {
        let rows = self.rows(names, n_rows, n_cols)?;
        let data = match rows.dtype {
            Some(Dtype::F32) => MatrixData::F32(read_all(&rows.found)?),
            Some(Dtype::F16) => MatrixData::F16(read_all(&rows.found)?),
            Some(Dtype::Bf16) => MatrixData::Bf16(read_all(&rows.found)?),
            None => MatrixData::F32(read_widened(&rows.found)?),
        };
        Ok(Matrix::new(names.len() * n_rows, n_cols, data))
    }

    /// The same, to be read some rows at a time.
    pub(crate) fn rows(&self, names: &[&str], n_rows: usize, n_cols: usize) -> Result<Stacked<'_>> {
        let found = names
            .iter()
            .map(|name| self.find_shaped(name, &[n_rows, n_cols]))
            .collect::<Result<Vec<_>>>()?;
        let mut dtypes = found.iter().map(|(_, _, dtype)| *dtype);
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
        let data = match found[0].2 {
            Dtype::F32 => MatrixData::F32(tap_major(read_all(&found)?, n_in, n_tap)),
            Dtype::F16 => MatrixData::F16(tap_major(read_all(&found)?, n_in, n_tap)),
            Dtype::Bf16 => MatrixData::Bf16(tap_major(read_all(&found)?, n_in, n_tap)),
        };
        Ok(Matrix::new(n_out, n_tap * n_in, data))
    }

    /// A vector `[len]`, widened to f32; or a matrix of `len` elements, row after row (positional embeddings).
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let (file, tensor, dtype) = self.find(name)?;
        let n_elements = tensor.n_bytes() / dtype.size() as u64;
        if n_elements != len as u64 || !matches!(tensor.shape.len(), 1 | 2) {
            return Err(bad(
                file,
                format!(
                    "tensor {} is {:?}, not {len} elements",
                    tensor.name, tensor.shape
                ),
            ));
        }
        read_widened(&[(file, tensor, dtype)])
    }

    fn find(&self, name: &str) -> Result<Found<'_>> {
        let Some((file, tensor)) = self.tensors.get(name) else {
            return Err(Error::Model {
                path: self.path.clone(),
                reason: format!("no tensor {name}"),
            });
        };
        let file = &self.files[*file];
        match dtype(tensor) {
            Some(dtype) => Ok((file, tensor, dtype)),
            None => Err(bad(
                file,
                format!(
                    "tensor {} is {}, not F16, BF16 or F32",
                    tensor.name, tensor.dtype
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
        Err(bad(
            found.0,
            format!(
                "tensor {} is {:?}, not {shape:?}",
                found.1.name, found.1.shape
            ),
        ))
    }
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
            let (file, tensor, dtype) = self.found[row / self.n_rows];
            let row_bytes = self.n_cols * dtype.size();
            let (at, left) = (row % self.n_rows, self.n_rows - row % self.n_rows);
            let len = bytes.len().min(left * row_bytes);
            let (this, rest) = bytes.split_at_mut(len);
            file.read(tensor, at * row_bytes, this)?;
            (row, bytes) = (row + left, rest);
        }
        Ok(())
    }
}

/// A tensor, the file it is in, and its dtype.
type Found<'a> = (&'a SafeTensors, &'a Tensor, Dtype);

fn bad(file: &SafeTensors, reason: String) -> Error {
    Error::Model {
        path: file.path().to_owned(),
        reason,
    }
}

fn dtype(tensor: &Tensor) -> Option<Dtype> {
    match tensor.dtype.as_str() {
        "F32" => Some(Dtype::F32),
        "F16" => Some(Dtype::F16),
        "BF16" => Some(Dtype::Bf16),
        _ => None,
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
    let Some(json) = read_if_present(&path)? else {
        let reason = "no model.safetensors or model.safetensors.index.json in this folder".into();
        return Err(Error::Model {
            path: folder.to_owned(),
            reason,
        });
    };
    let bad = |reason: String| Error::Model {
        path: path.clone(),
        reason,
    };
    let index: ShardIndex =
        serde_json::from_slice(&json).map_err(|e| bad(format!("malformed: {e}")))?;
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(bad(format!("names {} files", names.len())));
    }
    let is_plain =
        |name: &str| is_plausible(name) && Path::new(name).file_name() == Some(name.as_ref());
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        let start: String = name.chars().take(100).collect();
        return Err(bad(format!(
            "{start:?} is not the name of a file in this folder"
        )));
    }
    let files = names
        .iter()
        .map(|name| SafeTensors::open(&folder.join(name)))
        .collect::<Result<Vec<_>>>()?;
    for (file, &shard) in files.iter().zip(&names) {
        let present: HashSet<&str> = file
            .tensors()
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        let mut listed = index.weight_map.iter().filter(|(_, file)| *file == shard);
        if let Some((tensor, _)) = listed.find(|(tensor, _)| !present.contains(tensor.as_str())) {
            let start: String = tensor.chars().take(100).collect();
            return Err(bad(format!("tensor {start:?} is not in {shard}")));
        }
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
            let Some(name) = openai_name(&tensor.name) else {
                continue;
            };
            if let Some((_, other)) = tensors.insert(name, (i, tensor.clone())) {
                return Err(bad(
                    file,
                    format!(
                        "tensors {} and {} are the same one",
                        other.name, tensor.name
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
            .filter(|(_, t)| dtype(t) == Some(wanted))
            .map(|(_, t)| t.n_bytes() / wanted.size() as u64)
            .sum()
    };
    let (most, dtype) = [Dtype::F32, Dtype::F16, Dtype::Bf16]
        .map(|d| (n_elements(d), d))
        .into_iter()
        .max_by_key(|&(n, _)| n)?;
    (most > 0).then_some(dtype)
}

/// Reads tensors of dtype `T` one behind the other. The header says they are in the file, so this allocates no
/// more than the file holds.
fn read_all<T: Pod>(tensors: &[Found]) -> Result<Vec<T>> {
    let n_bytes: usize = tensors
        .iter()
        .map(|(_, tensor, _)| tensor.n_bytes() as usize)
        .sum();
    let mut elements = zeroed_vec::<T>(n_bytes / size_of::<T>());
    let mut bytes: &mut [u8] = cast_slice_mut(&mut elements);
    for (file, tensor, _) in tensors {
        let (this, rest) = bytes.split_at_mut(tensor.n_bytes() as usize);
        file.read(tensor, 0, this)?;
        bytes = rest;
    }
    Ok(elements)
}

/// Reads tensors of any dtypes one behind the other as f32.
fn read_widened(tensors: &[Found]) -> Result<Vec<f32>> {
    let mut elements = Vec::new();
    for &(file, tensor, dtype) in tensors {
        let this = [(file, tensor, dtype)];
        match dtype {
            Dtype::F32 if elements.is_empty() => elements = read_all(&this)?,
            Dtype::F32 => elements.extend(read_all::<f32>(&this)?),
            Dtype::F16 => elements.extend(read_all::<f16>(&this)?.into_iter().map(f16::to_f32)),
            Dtype::Bf16 => elements.extend(read_all::<bf16>(&this)?.into_iter().map(bf16::to_f32)),
        }
    }
    Ok(elements)
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
