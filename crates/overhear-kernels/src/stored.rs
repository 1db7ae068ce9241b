//! Weights in the dtype they are stored in, exact, in the layout that products in f32 want.
//!
//! A *panel* is 32 outputs and lies as `[n_in, 32]`, so that a step of K is a few vectors one behind the other in memory.
//! Outputs beyond the last are zeros.

use bytemuck::{AnyBitPattern, cast_slice, cast_slice_mut};
use half::{bf16, f16};

use crate::narrow::narrow_run;
use crate::panels::{Outs, PANEL, read_panels};
use crate::simd::{Element, Set, Simd, Vectorized};
use crate::split::Split;
use crate::words::Words;
use crate::{Dtype, Pool};

/// Elements of K that are turned at a time: with 32 outputs, a part of any first-level cache.
const BLOCK: usize = 64;

/// A weight matrix `[n_out, n_in]`: one row per output, as PyTorch has it, in panels.
#[derive(Clone, Debug)]
pub struct StoredMatrix {
    dtype: Dtype,
    n_out: usize,
    n_in: usize,
    words: Words,
}

impl StoredMatrix {
    /// See [`crate::Kernels::store_weights_from`].
    pub(crate) fn read<E: Send>(
        set: Set,
        pool: &Pool,
        (n_out, n_in): (usize, usize),
        dtype: Dtype,
        kept: Dtype,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        assert!(
            kept == dtype || kept == Dtype::F16,
            "{} as {}",
            dtype.name(),
            kept.name()
        );
        // 32 of any dtype are whole words.
        let panel_words = PANEL * n_in * kept.size() / 4;
        let mut words = Words::new(n_out.div_ceil(PANEL) * panel_words);
        let panels = Split::new(words.as_mut_slice());
        let n_narrow = if kept == dtype { 0 } else { PANEL * n_in / 2 };
        read_panels(pool, (n_out, n_in), dtype, n_narrow, read, |task| {
            // SAFETY: the tasks' panels are disjoint.
            let panel = unsafe { panels.take(task.panel * panel_words, panel_words) };
            let narrow = cast_slice_mut(task.spare);
            match (task.outs, kept == dtype) {
                (Outs::F32(outs), true) => turn(cast_slice_mut(panel), outs, n_in),
                (Outs::F16(outs), _) => turn(cast_slice_mut(panel), outs, n_in),
                (Outs::Bf16(outs), true) => turn(cast_slice_mut(panel), outs, n_in),
                (Outs::F32(outs), false) => set.run_any(Narrowed {
                    panel: cast_slice_mut(panel),
                    narrow,
                    outs,
                    n_in,
                }),
                (Outs::Bf16(outs), false) => set.run_any(Narrowed {
                    panel: cast_slice_mut(panel),
                    narrow,
                    outs,
                    n_in,
                }),
            }
        })?;
        Ok(Self {
            dtype: kept,
            n_out,
            n_in,
            words,
        })
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
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
        4 * self.words.as_slice().len()
    }

    /// The panels' elements, of which `E` must be the type.
    pub(crate) fn elements<E: AnyBitPattern>(&self) -> &[E] {
        debug_assert_eq!(size_of::<E>(), self.dtype.size());
        cast_slice(self.words.as_slice())
    }

    /// Writes the weights of output `out`, widened to f32, to `to` (`[n_in]`): the embedding lookup.
    ///
    /// # Panics
    /// If `out` is out of range or `to` is not `n_in` long.
    pub fn copy_row(&self, out: usize, to: &mut [f32]) {
        assert!(out < self.n_out && to.len() == self.n_in);
        match self.dtype {
            Dtype::F32 => self.copy_elements::<f32>(out, to),
            Dtype::F16 => self.copy_elements::<f16>(out, to),
            Dtype::Bf16 => self.copy_elements::<bf16>(out, to),
        }
    }

    fn copy_elements<E: AnyBitPattern + Into<f32>>(&self, out: usize, to: &mut [f32]) {
        let panel = &self.elements::<E>()[out / PANEL * PANEL * self.n_in..];
        let elements = panel.iter().skip(out % PANEL).step_by(PANEL);
        to.iter_mut()
            .zip(elements)
            .for_each(|(to, &x)| *to = x.into());
    }
}

/// Turns outputs `[up to 32, n_in]` into a panel.
fn turn<T: Copy>(panel: &mut [T], outs: &[T], n_in: usize) {
    for first in (0..n_in).step_by(BLOCK) {
        let end = n_in.min(first + BLOCK);
        let panel = &mut panel[first * PANEL..end * PANEL];
        for (out, row) in outs.chunks_exact(n_in).enumerate() {
            for (to, x) in panel[out..].iter_mut().step_by(PANEL).zip(&row[first..end]) {
                *to = *x;
            }
        }
    }
}

/// A panel that is narrowed to halves before it is turned.
struct Narrowed<'a, E> {
    panel: &'a mut [f16],
    /// Room for the outputs.
    narrow: &'a mut [f16],
    outs: &'a [E],
    n_in: usize,
}

impl<E: Element> Vectorized for Narrowed<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let narrow = &mut self.narrow[..self.outs.len()];
        narrow_run(s, narrow, self.outs);
        turn(self.panel, narrow, self.n_in);
    }
}
