//! `epilogue(x * w^T + bias)` on packed operands.
//!
//! A block is a few rows of `x` by a panel of 32 outputs, or several. Its sums are added up in the order of K, so a row's
//! result is the same bits alone or among 1500, on any number of threads. With few rows a task reads panels one after
//! the other, ahead of need: memory is the limit. With many it keeps a group of panels in the second-level cache and
//! walks over its rows; where K is so long that a group would be a panel or two, it takes K in parts, and the sums wait
//! in the cache too. Tiles take K in smaller parts still, so that a block of rows stays in the first-level cache while the
//! group passes by. The outputs of a block of rows are written a row at a time.

use std::ops;

use crate::activations::{PackedRows, Range};
use crate::dot::{DotTask, Finish, LANES, Operands, Unit};
use crate::panels::PANEL;
use crate::simd::{Set, Simd};
use crate::split::Split;
use crate::{Activations, Epilogue, PackedMatrix, Packing, Pool, scratch};

/// Panels that are multiplied at a time with few rows.
const FEW_PANELS: usize = 4;
/// Bytes of panels that are worth a task of their own with few rows.
const FEW_TASK_BYTES: usize = 64 << 10;
/// Words that K is cut at multiples of: a step of tiles.
const CHUNK_WORDS: usize = 16;
/// Tasks of a thread with many rows, so that threads of unequal speed end together.
const MANY_TASKS: usize = 3;
/// Up to so many rows, reading the panels costs more than the arithmetic.
const FEW_ROWS: usize = 36;

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
enum Target<'a> {
    F32(Split<'a, f32>),
    /// And elements from row to row.
    Bf16(Split<'a, u16>, usize),
}

/// The arguments of one call, checked.
#[derive(Clone, Copy)]
struct Call<'a> {
    x: PackedRows<'a>,
    w: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    epilogue: Epilogue,
    target: Target<'a>,
}

/// See [`crate::Kernels::product`]; shapes have been checked.
pub(crate) fn product(
    set: Set,
    pool: &Pool,
    y: Output<'_>,
    x: PackedRows<'_>,
    n_rows: usize,
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    epilogue: Epilogue,
) {
    assert_eq!(w.step(), set.blocking().step, "packed for another set");
    let target = match y {
        Output::F32(y) => Target::F32(Split::new(y)),
        Output::Bf16(y, first) => {
            let (y, stride) = y.bf16_mut();
            Target::Bf16(Split::new(&mut y[first * stride..]), stride)
        }
    };
    let call = Call {
        x,
        w,
        bias,
        epilogue,
        target,
    };
    let n_panels = w.n_out().div_ceil(PANEL);
    let threads = pool.n_threads();
    let blocking = set.blocking();
    let is_few = n_rows <= FEW_ROWS;
    // K in parts of even size.
    let n_chunks = w.n_words().div_ceil(blocking.k_words).max(1);
    let n_chunks = if is_few { 1 } else { n_chunks };
    let chunk = w.n_words().div_ceil(n_chunks).next_multiple_of(CHUNK_WORDS);
    let panel_bytes = (4 * PANEL * chunk).max(1);
    let (rows, panels) = if is_few {
        let even = n_panels.div_ceil(8 * threads);
        let panels = even.max(FEW_TASK_BYTES.div_ceil(panel_bytes));
        (n_rows.max(1), panels.next_multiple_of(FEW_PANELS))
    } else {
        // Groups of even size, as many for each thread; parts of rows until there are a few tasks for each.
        let most = (blocking.group_bytes / panel_bytes).max(1);
        let n_groups = n_panels.div_ceil(most).next_multiple_of(threads);
        let n_groups = n_groups.min(n_panels);
        let n_parts = (MANY_TASKS * threads).div_ceil(n_groups);
        let most = if n_chunks == 1 {
            n_rows
        } else {
            blocking.waiting_rows
        };
        let n_parts = n_parts.max(n_rows.div_ceil(most));
        let rows = n_rows.div_ceil(n_parts).next_multiple_of(blocking.rows);
        (rows.max(4 * blocking.rows), n_panels.div_ceil(n_groups))
    };
    let n_parts = n_rows.div_ceil(rows);
    // Room for the sums of a few panels, of all, or of all and all rows, which wait for more words of K.
    let n_places = match (is_few, n_chunks) {
        (true, _) => FEW_PANELS,
        (_, 1) => panels,
        _ => panels * rows.div_ceil(blocking.rows),
    };
    pool.run(n_parts * n_panels.div_ceil(panels.max(1)), &|task| {
        let (row, panel) = (task % n_parts * rows, task / n_parts * panels);
        scratch::with(n_places * blocking.place, |sums| {
            let part = Part {
                call: &call,
                rows: (row, n_rows.min(row + rows)),
                panels: (panel, n_panels.min(panel + panels)),
                chunk,
                is_few,
                sums,
            };
            match w.packing() {
                Packing::Bf16 => set.run_bf16(part),
                Packing::Int8 => set.run_int8(part),
            }
        });
    });
}

