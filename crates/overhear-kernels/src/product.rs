//! `epilogue(x * w^T + bias)` on packed operands.
//!
//! A block is a few rows of `x` by a panel of 32 outputs, or several. Its sums are added up in the order of K, so a row's
//! result is the same bits alone or among 1500, on any number of threads. With few rows a task reads panels one after
//! the other, ahead of need: memory is the limit. With many it keeps a group of panels in the second-level cache and
//! walks over its rows; where K is so long that a group would be a panel or two, it takes K in parts, and the sums wait
//! in the cache too. The outputs of a block of rows are written a row at a time.

use crate::activations::PackedRows;
use crate::dot::{DotTask, LANES, MAX_SUMS, Operands, Unit};
use crate::math::gelu_short;
use crate::packed::PANEL;
use crate::simd::{Set, Simd};
use crate::split::Split;
use crate::{Activations, Epilogue, PackedMatrix, Packing, Pool, scratch};

/// The most panels of a block.
const MAX_PANELS: usize = 4;
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
        (n_rows.max(1), panels.next_multiple_of(MAX_PANELS))
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
    // Room for one block, for those of all panels, or also of all rows, which wait for more words of K.
    let n_blocks = match (is_few, n_chunks) {
        (true, _) => 1,
        (_, 1) => panels,
        _ => panels * rows.div_ceil(blocking.rows),
    };
    pool.run(n_parts * n_panels.div_ceil(panels.max(1)), &|task| {
        let (row, panel) = (task % n_parts * rows, task / n_parts * panels);
        scratch::with(n_blocks * MAX_SUMS, |sums| {
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
    /// Words of K that are multiplied at a time.
    chunk: usize,
    is_few: bool,
    /// [`MAX_SUMS`] for every block that waits.
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
            let is_last = word + len == n_words;
            let mut row = self.rows.0;
            while row < self.rows.1 {
                let n = block_rows.min(self.rows.1 - row);
                // Sums wait for other words of K, in a place for every block of rows; or only for those of all panels,
                // so that rows are written in one go; or with few rows for nothing.
                let block = if len < n_words {
                    (row - self.rows.0) / block_rows
                } else {
                    0
                };
                let place = block * (self.panels.1 - self.panels.0);
                self.multiply(unit, (row, n), (word, len), place);
                if is_last && !self.is_few {
                    self.finish(unit, (row, n), self.panels, place);
                }
                row += n;
            }
            word += len;
            if is_last {
                break;
            }
        }
    }
}

impl Part<'_> {
    /// Panels of the block of `n` rows that begins with `panel`.
    #[inline(always)]
    fn block_panels<U: Unit>(&self, n: usize, panel: usize) -> usize {
        match U::panels_of(n).min(self.panels.1 - panel) {
            // A block of three panels is two blocks.
            3 => 2,
            n_panels => n_panels,
        }
    }

    /// Where the sums of the block that begins with `panel` are, those of the first being at `place`.
    #[inline(always)]
    fn place(&self, panel: usize, place: usize) -> usize {
        if self.is_few {
            0
        } else {
            (place + panel - self.panels.0) * MAX_SUMS
        }
    }

    /// Some words of K of all panels, for a block of rows; the outputs too, of few rows.
    #[inline(always)]
    fn multiply<U: Unit>(
        &mut self,
        unit: U,
        (row, n): (usize, usize),
        (word, n_words): (usize, usize),
        place: usize,
    ) {
        let Call { x, w, .. } = self.call;
        let mut panel = self.panels.0;
        while panel < self.panels.1 {
            let n_panels = self.block_panels::<U>(n, panel);
            let starts = match w.packing() {
                Packing::Bf16 => std::ptr::null(),
                Packing::Int8 => w.starts()[panel * PANEL..].as_ptr(),
            };
            let operands = Operands {
                x: x.words[row * x.stride + word..].as_ptr(),
                x_stride: x.stride,
                w: w.words()[panel * w.panel_words() + word * PANEL..].as_ptr(),
                w_stride: w.panel_words(),
                n_words,
                starts,
                carry: word > 0,
                sums_stride: n_panels * PANEL,
            };
            let at = self.place(panel, place);
            let to = self.sums[at..][..MAX_SUMS].as_mut_ptr();
            // SAFETY: rows (and `SLACK_ROWS` more), panels and sums are as many as the block takes.
            unsafe { unit.block(n, n_panels, self.is_few, &operands, to) };
            if self.is_few {
                self.finish(unit, (row, n), (panel, panel + n_panels), place);
            }
            panel += n_panels;
        }
    }

    /// Writes the outputs of some panels from their sums, row by row.
    #[inline(always)]
    fn finish<U: Unit>(
        &self,
        unit: U,
        (row, n): (usize, usize),
        (first, end): (usize, usize),
        place: usize,
    ) {
        for i in 0..n {
            let mut panel = first;
            while panel < end {
                let n_panels = self.block_panels::<U>(n, panel);
                let len = n_panels * PANEL;
                let sums = &self.sums[self.place(panel, place) + i * len..][..len];
                match self.call.epilogue {
                    Epilogue::Store => self.write::<U, STORE>(unit, row + i, panel, sums),
                    Epilogue::Gelu => self.write::<U, GELU>(unit, row + i, panel, sums),
                    Epilogue::Add => self.write::<U, ADD>(unit, row + i, panel, sums),
                }
                panel += n_panels;
            }
        }
    }

    /// Writes outputs of a row, those of some panels, from their sums.
    #[inline(always)]
    fn write<U: Unit, const EPILOGUE: u8>(&self, unit: U, row: usize, panel: usize, sums: &[f32]) {
        let Call { x, w, bias, .. } = *self.call;
        let lanes = <U::Simd as Simd>::LANES;
        let first = panel * PANEL;
        let len = sums.len().min(w.n_out() - first);
        let outs = Outs {
            sums,
            scales: if U::SCALED {
                &w.scales()[first..][..len]
            } else {
                &[]
            },
            starts: if U::SCALED { &w.starts()[first..] } else { &[] },
            x_scale: if U::SCALED { x.scales[row] } else { 1.0 },
            bias: match bias {
                Some(bias) => &bias[first..][..len],
                None => &[],
            },
        };
        let whole = len - len % lanes;
        match self.call.target {
            Target::F32(y) => {
                // SAFETY: the tasks' outputs are disjoint.
                let y = unsafe { y.take(row * w.n_out() + first, len) };
                for out in (0..whole).step_by(lanes) {
                    outs.write::<U, EPILOGUE>(unit, &mut y[out..][..lanes], out);
                }
                if whole < len {
                    outs.write::<U, EPILOGUE>(unit, &mut y[whole..], whole);
                }
            }
            Target::Bf16(y, stride) => {
                // SAFETY: as above.
                let y = unsafe { y.take(row * stride + first, len) };
                for out in (0..whole).step_by(lanes) {
                    outs.write_bf16::<U, EPILOGUE>(unit, &mut y[out..][..lanes], out);
                }
                if whole < len {
                    outs.write_bf16::<U, EPILOGUE>(unit, &mut y[whole..], whole);
                }
            }
        }
    }
}

