//! `epilogue(x * w^T + bias)` on packed operands.
//!
//! A register block is `ROWS` rows of `x` by panels of 32 outputs; its sums run through all of K in registers, in the
//! order of K, so a row's result is the same bits alone or among 1500, on any number of threads. With few rows a block
//! takes several panels, so that there are enough independent sums, and reads ahead: memory is the limit. With many
//! rows a task keeps a group of panels in the second-level cache and walks over its rows: panels stream from there at
//! 128 bytes per 24 dot products, which is a third of what the cache gives.

use crate::activations::PackedRows;
use crate::dot::{Dot, DotTask, LANES};
use crate::math::gelu_short;
use crate::packed::PANEL;
use crate::simd::{Set, Simd};
use crate::split::Split;
use crate::{Activations, Epilogue, PackedMatrix, Packing, Pool};

/// The most rows of a register block, of any unit.
pub(crate) const MAX_ROWS: usize = 12;
/// The most sums of a register block.
const MAX_SUMS: usize = MAX_ROWS * PANEL;
/// The most panels of a register block.
const MAX_PANELS: usize = 4;
/// Bytes of panels that a task keeps close: with a tile of rows and the output, less than any second-level cache.
const GROUP_BYTES: usize = 384 << 10;
/// Bytes of panels that are worth a task of their own with few rows.
const FEW_TASK_BYTES: usize = 64 << 10;
/// Words ahead that a panel is fetched with few rows: what memory brings in the time that it takes to answer.
const FETCH_WORDS: usize = 1024;

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
    Bf16(Split<'a, u16>),
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
            let n_cols = y.n_cols();
            Target::Bf16(Split::new(&mut y.bf16_mut()[first * n_cols..]))
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
    let panel_bytes = (4 * w.panel_words()).max(1);
    let threads = pool.n_threads();
    let (rows, panels) = if n_rows <= 3 * MAX_ROWS {
        let even = n_panels.div_ceil(8 * threads);
        let panels = even.max(FEW_TASK_BYTES.div_ceil(panel_bytes));
        (n_rows.max(1), panels.next_multiple_of(MAX_PANELS))
    } else {
        let panels = (GROUP_BYTES / panel_bytes).max(1);
        let n_groups = n_panels.div_ceil(panels);
        // At least eight tasks a thread, so that threads of unequal speed end together, but four blocks of rows each.
        let n_parts = (8 * threads).div_ceil(n_groups.max(1)).max(2);
        let rows = n_rows.div_ceil(n_parts).next_multiple_of(MAX_ROWS);
        (rows.max(4 * MAX_ROWS), n_panels.div_ceil(n_groups.max(1)))
    };
    let n_parts = n_rows.div_ceil(rows);
    pool.run(n_parts * n_panels.div_ceil(panels.max(1)), &|task| {
        let (row, panel) = (task % n_parts * rows, task / n_parts * panels);
        let part = Part {
            call: &call,
            rows: (row, n_rows.min(row + rows)),
            panels: (panel, n_panels.min(panel + panels)),
            fetch: n_rows <= 3 * MAX_ROWS,
        };
        match w.packing() {
            Packing::Bf16 => set.run_bf16(part),
            Packing::Int8 => set.run_int8(part),
        }
    });
}

/// Rows and panels from the first to before the second.
struct Part<'a> {
    call: &'a Call<'a>,
    rows: (usize, usize),
    panels: (usize, usize),
    fetch: bool,
}

