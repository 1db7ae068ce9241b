//! The epilogue of packed GEMM: accumulators to outputs.
//!
//! For int8 operands an accumulator is dequantised: zero-point correction by the column sums of B, row scale times
//! output scale. Then come bias, the post-op, and the store in f32 or bf16.

use std::ops;

use super::layout::{LANES, NR};
use super::microkernel::{Epilogue, MicroKernel};
use super::pack_a::{PackedActivations, PackedRows};
use super::pack_b::PackedMatrix;
use super::post_op::PostOp;
use crate::math::quantize::QuantParams;
use crate::parallel::Disjoint;
use crate::simd::Simd;

/// Destination of [`Kernels::linear_packed`](crate::Kernels::linear_packed).
#[derive(Debug)]
pub enum Output<'a> {
    /// f32, `[n, n_out]`, contiguous.
    F32(&'a mut [f32]),
    /// bf16 rows, beginning with the row of the given index, as many as A has. Not with [`PostOp::Add`].
    Bf16(&'a mut PackedActivations, usize),
}

/// Destination as the tasks write it.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    F32(Disjoint<'a, f32>),
    /// bf16 elements, and the row stride in elements.
    Bf16(Disjoint<'a, u16>, usize),
}

/// Arguments of one call, shapes checked.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) x: PackedRows<'a>,
    pub(super) w: &'a PackedMatrix,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) post_op: PostOp,
    pub(super) target: Target<'a>,
}

// Post-ops as values of a const generic.
const STORE: u8 = 0;
const GELU: u8 = 1;
const ADD: u8 = 2;

/// Epilogue that stores C: dequantises, adds the bias, applies the post-op and writes the outputs of a block.
pub(super) struct StoreC<'a> {
    pub(super) call: &'a Call<'a>,
    /// First row and first output of the block.
    pub(super) first: (usize, usize),
}

impl<K: MicroKernel> Epilogue<K> for StoreC<'_> {
    const KEEPS_ACC: bool = false;

    #[inline(always)]
    unsafe fn store_c(
        &self,
        kernel: K,
        rows: ops::Range<usize>,
        outs: ops::Range<usize>,
        acc: *const f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match self.call.post_op {
                PostOp::Store => self.write::<K, STORE>(kernel, rows, outs, acc),
                PostOp::Gelu => self.write::<K, GELU>(kernel, rows, outs, acc),
                PostOp::Add => self.write::<K, ADD>(kernel, rows, outs, acc),
            }
        }
    }
}

