//! Emulated AMX, in plain Rust: the twin on which packing, blocking, tails and attention are tested where there are
//! no tiles.

use super::emulated::With;
use super::tiles;
use crate::arch::{Emulated, TILE};
use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{Blocking, Epilogue, GemmTask, MicroKernel, Operands};
use crate::gemm::tile_kernel::{AccPair, PairSteps, Step2x2, TileKernel, TileTask};
use crate::gemm::vector_ops::VectorOps;
use crate::math::{exp2_lut, gelu_lut};
use crate::simd::Simd;

/// Emulated tile kernel for bf16, or for int8 (`INT8`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedAmx<const INT8: bool>;

// SAFETY: no instructions to prove.
unsafe impl<const INT8: bool> MicroKernel for EmulatedAmx<INT8> {
    const MR: usize = tiles::MR;
    const IS_INT8: bool = INT8;
    const BLOCKING: Blocking = tiles::BLOCKING;

    fn vectorize<T: GemmTask>(self, task: T) {
        Emulated.vectorize(With(self, task));
    }

    unsafe fn multiply<F: Epilogue<Self>>(
        self,
        n: usize,
        n_panels: usize,
        _: bool,
        operands: &Operands,
        to: *mut f32,
        epilogue: &F,
    ) {
        // SAFETY: the caller's.
        unsafe { tiles::multiply(self, n, n_panels, operands, to, epilogue) }
    }

    unsafe fn acc_to_f32(self, acc: [f32; 4], compensation: *const i32) -> [f32; 4] {
        if !INT8 {
            return acc;
        }
        // SAFETY: the caller's.
        std::array::from_fn(|i| (acc[i].to_bits() as i32 + unsafe { *compensation.add(i) }) as f32)
    }
}

impl<const INT8: bool> VectorOps for EmulatedAmx<INT8> {
    type Simd = Emulated;

    fn simd(self) -> Emulated {
        Emulated
    }

    fn gelu(self, x: [f32; 4]) -> [f32; 4] {
        x.map(gelu_lut::gelu)
    }
}

/// Contents of the tile registers: two pairs of accumulators, and the configured K groups of a step.
pub(crate) struct Registers {
    acc: [[[[i32; TILE]; TILE]; 2]; 2],
    groups: usize,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            acc: [[[[0; TILE]; TILE]; 2]; 2],
            groups: TILE,
        }
    }
}

/// The pairs of a 2x2 block: of either half of the panel, rows from 0 and from 16 on.
fn halves(block: *mut i32) -> [AccPair; 2] {
    [0, LANES].map(|half| AccPair {
        first: block.wrapping_add(half),
        second: block.wrapping_add(half + TILE * NR),
    })
}

/// Rows and columns of a tile.
fn elements() -> impl Iterator<Item = (usize, usize)> {
    (0..TILE * TILE).map(|i| (i / TILE, i % TILE))
}

impl<const INT8: bool> TileKernel for EmulatedAmx<INT8> {
    type Acc = Registers;

    fn vectorize_tiles<T: TileTask>(self, task: T) {
        task.run(self);
    }

    unsafe fn set_k_groups(self, registers: &mut Registers, groups: usize) {
        *registers = Registers {
            groups,
            ..Registers::default()
        };
    }

    unsafe fn begin_2x2<const STREAM_A: bool>(
        self,
        registers: &mut Registers,
        step: &Step2x2,
        from: Option<*const i32>,
        last: Option<*mut i32>,
    ) {
        // SAFETY: the caller's: the same as two pairs, one for each half of the panel.
        unsafe {
            if let Some(last) = last {
                self.store_2x2(registers, last);
            }
            let from = from.map(|from| halves(from.cast_mut()));
            self.begin_pair::<0>(registers, from.map(|from| from[0]));
            self.begin_pair::<1>(registers, from.map(|from| from[1]));
            self.accumulate_2x2::<STREAM_A>(registers, step);
        }
    }

    unsafe fn accumulate_2x2<const STREAM_A: bool>(
        self,
        registers: &mut Registers,
        step: &Step2x2,
    ) {
        let steps = |w| PairSteps {
            x: step.x,
            x_stride: step.x_stride,
            x_step: 0,
            w,
            second: step.x_lower,
            n: 1,
        };
        // SAFETY: the caller's.
        unsafe {
            self.accumulate_pair::<0, true>(registers, &steps(step.w));
            self.accumulate_pair::<1, true>(registers, &steps(step.w_right));
        }
    }

    unsafe fn store_2x2(self, registers: &mut Registers, to: *mut i32) {
        let [first, second] = halves(to);
        // SAFETY: the caller's.
        unsafe {
            self.store_pair::<0>(registers, first);
            self.store_pair::<1>(registers, second);
        }
    }

