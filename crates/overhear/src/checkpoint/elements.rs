//! Elements of tensors: reading in the dtype in which the model keeps them, and the check that they are finite, made
//! while they are in the cache.

use bytemuck::{Pod, cast_slice, cast_slice_mut, pod_collect_to_vec, zeroed_vec};
use half::{bf16, f16};
use overhear_kernels::Dtype;

use super::blocks::{BlockFormat, MAX_BYTES, WHOLE_BLOCKS};
use super::tensor_file::{Tensor, TensorFile};
use crate::excerpt::excerpt;
use crate::{Error, Result};

/// Element type of a tensor in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// A dtype that is kept.
    As(Dtype),
    /// A dtype that is widened to f32, as an adapter adds to it or it becomes another.
    Widened(Dtype),
    /// f64, which is rounded to f32.
    F64,
    /// Blocks of quantised elements, which are widened to f32.
    Blocks(BlockFormat),
    /// Signed integers of so many bytes, 1 or 2, which are widened to f32 and multiplied by a number of their row.
    Integers(usize),
}

/// A tensor, its file, and its element type there.
pub(super) type Found<'a> = (&'a TensorFile, &'a Tensor, Stored);

impl Stored {
    /// Returns the element type of `tensor`; `None` if it is not supported.
    pub(super) fn of(tensor: &Tensor) -> Option<Self> {
        let stored = match tensor.reciprocals.is_empty() {
            true => Self::named(&tensor.dtype)?,
            false => Self::integers(&tensor.dtype)?,
        };
        Some(match tensor.delta {
            Some(_) => stored.widened(),
            None => stored,
        })
    }

    /// Returns the type whose elements are kept in f32.
    pub(super) fn widened(self) -> Self {
        match self {
            Self::As(dtype) => Self::Widened(dtype),
            stored => stored,
        }
    }

    /// Returns the element type of integers that have scales.
    pub(super) fn integers(dtype: &str) -> Option<Self> {
        match dtype {
            "I8" => Some(Self::Integers(1)),
            "I16" => Some(Self::Integers(2)),
            _ => None,
        }
    }

    /// Returns the element type of this name; `None` if it is not supported.
    pub(super) fn named(dtype: &str) -> Option<Self> {
        match dtype {
            "F32" => Some(Self::As(Dtype::F32)),
            "F16" => Some(Self::As(Dtype::F16)),
            "BF16" => Some(Self::As(Dtype::Bf16)),
            "F64" => Some(Self::F64),
            _ => BlockFormat::named(dtype).map(Self::Blocks),
        }
    }

    /// Returns the type's name in files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::As(Dtype::F32) | Self::Widened(Dtype::F32) => "F32",
            Self::As(Dtype::F16) | Self::Widened(Dtype::F16) => "F16",
            Self::As(Dtype::Bf16) | Self::Widened(Dtype::Bf16) => "BF16",
            Self::F64 => "F64",
            Self::Blocks(format) => format.name(),
            Self::Integers(1) => "I8",
            Self::Integers(_) => "I16",
        }
    }

    /// Returns the dtype in which elements are kept.
    pub(super) fn kept(self) -> Dtype {
        match self {
            Self::As(dtype) => dtype,
            Self::Widened(_) | Self::F64 | Self::Blocks(_) | Self::Integers(_) => Dtype::F32,
        }
    }

    /// Returns the bytes of a tensor in the file; `None` if its type is not supported, its rows are not whole blocks, or it is
    /// too large.
    pub(super) fn bytes_of_rows(dtype: &str, shape: &[u64]) -> Option<u64> {
        let stored = Self::named(dtype)?;
        stored.n_bytes(shape.last().copied().unwrap_or(1))?;
        let mut sizes = shape.iter();
        stored.n_bytes(sizes.try_fold(1_u64, |n, &size| n.checked_mul(size))?)
    }

    /// Returns the bytes of `n_elements` in the file; `None` if they are not whole blocks, or too many.
    pub(super) fn n_bytes(self, n_elements: u64) -> Option<u64> {
        match self {
            Self::As(dtype) | Self::Widened(dtype) => n_elements.checked_mul(dtype.size() as u64),
            Self::F64 => n_elements.checked_mul(size_of::<f64>() as u64),
            Self::Blocks(format) => {
                let block = format.n_elements() as u64;
                let n_blocks =
                    Some(n_elements / block).filter(|_| n_elements.is_multiple_of(block));
                n_blocks?.checked_mul(format.n_bytes() as u64)
            }
            Self::Integers(size) => n_elements.checked_mul(size as u64),
        }
    }
}