impl DotTask for Part<'_> {
    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        let mut sums = [0.0f32; MAX_SUMS];
        let mut row = self.rows.0;
        // Tiles of even size: a tile of a few rows costs nearly as much as a full one.
        let tiles = (self.rows.1 - self.rows.0).div_ceil(D::ROWS);
        let tile = (self.rows.1 - self.rows.0).div_ceil(tiles.max(1));
        while row < self.rows.1 {
            let n = tile.min(self.rows.1 - row);
            let mut panel = self.panels.0;
            while panel < self.panels.1 {
                let n_panels = panels_of::<D>(n).min(self.panels.1 - panel);
                // A block of three panels is two blocks.
                let n_panels = if n_panels == 3 { 2 } else { n_panels };
                let operands = self.operands(row, panel, n_panels * PANEL);
                // SAFETY: rows, panels and sums are as many as the block takes.
                unsafe { block(d, n, n_panels, self.fetch, &operands, sums.as_mut_ptr()) };
                self.finish(d, (row, n), (panel, n_panels), &sums);
                panel += n_panels;
            }
            row += n;
        }
    }
}

impl Part<'_> {
    /// What the block from `row` and `panel` on multiplies.
    #[inline(always)]
    fn operands(&self, row: usize, panel: usize, sums_stride: usize) -> Operands {
        let Call { x, w, .. } = self.call;
        let starts = match w.packing() {
            Packing::Bf16 => std::ptr::null(),
            Packing::Int8 => w.starts()[panel * PANEL..].as_ptr(),
        };
        Operands {
            x: x.words[row * x.stride..].as_ptr(),
            x_stride: x.stride,
            w: w.words()[panel * w.panel_words()..].as_ptr(),
            w_stride: w.panel_words(),
            n_words: w.n_words(),
            starts,
            sums_stride,
        }
    }

    /// Writes the outputs of a block from its sums, `[n, n_panels * 32]`.
    #[inline(always)]
    fn finish<D: Dot>(
        &self,
        d: D,
        (row, n): (usize, usize),
        (panel, n_panels): (usize, usize),
        sums: &[f32; MAX_SUMS],
    ) {
        let Call {
            x,
            w,
            bias,
            epilogue,
            ..
        } = *self.call;
        let (s, lanes) = (d.simd(), <D::Simd as Simd>::LANES);
        let first = panel * PANEL;
        let n_outs = (n_panels * PANEL).min(w.n_out() - first);
        let mut x_scales = [s.splat(1.0); MAX_ROWS];
        if D::SCALED {
            for (x_scale, scale) in x_scales.iter_mut().zip(&x.scales[row..][..n]) {
                *x_scale = s.splat(*scale);
            }
        }
        // Rows innermost: what belongs to outputs is loaded once, and rows do not wait for one another.
        for out in (0..n_outs).step_by(lanes) {
            let len = lanes.min(n_outs - out);
            let at = first + out;
            let scale = if D::SCALED {
                s.read(&w.scales()[at..][..len])
            } else {
                s.splat(1.0)
            };
            let bias = match bias {
                Some(bias) => s.read(&bias[at..][..len]),
                None => s.splat(0.0),
            };
            let column = Column {
                sums: &sums[out..],
                stride: n_panels * PANEL,
                scale,
                x_scales: &x_scales,
                bias,
                row,
                n,
                at,
                len,
            };
            match epilogue {
                Epilogue::Store => self.write::<D, false>(d, &column),
                Epilogue::Gelu => self.write::<D, true>(d, &column),
                Epilogue::Add => self.add(d, &column),
            }
        }
    }

    /// Writes a vector of every row, through GELU or as it is.
    #[inline(always)]
    fn write<D: Dot, const GELU: bool>(&self, d: D, column: &Column<'_, D>) {
        let (s, n_out) = (d.simd(), self.call.w.n_out());
        for i in 0..column.n {
            let mut v = column.value(d, i);
            if GELU {
                v = gelu_short(s, v);
            }
            let at = (column.row + i) * n_out + column.at;
            // SAFETY: the tasks' outputs are disjoint.
            unsafe {
                match self.call.target {
                    Target::F32(y) => s.write(y.take(at, column.len), v),
                    Target::Bf16(y) => write_bf16(d, y.take(at, column.len), v),
                }
            }
        }
    }

    /// Adds to a vector of every row.
    #[inline(always)]
    fn add<D: Dot>(&self, d: D, column: &Column<'_, D>) {
        let (s, n_out) = (d.simd(), self.call.w.n_out());
        let Target::F32(y) = self.call.target else {
            unreachable!("nothing is added to rounded outputs");
        };
        for i in 0..column.n {
            let at = (column.row + i) * n_out + column.at;
            // SAFETY: the tasks' outputs are disjoint.
            let y = unsafe { y.take(at, column.len) };
            s.write(y, s.add(s.read(y), column.value(d, i)));
        }
    }
}