impl StoreC<'_> {
    /// Stores `outs` of `rows`, one vector of outputs after the other, so that the per-output operands are loaded
    /// once.
    ///
    /// # Safety
    /// As [`Epilogue::store_c`].
    #[inline(always)]
    unsafe fn write<K: MicroKernel, const POST_OP: u8>(
        &self,
        kernel: K,
        rows: ops::Range<usize>,
        outs: ops::Range<usize>,
        acc: *const f32,
    ) {
        let (s, lanes, n_out) = (kernel.simd(), <K::Simd as Simd>::LANES, self.call.w.n_out());
        let (first, first_out) = (self.first.0 + rows.start, self.first.1 + outs.start);
        let end = n_out.min(self.first.1 + outs.end);
        if lanes == LANES && end - first_out == NR {
            // SAFETY: the caller's.
            return unsafe {
                self.write_panel::<K, POST_OP>(kernel, (first, rows.len()), first_out, acc)
            };
        }
        for out in (first_out..end).step_by(lanes) {
            let n = lanes.min(end - out);
            let acc = acc.wrapping_add(out - first_out);
            let column = self.column(kernel, (first, rows.len()), (out, n), acc);
            // SAFETY: the accumulators of this vector have been written for all rows, and the quantisation parameters
            // are there; the tasks' outputs are disjoint.
            unsafe {
                match self.call.target {
                    Target::F32(y) if n == lanes => {
                        let mut y = y.range(first * n_out + out, (rows.len() - 1) * n_out + lanes);
                        for i in 0..rows.len() {
                            let v = column.value::<K, POST_OP>(kernel, i);
                            let v = match POST_OP {
                                ADD => s.add(s.load(y), v),
                                _ => v,
                            };
                            s.store(y, v);
                            y = y.wrapping_add(n_out);
                        }
                    }
                    // `PostOp::Add` does not exist for bf16 outputs.
                    Target::Bf16(y, stride) if n == lanes => {
                        let mut y =
                            y.range(first * stride + out, (rows.len() - 1) * stride + lanes);
                        for i in 0..rows.len() {
                            kernel.store_bf16(y, column.value::<K, POST_OP>(kernel, i));
                            y = y.wrapping_add(stride);
                        }
                    }
                    Target::F32(y) => {
                        for i in 0..rows.len() {
                            let v = column.value::<K, POST_OP>(kernel, i);
                            let y = y.take((first + i) * n_out + out, n);
                            let v = match POST_OP {
                                ADD => s.add(s.read(y), v),
                                _ => v,
                            };
                            s.write(y, v);
                        }
                    }
                    Target::Bf16(y, stride) => {
                        for i in 0..rows.len() {
                            let y = y.take((first + i) * stride + out, n);
                            write_bf16(kernel, y, column.value::<K, POST_OP>(kernel, i));
                        }
                    }
                }
            }
        }
    }

    /// Stores a whole panel where it is two vectors wide: the per-row operands are loaded once, and both vectors are
    /// rounded together.
    ///
    /// # Safety
    /// As [`Epilogue::store_c`].
    #[inline(always)]
    unsafe fn write_panel<K: MicroKernel, const POST_OP: u8>(
        &self,
        kernel: K,
        (first, n): (usize, usize),
        out: usize,
        acc: *const f32,
    ) {
        let (s, n_out) = (kernel.simd(), self.call.w.n_out());
        let columns = [
            self.column(kernel, (first, n), (out, LANES), acc),
            self.column(
                kernel,
                (first, n),
                (out + LANES, LANES),
                acc.wrapping_add(LANES),
            ),
        ];
        // SAFETY: as for a vector of them.
        unsafe {
            match self.call.target {
                Target::F32(y) => {
                    let mut y = y.range(first * n_out + out, (n - 1) * n_out + NR);
                    for i in 0..n {
                        let mut v = [
                            columns[0].value::<K, POST_OP>(kernel, i),
                            columns[1].value::<K, POST_OP>(kernel, i),
                        ];
                        if POST_OP == ADD {
                            v = [s.add(s.load(y), v[0]), s.add(s.load(y.add(LANES)), v[1])];
                        }
                        s.store(y, v[0]);
                        s.store(y.add(LANES), v[1]);
                        y = y.wrapping_add(n_out);
                    }
                }
                Target::Bf16(y, stride) => {
                    let mut y = y.range(first * stride + out, (n - 1) * stride + NR);
                    for i in 0..n {
                        let v = [
                            columns[0].value::<K, POST_OP>(kernel, i),
                            columns[1].value::<K, POST_OP>(kernel, i),
                        ];
                        kernel.store_bf16_pair(y, v);
                        y = y.wrapping_add(stride);
                    }
                }
            }
        }
    }

    /// Per-output operands of `n` outputs from `out` on, at most one vector, for `n_rows` rows from `first` on.
    #[inline(always)]
    fn column<K: MicroKernel>(
        &self,
        kernel: K,
        (first, n_rows): (usize, usize),
        (out, n): (usize, usize),
        acc: *const f32,
    ) -> Column<<K::Simd as Simd>::V> {
        let Call { x, w, bias, .. } = *self.call;
        let (s, lanes) = (kernel.simd(), <K::Simd as Simd>::LANES);
        let mut column = Column {
            acc,
            quant_params: std::ptr::null(),
            scales: s.splat(1.0),
            column_sums: s.splat(0.0),
            compensation: std::ptr::null(),
            bias: match bias {
                Some(bias) => s.read(&bias[out..][..n]),
                None => s.splat(0.0),
            },
        };
        if K::IS_INT8 {
            column.quant_params = x.quant_params[first..][..n_rows].as_ptr();
            column.scales = s.read(&w.scales()[out..][..lanes]);
            column.column_sums = s.read(&w.column_sums()[out..][..lanes]);
            column.compensation = w.compensation()[out..][..lanes].as_ptr();
        }
        column
    }
}

/// Per-output operands of one vector of outputs, and its accumulators.
struct Column<V> {
    /// Accumulators of the first row; the next row's are [`NR`] elements further.
    acc: *const f32,
    /// Quantisation parameters of the rows of A. int8 only, as are `scales`, `column_sums` and `compensation`.
    quant_params: *const QuantParams,
    scales: V,
    /// Sums of the outputs' weights, which correct for the rows' zero points.
    column_sums: V,
    /// Compensation for u8 x s8 products, see [`Operands::compensation`](super::microkernel::Operands).
    compensation: *const i32,
    bias: V,
}

impl<V: Copy> Column<V> {
    /// One vector of outputs of row `i`, before `PostOp::Add`.
    ///
    /// # Safety
    /// The row's accumulators must have been written; for int8 its quantisation parameters and the compensation must
    /// be readable.
    #[inline(always)]
    unsafe fn value<K: MicroKernel, const POST_OP: u8>(&self, kernel: K, i: usize) -> V
    where
        K::Simd: Simd<V = V>,
    {
        let s = kernel.simd();
        // SAFETY: the caller's.
        let v = unsafe {
            let acc = kernel.acc_to_f32(s.load(self.acc.add(i * NR)), self.compensation);
            if K::IS_INT8 {
                let params = *self.quant_params.add(i);
                let acc = s.fma(self.column_sums, s.splat(params.zero_point), acc);
                s.fma(acc, s.mul(self.scales, s.splat(params.scale)), self.bias)
            } else {
                s.add(acc, self.bias)
            }
        };
        if POST_OP == GELU { kernel.gelu(v) } else { v }
    }
}

/// Stores up to one vector, rounded to bf16.
#[inline(always)]
pub(crate) fn write_bf16<K: MicroKernel>(kernel: K, to: &mut [u16], v: <K::Simd as Simd>::V) {
    if to.len() == <K::Simd as Simd>::LANES {
        // SAFETY: `to` holds a vector.
        unsafe { kernel.store_bf16(to.as_mut_ptr(), v) };
    } else {
        let mut padded = [0; LANES];
        // SAFETY: no vector is longer than 16.
        unsafe { kernel.store_bf16(padded.as_mut_ptr(), v) };
        to.copy_from_slice(&padded[..to.len()]);
    }
}
