//! Register blocks: products of a few rows and panels whose sums stay in vector registers through all of K.

use crate::gemm::layout::{LANES, PANEL};
use crate::gemm::microkernel::{Blocking, Dot, Finish, Operands, Unit};
use crate::simd::Simd;

/// The most rows of a block.
pub(crate) const MAX_ROWS: usize = 12;
/// See [`Blocking`]: with a tile of rows and the output, panels take less than any second-level cache has.
pub(crate) const BLOCKING: Blocking = Blocking {
    step: PANEL,
    rows: MAX_ROWS,
    block_words: usize::MAX,
    k_words: usize::MAX,
    group_bytes: 384 << 10,
    waiting_rows: usize::MAX,
    place: MAX_ROWS * PANEL + LANES,
};

/// Words ahead that a panel is fetched with few rows: what memory brings in the time that it takes to answer.
const FETCH_WORDS: usize = 1024;

/// What is the same in every [`Unit`] whose blocks are these.
macro_rules! blocks_in_registers {
    () => {
        const BLOCKING: $crate::gemm::microkernel::Blocking =
            $crate::gemm::microkernels::registers::BLOCKING;

        #[inline(always)]
        unsafe fn multiply<F: $crate::gemm::microkernel::Finish<Self>>(
            self,
            n: usize,
            n_panels: usize,
            fetch: bool,
            operands: &$crate::gemm::microkernel::Operands,
            to: *mut f32,
            finish: &F,
        ) {
            // SAFETY: the caller's.
            unsafe {
                $crate::gemm::microkernels::registers::multiply(
                    self, n, n_panels, fetch, operands, to, finish,
                )
            }
        }
    };
}
pub(super) use blocks_in_registers;

/// Panels that a block of `n` rows takes: as many as keep its sums in registers.
#[inline(always)]
fn panels_of<D: Dot>(n: usize) -> usize {
    match D::ROWS / n {
        0..=1 => 1,
        2..=3 => 2,
        _ => 4,
    }
}

/// See [`Unit::multiply`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn multiply<D: Dot>(
    d: D,
    n: usize,
    n_panels: usize,
    fetch: bool,
    operands: &Operands,
    to: *mut f32,
    finish: &impl Finish<D>,
) {
    let mut panel = 0;
    while panel < n_panels {
        let of_block = match panels_of::<D>(n).min(n_panels - panel) {
            // A block of three panels is two blocks.
            3 => 2,
            of_block => of_block,
        };
        let operands = Operands {
            w: operands.w.wrapping_add(panel * operands.w_stride),
            starts: operands.starts.wrapping_add(panel * PANEL),
            ..*operands
        };
        // SAFETY: the caller's, for each block.
        unsafe {
            block(
                d,
                n,
                of_block,
                fetch,
                &operands,
                to.add(panel * D::BLOCKING.place),
            )
        };
        panel += of_block;
    }
    // SAFETY: the sums have been written.
    unsafe { show(d, n, n_panels, to, finish) };
}

/// Shows `finish` the sums of a block row by row, so that outputs are written as they lie.
///
/// # Safety
/// They must have been written.
#[inline(always)]
pub(super) unsafe fn show<U: Unit, F: Finish<U>>(
    unit: U,
    n: usize,
    n_panels: usize,
    to: *const f32,
    finish: &F,
) {
    if F::WAITS {
        return;
    }
    for row in 0..n {
        for panel in 0..n_panels {
            let outs = panel * PANEL..(panel + 1) * PANEL;
            let sums = to.wrapping_add(panel * U::BLOCKING.place + row * PANEL);
            // SAFETY: the caller's.
            unsafe { finish.outputs(unit, row..row + 1, outs, sums) };
        }
    }
}

/// Writes the sums of `n <= D::ROWS` rows and `n_panels <= panels_of(n)` panels, not 3, to `to`.
///
/// # Safety
/// The operands must be readable and the sums writable for as many rows and panels.
#[inline(always)]
unsafe fn block<D: Dot>(
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
        ..
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
                        to.add(g * D::BLOCKING.place + m * PANEL + half * LANES),
                        sums[m][g][half],
                    );
                }
            }
        }
    }
}