/// A vector of outputs of every row of a block.
struct Column<'a, D: Dot> {
    /// From the vector's sums in the first row.
    sums: &'a [f32],
    /// From row to row of the sums.
    stride: usize,
    scale: <D::Simd as Simd>::V,
    x_scales: &'a [<D::Simd as Simd>::V; MAX_ROWS],
    bias: <D::Simd as Simd>::V,
    /// The first row, and how many.
    row: usize,
    n: usize,
    /// The first output, and how many.
    at: usize,
    len: usize,
}

impl<D: Dot> Column<'_, D> {
    /// Row `i`: its sums in f32, with the bias.
    #[inline(always)]
    fn value(&self, d: D, i: usize) -> <D::Simd as Simd>::V {
        let s = d.simd();
        let sum = s.read(&self.sums[i * self.stride..][..<D::Simd as Simd>::LANES]);
        if D::SCALED {
            s.fma(sum, s.mul(self.scale, self.x_scales[i]), self.bias)
        } else {
            s.add(sum, self.bias)
        }
    }
}

/// Writes up to a vector, rounded to bfloat16.
#[inline(always)]
pub(crate) fn write_bf16<D: Dot>(d: D, to: &mut [u16], v: <D::Simd as Simd>::V) {
    if to.len() == <D::Simd as Simd>::LANES {
        // SAFETY: `to` holds a vector.
        unsafe { d.store_bf16(to.as_mut_ptr(), v) };
    } else {
        let mut padded = [0; LANES];
        // SAFETY: no vector is longer than 16.
        unsafe { d.store_bf16(padded.as_mut_ptr(), v) };
        to.copy_from_slice(&padded[..to.len()]);
    }
}

/// Panels that a block of `n` rows takes: as many as keep its sums in registers.
#[inline(always)]
pub(crate) fn panels_of<D: Dot>(n: usize) -> usize {
    match n {
        _ if D::ROWS == 1 => 1,
        0..=3 => 4,
        4..=6 => 2,
        _ => 1,
    }
}

/// What a register block multiplies, and where its sums go.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Row 0, from its first word.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    /// The first panel.
    pub(crate) w: *const u32,
    /// Words from panel to panel.
    pub(crate) w_stride: usize,
    /// Words of K.
    pub(crate) n_words: usize,
    /// What the sums of bytes start from.
    pub(crate) starts: *const i32,
    /// From row to row of the sums.
    pub(crate) sums_stride: usize,
}

