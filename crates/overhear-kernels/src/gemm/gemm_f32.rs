//! GEMM in f32 with weights in their storage type: `y = post_op(x * w^T + bias)`.
//!
//! B is prepacked in panels of 32 outputs ([`super::prepack_f32`]) and widened to f32 as it is multiplied. Vector
//! lanes are outputs: a step of the register block multiplies a broadcast element of each row by a few vectors of a
//! panel. The order of summation depends on K alone: fused multiply-adds in sequence within each block of [`KC`]
//! elements, then the blocks in sequence. Number of rows, position in a block, threads and vector width do not
//! matter, so a row has the same bits alone or among 1500.
//!
//! A is copied one K block at a time to rows [`LDA`] apart, because rows a power of two apart would compete for the
//! same L1 sets. *Skinny* calls (few rows, memory-bound) read each panel once and widen it in registers. *Blocked*
//! calls work through MC x NC tiles of the output and widen each K block of a panel once per tile.

use bytemuck::AnyBitPattern;
use half::{bf16, f16};

use super::gemm_f32_kernel::{KC, LDA, Operands, accumulate};
use super::layout::NR;
use super::post_op::{PostOp, store_row};
use super::prepack_f32::{Storage, StoredMatrix};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::matrix::{Dtype, Rows, assert_rows};
use crate::parallel::{Disjoint, Pool, scratch};
use crate::reference;
use crate::simd::{Element, Simd, Vectorized, widen};

/// Most rows of a skinny call: two register blocks of twelve rows, each of which widens the panel again.
const SKINNY_ROWS: usize = 24;
/// Panels that a skinny call multiplies at a time.
const SKINNY_PANELS: usize = 2;
/// Least bytes of B per skinny task: about a microsecond of memory traffic.
const SKINNY_TASK_BYTES: usize = 32 << 10;
/// Most rows of a blocked task: widening a panel is then 2 % of multiplying it, and a K block of the rows is 102 KiB,
/// part of any L2.
const MC: usize = 96;
/// Most panels of a blocked task: copying the rows is then a few percent of multiplying them.
const NC_PANELS: usize = 12;

/// Arguments of one call, shapes checked.
#[derive(Clone, Copy)]
struct Call<'a, E> {
    x: Rows<'a>,
    /// Packed B: `[panels, n_in, 32]`.
    w: &'a [E],
    /// Scales of the outputs, `[n_out]`, if the weights are int8: accumulators are multiplied by them.
    scales: Option<&'a [f32]>,
    /// Scales of the inputs, `[n_in]`, if the weights are int8: rows of A are multiplied by them.
    input_scales: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    post_op: PostOp,
    y: Disjoint<'a>,
    n_rows: usize,
    n_out: usize,
    n_in: usize,
}

impl Kernels {
    /// `y = post_op(x * w^T + bias)` in f32.
    ///
    /// `x`: `n` rows of `w.n_in()`; `w`: `[n_out, n_in]`; `bias`: `[n_out]`; `y`: `[n, n_out]`, contiguous, whose
    /// length determines `n`. A row's result does not depend on the other rows or on the number of threads. One row
    /// allocates nothing; more rows use scratch memory that each thread keeps.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn linear(
        &self,
        pool: &Pool,
        y: &mut [f32],
        x: Rows<'_>,
        w: &StoredMatrix,
        bias: Option<&[f32]>,
        post_op: PostOp,
    ) {
        let (n_out, n_in) = (w.n_out(), w.n_in());
        let n_rows = y.len().checked_div(n_out).unwrap_or(0);
        assert_eq!(y.len(), n_rows * n_out, "y is not rows of {n_out}");
        assert!(
            bias.is_none_or(|bias| bias.len() == n_out),
            "the bias is not {n_out} long"
        );
        assert_rows("x", x, n_rows, n_in);
        match self.arch {
            Arch::Scalar => reference::linear(y, x, w, bias, post_op),
            arch => linear(arch, pool, y, x, w, bias, post_op),
        }
    }
}

/// Runs the call on vectors. `arch` is not [`Arch::Scalar`]; shapes have been checked.
fn linear(
    arch: Arch,
    pool: &Pool,
    y: &mut [f32],
    x: Rows<'_>,
    w: &StoredMatrix,
    bias: Option<&[f32]>,
    post_op: PostOp,
) {
    match w.storage() {
        Storage::Float(Dtype::F32) => Call::<f32>::new(y, x, w, bias, post_op).run(arch, pool),
        Storage::Float(Dtype::F16) => Call::<f16>::new(y, x, w, bias, post_op).run(arch, pool),
        Storage::Float(Dtype::Bf16) => Call::<bf16>::new(y, x, w, bias, post_op).run(arch, pool),
        Storage::Int8 => Call::<i8>::new(y, x, w, bias, post_op).run(arch, pool),
    }
}

