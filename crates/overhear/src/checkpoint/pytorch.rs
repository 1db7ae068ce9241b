//! Reader of PyTorch files, zip archives of `torch.save`: openai/whisper's own checkpoints, and the weights of Hugging Face
//! folders without safetensors (`torch/serialization.py::_save`, `whisper/__init__.py::load_model`).
//!
//! An archive has a folder with `data.pkl`, which describes tensors, and an entry in `data/` for the elements of each storage.
//! Tensors may share a storage, as a tied output matrix does.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use flate2::Crc;

use super::config::check;
use super::fields::{Parsed, open_file, start_of, unreadable};
use super::pickle::{Pickled, Value, View, unpickle};
use super::safetensors::element_size;
use super::tensor_file::{MAX_TENSORS, Tensor, TensorFile, is_plausible, read_exact_at};
use super::zip::{self, Entry};
use super::{ModelDimensions, TOKEN_EMBEDDING};
use crate::excerpt::excerpt;
use crate::file::{LFS_POINTER, LFS_REASON};
use crate::{Error, Result};

/// Maximum size of `data.pkl`; that of large-v3 takes 0.15 MB.
const MAX_PICKLE_BYTES: u64 = 4 << 20;

/// An open PyTorch file.
pub(super) struct PyTorch {
    /// Dimensions, which only openai/whisper's checkpoints have.
    pub(super) dims: Option<ModelDimensions>,
    pub(super) file: TensorFile,
}

/// Returns whether the file at `path` begins as a PyTorch file of any version.
pub(super) fn is_pytorch(path: &Path) -> bool {
    start_of(path).is_some_and(|start| start == *zip::MAGIC || is_bare_pickle(&start))
}

/// Returns whether a file begins with a pickle, as torch wrote before 1.6.
fn is_bare_pickle(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, ..])
}

impl PyTorch {
    /// Reads the descriptions of the tensors of a file.
    ///
    /// # Errors
    /// [`Error::Model`] if the file is cut or damaged, if its pickle needs anything but tensors, or if those are transposed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Model {
            path: path.to_owned(),
            reason,
        };
        let (file, len) = open_file(path).map_err(bad)?;
        let (dims, tensors) = read(&file, len).map_err(bad)?;
        Ok(Self {
            dims,
            file: TensorFile::new(path, file, 0, tensors),
        })
    }
}

/// Reads the dimensions, if there are any, and the descriptions of the tensors of a file of `len` bytes.
fn read(file: &File, len: u64) -> Parsed<(Option<ModelDimensions>, Vec<Tensor>)> {
    check_start(file, len)?;
    let archive = Archive::of(zip::entries(file, len)?)?;
    let pickle = archive.pickle(file)?;
    let pickled = unpickle(&pickle)?;
    let root = pickled.root();
    let openai = ["dims", "model_state_dict"].map(|key| pickled.value(root, key));
    let (dims, state) = match openai {
        [Some(dims), Some(state)] => (Some(dims_of(&pickled, dims)?), state),
        _ => (None, root),
    };
    let tensors = archive.tensors(&pickled, state)?;
    // Tensors that share storages would take memory that the file does not have. A tied output matrix doubles the embedding.
    let mut sizes = tensors.iter().map(Tensor::n_bytes);
    let n_bytes = sizes.try_fold(0_u64, u64::checked_add);
    if n_bytes.is_none_or(|n| n > 2 * len) {
        return Err(format!(
            "tensors that share their elements: they have more than twice the {len} bytes of the file"
        ));
    }
    let embedding = tensors.iter().find(|tensor| tensor.name == TOKEN_EMBEDDING);
    let n_rows = embedding.and_then(|tensor| tensor.shape.first());
    match (dims, n_rows) {
        (Some(dims), Some(&n_rows)) if n_rows != dims.n_vocab as u64 => Err(format!(
            "n_vocab is {}, but the token embedding has {n_rows} rows",
            dims.n_vocab
        )),
        _ => Ok((dims, tensors)),
    }
}

/// Checks that a file begins as a zip archive.
fn check_start(file: &File, len: u64) -> Parsed<()> {
    let mut start = [0; 8];
    let n_start = len.min(8) as usize;
    read_exact_at(file, &mut start[..n_start], 0).map_err(unreadable)?;
    if start.starts_with(zip::MAGIC) {
        return Ok(());
    }
    Err(match &start {
        start if LFS_POINTER.starts_with(start) => LFS_REASON,
        start if is_bare_pickle(start) => {
            "a PyTorch file in the format of before torch 1.6: load it with torch.load(weights_only=True), and save that with \
             torch.save"
        }
        _ => "not a PyTorch file: it does not begin as a zip archive",
    }
    .to_owned())
}

/// Reads a small entry, and compares it with its checksum if it has one.
fn bytes(file: &File, entry: &Entry, max: u64) -> Parsed<Vec<u8>> {
    let name = excerpt(&entry.name);
    if entry.len > max {
        return Err(format!("{name} is {} bytes", entry.len));
    }
    let mut bytes = vec![0; entry.len as usize];
    read_exact_at(file, &mut bytes, entry.first).map_err(unreadable)?;
    let mut crc = Crc::new();
    crc.update(&bytes);
    match entry.crc == 0 || entry.crc == crc.sum() {
        true => Ok(bytes),
        false => Err(format!(
            "{name} does not have its checksum: the file is damaged"
        )),
    }
}