/// Writes the sums of `n <= D::ROWS` rows and `n_panels <= panels_of(n)` panels, not 3, to `to`.
///
/// # Safety
/// The operands must be readable and the sums writable for as many rows and panels.
#[inline(always)]
pub(crate) unsafe fn block<D: Dot>(
    d: D,
    n: usize,
    n_panels: usize,
    fetch: bool,
    operands: &Operands,
    to: *mut f32,
) {
    // SAFETY: the caller's, for each.
    unsafe {
        match (n, n_panels) {
            (1, 4) if fetch => rows::<D, 1, 4, true>(d, operands, to),
            (1, 4) => rows::<D, 1, 4, false>(d, operands, to),
            (1, 2) => rows::<D, 1, 2, true>(d, operands, to),
            (1, _) => rows::<D, 1, 1, true>(d, operands, to),
            (2, 4) if D::ROWS >= 2 => rows::<D, 2, 4, true>(d, operands, to),
            (2, 2) if D::ROWS >= 2 => rows::<D, 2, 2, true>(d, operands, to),
            (2, _) if D::ROWS >= 2 => rows::<D, 2, 1, true>(d, operands, to),
            (3, 4) if D::ROWS >= 3 => rows::<D, 3, 4, true>(d, operands, to),
            (3, 2) if D::ROWS >= 3 => rows::<D, 3, 2, true>(d, operands, to),
            (3, _) if D::ROWS >= 3 => rows::<D, 3, 1, true>(d, operands, to),
            (4, 2) if D::ROWS >= 4 => rows::<D, 4, 2, true>(d, operands, to),
            (4, _) if D::ROWS >= 4 => rows::<D, 4, 1, true>(d, operands, to),
            (5, 2) if D::ROWS >= 5 => rows::<D, 5, 2, true>(d, operands, to),
            (5, _) if D::ROWS >= 5 => rows::<D, 5, 1, true>(d, operands, to),
            (6, 2) if D::ROWS >= 6 => rows::<D, 6, 2, true>(d, operands, to),
            (6, _) if D::ROWS >= 6 => rows::<D, 6, 1, true>(d, operands, to),
            (7, _) if D::ROWS >= 7 => rows::<D, 7, 1, true>(d, operands, to),
            (8, _) if D::ROWS >= 8 => rows::<D, 8, 1, true>(d, operands, to),
            (9, _) if D::ROWS >= 9 => rows::<D, 9, 1, true>(d, operands, to),
            (10, _) if D::ROWS >= 10 => rows::<D, 10, 1, true>(d, operands, to),
            (11, _) if D::ROWS >= 11 => rows::<D, 11, 1, true>(d, operands, to),
            (12, _) if D::ROWS >= 12 && fetch => rows::<D, 12, 1, true>(d, operands, to),
            (12, _) if D::ROWS >= 12 => rows::<D, 12, 1, false>(d, operands, to),
            _ => unreachable!("a register block of {n} rows and {n_panels} panels"),
        }
    }
}

/// The register block, a function of its own so that its loop has the registers to itself.
///
/// # Safety
/// As [`block`], for `M` rows and `G` panels.
#[inline(always)]
unsafe fn rows<D: Dot, const M: usize, const G: usize, const FETCH: bool>(
    d: D,
    operands: &Operands,
    to: *mut f32,
) {
    let Operands {
        x,
        x_stride,
        w,
        w_stride,
        n_words,
        starts,
        sums_stride,
    } = *operands;
    let s = d.simd();
    // SAFETY: the caller's: `M` rows of `n_words`, `G` panels of `n_words` times 32, as many starts and sums.
    unsafe {
        let mut sums = [[[d.start(starts); 2]; G]; M];
        if D::SCALED {
            for g in 0..G {
                for half in 0..2 {
                    let start = d.start(starts.wrapping_add(g * PANEL + half * LANES));
                    for m in 0..M {
                        sums[m][g][half] = start;
                    }
                }
            }
        }
        for word in 0..n_words {
            let w = w.add(word * PANEL);
            for g in 0..G {
                let w = w.add(g * w_stride);
                let panel = [d.load(w), d.load(w.add(LANES))];
                if FETCH {
                    s.prefetch(w.wrapping_add(FETCH_WORDS));
                    s.prefetch(w.wrapping_add(FETCH_WORDS + LANES));
                }
                for m in 0..M {
                    let x = d.splat(x.add(m * x_stride + word));
                    for half in 0..2 {
                        sums[m][g][half] = d.dot(sums[m][g][half], x, panel[half]);
                    }
                }
            }
        }
        for m in 0..M {
            for g in 0..G {
                for half in 0..2 {
                    d.store(
                        to.add(m * sums_stride + g * PANEL + half * LANES),
                        sums[m][g][half],
                    );
                }
            }
        }
    }
}
