//! The epilogue of packed GEMM: accumulators to outputs.

use std::ops;

use super::layout::{LANES, PANEL};
use super::microkernel::{Finish, Unit};
use super::pack_a::{Activations, PackedRows};
use super::pack_b::PackedMatrix;
use super::post_op::Epilogue;
use crate::math::quantize::Range;
use crate::parallel::Split;
use crate::simd::Simd;

/// Where a product goes.
#[derive(Debug)]
pub enum Output<'a> {
    /// `[n, n_out]`, contiguous.
    F32(&'a mut [f32]),
    /// Rows from the given one on, as many as the operand has, rounded to bfloat16; not with [`Epilogue::Add`].
    Bf16(&'a mut Activations, usize),
}

/// The output as tasks write it.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    F32(Split<'a, f32>),
    /// And elements from row to row.
    Bf16(Split<'a, u16>, usize),
}

/// The arguments of one call, checked.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) x: PackedRows<'a>,
    pub(super) w: &'a PackedMatrix,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) epilogue: Epilogue,
    pub(super) target: Target<'a>,
}

// The epilogues, as constants.
const STORE: u8 = 0;
const GELU: u8 = 1;
const ADD: u8 = 2;

/// Outputs of a block, to be written from its sums.
pub(super) struct Outputs<'a> {
    pub(super) call: &'a Call<'a>,
    /// Row and output that the block begins with.
    pub(super) first: (usize, usize),
}

impl<U: Unit> Finish<U> for Outputs<'_> {
    const WAITS: bool = false;

    #[inline(always)]
    unsafe fn outputs(
        &self,
        unit: U,
        rows: ops::Range<usize>,
        outs: ops::Range<usize>,
        sums: *const f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match self.call.epilogue {
                Epilogue::Store => self.write::<U, STORE>(unit, rows, outs, sums),
                Epilogue::Gelu => self.write::<U, GELU>(unit, rows, outs, sums),
                Epilogue::Add => self.write::<U, ADD>(unit, rows, outs, sums),
            }
        }
    }
}