/// Rows and panels from the first to before the second.
struct Part<'a> {
    call: &'a Call<'a>,
    rows: (usize, usize),
    panels: (usize, usize),
    /// Words of K that all rows take before further ones.
    chunk: usize,
    is_few: bool,
    /// [`Blocking::place`](crate::dot::Blocking) for every panel of every block of rows that waits.
    sums: &'a mut [f32],
}

impl DotTask for Part<'_> {
    #[inline(always)]
    fn run<U: Unit>(mut self, unit: U) {
        let n_rows = self.rows.1 - self.rows.0;
        let n_words = self.call.w.n_words();
        // Blocks of even size: one of a few rows costs nearly as much as a full one.
        let n_blocks = n_rows.div_ceil(U::ROWS).max(1);
        let block_rows = n_rows.div_ceil(n_blocks).max(1);
        let mut word = 0;
        loop {
            let len = self.chunk.min(n_words - word);
            let mut row = self.rows.0;
            while row < self.rows.1 {
                let n = block_rows.min(self.rows.1 - row);
                // Sums wait for other words of K, in places for every block of rows; or only for the other panels; or with
                // few rows for nothing.
                let block = if len < n_words {
                    (row - self.rows.0) / block_rows
                } else {
                    0
                };
                let place = block * (self.panels.1 - self.panels.0);
                if self.is_few {
                    for panel in (self.panels.0..self.panels.1).step_by(FEW_PANELS) {
                        let panels = (panel, self.panels.1.min(panel + FEW_PANELS));
                        self.multiply(unit, (row, n), panels, (word, len), 0);
                    }
                } else {
                    self.multiply(unit, (row, n), self.panels, (word, len), place);
                }
                row += n;
            }
            word += len;
            if word == n_words {
                break;
            }
        }
    }
}

impl Part<'_> {
    /// Some words of K of some panels, for a block of rows, whose sums are from `place` on; with the last words, their
    /// outputs.
    #[inline(always)]
    fn multiply<U: Unit>(
        &mut self,
        unit: U,
        (row, n): (usize, usize),
        (panel, end): (usize, usize),
        (word, n_words): (usize, usize),
        place: usize,
    ) {
        let Call { x, w, .. } = self.call;
        let starts = match w.packing() {
            Packing::Bf16 => std::ptr::null(),
            Packing::Int8 => w.starts()[panel * PANEL..].as_ptr(),
        };
        let sums = self.sums[place * U::BLOCKING.place..][..(end - panel) * U::BLOCKING.place]
            .as_mut_ptr();
        let outputs = Outputs {
            call: self.call,
            first: (row, panel * PANEL),
        };
        // Parts of even size.
        let most = match self.is_few {
            true => usize::MAX,
            false => U::BLOCKING.block_words,
        };
        let n_parts = n_words.div_ceil(most).max(1);
        let part = n_words.div_ceil(n_parts).next_multiple_of(CHUNK_WORDS);
        let end_word = word + n_words;
        let mut word = word;
        loop {
            let n_words = part.min(end_word - word);
            let is_last = word + n_words == w.n_words();
            let operands = Operands {
                x: x.words[row * x.stride + word..].as_ptr(),
                x_stride: x.stride,
                w: w.words()[panel * w.panel_words() + word * U::BLOCKING.step..].as_ptr(),
                w_stride: w.panel_words(),
                n_words,
                starts,
                carry: word > 0,
            };
            let n_panels = end - panel;
            // SAFETY: rows (and `SLACK_ROWS` more), panels and sums are as many as are multiplied.
            unsafe {
                if is_last {
                    unit.multiply(n, n_panels, self.is_few, &operands, sums, &outputs);
                } else {
                    unit.multiply(n, n_panels, self.is_few, &operands, sums, &());
                }
            }
            word += n_words;
            if word == end_word {
                break;
            }
        }
    }
}

// The epilogues, as constants.
const STORE: u8 = 0;
const GELU: u8 = 1;
const ADD: u8 = 2;

/// Outputs of a block, to be written from its sums.
struct Outputs<'a> {
    call: &'a Call<'a>,
    /// Row and output that the block begins with.
    first: (usize, usize),
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
