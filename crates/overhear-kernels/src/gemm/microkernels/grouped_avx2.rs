//! Products with group-quantised weights by AVX2: `vpmaddubsw`, the weights being u8, the rows s8.
//!
//! Sums of two products fit 16 bits, and so do eight such sums of weights of 4 bits (8 * 2 * 15 * 127 = 30480) or four
//! of 5 bits (31496): they are widened to 32 bits only then.

use std::arch::x86_64::*;

use crate::arch::Avx2;
use crate::gemm::grouped::GroupFormat;
use crate::gemm::grouped::activations::GroupedRows;
use crate::gemm::grouped::kernel::{GroupedKernel, GroupedTask};
use crate::gemm::grouped::layout::{GROUP, HIGH_BYTES, LOW_BYTES, SCALE_BYTES};
use crate::gemm::layout::NR;

/// Outputs of a vector.
const LANES: usize = 8;
/// Prefetch distance in bytes: what memory delivers during its latency.
const PREFETCH_BYTES: usize = 4 << 10;

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn vectorize<T: GroupedTask>(kernel: Avx2, task: T) {
    task.run(kernel)
}

// SAFETY: `Avx2(_)` is built by `new` alone.
unsafe impl GroupedKernel for Avx2 {
    type Simd = Avx2;

    const ROWS: usize = 4;

    #[inline(always)]
    fn simd(self) -> Avx2 {
        self
    }

    #[inline]
    fn vectorize_grouped<T: GroupedTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize(self, task) }
    }

    #[inline(always)]
    unsafe fn multiply<const HIGH: bool, const R: usize>(
        self,
        blocks: *const u8,
        x: GroupedRows<'_>,
        sums: *mut f32,
    ) {
        // SAFETY: `self` proves the features; the caller vouches for the operands.
        unsafe { multiply::<HIGH, R>(blocks, x, sums) }
    }
}

/// [`GroupedKernel::multiply`], a quarter of the panel at a time, whose sums are
/// in registers.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn multiply<const HIGH: bool, const R: usize>(
    blocks: *const u8,
    x: GroupedRows<'_>,
    sums: *mut f32,
) {
    let format = GroupFormat::of(HIGH);
    for quarter in 0..NR / LANES {
        let mut acc = [_mm256_setzero_ps(); R];
        for group in 0..x.n_groups {
            let (_, x_scales, _) = x.group(group);
            // SAFETY: blocks and rows are readable, by the caller's word; prefetching never faults.
            unsafe {
                let block = blocks.add(group * format.block_bytes());
                if quarter == 0 {
                    for line in (0..format.block_bytes()).step_by(64) {
                        _mm_prefetch::<_MM_HINT_T0>(
                            block.wrapping_add(line + PREFETCH_BYTES).cast(),
                        );
                    }
                }
                let scales = _mm_load_si128(block.add(quarter * SCALE_BYTES / 4).cast());
                let scales = _mm256_cvtph_ps(scales);
                let dots = dots::<HIGH, R>(block, quarter, x, group);
                for row in 0..R {
                    let scales = _mm256_mul_ps(scales, _mm256_set1_ps(*x_scales.add(row)));
                    acc[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[row]), scales, acc[row]);
                }
            }
        }
        for row in 0..R {
            // SAFETY: `sums` is writable for `[R, 32]`.
            unsafe { _mm256_storeu_ps(sums.add(row * NR + quarter * LANES), acc[row]) };
        }
    }
}

/// Dot products of a group of `R` rows with 8 outputs.
///
/// # Safety
/// `block` and the rows of `x` must be readable.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dots<const HIGH: bool, const R: usize>(
    block: *const u8,
    quarter: usize,
    x: GroupedRows<'_>,
    group: usize,
) -> [__m256i; R] {
    let format = GroupFormat::of(HIGH);
    let low_bits = _mm256_set1_epi8(0x0f);
    let high_bit = _mm256_set1_epi8(0x10);
    let ones = _mm256_set1_epi16(1);
    let (levels, _, compensations) = x.group(group);
    let mut dots = [_mm256_setzero_si256(); R];
    // SAFETY: the caller's.
    unsafe {
        for row in 0..R {
            dots[row] = _mm256_set1_epi32(*compensations.add(row));
        }
        let high = match HIGH {
            true => _mm256_load_si256(block.add(SCALE_BYTES + quarter * HIGH_BYTES / 2).cast()),
            false => _mm256_setzero_si256(),
        };
        let half = format.low_offset() + quarter / 2 * LOW_BYTES + quarter % 2 * 32;
        // Sums of pairs, of as many K groups as fit 16 bits.
        let fits = if HIGH { 2 } else { 4 };
        for first in (0..GROUP / 8).step_by(fits) {
            let mut pairs = [_mm256_setzero_si256(); R];
            for pair in first..first + fits {
                let packed = _mm256_load_si256(block.add(half + 64 * pair).cast());
                let mut weights = [packed, _mm256_srli_epi16::<4>(packed)]
                    .map(|packed| _mm256_and_si256(packed, low_bits));
                if HIGH {
                    for (i, weights) in weights.iter_mut().enumerate() {
                        // Bit `8 * b + g` of group `g` becomes bit `8 * b + 4`.
                        let g = (2 * pair + i) as i32;
                        let bit = match g {
                            ..4 => _mm256_sllv_epi32(high, _mm256_set1_epi32(4 - g)),
                            _ => _mm256_srlv_epi32(high, _mm256_set1_epi32(g - 4)),
                        };
                        *weights = _mm256_or_si256(*weights, _mm256_and_si256(bit, high_bit));
                    }
                }
                for row in 0..R {
                    let levels = levels.add(row * GROUP + 8 * pair).cast::<i32>();
                    for (i, weights) in weights.into_iter().enumerate() {
                        let levels = _mm256_set1_epi32(levels.add(i).read_unaligned());
                        let products = _mm256_maddubs_epi16(weights, levels);
                        pairs[row] = _mm256_add_epi16(pairs[row], products);
                    }
                }
            }
            for row in 0..R {
                let sums = _mm256_madd_epi16(pairs[row], ones);
                dots[row] = _mm256_add_epi32(dots[row], sums);
            }
        }
    }
    dots
}
