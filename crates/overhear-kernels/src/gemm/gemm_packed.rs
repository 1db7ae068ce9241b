//! GEMM on packed bf16 or int8 operands: `y = post_op(x * w^T + bias)`. This file partitions the output into tasks;
//! the loop nest of a task is [`super::macrokernel`].
//!
//! *Skinny* calls (few rows, memory-bound) stream the panels of B in order, with prefetch. *Blocked* calls keep a
//! group of panels (`nc_bytes`) in L2 while the rows pass by. If K is so long that a group would be a panel or two, K
//! is cut into blocks of `kc` and the accumulators stay in scratch memory in between. The order of summation is the
//! order of K, so a row has the same bits alone or among 1500, on any number of threads.

use super::epilogue::{Call, Output, Target};
use super::layout::{NR, Packing};
use super::macrokernel::{K_STEP, MacroKernel, SKINNY_PANELS};
use super::pack_a::PackedRows;
use super::pack_b::PackedMatrix;
use super::post_op::PostOp;
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::parallel::{Disjoint, Pool, scratch};

/// Least bytes of B per skinny task.
const SKINNY_TASK_BYTES: usize = 64 << 10;
/// Tasks per thread in a blocked call, so that threads of unequal speed end together.
const BLOCKED_TASKS: usize = 3;
/// Most rows of a skinny call: reading the panels costs more than the arithmetic.
const SKINNY_ROWS: usize = 36;

impl Kernels {
    /// `y = post_op(x * w^T + bias)` on packed operands: dot products in bf16 or int8, everything else in f32.
    ///
    /// `x`: at least `n_rows` rows of `w.n_in()`, packed as `w` is; `bias`: `[n_out]`; `y`: `[n_rows, n_out]`. A
    /// row's result does not depend on the other rows or on the number of threads. Allocates nothing.
    ///
    /// # Panics
    /// If the shapes or the packings do not fit.
    pub fn linear_packed(
        &self,
        pool: &Pool,
        y: Output<'_>,
        x: PackedRows<'_>,
        n_rows: usize,
        w: &PackedMatrix,
        bias: Option<&[f32]>,
        post_op: PostOp,
    ) {
        let (n_out, n_in) = (w.n_out(), w.n_in());
        assert_eq!(x.packing, w.packing(), "the packings differ");
        assert_eq!(x.n_cols, n_in, "x is not rows of {n_in}");
        assert!(x.has(n_rows), "x is not {n_rows} rows");
        assert!(
            bias.is_none_or(|bias| bias.len() == n_out),
            "the bias is not {n_out} long"
        );
        let fits = match &y {
            Output::F32(y) => y.len() == n_rows * n_out,
            Output::Bf16(y, first) => {
                post_op != PostOp::Add && y.n_cols() == n_out && first + n_rows <= y.n_rows()
            }
        };
        assert!(fits, "y is not {n_rows} rows of {n_out}");
        if n_rows > 0 && n_out > 0 {
            product(self.arch, pool, y, x, n_rows, w, bias, post_op);
        }
    }

    /// Whether the machine has instructions for products in `packing` (otherwise they are emulated).
    #[must_use]
    pub fn is_native(&self, packing: Packing) -> bool {
        match packing {
            Packing::Bf16 => self.arch.has_bf16(),
            Packing::Int8 => self.arch.has_int8(),
        }
    }
}

/// Partitions the call into tasks and runs them; shapes have been checked.
pub(crate) fn product(
    arch: Arch,
    pool: &Pool,
    y: Output<'_>,
    x: PackedRows<'_>,
    n_rows: usize,
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    post_op: PostOp,
) {
    assert_eq!(
        w.panel_width(),
        arch.blocking().panel_width,
        "packed for another set"
    );
    let target = match y {
        Output::F32(y) => Target::F32(Disjoint::new(y)),
        Output::Bf16(y, first) => {
            let (y, stride) = y.bf16_mut();
            Target::Bf16(Disjoint::new(&mut y[first * stride..]), stride)
        }
    };
    let call = Call {
        x,
        w,
        bias,
        post_op,
        target,
    };
    let n_panels = w.n_out().div_ceil(NR);
    let threads = pool.n_threads();
    let blocking = arch.blocking();
    let is_skinny = n_rows <= SKINNY_ROWS;
    // K blocks of even size.
    let n_kc_blocks = w.k_groups().div_ceil(blocking.kc).max(1);
    let n_kc_blocks = if is_skinny { 1 } else { n_kc_blocks };
    let kc = w.k_groups().div_ceil(n_kc_blocks).next_multiple_of(K_STEP);
    let panel_bytes = (4 * NR * kc).max(1);
    let (rows, panels) = if is_skinny {
        let even = n_panels.div_ceil(8 * threads);
        let panels = even.max(SKINNY_TASK_BYTES.div_ceil(panel_bytes));
        (n_rows.max(1), panels.next_multiple_of(SKINNY_PANELS))
    } else {
        // Panel groups of even size, equally many for each thread; row blocks until there are a few tasks per thread.
        let most = (blocking.nc_bytes / panel_bytes).max(1);
        let n_panel_groups = n_panels.div_ceil(most).next_multiple_of(threads);
        let n_panel_groups = n_panel_groups.min(n_panels);
        let n_parts = (BLOCKED_TASKS * threads).div_ceil(n_panel_groups);
        let most = if n_kc_blocks == 1 {
            n_rows
        } else {
            blocking.mc
        };
        let n_parts = n_parts.max(n_rows.div_ceil(most));
        let rows = n_rows.div_ceil(n_parts).next_multiple_of(blocking.mr);
        (rows.max(4 * blocking.mr), n_panels.div_ceil(n_panel_groups))
    };
    let n_parts = n_rows.div_ceil(rows);
    // Accumulator scratch: `SKINNY_PANELS` panels if skinny; all panels of the group if K is not cut; panels times
    // row blocks if K is cut, since partial sums must survive until the next K block.
    let n_acc_blocks = match (is_skinny, n_kc_blocks) {
        (true, _) => SKINNY_PANELS,
        (_, 1) => panels,
        _ => panels * rows.div_ceil(blocking.mr),
    };
    pool.run(n_parts * n_panels.div_ceil(panels.max(1)), &|task| {
        let (row, panel) = (task % n_parts * rows, task / n_parts * panels);
        scratch::with(n_acc_blocks * blocking.ld_acc, |acc| {
            let part = MacroKernel {
                call: &call,
                rows: (row, n_rows.min(row + rows)),
                panels: (panel, n_panels.min(panel + panels)),
                kc,
                is_skinny,
                acc,
            };
            match w.packing() {
                Packing::Bf16 => arch.run_bf16(part),
                Packing::Int8 => arch.run_int8(part),
            }
        });
    });
}
