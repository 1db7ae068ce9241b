//! File of tensors in any format: descriptions of the tensors, and positioned reads of their bytes.
//!
//! Files are not mapped into memory: a file that shrinks while it is read is an error, not a signal.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::delta::Delta;
use crate::{Error, Result};

/// Maximum number of tensors of a checkpoint; large-v3 has 1259.
pub(super) const MAX_TENSORS: usize = 50_000;
/// Maximum length of a name, which bounds error messages.
const MAX_NAME_BYTES: usize = 200;
/// Maximum number of dimensions of a tensor.
pub(super) const MAX_RANK: usize = 8;

/// An open file with valid descriptions of its tensors.
pub(super) struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: Vec<Tensor>,
}

/// Description of a tensor, checked against the file's size.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Type in the file: `F16`, `BF16`, `F32`, `F64`, `Q8_0`, `I8`, ..., or an unsupported one.
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    /// First byte and end, relative to the start of the data.
    pub(super) offsets: (u64, u64),
    /// What integers are multiplied by: one number for each row, or one for all; none for other types.
    pub(super) reciprocals: Arc<[f32]>,
    /// What an adapter adds.
    pub(super) delta: Option<Arc<Delta>>,
}

impl Tensor {
    pub(super) fn new(name: String, dtype: String, shape: Vec<u64>, offsets: (u64, u64)) -> Self {
        Self {
            name,
            dtype,
            shape,
            offsets,
            reciprocals: Arc::default(),
            delta: None,
        }
    }

    pub(super) fn n_bytes(&self) -> u64 {
        self.offsets.1 - self.offsets.0
    }

    /// Returns the number of elements. The product has been checked with the size.
    pub(super) fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl TensorFile {
    /// `tensors`: checked against the size of `file`; their offsets are relative to byte `data_start`.
    pub(super) fn new(path: &Path, file: File, data_start: u64, tensors: Vec<Tensor>) -> Self {
        Self {
            path: path.to_owned(),
            file,
            data_start,
            tensors,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Reads bytes of `tensor` from byte `first` on.
    ///
    /// # Panics
    /// If `bytes` exceeds the tensor.
    pub(super) fn read(&self, tensor: &Tensor, first: usize, bytes: &mut [u8]) -> Result<()> {
        let first = first as u64;
        assert!(first + bytes.len() as u64 <= tensor.n_bytes());
        let offset = self.data_start + tensor.offsets.0 + first;
        read_exact_at(&self.file, bytes, offset).map_err(|e| Error::Model {
            path: self.path.clone(),
            reason: match e.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("became shorter while tensor {} was read", tensor.name)
                }
                _ => format!("cannot read tensor {}: {e}", tensor.name),
            },
        })
    }
}

/// Returns whether a name from a file is short and printable enough for an error message.
pub(super) fn is_plausible(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
pub(super) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