impl Outputs<'_> {
    /// Writes some outputs of some rows, by vectors of outputs: what belongs to those is read once.
    ///
    /// # Safety
    /// As [`Finish::outputs`].
    #[inline(always)]
    unsafe fn write<U: Unit, const EPILOGUE: u8>(
        &self,
        unit: U,
        rows: ops::Range<usize>,
        outs: ops::Range<usize>,
        sums: *const f32,
    ) {
        let (s, lanes, n_out) = (unit.simd(), <U::Simd as Simd>::LANES, self.call.w.n_out());
        let (first, first_out) = (self.first.0 + rows.start, self.first.1 + outs.start);
        let end = n_out.min(self.first.1 + outs.end);
        if lanes == LANES && end - first_out == PANEL {
            // SAFETY: the caller's.
            return unsafe {
                self.write_panel::<U, EPILOGUE>(unit, (first, rows.len()), first_out, sums)
            };
        }
        for out in (first_out..end).step_by(lanes) {
            let n = lanes.min(end - out);
            let sums = sums.wrapping_add(out - first_out);
            let column = self.column(unit, (first, rows.len()), (out, n), sums);
            // SAFETY: of all rows the sums of this vector have been written and the ranges are there; the tasks' outputs are
            // disjoint.
            unsafe {
                match self.call.target {
                    Target::F32(y) if n == lanes => {
                        let mut y = y.range(first * n_out + out, (rows.len() - 1) * n_out + lanes);
                        for i in 0..rows.len() {
                            let v = column.value::<U, EPILOGUE>(unit, i);
                            let v = match EPILOGUE {
                                ADD => s.add(s.load(y), v),
                                _ => v,
                            };
                            s.store(y, v);
                            y = y.wrapping_add(n_out);
                        }
                    }
                    // Nothing is added to rounded outputs.
                    Target::Bf16(y, stride) if n == lanes => {
                        let mut y =
                            y.range(first * stride + out, (rows.len() - 1) * stride + lanes);
                        for i in 0..rows.len() {
                            unit.store_bf16(y, column.value::<U, EPILOGUE>(unit, i));
                            y = y.wrapping_add(stride);
                        }
                    }
                    Target::F32(y) => {
                        for i in 0..rows.len() {
                            let v = column.value::<U, EPILOGUE>(unit, i);
                            let y = y.take((first + i) * n_out + out, n);
                            let v = match EPILOGUE {
                                ADD => s.add(s.read(y), v),
                                _ => v,
                            };
                            s.write(y, v);
                        }
                    }
                    Target::Bf16(y, stride) => {
                        for i in 0..rows.len() {
                            let y = y.take((first + i) * stride + out, n);
                            write_bf16(unit, y, column.value::<U, EPILOGUE>(unit, i));
                        }
                    }
                }
            }
        }
    }

    /// The same of a panel whose rows are two vectors: what belongs to a row is read once, and they are rounded together.
    ///
    /// # Safety
    /// As [`Finish::outputs`].
    #[inline(always)]
    unsafe fn write_panel<U: Unit, const EPILOGUE: u8>(
        &self,
        unit: U,
        (first, n): (usize, usize),
        out: usize,
        sums: *const f32,
    ) {
        let (s, n_out) = (unit.simd(), self.call.w.n_out());
        let columns = [
            self.column(unit, (first, n), (out, LANES), sums),
            self.column(
                unit,
                (first, n),
                (out + LANES, LANES),
                sums.wrapping_add(LANES),
            ),
        ];
        // SAFETY: as for a vector of them.
        unsafe {
            match self.call.target {
                Target::F32(y) => {
                    let mut y = y.range(first * n_out + out, (n - 1) * n_out + PANEL);
                    for i in 0..n {
                        let mut v = [
                            columns[0].value::<U, EPILOGUE>(unit, i),
                            columns[1].value::<U, EPILOGUE>(unit, i),
                        ];
                        if EPILOGUE == ADD {
                            v = [s.add(s.load(y), v[0]), s.add(s.load(y.add(LANES)), v[1])];
                        }
                        s.store(y, v[0]);
                        s.store(y.add(LANES), v[1]);
                        y = y.wrapping_add(n_out);
                    }
                }
                Target::Bf16(y, stride) => {
                    let mut y = y.range(first * stride + out, (n - 1) * stride + PANEL);
                    for i in 0..n {
                        let v = [
                            columns[0].value::<U, EPILOGUE>(unit, i),
                            columns[1].value::<U, EPILOGUE>(unit, i),
                        ];
                        unit.store_bf16_pair(y, v);
                        y = y.wrapping_add(stride);
                    }
                }
            }
        }
    }

    /// A vector of outputs, `n` of it, of some rows.
    #[inline(always)]
    fn column<U: Unit>(
        &self,
        unit: U,
        (first, n_rows): (usize, usize),
        (out, n): (usize, usize),
        sums: *const f32,
    ) -> Column<<U::Simd as Simd>::V> {
        let Call { x, w, bias, .. } = *self.call;
        let (s, lanes) = (unit.simd(), <U::Simd as Simd>::LANES);
        let mut column = Column {
            sums,
            ranges: std::ptr::null(),
            scales: s.splat(1.0),
            totals: s.splat(0.0),
            starts: std::ptr::null(),
            bias: match bias {
                Some(bias) => s.read(&bias[out..][..n]),
                None => s.splat(0.0),
            },
        };
        if U::SCALED {
            column.ranges = x.ranges[first..][..n_rows].as_ptr();
            column.scales = s.read(&w.scales()[out..][..lanes]);
            column.totals = s.read(&w.totals()[out..][..lanes]);
            column.starts = w.starts()[out..][..lanes].as_ptr();
        }
        column
    }
}

/// A vector of outputs of some rows, to be made from their sums.
struct Column<V> {
    /// Of the first row; the next row's are [`PANEL`] elements on.
    sums: *const f32,
    /// Of the rows; bytes only, as are the next three.
    ranges: *const Range,
    scales: V,
    /// The sums of the outputs' weights.
    totals: V,
    /// What the sums start from.
    starts: *const i32,
    bias: V,
}

impl<V: Copy> Column<V> {
    /// The outputs of row `i`.
    ///
    /// # Safety
    /// Its sums must have been written, and of bytes its range and the starts be readable.
    #[inline(always)]
    unsafe fn value<U: Unit, const EPILOGUE: u8>(&self, unit: U, i: usize) -> V
    where
        U::Simd: Simd<V = V>,
    {
        let s = unit.simd();
        // SAFETY: the caller's.
        let v = unsafe {
            let sums = unit.float(s.load(self.sums.add(i * PANEL)), self.starts);
            if U::SCALED {
                let range = *self.ranges.add(i);
                let sums = s.fma(self.totals, s.splat(range.centre), sums);
                s.fma(sums, s.mul(self.scales, s.splat(range.scale)), self.bias)
            } else {
                s.add(sums, self.bias)
            }
        };
        if EPILOGUE == GELU { unit.gelu(v) } else { v }
    }
}

/// Writes up to a vector, rounded to bfloat16.
#[inline(always)]
pub(crate) fn write_bf16<U: Unit>(unit: U, to: &mut [u16], v: <U::Simd as Simd>::V) {
    if to.len() == <U::Simd as Simd>::LANES {
        // SAFETY: `to` holds a vector.
        unsafe { unit.store_bf16(to.as_mut_ptr(), v) };
    } else {
        let mut padded = [0; LANES];
        // SAFETY: no vector is longer than 16.
        unsafe { unit.store_bf16(padded.as_mut_ptr(), v) };
        to.copy_from_slice(&padded[..to.len()]);
    }
}