impl<'a, E: Element + AnyBitPattern> Call<'a, E> {
    fn new(
        y: &'a mut [f32],
        x: Rows<'a>,
        w: &'a StoredMatrix,
        bias: Option<&'a [f32]>,
        post_op: PostOp,
    ) -> Self {
        let (n_out, n_in) = (w.n_out(), w.n_in());
        let n_rows = y.len().checked_div(n_out).unwrap_or(0);
        assert!(n_rows == 0 || x.data.len() >= (n_rows - 1) * x.stride + n_in);
        assert!(y.len() == n_rows * n_out && bias.is_none_or(|b| b.len() == n_out));
        let (scales, input_scales) = w.scales().unzip();
        assert!(scales.is_none_or(|scales| scales.len() == n_out));
        assert!(input_scales.is_none_or(|input_scales| input_scales.len() == n_in));
        let w = w.elements();
        assert!(w.len() >= n_out.next_multiple_of(NR) * n_in);
        Self {
            x,
            w,
            scales,
            input_scales,
            bias,
            post_op,
            y: Disjoint::new(y),
            n_rows,
            n_out,
            n_in,
        }
    }

    /// Partitions the output into tasks.
    fn run(&self, arch: Arch, pool: &Pool) {
        if self.n_rows == 0 {
            // Nothing to do.
        } else if self.n_rows <= SKINNY_ROWS {
            self.run_skinny(arch, pool)
        } else {
            self.run_blocked(arch, pool)
        }
    }

    fn run_skinny(&self, arch: Arch, pool: &Pool) {
        let n_panels = self.n_out.div_ceil(NR);
        // Eight tasks per thread even out threads of unequal speed.
        let even = n_panels.div_ceil(8 * pool.n_threads());
        let for_bytes = SKINNY_TASK_BYTES.div_ceil((self.n_in * NR * size_of::<E>()).max(1));
        let panels = even.max(for_bytes).next_multiple_of(SKINNY_PANELS);
        // A single row is read in place, unless it has to be scaled.
        let n_copied = match self.n_rows {
            1 if self.input_scales.is_none() => 0,
            n_rows => n_rows * self.n_in.div_ceil(KC) * LDA,
        };
        pool.run(n_panels.div_ceil(panels), &|task| {
            scratch::with(n_copied, |copied| {
                let skinny = Skinny {
                    call: self,
                    panels: (task * panels, n_panels.min((task + 1) * panels)),
                    copied,
                };
                arch.run(skinny, || unreachable!("the scalar set has no vectors"));
            });
        });
    }

    fn run_blocked(&self, arch: Arch, pool: &Pool) {
        let n_panels = self.n_out.div_ceil(NR);
        let n_row_tiles = self.n_rows.div_ceil(MC);
        let rows = self.n_rows.div_ceil(n_row_tiles).next_multiple_of(12);
        let even = (n_panels * n_row_tiles).div_ceil(4 * pool.n_threads());
        let panels = even.clamp(1, NC_PANELS);
        let n_row_tiles = self.n_rows.div_ceil(rows);
        pool.run(n_row_tiles * n_panels.div_ceil(panels), &|task| {
            let (row, panel) = (task % n_row_tiles * rows, task / n_row_tiles * panels);
            scratch::with(rows * (LDA + panels * NR) + KC * NR, |scratch| {
                let blocked = Blocked {
                    call: self,
                    rows: (row, self.n_rows.min(row + rows)),
                    panels: (panel, n_panels.min(panel + panels)),
                    scratch,
                };
                arch.run(blocked, || unreachable!("the scalar set has no vectors"));
            });
        });
    }

    /// Start and length of each K block.
    #[inline(always)]
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<E> {
        let n_in = self.n_in;
        (0..n_in).step_by(KC).map(move |k| (k, KC.min(n_in - k)))
    }

    /// Copies elements `k..k + len` of consecutive rows from `first` on to rows of `to`, [`LDA`] apart, times the
    /// input scales.
    #[inline(always)]
    fn copy_rows(&self, to: &mut [f32], first: usize, (k, len): (usize, usize)) {
        for (i, to) in to.chunks_exact_mut(LDA).enumerate() {
            let (to, row) = (&mut to[..len], (first + i) * self.x.stride + k);
            to.copy_from_slice(&self.x.data[row..][..len]);
            if let Some(input_scales) = self.input_scales {
                let scales = &input_scales[k..][..len];
                to.iter_mut()
                    .zip(scales)
                    .for_each(|(to, scale)| *to *= scale);
            }
        }
    }

