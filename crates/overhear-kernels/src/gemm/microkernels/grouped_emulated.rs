//! Products with group-quantised weights in plain Rust: the twin of the instructions, and the fallback of machines
//! without them, compiled for the vectors that they have.

use crate::gemm::grouped::GroupFormat;
use crate::gemm::grouped::activations::GroupedRows;
use crate::gemm::grouped::kernel::{GroupedKernel, GroupedTask};
use crate::gemm::grouped::layout::{GROUP, HIGH_BYTES, LOW_BYTES, SCALE_BYTES};
use crate::gemm::layout::{LANES, NR};
use crate::simd::{Simd, Vectorized};

/// Products with group-quantised weights beside the vectors of `S`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmulatedGrouped<S>(pub(crate) S);

/// Task, to be compiled by [`Simd::vectorize`].
struct Compiled<K, T>(K, T);

impl<K: GroupedKernel, T: GroupedTask> Vectorized for Compiled<K, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.1.run(self.0)
    }
}

// SAFETY: no instructions to prove but those of `S`, which is a proof itself.
unsafe impl<S: Simd> GroupedKernel for EmulatedGrouped<S> {
    type Simd = S;

    const ROWS: usize = 4;

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline]
    fn vectorize_grouped<T: GroupedTask>(self, task: T) {
        self.0.vectorize(Compiled(self, task));
    }

    #[inline(always)]
    unsafe fn multiply<const HIGH: bool, const R: usize>(
        self,
        blocks: *const u8,
        x: GroupedRows<'_>,
        sums: *mut f32,
    ) {
        let format = GroupFormat::of(HIGH);
        let mut acc = [[0.0f32; NR]; R];
        for group in 0..x.n_groups {
            let n = format.block_bytes();
            // SAFETY: `blocks` is readable for a block per group, by the caller's word.
            let block = unsafe { std::slice::from_raw_parts(blocks.wrapping_add(group * n), n) };
            let (levels, scales, compensations) = x.group(group);
            // SAFETY: `x` has `R` rows of each group, by the caller's word.
            let (levels, scales, compensations) = unsafe {
                (
                    std::slice::from_raw_parts(levels, R * GROUP),
                    std::slice::from_raw_parts(scales, R),
                    std::slice::from_raw_parts(compensations, R),
                )
            };
            for half in 0..2 {
                let mut dots = [[0i32; LANES]; R];
                for row in 0..R {
                    dots[row] = [compensations[row]; LANES];
                }
                for k in 0..GROUP {
                    let weights = weights(format, block, half, k);
                    for row in 0..R {
                        let level = levels[row * GROUP + k];
                        for out in 0..LANES {
                            dots[row][out] += weights[out] * i32::from(level);
                        }
                    }
                }
                for row in 0..R {
                    for out in 0..LANES {
                        let scale = format.scale(block, half * LANES + out).to_f32();
                        let scale = scale * scales[row];
                        let acc = &mut acc[row][half * LANES + out];
                        *acc = (dots[row][out] as f32).mul_add(scale, *acc);
                    }
                }
            }
        }
        for (row, acc) in acc.iter().enumerate() {
            // SAFETY: `sums` is writable for `[R, 32]`, by the caller's word.
            unsafe { sums.add(row * NR).cast::<[f32; NR]>().write_unaligned(*acc) };
        }
    }
}

/// Element `k` of 16 outputs, unsigned.
#[inline(always)]
fn weights(format: GroupFormat, block: &[u8], half: usize, k: usize) -> [i32; LANES] {
    let lane = |bytes: &[u8], out: usize| {
        u32::from_le_bytes([
            bytes[4 * out],
            bytes[4 * out + 1],
            bytes[4 * out + 2],
            bytes[4 * out + 3],
        ])
    };
    let low = &block[format.low_offset() + half * LOW_BYTES + k / 8 * 64..][..64];
    let shift = k % 4 * 8 + k / 4 % 2 * 4;
    let mut weights = [0; LANES];
    for out in 0..LANES {
        weights[out] = (lane(low, out) >> shift & 15) as i32;
    }
    if format == GroupFormat::Q5 {
        let high = &block[SCALE_BYTES + half * HIGH_BYTES..][..HIGH_BYTES];
        for out in 0..LANES {
            weights[out] |= ((lane(high, out) >> (k % 4 * 8 + k / 4) & 1) << 4) as i32;
        }
    }
    weights
}
