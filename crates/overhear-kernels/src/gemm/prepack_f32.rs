//! Packed B for products in f32: weights in their storage type (f32, f16, bf16 or int8), widened as they are
//! multiplied.
//!
//! A panel is 32 outputs, `[n_in, 32]`, so that a step of K loads a few consecutive vectors. Outputs beyond the last
//! are zeros.
//!
//! int8 is weight-only quantisation: `round(weight / input_scale / scale)`, to nearest even, activations staying f32.
//! Each output has a scale, its largest magnitude / 127. Before that each input has a scale, a power of two:
//! published embeddings have a few inputs whose weights are up to 30 times as large as the others' in all outputs,
//! and would leave the others only a few quantisation steps. A product multiplies A by the input scales (exactly) and
//! accumulators by the output scales.

use bytemuck::{AnyBitPattern, cast_slice, cast_slice_mut};
use half::{bf16, f16};

use super::aligned::AlignedBuffer;
use super::layout::NR;
use super::panel_reader::{Outs, read_panels, sampled_squares};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::math::convert_f16;
use crate::math::quantize::{max_abs, quantize, scale_and_inverse};
use crate::matrix::{Dtype, Matrix, copy_rows};
use crate::parallel::{Disjoint, Pool};
use crate::simd::{Element, Simd, Vectorized, widen};

/// Elements of K that are interleaved at a time: with 32 outputs, part of any L1.
const BLOCK: usize = 64;

/// Storage type of a [`StoredMatrix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Floating point: the matrix's own dtype, exact, or f16, to which elements are rounded.
    Float(Dtype),
    /// s8 with scales per output and per input.
    Int8,
}

impl Storage {
    /// Bytes of one element.
    fn size(self) -> usize {
        match self {
            Storage::Float(dtype) => dtype.size(),
            Storage::Int8 => 1,
        }
    }
}

/// Packed weight matrix `[n_out, n_in]` (one row per output, as in PyTorch) in its storage type.
#[derive(Clone, Debug)]
pub struct StoredMatrix {
    storage: Storage,
    n_out: usize,
    n_in: usize,
    data: AlignedBuffer,
    /// Output scales, one per output of all panels; int8 only.
    scales: Vec<f32>,
    /// Input scales, `[n_in]`; int8 only.
    input_scales: Vec<f32>,
}

impl StoredMatrix {
    /// Reads and packs a matrix, see [`crate::Kernels::store_weights_from`].
    pub(crate) fn read<E: Send>(
        arch: Arch,
        pool: &Pool,
        (n_out, n_in): (usize, usize),
        dtype: Dtype,
        storage: Storage,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let is_exact = storage == Storage::Float(dtype);
        assert!(
            is_exact || matches!(storage, Storage::Float(Dtype::F16) | Storage::Int8),
            "{} as {storage:?}",
            dtype.name(),
        );
        let n_panels = n_out.div_ceil(NR);
        let input_scales = match storage {
            Storage::Int8 => input_scales((n_out, n_in), dtype, &read)?,
            Storage::Float(_) => Vec::new(),
        };
        let inverse_scales: Vec<f32> = input_scales.iter().map(|scale| scale.recip()).collect();
        // 32 elements of any size are whole `u32`.
        let panel_len = NR * n_in * storage.size() / 4;
        let mut data = AlignedBuffer::new(n_panels * panel_len);
        let of_panel = if storage == Storage::Int8 { NR } else { 0 };
        let mut scales = vec![0.0; n_panels * of_panel];
        let panels = Disjoint::new(data.as_mut_slice());
        let split_scales = Disjoint::new(&mut scales);
        // Scratch: the outputs converted, and one of them in f32.
        let n_spare = if is_exact { 0 } else { panel_len + n_in };
        read_panels(pool, (n_out, n_in), dtype, n_spare, read, |task| {
            // SAFETY: the tasks' panels are disjoint.
            let (panel, scales) = unsafe {
                (
                    panels.take(task.panel * panel_len, panel_len),
                    split_scales.take(task.panel * of_panel, of_panel),
                )
            };
            let converted = Converted {
                storage,
                panel,
                scales,
                inverse_scales: &inverse_scales,
                spare: task.spare,
                n_in,
            };
            match task.outs {
                Outs::F32(outs) if is_exact => {
                    interleave(cast_slice_mut(converted.panel), outs, n_in)
                }
                Outs::F16(outs) if is_exact => {
                    interleave(cast_slice_mut(converted.panel), outs, n_in)
                }
                Outs::Bf16(outs) if is_exact => {
                    interleave(cast_slice_mut(converted.panel), outs, n_in)
                }
                Outs::F32(outs) => arch.run_any(ConvertPanel { converted, outs }),
                Outs::F16(outs) => arch.run_any(ConvertPanel { converted, outs }),
                Outs::Bf16(outs) => arch.run_any(ConvertPanel { converted, outs }),
            }
        })?;
        Ok(Self {
            storage,
            n_out,
            n_in,
            data,
            scales,
            input_scales,
        })
    }

