//! Elements of tensors: reading in the dtype in which the model keeps them, and the check that they are finite, made
//! while they are in the cache.

use bytemuck::{Pod, cast_slice, cast_slice_mut, zeroed_vec};
use half::{bf16, f16};
use overhear_kernels::Dtype;

use super::safetensors::{SafeTensors, Tensor};
use crate::excerpt::excerpt;
use crate::{Error, Result};

/// Element type of a tensor in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// A dtype that is kept.
    As(Dtype),
    /// f64, which is rounded to f32.
    F64,
}

/// A tensor, its file, and its element type there.
pub(super) type Found<'a> = (&'a SafeTensors, &'a Tensor, Stored);

impl Stored {
    /// Returns the element type of `tensor`; `None` if it is not supported.
    pub(super) fn of(tensor: &Tensor) -> Option<Self> {
        match tensor.dtype.as_str() {
            "F32" => Some(Self::As(Dtype::F32)),
            "F16" => Some(Self::As(Dtype::F16)),
            "BF16" => Some(Self::As(Dtype::Bf16)),
            "F64" => Some(Self::F64),
            _ => None,
        }
    }

    pub(super) fn kept(self) -> Dtype {
        match self {
            Self::As(dtype) => dtype,
            Self::F64 => Dtype::F32,
        }
    }

    /// Returns the size in bytes of an element in the file.
    pub(super) fn size(self) -> usize {
        match self {
            Self::As(dtype) => dtype.size(),
            Self::F64 => size_of::<f64>(),
        }
    }
}

/// Reads elements from index `first` on, in the dtype in which they are kept.
///
/// # Errors
/// [`Error::Model`] if the file cannot be read, or if an element is infinite or NaN, which would spread to all results.
///
/// # Panics
/// If `bytes` exceeds the tensor.
pub(super) fn read_elements(
    (file, tensor, stored): Found<'_>,
    first: usize,
    bytes: &mut [u8],
) -> Result<()> {
    let first_byte = first * stored.size();
    match stored {
        Stored::As(_) => file.read(tensor, first_byte, bytes)?,
        Stored::F64 => {
            let mut doubles = [0f64; 512];
            let n = doubles.len();
            for (i, singles) in cast_slice_mut::<u8, f32>(bytes).chunks_mut(n).enumerate() {
                let doubles = &mut doubles[..singles.len()];
                let at = first_byte + i * n * size_of::<f64>();
                file.read(tensor, at, cast_slice_mut(doubles))?;
                let pairs = singles.iter_mut().zip(doubles);
                pairs.for_each(|(single, double)| *single = *double as f32);
            }
        }
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

/// Reads tensors that are kept in dtype `T`, concatenated. Allocates no more than the file holds, since the header has
/// been checked against its size.
pub(super) fn read_all<T: Pod>(tensors: &[Found<'_>]) -> Result<Vec<T>> {
    let n_elements = |(_, tensor, stored): &Found<'_>| tensor.n_bytes() as usize / stored.size();
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