/// Entries of an archive by name, without the folder that all are in.
struct Archive(HashMap<String, Entry>);

impl Archive {
    fn of(entries: Vec<Entry>) -> Parsed<Self> {
        let mut by_name = HashMap::new();
        for entry in entries {
            let name = entry
                .name
                .split_once('/')
                .map_or(&entry.name[..], |(_, name)| name)
                .to_owned();
            if let Some(other) = by_name.insert(name, entry) {
                return Err(format!("two entries are {}", excerpt(&other.name)));
            }
        }
        Ok(Self(by_name))
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    /// Reads the pickle, after the order of the bytes of the storages.
    fn pickle(&self, file: &File) -> Parsed<Vec<u8>> {
        if let Some(entry) = self.entry("byteorder")
            && bytes(file, entry, 8)? != b"little"
        {
            return Err("weights of a big-endian machine".to_owned());
        }
        let entry = self.entry("data.pkl");
        let entry = entry.ok_or("a zip archive without data.pkl, so not of torch.save")?;
        bytes(file, entry, MAX_PICKLE_BYTES)
    }

    /// Returns the tensors of a dictionary.
    fn tensors(&self, pickled: &Pickled<'_>, state: &Value<'_>) -> Parsed<Vec<Tensor>> {
        let Value::Dictionary(items) = state else {
            return Err("not a dictionary of tensors".to_owned());
        };
        let mut tensors = Vec::new();
        for &(key, value) in items {
            if let (&Value::Text(name), Value::Tensor(view)) =
                (pickled.get(key), pickled.get(value))
            {
                if !is_plausible(name) {
                    return Err("a tensor's name is very long or cannot be printed".to_owned());
                }
                if tensors.len() == MAX_TENSORS {
                    return Err(format!("more than {MAX_TENSORS} tensors"));
                }
                let tensor = self.tensor(name, view);
                tensors
                    .push(tensor.map_err(|reason| format!("tensor {} {reason}", excerpt(name)))?);
            }
        }
        match tensors.is_empty() {
            true => Err(
                "no tensors by their names: save the state_dict of a model, or openai/whisper's dims and model_state_dict"
                    .to_owned(),
            ),
            false => Ok(tensors),
        }
    }

    /// Returns the place of a tensor's elements.
    fn tensor(&self, name: &str, view: &View<'_>) -> Parsed<Tensor> {
        let View {
            storage,
            first,
            shape,
            strides,
        } = view;
        let n_bytes = |n: u64| n.checked_mul(element_size(storage.dtype)?);
        let entry = self.entry(&format!("data/{}", storage.key));
        let entry = entry.ok_or_else(|| format!("has no storage {:?}", excerpt(storage.key)))?;
        if n_bytes(storage.n_elements) != Some(entry.len) {
            return Err(format!(
                "has a storage of {} {} in {} bytes",
                storage.n_elements, storage.dtype, entry.len
            ));
        }
        if !is_contiguous(shape, strides) {
            return Err("is transposed or strided: save it after .contiguous()".to_owned());
        }
        let n_elements = shape.iter().try_fold(1_u64, |n, &size| n.checked_mul(size));
        let end = n_elements.and_then(|n| first.checked_add(n));
        let (Some(end), Some(start)) = (
            end.filter(|&end| end <= storage.n_elements)
                .and_then(n_bytes),
            n_bytes(*first),
        ) else {
            return Err(format!(
                "is {shape:?} from element {first} of {}",
                storage.n_elements
            ));
        };
        let offsets = (entry.first + start, entry.first + end);
        Ok(Tensor::new(
            name.to_owned(),
            storage.dtype.to_owned(),
            shape.clone(),
            offsets,
        ))
    }
}

/// Returns whether elements follow each other in the order of the dimensions. The stride of a dimension of 1 means nothing.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = Some(1_u64);
    let mut is_contiguous = true;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        is_contiguous &= size == 1 || Some(stride) == expected;
        expected = expected.and_then(|n| n.checked_mul(size));
    }
    is_contiguous || shape.contains(&0)
}

/// Returns the dimensions of a checkpoint of openai/whisper.
fn dims_of(pickled: &Pickled<'_>, dims: &Value<'_>) -> Parsed<ModelDimensions> {
    let size = |name: &str| -> Parsed<usize> {
        match pickled.value(dims, name) {
            Some(&Value::Integer(number)) => {
                usize::try_from(number).map_err(|_| format!("{name} is {number}"))
            }
            _ => Err(format!("no {name} in dims")),
        }
    };
    let dims = ModelDimensions {
        n_mels: size("n_mels")?,
        n_audio_ctx: size("n_audio_ctx")?,
        n_audio_state: size("n_audio_state")?,
        n_audio_head: size("n_audio_head")?,
        n_audio_layer: size("n_audio_layer")?,
        n_vocab: size("n_vocab")?,
        n_text_ctx: size("n_text_ctx")?,
        n_text_state: size("n_text_state")?,
        n_text_head: size("n_text_head")?,
        n_text_layer: size("n_text_layer")?,
    };
    check(&dims)?;
    Ok(dims)
}
