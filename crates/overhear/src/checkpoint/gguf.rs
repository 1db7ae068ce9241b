//! Reader of GGUF files in candle's layout: tensors with Hugging Face's names in one file, beside `config.json` and the
//! tokenizer's files (`candle-core/src/quantized/gguf_file.rs`; the format: `ggml/docs/gguf.md`).
//!
//! A file is a sequence of little-endian fields without alignment: metadata, then name, shape, type and place of each tensor;
//! and after the next multiple of the alignment the tensors. Nothing is allocated for a size that the file does not have.

use std::path::Path;

use super::elements::Stored;
use super::fields::{Fields, Parsed, start_of};
use super::ggml::{name_of_type, unsupported};
use super::tensor_file::{MAX_RANK, MAX_TENSORS, Tensor, TensorFile, is_plausible};
use crate::excerpt::excerpt;
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"GGUF";
/// Versions of the format. The first has lengths of 4 bytes, the others of 8.
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=3;
/// Alignment of tensors, unless the metadata have another.
const ALIGNMENT: u64 = 32;
/// Maximum number of entries of the metadata; llama.cpp's files have about 30.
const MAX_ENTRIES: u64 = 10_000;
/// Maximum number of arrays within each other.
const MAX_DEPTH: usize = 4;

/// Types of metadata (`gguf.h::gguf_type`): bytes of each by number; 0 for text and arrays.
const BYTES_OF_TYPE: [u64; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const UINT32: u64 = 4;
const TEXT: u64 = 8;
const ARRAY: u64 = 9;

/// Returns whether the file at `path` begins as a GGUF file.
pub(super) fn is_gguf(path: &Path) -> bool {
    start_of(path) == Some(*MAGIC)
}

/// Opens a file and checks the descriptions of its tensors against its size.
///
/// # Errors
/// [`Error::Model`] if the file is cut or damaged, or a tensor is of a type that is not supported.
pub(super) fn open(path: &Path) -> Result<TensorFile> {
    let bad = |reason: String| Error::Model {
        path: path.to_owned(),
        reason,
    };
    let (mut fields, file) = Fields::open(path).map_err(bad)?;
    let (data_start, tensors) = fields.gguf().map_err(bad)?;
    Ok(TensorFile::new(path, file, data_start, tensors))
}

impl Fields {
    /// Reads metadata and descriptions of tensors. Returns the start of the data, and the tensors.
    fn gguf(&mut self) -> Parsed<(u64, Vec<Tensor>)> {
        if self.bytes(MAGIC.len())? != MAGIC {
            return Err("not a GGUF file".to_owned());
        }
        let version = self.number::<4>()?;
        if !VERSIONS.contains(&version) {
            return Err(
                match VERSIONS.contains(&u64::from((version as u32).swap_bytes())) {
                    true => "a big-endian GGUF file".to_owned(),
                    false => format!("version {version} of GGUF is not known"),
                },
            );
        }
        let (n_tensors, n_entries) = (self.length(version)?, self.length(version)?);
        if n_tensors > MAX_TENSORS as u64 || n_entries > MAX_ENTRIES {
            return Err(format!(
                "{n_tensors} tensors and {n_entries} entries of metadata"
            ));
        }
        let mut alignment = ALIGNMENT;
        for _ in 0..n_entries {
            let key = self.text(version)?;
            let kind = self.number::<4>()?;
            match (&key[..], kind) {
                (b"general.alignment", UINT32) => alignment = self.number::<4>()?,
                _ => self.skip_value(version, kind, 0)?,
            }
        }
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(format!("an alignment of {alignment}"));
        }
        let mut tensors = Vec::new();
        for _ in 0..n_tensors {
            let tensor = self.tensor_info(version)?;
            tensors.push(tensor);
        }
        let data_start = self.position().next_multiple_of(alignment);
        for tensor in &tensors {
            let end = data_start.checked_add(tensor.offsets.1);
            if end.is_none_or(|end| end > self.len()) {
                return Err(format!(
                    "file is {} bytes, needs {} for tensor {}",
                    self.len(),
                    u128::from(data_start) + u128::from(tensor.offsets.1),
                    excerpt(&tensor.name)
                ));
            }
        }
        check_overlaps(&tensors)?;
        Ok((data_start, tensors))
    }

    /// Reads a length or number of things.
    fn length(&mut self, version: u64) -> Parsed<u64> {
        match version {
            1 => self.number::<4>(),
            _ => self.number::<8>(),
        }
    }

    /// Reads a text: its length, then its bytes.
    fn text(&mut self, version: u64) -> Parsed<Vec<u8>> {
        let n = self.length(version)?;
        self.bytes(usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// Skips a value of type `kind`, in an array of `depth`.
    fn skip_value(&mut self, version: u64, kind: u64, depth: usize) -> Parsed<()> {
        match kind {
            TEXT => {
                let n = self.length(version)?;
                self.skip(n)
            }
            ARRAY if depth < MAX_DEPTH => {
                let kind = self.number::<4>()?;
                let n = self.length(version)?;
                match bytes_of_type(kind) {
                    // Each takes bytes, so that their number is bounded by the file's size.
                    Some(0) => (0..n).try_for_each(|_| self.skip_value(version, kind, depth + 1)),
                    Some(size) => self.skip(n.saturating_mul(size)),
                    None => Err(self.unknown(kind)),
                }
            }
            _ => match bytes_of_type(kind).filter(|&size| size > 0) {
                Some(size) => self.skip(size),
                None => Err(self.unknown(kind)),
            },
        }
    }

    fn unknown(&self, kind: u64) -> String {
        format!("metadata of type {kind} before byte {}", self.position())
    }

    /// Reads the description of a tensor.
    fn tensor_info(&mut self, version: u64) -> Parsed<Tensor> {
        let at = self.position();
        let name = String::from_utf8(self.text(version)?);
        let name = name.ok().filter(|name| is_plausible(name));
        let name = name.ok_or_else(|| format!("no name of a tensor at byte {at}"))?;
        let rank = self.number::<4>()? as usize;
        if rank > MAX_RANK {
            return Err(format!("tensor {} has {rank} dimensions", excerpt(&name)));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.length(version)?);
        }
        // The innermost dimension comes first.
        shape.reverse();
        let dtype = name_of_type(self.number::<4>()? as usize);
        let first = self.number::<8>()?;
        let n_bytes = Stored::bytes_of_rows(&dtype, &shape)
            .ok_or_else(|| unsupported(&name, &dtype, &shape))?;
        let end = first.checked_add(n_bytes);
        let end = end.ok_or_else(|| format!("tensor {} begins at {first}", excerpt(&name)))?;
        Ok(Tensor::new(name, dtype, shape, (first, end)))
    }
}

/// Returns the bytes of metadata of type `kind`; 0 for text and arrays.
fn bytes_of_type(kind: u64) -> Option<u64> {
    BYTES_OF_TYPE.get(usize::try_from(kind).ok()?).copied()
}

/// Checks that no byte belongs to two tensors.
fn check_overlaps(tensors: &[Tensor]) -> Parsed<()> {
    let mut by_place: Vec<&Tensor> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| tensor.offsets);
    let overlaps = by_place
        .windows(2)
        .find(|pair| pair[1].offsets.0 < pair[0].offsets.1);
    match overlaps {
        Some(pair) => Err(format!(
            "tensors {} and {} overlap",
            excerpt(&pair[0].name),
            excerpt(&pair[1].name)
        )),
        None => Ok(()),
    }
}