// The epilogues, as constants.
const STORE: u8 = 0;
const GELU: u8 = 1;
const ADD: u8 = 2;

/// Outputs of a row, not yet written.
struct Outs<'a> {
    sums: &'a [f32],
    /// Empty if sums need none.
    scales: &'a [f32],
    /// What sums of bytes start from, of these outputs and whole panels.
    starts: &'a [i32],
    x_scale: f32,
    /// Empty if there is none.
    bias: &'a [f32],
}

impl Outs<'_> {
    /// A vector, or the first `n` of one, from output `out` on.
    #[inline(always)]
    fn value<U: Unit, const EPILOGUE: u8>(
        &self,
        unit: U,
        out: usize,
        n: usize,
    ) -> <U::Simd as Simd>::V {
        let s = unit.simd();
        let bias = if self.bias.is_empty() {
            s.splat(0.0)
        } else {
            s.read(&self.bias[out..][..n])
        };
        let sums = s.read(&self.sums[out..][..<U::Simd as Simd>::LANES]);
        let starts = self.starts[out.min(self.starts.len())..].as_ptr();
        // SAFETY: where sums have starts, there is one for each.
        let sums = unsafe { unit.float(sums, starts) };
        let v = if U::SCALED {
            let scale = s.mul(s.read(&self.scales[out..][..n]), s.splat(self.x_scale));
            s.fma(sums, scale, bias)
        } else {
            s.add(sums, bias)
        };
        if EPILOGUE == GELU {
            gelu_short(s, v)
        } else {
            v
        }
    }

    /// Writes as many as `y` holds.
    #[inline(always)]
    fn write<U: Unit, const EPILOGUE: u8>(&self, unit: U, y: &mut [f32], out: usize) {
        let s = unit.simd();
        let v = self.value::<U, EPILOGUE>(unit, out, y.len());
        let v = if EPILOGUE == ADD {
            s.add(s.read(y), v)
        } else {
            v
        };
        s.write(y, v);
    }

    /// The same, rounded; nothing is added to rounded outputs.
    #[inline(always)]
    fn write_bf16<U: Unit, const EPILOGUE: u8>(&self, unit: U, y: &mut [u16], out: usize) {
        write_bf16(unit, y, self.value::<U, EPILOGUE>(unit, out, y.len()));
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