    /// Packed B from element `k` of a panel on.
    #[inline(always)]
    fn weights(&self, panel: usize, k: usize) -> &'a [E] {
        &self.w[(panel * self.n_in + k) * NR..]
    }

    /// Epilogue of one row: output scales, bias, post-op and store, for the outputs from `panel` on that `acc` holds.
    /// Outputs beyond `n_out` are dropped.
    ///
    /// # Safety
    /// No other task may access these outputs.
    #[inline(always)]
    unsafe fn epilogue<S: Simd>(&self, s: S, row: usize, panel: usize, acc: &[f32]) {
        let from = panel * NR;
        let acc = &acc[..acc.len().min(self.n_out - from)];
        // SAFETY: the caller's.
        let y = unsafe { self.y.take(row * self.n_out + from, acc.len()) };
        let [scales, bias] = [self.scales, self.bias].map(|v| v.map(|v| &v[from..][..acc.len()]));
        store_row(s, y, acc, scales, bias, self.post_op);
    }
}

/// Skinny task: all rows, at most [`SKINNY_ROWS`], by a range of panels.
struct Skinny<'a, E> {
    call: &'a Call<'a, E>,
    /// First panel and end of the range.
    panels: (usize, usize),
    /// Copy of A, `[K blocks, n_rows, LDA]`; empty if a single row is read in place.
    copied: &'a mut [f32],
}

impl<E: Element + AnyBitPattern> Vectorized for Skinny<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            call,
            panels,
            copied,
        } = self;
        let n_rows = call.n_rows;
        for (chunk, of_k) in copied.chunks_exact_mut(n_rows * LDA).zip(call.chunks()) {
            call.copy_rows(chunk, 0, of_k);
        }
        const WIDTH: usize = SKINNY_PANELS * NR;
        let acc = &mut [0.0; SKINNY_ROWS * WIDTH][..n_rows * WIDTH];
        for panel in (panels.0..panels.1).step_by(SKINNY_PANELS) {
            acc.fill(0.0);
            for (chunk, (k, len)) in call.chunks().enumerate() {
                let x = match copied.is_empty() {
                    true => &call.x.data[k..],
                    false => &copied[chunk * n_rows * LDA..],
                };
                let operands = Operands {
                    x: x.as_ptr(),
                    w: call.weights(panel, k).as_ptr(),
                    w_stride: call.n_in * NR,
                    n_panels: SKINNY_PANELS.min(panels.1 - panel),
                    len,
                    acc: acc.as_mut_ptr(),
                    ld_acc: WIDTH,
                };
                // SAFETY: `n_rows` rows have `len` elements from `k`, and so have the panels; the accumulators were
                // sliced.
                unsafe { accumulate::<S, E, true>(s, n_rows, &operands) };
            }
            for (row, acc) in acc.chunks_exact(WIDTH).enumerate() {
                // SAFETY: the tasks' outputs are disjoint.
                unsafe { call.epilogue(s, row, panel, acc) };
            }
        }
    }
}

/// Blocked task: a range of rows by a range of panels.
struct Blocked<'a, E> {
    call: &'a Call<'a, E>,
    /// First row and end of the range; `panels` likewise.
    rows: (usize, usize),
    panels: (usize, usize),
    /// Scratch: accumulators of the tile, one K block of the rows, one K block of a panel in f32.
    scratch: &'a mut [f32],
}

impl<E: Element + AnyBitPattern> Vectorized for Blocked<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            call,
            rows,
            panels,
            scratch,
        } = self;
        let (n_rows, n_panels) = (rows.1 - rows.0, panels.1 - panels.0);
        let (acc, scratch) = scratch.split_at_mut(n_rows * n_panels * NR);
        let (copied, widened) = scratch.split_at_mut(n_rows * LDA);
        acc.fill(0.0);
        for (k, len) in call.chunks() {
            call.copy_rows(copied, rows.0, (k, len));
            for panel in 0..n_panels {
                let stored = &call.weights(panels.0 + panel, k)[..len * NR];
                let w = match E::as_f32(stored) {
                    Some(w) => w,
                    None => {
                        let widened = &mut widened[..len * NR];
                        widen(s, widened, stored);
                        widened
                    }
                };
                let operands = Operands {
                    x: copied.as_ptr(),
                    w: w.as_ptr(),
                    w_stride: 0,
                    n_panels: 1,
                    len,
                    acc: acc[panel * NR..].as_mut_ptr(),
                    ld_acc: n_panels * NR,
                };
                // SAFETY: `n_rows` rows and a panel have `len` elements; the accumulators were sliced.
                unsafe { accumulate::<S, f32, false>(s, n_rows, &operands) };
            }
        }
        for (i, acc) in acc.chunks_exact(n_panels * NR).enumerate() {
            // SAFETY: the tasks' tiles are disjoint.
            unsafe { call.epilogue(s, rows.0 + i, panels.0, acc) };
        }
    }
}