    unsafe fn begin_pair<const PAIR: usize>(
        self,
        registers: &mut Registers,
        from: Option<AccPair>,
    ) {
        registers.acc[PAIR] = [[[0; TILE]; TILE]; 2];
        if let Some(from) = from {
            for (tile, from) in registers.acc[PAIR]
                .iter_mut()
                .zip([from.first, from.second])
            {
                for (row, out) in elements() {
                    // SAFETY: the caller's.
                    tile[row][out] = unsafe { *from.add(row * NR + out) };
                }
            }
        }
    }

    unsafe fn accumulate_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        registers: &mut Registers,
        steps: &PairSteps,
    ) {
        let operands = match IS_2X1 {
            true => [(steps.x, steps.w), (steps.second, steps.w)],
            false => [(steps.x, steps.w), (steps.x, steps.second)],
        };
        for (tile, (x, w)) in registers.acc[PAIR].iter_mut().zip(operands) {
            for (row, out) in elements() {
                let sum = &mut tile[row][out];
                for step in 0..steps.n {
                    let groups = (0..registers.groups).map(|i| {
                        let group = step * TILE + i;
                        // SAFETY: the caller's: these are within rows and panels.
                        unsafe {
                            (
                                *x.add(step * steps.x_step + row * steps.x_stride + i),
                                *w.add(group * LANES + out),
                            )
                        }
                    });
                    *sum = if INT8 {
                        *sum + groups.map(dot_bytes).sum::<i32>()
                    } else {
                        dot_halves(f32::from_bits(*sum as u32), groups).to_bits() as i32
                    };
                }
            }
        }
    }

    unsafe fn accumulate_and_store_pair<const PAIR: usize, const IS_2X1: bool>(
        self,
        registers: &mut Registers,
        step: &PairSteps,
        to: AccPair,
    ) {
        // SAFETY: the caller's.
        unsafe {
            if PAIR == 0 {
                self.store_pair::<1>(registers, to);
            } else {
                self.store_pair::<0>(registers, to);
            }
            self.accumulate_pair::<PAIR, IS_2X1>(registers, &PairSteps { n: 1, ..*step });
        }
    }

    unsafe fn store_pair<const PAIR: usize>(self, registers: &mut Registers, to: AccPair) {
        for (tile, to) in registers.acc[PAIR].iter().zip([to.first, to.second]) {
            for (row, out) in elements() {
                // SAFETY: the caller's.
                unsafe { *to.add(row * NR + out) = tile[row][out] };
            }
        }
    }

    unsafe fn transpose(
        self,
        from: *const u32,
        from_stride: usize,
        to: *mut u32,
        to_stride: usize,
    ) {
        for (row, column) in elements() {
            // SAFETY: the caller's.
            unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
        }
    }

    unsafe fn exp2_pairs(
        self,
        scores: *const f32,
        n_pairs: usize,
        scale: f32,
        offsets: *const f32,
        _: *const u32,
        to: *mut u32,
    ) -> u16 {
        let mut above = 0;
        for (pair, query) in (0..n_pairs * TILE).map(|i| (i / TILE, i % TILE)) {
            // SAFETY: the caller's.
            unsafe {
                let [first, second] = [0, 1].map(|key| {
                    let score = *scores.add((2 * pair + key) * NR + query);
                    exp2_lut::exp2_bf16(score, scale, *offsets.add(query))
                });
                *to.add(pair * TILE + query) = u32::from(first) | u32::from(second) << 16;
                let is_above = (first | second) & exp2_lut::OVERFLOW > 0;
                above |= u16::from(is_above) << query;
            }
        }
        above
    }
}

/// Dot product of a K group of four bytes, u8 by s8.
fn dot_bytes((x, w): (u32, u32)) -> i32 {
    let products = x.to_le_bytes().into_iter().zip(w.to_le_bytes());
    products
        .map(|(x, w)| i32::from(x) * i32::from(w as i8))
        .sum()
}

/// Order of `tdpbf16ps`: the products of the low halves are accumulated, and those of the high halves, fused and from
/// zero; then both sums are added, then `sum`.
fn dot_halves(sum: f32, groups: impl Iterator<Item = (u32, u32)>) -> f32 {
    let (mut low, mut high) = (0.0f32, 0.0f32);
    for (x, w) in groups {
        low = f32::from_bits(x << 16).mul_add(f32::from_bits(w << 16), low);
        let top = |group: u32| f32::from_bits(group & 0xffff_0000);
        high = top(x).mul_add(top(w), high);
    }
    sum + (low + high)
}