    /// Storage type.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Outputs.
    #[must_use]
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// Inputs.
    #[must_use]
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// Bytes that a product reads.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        4 * (self.data.as_slice().len() + self.scales.len() + self.input_scales.len())
    }

    /// Elements of all panels. `E` must be the storage type.
    pub(crate) fn elements<E: AnyBitPattern>(&self) -> &[E] {
        debug_assert_eq!(size_of::<E>(), self.storage.size());
        cast_slice(self.data.as_slice())
    }

    /// Output scales, `[n_out]`, and input scales, `[n_in]`; int8 only.
    pub fn scales(&self) -> Option<(&[f32], &[f32])> {
        (self.storage == Storage::Int8)
            .then(|| (&self.scales[..self.n_out], &self.input_scales[..]))
    }

    /// Writes the weights of output `out`, widened to f32, to `to` (`[n_in]`): the embedding lookup.
    ///
    /// # Panics
    /// If `out` is out of range or `to` is not `n_in` long.
    pub fn copy_row(&self, out: usize, to: &mut [f32]) {
        assert!(out < self.n_out && to.len() == self.n_in);
        match self.storage {
            Storage::Float(Dtype::F32) => self.copy_elements::<f32>(out, to),
            Storage::Float(Dtype::F16) => self.copy_elements::<f16>(out, to),
            Storage::Float(Dtype::Bf16) => self.copy_elements::<bf16>(out, to),
            Storage::Int8 => {
                self.copy_elements::<i8>(out, to);
                let scaled =
                    |(to, input_scale): (&mut f32, &f32)| *to *= self.scales[out] * input_scale;
                to.iter_mut().zip(&self.input_scales).for_each(scaled);
            }
        }
    }

    fn copy_elements<E: AnyBitPattern + Into<f32>>(&self, out: usize, to: &mut [f32]) {
        let panel = &self.elements::<E>()[out / NR * NR * self.n_in..];
        let elements = panel.iter().skip(out % NR).step_by(NR);
        to.iter_mut()
            .zip(elements)
            .for_each(|(to, &x)| *to = x.into());
    }
}