/// Reads elements from index `first` on, in the dtype in which they are kept.
///
/// # Errors
/// [`Error::Model`] if the file cannot be read, or if an element is infinite or NaN, which would spread to all results.
///
/// # Panics
/// If `bytes` exceeds the tensor, or `first` or the number of elements is not a multiple of a block.
pub(super) fn read_elements(
    (file, tensor, stored): Found<'_>,
    first: usize,
    bytes: &mut [u8],
) -> Result<()> {
    match stored {
        Stored::As(dtype) => file.read(tensor, first * dtype.size(), bytes)?,
        Stored::Widened(dtype) => {
            let mut narrow = [0; 1 << 13];
            let mut at = first * dtype.size();
            for elements in cast_slice_mut::<u8, f32>(bytes).chunks_mut(narrow.len() / 4) {
                let narrow = &mut narrow[..elements.len() * dtype.size()];
                file.read(tensor, at, narrow)?;
                at += narrow.len();
                widen(dtype, narrow, elements);
            }
        }
        Stored::F64 => {
            let mut doubles = [0f64; 512];
            let mut at = first * size_of::<f64>();
            for singles in cast_slice_mut::<u8, f32>(bytes).chunks_mut(512) {
                let doubles = &mut doubles[..singles.len()];
                file.read(tensor, at, cast_slice_mut(doubles))?;
                at += size_of_val(doubles);
                let pairs = singles.iter_mut().zip(doubles);
                pairs.for_each(|(single, double)| *single = *double as f32);
            }
        }
        Stored::Blocks(format) => {
            let (block, n_bytes) = (format.n_elements(), format.n_bytes());
            let mut blocks = [0; 8 * MAX_BYTES];
            let mut at = first / block * n_bytes;
            for elements in cast_slice_mut::<u8, f32>(bytes).chunks_mut(8 * WHOLE_BLOCKS) {
                let blocks = &mut blocks[..elements.len() / block * n_bytes];
                file.read(tensor, at, blocks)?;
                at += blocks.len();
                format.widen(blocks, elements);
            }
        }
        Stored::Integers(size) => {
            let mut integers = [0; 1 << 13];
            let mut first = first;
            for elements in cast_slice_mut::<u8, f32>(bytes).chunks_mut(integers.len() / size) {
                let integers = &mut integers[..elements.len() * size];
                file.read(tensor, first * size, integers)?;
                match size {
                    1 => elements
                        .iter_mut()
                        .zip(&*integers)
                        .for_each(|(element, &byte)| *element = f32::from(byte as i8)),
                    _ => elements.iter_mut().zip(integers.as_chunks().0).for_each(
                        |(element, &pair)| *element = f32::from(i16::from_le_bytes(pair)),
                    ),
                }
                scale_rows(tensor, first, elements);
                first += elements.len();
            }
        }
    }
    if let Some(delta) = &tensor.delta {
        delta.add(first, cast_slice_mut(bytes));
    }
    if is_finite(stored.kept(), bytes) {
        return Ok(());
    }
    Err(Error::Model {
        path: file.path().to_owned(),
        reason: format!(
            "tensor {} has elements that are infinite or not numbers (NaN): the file is damaged, or its training failed",
            excerpt(&tensor.name)
        ),
    })
}

/// Widens numbers of `dtype`.
fn widen(dtype: Dtype, bytes: &[u8], elements: &mut [f32]) {
    let pairs = elements.iter_mut().zip(bytes.as_chunks().0);
    match dtype {
        Dtype::F16 => pairs.for_each(|(element, &pair)| *element = f16::from_le_bytes(pair).into()),
        Dtype::Bf16 => {
            pairs.for_each(|(element, &pair)| *element = bf16::from_le_bytes(pair).into());
        }
        Dtype::F32 => elements.copy_from_slice(&pod_collect_to_vec(bytes)),
    }
}

/// Multiplies integers of `tensor`, from index `first` on, by the numbers of their rows.
fn scale_rows(tensor: &Tensor, first: usize, mut elements: &mut [f32]) {
    let row_len = tensor.shape[1..].iter().product::<u64>() as usize;
    let mut at = first;
    while !elements.is_empty() {
        let row = at / row_len;
        let len = elements.len().min((row + 1) * row_len - at);
        let (this, rest) = elements.split_at_mut(len);
        let reciprocal = match &tensor.reciprocals[..] {
            [of_all] => *of_all,
            of_rows => of_rows[row],
        };
        this.iter_mut().for_each(|element| *element *= reciprocal);
        (at, elements) = (at + len, rest);
    }
}

/// Returns whether all elements are finite: an infinity or NaN has all bits of its exponent set.
fn is_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    let halves = |exponent: u16| {
        let words: &[u16] = cast_slice(bytes);
        words
            .iter()
            .fold(false, |bad, x| bad | (x & exponent == exponent))
    };
    let any_is_bad = match dtype {
        Dtype::F16 => halves(0x7c00),
        Dtype::Bf16 => halves(0x7f80),
        Dtype::F32 => {
            let words: &[u32] = cast_slice(bytes);
            let exponent = 0x7f80_0000;
            words
                .iter()
                .fold(false, |bad, x| bad | (x & exponent == exponent))
        }
    };
    !any_is_bad
}

/// Reads tensors that are kept in dtype `T`, concatenated. Allocates no more than 8 times what the file holds, since the
/// header has been checked against its size.
pub(super) fn read_all<T: Pod>(tensors: &[Found<'_>]) -> Result<Vec<T>> {
    let n_elements = |(_, tensor, _): &Found<'_>| tensor.n_elements() as usize;
    let mut elements = zeroed_vec::<T>(tensors.iter().map(n_elements).sum());
    let mut rest = &mut elements[..];
    for found in tensors {
        let (this, others) = rest.split_at_mut(n_elements(found));
        read_elements(*found, 0, cast_slice_mut(this))?;
        rest = others;
    }
    Ok(elements)
}

/// Reads tensors of any dtypes as f32, concatenated.
pub(super) fn read_widened(tensors: &[Found<'_>]) -> Result<Vec<f32>> {
    let mut elements = Vec::new();
    for found in tensors {
        let this = std::slice::from_ref(found);
        match found.2.kept() {
            Dtype::F32 if elements.is_empty() => elements = read_all(this)?,
            Dtype::F32 => elements.extend(read_all::<f32>(this)?),
            Dtype::F16 => elements.extend(read_all::<f16>(this)?.into_iter().map(f16::to_f32)),
            Dtype::Bf16 => elements.extend(read_all::<bf16>(this)?.into_iter().map(bf16::to_f32)),
        }
    }
    Ok(elements)
}
