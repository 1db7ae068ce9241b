//! Products with group-quantised weights by AVX-512 VNNI: `vpdpbusd`, the weights being u8, the rows s8.

use std::arch::x86_64::*;

use crate::arch::{Avx512, Avx512Vnni};
use crate::gemm::grouped::GroupFormat;
use crate::gemm::grouped::activations::GroupedRows;
use crate::gemm::grouped::kernel::{GroupedKernel, GroupedTask};
use crate::gemm::grouped::layout::{GROUP, HIGH_BYTES, LOW_BYTES, SCALE_BYTES};
use crate::gemm::layout::{LANES, NR};

/// Prefetch distance in bytes: what memory delivers during its latency.
const PREFETCH_BYTES: usize = 4 << 10;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn vectorize<T: GroupedTask>(kernel: Avx512Vnni, task: T) {
    task.run(kernel)
}

// SAFETY: `Avx512Vnni(_)` is built by `new` alone.
unsafe impl GroupedKernel for Avx512Vnni {
    type Simd = Avx512;

    const ROWS: usize = 8;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.avx512()
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

/// [`GroupedKernel::multiply`]. Few rows take the panel at once, more of them
/// half of it at a time, whose sums and dot products fit the registers.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline]
unsafe fn multiply<const HIGH: bool, const R: usize>(
    blocks: *const u8,
    x: GroupedRows<'_>,
    sums: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        if R <= 4 {
            multiply_halves::<HIGH, R, 2>(0, blocks, x, sums);
        } else {
            multiply_halves::<HIGH, R, 1>(0, blocks, x, sums);
            multiply_halves::<HIGH, R, 1>(1, blocks, x, sums);
        }
    }
}

/// [`multiply`] of `N` halves of the panel from `first` on.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
#[inline]
unsafe fn multiply_halves<const HIGH: bool, const R: usize, const N: usize>(
    first: usize,
    blocks: *const u8,
    x: GroupedRows<'_>,
    sums: *mut f32,
) {
    let format = GroupFormat::of(HIGH);
    let low_bits = _mm512_set1_epi8(0x0f);
    let high_bit = _mm512_set1_epi8(0x10);
    let mut acc = [[_mm512_setzero_ps(); N]; R];
    for group in 0..x.n_groups {
        let (levels, x_scales, compensations) = x.group(group);
        // SAFETY: blocks and rows are readable, by the caller's word; prefetching never faults.
        unsafe {
            let block = blocks.add(group * format.block_bytes());
            if first == 0 {
                for line in (0..format.block_bytes()).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(line + PREFETCH_BYTES).cast());
                }
            }
            for n in 0..N {
                let half = first + n;
                let scales = _mm256_load_si256(block.add(half * SCALE_BYTES / 2).cast());
                let scales = _mm512_cvtph_ps(scales);
                let high = match HIGH {
                    true => _mm512_load_si512(block.add(SCALE_BYTES + half * HIGH_BYTES).cast()),
                    false => _mm512_setzero_si512(),
                };
                let low = block.add(format.low_offset() + half * LOW_BYTES);
                let mut dots = [_mm512_setzero_si512(); R];
                for row in 0..R {
                    dots[row] = _mm512_set1_epi32(*compensations.add(row));
                }
                for pair in 0..GROUP / 8 {
                    let packed = _mm512_load_si512(low.add(64 * pair).cast());
                    let mut weights = [packed, _mm512_srli_epi16::<4>(packed)]
                        .map(|packed| _mm512_and_si512(packed, low_bits));
                    if HIGH {
                        for (i, weights) in weights.iter_mut().enumerate() {
                            // Bit `8 * b + g` of group `g` becomes bit `8 * b + 4`.
                            let by = _mm512_set1_epi32((2 * pair + i + 28) as i32 % 32);
                            let bit = _mm512_and_si512(_mm512_rorv_epi32(high, by), high_bit);
                            *weights = _mm512_or_si512(*weights, bit);
                        }
                    }
                    for row in 0..R {
                        let levels = levels.add(row * GROUP + 8 * pair).cast::<i32>();
                        for (i, weights) in weights.into_iter().enumerate() {
                            let levels = _mm512_set1_epi32(levels.add(i).read_unaligned());
                            dots[row] = _mm512_dpbusd_epi32(dots[row], weights, levels);
                        }
                    }
                }
                for row in 0..R {
                    let scales = _mm512_mul_ps(scales, _mm512_set1_ps(*x_scales.add(row)));
                    let dot = _mm512_cvtepi32_ps(dots[row]);
                    acc[row][n] = _mm512_fmadd_ps(dot, scales, acc[row][n]);
                }
            }
        }
    }
    for row in 0..R {
        for n in 0..N {
            // SAFETY: `sums` is writable for `[R, 32]`.
            unsafe { _mm512_storeu_ps(sums.add(row * NR + (first + n) * LANES), acc[row][n]) };
        }
    }
}
