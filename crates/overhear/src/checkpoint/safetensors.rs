//! Reader of safetensors files: the header when the file is opened, tensors or parts of them with positioned reads.
//!
//! A file is an 8-byte little-endian header length, a JSON header with the dtype, shape and byte range of each tensor,
//! and the bytes of the tensors without gap or overlap. Files are not mapped into memory: a file that shrinks while it
//! is read is an error, not a signal. Allocations are bounded by the size of the file.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::excerpt::{excerpt, malformed};
use crate::file::{LFS_POINTER, LFS_REASON};
use crate::{Error, Result};

/// Maximum size of the header. The format allows 100 MB; the header of large-v3 takes 0.15 MB.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// Maximum number of tensors of a checkpoint; large-v3 has 1259.
pub(super) const MAX_TENSORS: usize = 50_000;

/// Maximum length of a name, which bounds error messages.
const MAX_NAME_BYTES: usize = 200;
/// Maximum number of dimensions of a tensor.
const MAX_RANK: usize = 8;

/// An open file with a valid header.
pub(super) struct SafeTensors {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: Vec<Tensor>,
}

/// Description of a tensor in the header, checked against the file's size.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Dtype in the file: `F16`, `BF16`, `F32`, `F64`, or an unsupported one.
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    /// First byte and end, relative to the end of the header.
    offsets: (u64, u64),
}

impl Tensor {
    pub(super) fn n_bytes(&self) -> u64 {
        self.offsets.1 - self.offsets.0
    }
}

impl SafeTensors {
    /// Opens a file and checks the header against the file's size.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Model {
            path: path.to_owned(),
            reason,
        };
        let unreadable = |e: io::Error| bad(format!("cannot read: {e}"));
        // Checked before opening, which would block on a FIFO.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(bad("not a file".into()));
        }
        let file = File::open(path).map_err(unreadable)?;
        let file_len = file.metadata().map_err(unreadable)?.len();
        if file_len < 8 {
            return Err(bad(format!("file is {file_len} bytes, header needs 8")));
        }
        let mut length = [0; 8];
        read_exact_at(&file, &mut length, 0).map_err(unreadable)?;
        if LFS_POINTER.starts_with(&length) {
            return Err(bad(LFS_REASON.into()));
        }
        let header_len = u64::from_le_bytes(length);
        if header_len > MAX_HEADER_BYTES {
            return Err(bad(format!(
                "not a safetensors file: a header of {header_len} bytes"
            )));
        }
        let data_start = 8 + header_len;
        if file_len < data_start {
            return Err(bad(format!(
                "file is {file_len} bytes, header needs {data_start}"
            )));
        }
        let mut json = vec![0; header_len as usize];
        read_exact_at(&file, &mut json, 8).map_err(unreadable)?;
        let header: Header =
            serde_json::from_slice(&json).map_err(|e| bad(malformed_header(&e)))?;
        check_sizes(&header.0).map_err(bad)?;
        let data_len = check_tiling(&header.0).map_err(bad)?;
        if data_start.checked_add(data_len) != Some(file_len) {
            let needed = u128::from(data_start) + u128::from(data_len);
            return Err(bad(format!(
                "file is {file_len} bytes, header needs {needed}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            data_start,
            tensors: header.0,
        })
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

fn malformed_header(error: &serde_json::Error) -> String {
    malformed(error).replacen("malformed", "malformed header", 1)
}

/// Checks that the byte range of each tensor fits its shape and dtype.
fn check_sizes(tensors: &[Tensor]) -> std::result::Result<(), String> {
    for tensor in tensors {
        let Tensor {
            name,
            dtype,
            shape,
            offsets: (start, end),
        } = tensor;
        let element = element_size(dtype).ok_or_else(|| {
            format!(
                "tensor {} has unknown dtype {:?}",
                excerpt(name),
                excerpt(dtype)
            )
        })?;
        let size = shape
            .iter()
            .try_fold(element, |size, &n| size.checked_mul(n));
        if end.checked_sub(*start).is_none() || end.checked_sub(*start) != size {
            return Err(format!(
                "tensor {}, {dtype} {shape:?}, does not fill bytes {start} to {end}",
                excerpt(name)
            ));
        }
    }
    Ok(())
}

/// Checks that tensors follow each other without gap or overlap, and returns the end of the last one.
fn check_tiling(tensors: &[Tensor]) -> std::result::Result<u64, String> {
    let mut by_place: Vec<&Tensor> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| tensor.offsets);
    by_place
        .iter()
        .try_fold(0, |end, tensor| match tensor.offsets.0 {
            start if start == end => Ok(tensor.offsets.1),
            start if start < end => Err(format!(
                "tensor {} overlaps the one before",
                excerpt(&tensor.name)
            )),
            start => Err(format!(
                "bytes {end} to {start}, before tensor {}, belong to no tensor",
                excerpt(&tensor.name)
            )),
        })
}

/// Returns the size in bytes of an element of `dtype`, if it is a dtype of the format with whole bytes.
fn element_size(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" => Some(8),
        _ => None,
    }
}

/// Returns whether a name from a file is short and printable enough for an error message.
pub(super) fn is_plausible(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

/// The JSON header; duplicate names are an error.
struct Header(Vec<Tensor>);

#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Header, A::Error> {
                let mut names = HashSet::new();
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !is_plausible(&name) {
                        return Err(A::Error::custom(
                            "a tensor's name is very long or cannot be printed",
                        ));
                    }
                    if tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_TENSORS} tensors"
                        )));
                    }
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format_args!(
                            "two tensors are called {:?}",
                            excerpt(&name)
                        )));
                    }
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let HeaderEntry {
                        dtype,
                        shape,
                        data_offsets,
                    } = map.next_value()?;
                    if !is_plausible(&dtype) || shape.len() > MAX_RANK {
                        return Err(A::Error::custom(format_args!(
                            "tensor {} has no plausible dtype and shape",
                            excerpt(&name)
                        )));
                    }
                    tensors.push(Tensor {
                        name,
                        dtype,
                        shape,
                        offsets: data_offsets,
                    });
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
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
