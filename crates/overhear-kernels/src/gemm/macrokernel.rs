//! The macrokernel of packed GEMM: the loop nest of one task.
//!
//! K blocks of `kc` outermost; rows in blocks of at most `mr`; K again in blocks of `kc_l1`, so that a block of rows
//! stays in L1 while the panels pass by; then the microkernel over all panels.

use super::epilogue::{Call, StoreC};
use super::layout::{NR, Packing};
use super::microkernel::{GemmTask, MicroKernel, Operands};

/// Panels that a skinny task multiplies at a time.
pub(super) const SKINNY_PANELS: usize = 4;
/// Granularity of K blocks, in K groups: one step of tiles.
pub(super) const K_STEP: usize = 16;

/// One task: a range of rows by a range of panels, first and end each.
pub(super) struct MacroKernel<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) rows: (usize, usize),
    pub(super) panels: (usize, usize),
    /// K groups of a K block, which all rows take before the next block.
    pub(super) kc: usize,
    pub(super) is_skinny: bool,
    /// Accumulators: [`Blocking::ld_acc`](super::microkernel::Blocking) elements per panel and block of rows that is
    /// kept.
    pub(super) acc: &'a mut [f32],
}

impl GemmTask for MacroKernel<'_> {
    #[inline(always)]
    fn run<K: MicroKernel>(mut self, kernel: K) {
        let n_rows = self.rows.1 - self.rows.0;
        let k_groups = self.call.w.k_groups();
        // Blocks of even size: a block of a few rows costs nearly as much as a full one.
        let n_blocks = n_rows.div_ceil(K::MR).max(1);
        let block_rows = n_rows.div_ceil(n_blocks).max(1);
        let mut group = 0;
        loop {
            let len = self.kc.min(k_groups - group);
            let mut row = self.rows.0;
            while row < self.rows.1 {
                let n = block_rows.min(self.rows.1 - row);
                // Index of the block's accumulators: one set per block of rows if K is cut, otherwise one that all
                // blocks reuse.
                let block = if len < k_groups {
                    (row - self.rows.0) / block_rows
                } else {
                    0
                };
                let acc_block = block * (self.panels.1 - self.panels.0);
                if self.is_skinny {
                    for panel in (self.panels.0..self.panels.1).step_by(SKINNY_PANELS) {
                        let panels = (panel, self.panels.1.min(panel + SKINNY_PANELS));
                        self.multiply(kernel, (row, n), panels, (group, len), 0);
                    }
                } else {
                    self.multiply(kernel, (row, n), self.panels, (group, len), acc_block);
                }
                row += n;
            }
            group += len;
            if group == k_groups {
                break;
            }
        }
    }
}

impl MacroKernel<'_> {
    /// Multiplies K groups `group..group + k_groups` of a range of panels by a block of rows, into the accumulators
    /// from `acc_block` on. The last K block runs the epilogue.
    #[inline(always)]
    fn multiply<K: MicroKernel>(
        &mut self,
        kernel: K,
        (row, n): (usize, usize),
        (panel, end): (usize, usize),
        (group, k_groups): (usize, usize),
        acc_block: usize,
    ) {
        let Call { x, w, .. } = self.call;
        let compensation = match w.packing() {
            Packing::Bf16 => std::ptr::null(),
            Packing::Int8 => w.compensation()[panel * NR..].as_ptr(),
        };
        let acc = self.acc[acc_block * K::BLOCKING.ld_acc..][..(end - panel) * K::BLOCKING.ld_acc]
            .as_mut_ptr();
        let epilogue = StoreC {
            call: self.call,
            first: (row, panel * NR),
        };
        // K blocks of even size.
        let most = match self.is_skinny {
            true => usize::MAX,
            false => K::BLOCKING.kc_l1,
        };
        let n_parts = k_groups.div_ceil(most).max(1);
        let part = k_groups.div_ceil(n_parts).next_multiple_of(K_STEP);
        let end_group = group + k_groups;
        let mut group = group;
        loop {
            let k_groups = part.min(end_group - group);
            let is_last = group + k_groups == w.k_groups();
            let operands = Operands {
                x: x.groups[row * x.stride + group..].as_ptr(),
                x_stride: x.stride,
                w: w.groups()[panel * w.panel_groups() + group * K::BLOCKING.panel_width..]
                    .as_ptr(),
                w_stride: w.panel_groups(),
                k_groups,
                compensation,
                accumulate: group > 0,
            };
            let n_panels = end - panel;
            // SAFETY: rows (and `SLACK_ROWS` more), panels and accumulators are as many as are multiplied.
            unsafe {
                if is_last {
                    kernel.multiply(n, n_panels, self.is_skinny, &operands, acc, &epilogue);
                } else {
                    kernel.multiply(n, n_panels, self.is_skinny, &operands, acc, &());
                }
            }
            group += k_groups;
            if group == end_group {
                break;
            }
        }
    }
}
