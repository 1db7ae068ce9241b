//! Reader of safetensors files: the header when the file is opened, tensors or parts of them with positioned reads.
//!
//! A file is an 8-byte little-endian header length, a JSON header with the dtype, shape and byte range of each tensor,
//! and the bytes of the tensors without gap or overlap. Allocations are bounded by the size of the file.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::tensor_file::{MAX_RANK, MAX_TENSORS, Tensor, TensorFile, is_plausible, read_exact_at};
use crate::excerpt::{excerpt, malformed};
use crate::file::{LFS_POINTER, LFS_REASON};
use crate::{Error, Result};

/// Maximum size of the header. The format allows 100 MB; the header of large-v3 takes 0.15 MB.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// Opens a file and checks the header against the file's size.
///
/// # Errors
/// [`Error::Model`] if the file is not a safetensors file, is cut or damaged.
pub(super) fn open(path: &Path) -> Result<TensorFile> {
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
    let header: Header = serde_json::from_slice(&json).map_err(|e| bad(malformed_header(&e)))?;
    check_sizes(&header.0).map_err(bad)?;
    let data_len = check_tiling(&header.0).map_err(bad)?;
    if data_start.checked_add(data_len) != Some(file_len) {
        let needed = u128::from(data_start) + u128::from(data_len);
        return Err(bad(format!(
            "file is {file_len} bytes, header needs {needed}"
        )));
    }
    Ok(TensorFile::new(path, file, data_start, header.0))
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
            ..
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
pub(super) fn element_size(dtype: &str) -> Option<u64> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" => Some(8),
        _ => None,
    }
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
                    tensors.push(Tensor::new(name, dtype, shape, data_offsets));
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}
