//! Parallel reading of a weight matrix, one panel of 32 outputs at a time.
//!
//! Whichever thread takes a panel reads its rows and packs them while they are in its cache, so the matrix is never
//! in memory twice.

use std::sync::{Mutex, PoisonError};

use bytemuck::cast_slice;
use half::{bf16, f16};

use super::aligned::{as_bytes_mut, f32_as_u32_mut};
use super::layout::NR;
use crate::matrix::Dtype;
use crate::parallel::{Pool, scratch};

/// Rows of a panel as read, `[up to 32, n_in]`.
pub(crate) enum Outs<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

/// Panel to be packed.
pub(crate) struct PanelTask<'a> {
    pub(crate) panel: usize,
    pub(crate) outs: Outs<'a>,
    /// Scratch memory.
    pub(crate) spare: &'a mut [f32],
}

/// Calls `write` for every panel of a matrix `[n_out, n_in]`, in parallel, with the rows that `read` has filled in
/// and `n_spare` elements of scratch memory.
///
/// # Errors
/// The error of `read`; if several calls fail, any of theirs.
pub(crate) fn read_panels<E: Send>(
    pool: &Pool,
    (n_out, n_in): (usize, usize),
    dtype: Dtype,
    n_spare: usize,
    read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    write: impl Fn(PanelTask<'_>) + Sync,
) -> Result<(), E> {
    let failure = Mutex::new(None);
    pool.run(n_out.div_ceil(NR), &|panel| {
        let first = panel * NR;
        let len = NR.min(n_out - first) * n_in;
        scratch::with(NR * n_in + n_spare, |scratch| {
            let (outs, spare) = scratch.split_at_mut(NR * n_in);
            let bytes = &mut as_bytes_mut(f32_as_u32_mut(outs))[..len * dtype.size()];
            if let Err(error) = read(first, bytes) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
            let outs = match dtype {
                Dtype::F32 => Outs::F32(cast_slice(bytes)),
                Dtype::F16 => Outs::F16(cast_slice(bytes)),
                Dtype::Bf16 => Outs::Bf16(cast_slice(bytes)),
            };
            write(PanelTask { panel, outs, spare });
        });
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