/// Input scales of a matrix `[n_out, n_in]`: the power of two nearest to the 3/4th power of the ratio of an input's
/// root mean square weight to that of the matrix.
///
/// (With the full ratio the large inputs would have too few steps. On published embeddings 3/4 has half the error of
/// data of 64 inputs with a scale each; on other layers it makes no difference.)
fn input_scales<E>(
    (n_out, n_in): (usize, usize),
    dtype: Dtype,
    read: impl Fn(usize, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<f32>, E> {
    let squares = sampled_squares((n_out, n_in), dtype, read)?;
    let mean = squares.iter().sum::<f64>() / n_in as f64;
    let scale = |square: &f64| {
        let power = 0.375 * (square / mean).log2();
        // Inputs or matrices of zeros give NaN or infinities.
        let power = if power.is_finite() { power } else { 0.0 };
        power.round().clamp(-16.0, 16.0).exp2() as f32
    };
    Ok(squares.iter().map(scale).collect())
}

/// Interleaves outputs `[up to 32, n_in]` to a panel `[n_in, 32]`.
fn interleave<T: Copy>(panel: &mut [T], outs: &[T], n_in: usize) {
    for first in (0..n_in).step_by(BLOCK) {
        let end = n_in.min(first + BLOCK);
        let panel = &mut panel[first * NR..end * NR];
        for (out, row) in outs.chunks_exact(n_in).enumerate() {
            for (to, x) in panel[out..].iter_mut().step_by(NR).zip(&row[first..end]) {
                *to = *x;
            }
        }
    }
}

/// Destination of a panel that is converted to f16 or int8 before it is interleaved, and scratch memory.
struct Converted<'a> {
    storage: Storage,
    panel: &'a mut [u32],
    /// Output scales of the panel; int8 only.
    scales: &'a mut [f32],
    /// Reciprocals of the input scales; int8 only.
    inverse_scales: &'a [f32],
    /// Scratch: the outputs converted, and one of them in f32.
    spare: &'a mut [f32],
    n_in: usize,
}

struct ConvertPanel<'a, E> {
    converted: Converted<'a>,
    outs: &'a [E],
}

impl<E: Element> Vectorized for ConvertPanel<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { converted, outs } = self;
        let Converted {
            storage,
            panel,
            scales,
            inverse_scales,
            spare,
            n_in,
        } = converted;
        let (narrow, wide) = spare.split_at_mut(panel.len());
        if storage == Storage::Int8 {
            let narrow: &mut [i8] = &mut cast_slice_mut(narrow)[..outs.len()];
            let rows = outs.chunks_exact(n_in.max(1));
            let rows = rows.zip(narrow.chunks_exact_mut(n_in.max(1)));
            for ((row, narrow), scale) in rows.zip(scales) {
                widen(s, wide, row);
                wide.iter_mut()
                    .zip(inverse_scales)
                    .for_each(|(x, i)| *x *= i);
                // `max` drops NaN.
                let largest = max_abs(wide).max(0.0);
                let inverse;
                (*scale, inverse) = scale_and_inverse(largest, 127.0);
                for (narrow, x) in narrow.iter_mut().zip(&*wide) {
                    *narrow = quantize(*x, inverse) as i8;
                }
            }
            interleave(cast_slice_mut(panel), narrow, n_in);
        } else {
            let narrow = &mut cast_slice_mut(narrow)[..outs.len()];
            convert_f16(s, narrow, outs);
            interleave(cast_slice_mut(panel), narrow, n_in);
        }
    }
}

impl Kernels {
    /// Packs `w` for [`Kernels::linear`], see [`Kernels::store_weights_from`].
    #[must_use]
    pub fn store_weights(&self, pool: &Pool, w: &Matrix, storage: Storage) -> StoredMatrix {
        let shape = (w.n_rows(), w.n_cols());
        let read = |first: usize, to: &mut [u8]| copy_rows(w, first, to);
        let Ok(stored) = self.store_weights_from(pool, shape, w.dtype(), storage, read);
        stored
    }

    /// Packs a matrix `[n_out, n_in]` of `dtype` for [`Kernels::linear`] while it is read: as it is, rounded to f16
    /// as by [`Kernels::convert_heads_f16`], or quantised to int8.
    ///
    /// `read(first_row, buf)` must fill `buf` with consecutive rows starting at `first_row`. It is called from
    /// several threads, 32 rows at a time, and for int8 once more before to estimate the input scales. Each panel is
    /// packed while it is in the cache: the matrix is never in memory twice.
    ///
    /// # Errors
    /// The error of `read`; if several calls fail, any of theirs.
    ///
    /// # Panics
    /// If `storage` is a float type other than `dtype` and f16.
    pub fn store_weights_from<E: Send>(
        &self,
        pool: &Pool,
        shape: (usize, usize),
        dtype: Dtype,
        storage: Storage,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<StoredMatrix, E> {
        StoredMatrix::read(self.arch, pool, shape, dtype, storage, read)
    }
}
