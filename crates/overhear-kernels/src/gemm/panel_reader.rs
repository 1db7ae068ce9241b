//! Parallel reading of a weight matrix, one panel of 32 outputs at a time.
//!
//! Whichever thread takes a panel reads its rows and packs them while they are in its cache, so the matrix is never
//! in memory twice.

use std::sync::{Mutex, PoisonError};

use bytemuck::cast_slice;
use half::{bf16, f16};

use super::aligned::{AlignedBuffer, as_bytes_mut, f32_as_u32_mut};
use super::layout::NR;
use crate::matrix::Dtype;
use crate::parallel::{Pool, scratch};

/// Panels from which [`sampled_squares`] estimates.
const SAMPLED_PANELS: usize = 16;

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

/// Sums of the squares of each input's weights in some panels of a matrix `[n_out, n_in]`, spread evenly over it: enough
/// to tell large inputs from small ones, and no second pass over the file.
///
/// # Errors
/// The error of `read`.
pub(crate) fn sampled_squares<E>(
    (n_out, n_in): (usize, usize),
    dtype: Dtype,
    read: impl Fn(usize, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<f64>, E> {
    let mut squares = vec![0.0f64; n_in];
    let mut data = AlignedBuffer::new(NR * n_in * dtype.size() / 4);
    let n_panels = n_out.div_ceil(NR);
    for panel in (0..n_panels).step_by(n_panels.div_ceil(SAMPLED_PANELS).max(1)) {
        let len = NR.min(n_out - panel * NR) * n_in;
        let bytes = &mut as_bytes_mut(data.as_mut_slice())[..len * dtype.size()];
        read(panel * NR, bytes)?;
        match dtype {
            Dtype::F32 => add_squares(&mut squares, cast_slice::<_, f32>(bytes)),
            Dtype::F16 => add_squares(&mut squares, cast_slice::<_, f16>(bytes)),
            Dtype::Bf16 => add_squares(&mut squares, cast_slice::<_, bf16>(bytes)),
        }
    }
    Ok(squares)
}

/// Adds the squares of each row's elements to `sums`.
fn add_squares<T: Copy + Into<f32>>(sums: &mut [f64], rows: &[T]) {
    for row in rows.chunks_exact(sums.len().max(1)) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            let x: f32 = x.into();
            *sum += f64::from(x * x);
        }
    }
}
