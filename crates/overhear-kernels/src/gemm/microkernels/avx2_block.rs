//! Register blocks of AVX2, whose registers are half as many as AVX-512's and half as long.
//!
//! A word is multiplied in *parts*: the high halves of bfloat16, then the low ones, as f32; even bytes, then odd ones, as
//! 16 bits, as products of whole bytes would saturate; or whole, where the machine has the instruction. A block is up to
//! 6 rows by half a panel. Weights are widened as they are loaded; rows once for all panels, a chunk of K at a time, which
//! stays in the first-level cache with as much of a panel. Between chunks the sums wait where they go.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::registers::MAX_MR;
use crate::arch::Avx2;
use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{MicroKernel, Operands};
use crate::simd::Simd;

/// Lanes of a vector.
const WIDTH: usize = Avx2::LANES;
/// Rows whose sums of half a panel are in registers: 12 vectors, and two of weights, one of a row, one to spare.
const BLOCK_ROWS: usize = 6;
/// Words of K that are multiplied at a time: of a panel 16 KiB, of twelve rows in two parts 12.
const CHUNK: usize = 128;
/// The same with few rows. The halves of a panel are read one after the other, and memory should not wait for the second.
const SKINNY_CHUNK: usize = 64;
/// Words from one part of a row to the next: a cache line more, so that they do not fight for the same places of the
/// first-level cache.
const PART_STRIDE: usize = CHUNK + LANES;
/// Words ahead that a panel is fetched with few rows: what memory brings in the time that it takes to answer.
const PREFETCH_GROUPS: usize = 1024;

/// Words in parts. A part of a word of a row, in all lanes, is multiplied by that of 8 words of a panel.
pub(super) trait Avx2Kernel: MicroKernel<Simd = Avx2> {
    /// 8 sums.
    type Acc: Copy;

    /// Parts of a word. If there is one, a row's is the word itself.
    const PARTS: usize;

    /// Sums to begin with: 0 for bfloat16, the 8 numbers at `from` for bytes.
    ///
    /// # Safety
    /// For bytes, they must be readable.
    unsafe fn init_acc(self, from: *const i32) -> Self::Acc;

    /// Sums as [`Self::store_acc`] has written them.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_acc(self, from: *const f32) -> Self::Acc;

    /// A part of 8 words of a row.
    fn unpack_a(self, part: usize, groups: __m256i) -> __m256i;

    /// A part of 8 words of a panel.
    fn unpack_b(self, part: usize, groups: __m256i) -> __m256i;

    /// `acc + x . w` in each lane, as [`RegisterKernel::dot`](crate::gemm::microkernel::Dot::dot) if parts are added in their order.
    fn multiply_add(self, acc: Self::Acc, x: __m256i, w: __m256i) -> Self::Acc;

    /// Writes the sums as they are, to be added to.
    ///
    /// # Safety
    /// 8 elements must be writable.
    unsafe fn store_acc(self, to: *mut f32, acc: Self::Acc);

    /// Writes the sums as 8 f32.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc);
}

/// Rows of a chunk, in parts.
type UnpackedA = [MaybeUninit<u32>; MAX_MR * 2 * PART_STRIDE];

/// See [`MicroKernel::multiply`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn multiply<K: Avx2Kernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    prefetch: bool,
    operands: &Operands,
    to: *mut f32,
) {
    let mut unpacked: UnpackedA = [const { MaybeUninit::uninit() }; MAX_MR * 2 * PART_STRIDE];
    let k_groups = operands.k_groups;
    // One row takes two panels, as memory answers faster in two places.
    let block_panels = if n == 1 { 2 } else { 1 };
    // With few rows, memory is read panel by panel; else a chunk of rows is widened for all.
    let (group_panels, most) = match prefetch {
        true => (block_panels, SKINNY_CHUNK),
        false => (n_panels.max(1), CHUNK),
    };
    for first_panel in (0..n_panels).step_by(group_panels) {
        let end = n_panels.min(first_panel + group_panels);
        let mut group = 0;
        loop {
            let len = most.min(k_groups - group);
            let mut chunk = Chunk {
                x: operands.x.wrapping_add(group),
                x_stride: operands.x_stride,
                part_stride: 0,
                w: operands.w.wrapping_add(group * NR),
                w_stride: operands.w_stride,
                k_groups: len,
                compensation: operands.compensation,
                is_first: group == 0,
                is_last: group + len == k_groups,
            };
            // SAFETY: the caller's, of which these are parts.
            unsafe {
                if K::PARTS > 1 {
                    unpack_rows(kernel, n, &mut chunk, &mut unpacked);
                }
                for panel in (first_panel..end).step_by(block_panels) {
                    let chunk = Chunk {
                        w: chunk.w.wrapping_add(panel * chunk.w_stride),
                        compensation: chunk.compensation.wrapping_add(panel * NR),
                        ..chunk
                    };
                    let to = to.add(panel * K::BLOCKING.ld_acc);
                    blocks(
                        kernel,
                        n,
                        block_panels.min(end - panel),
                        prefetch,
                        &chunk,
                        to,
                    );
                }
            }
            group += len;
            if group == k_groups {
                break;
            }
        }
    }
}

/// Some words of K of some rows and panels.
#[derive(Clone, Copy)]
struct Chunk {
    /// Row 0, its first part.
    x: *const u32,
    x_stride: usize,
    /// Words from part to part.
    part_stride: usize,
    w: *const u32,
    /// Words from panel to panel.
    w_stride: usize,
    k_groups: usize,
    compensation: *const i32,
    /// Whether sums begin with `compensation`, or with what is there.
    is_first: bool,
    is_last: bool,
}

/// Replaces the rows of a chunk by their parts.
///
/// # Safety
/// `n` rows must be readable.
#[inline(always)]
unsafe fn unpack_rows<K: Avx2Kernel>(kernel: K, n: usize, chunk: &mut Chunk, to: &mut UnpackedA) {
    let to = to.as_mut_ptr().cast::<u32>();
    for row in 0..n {
        for group in (0..chunk.k_groups).step_by(WIDTH) {
            let mut rest = [0; WIDTH];
            let from = chunk.x.wrapping_add(row * chunk.x_stride + group);
            // SAFETY: the machine has AVX2, which `p` proves; the caller vouches for the words up to the last; `to` has
            // whole vectors for every part of every row.
            unsafe {
                let len = chunk.k_groups - group;
                let groups = if len >= WIDTH {
                    _mm256_loadu_si256(from.cast())
                } else {
                    rest.as_mut_ptr().copy_from_nonoverlapping(from, len);
                    _mm256_loadu_si256(rest.as_ptr().cast())
                };
                for part in 0..K::PARTS {
                    let to = to.add((row * K::PARTS + part) * PART_STRIDE + group);
                    _mm256_storeu_si256(to.cast(), kernel.unpack_a(part, groups));
                }
            }
        }
    }
    (chunk.x, chunk.x_stride, chunk.part_stride) = (to, K::PARTS * PART_STRIDE, PART_STRIDE);
}

/// The products of `n` rows and a panel, or of one row and up to two.
///
/// # Safety
/// The chunk must be readable and the sums writable for so many rows and panels.
#[inline(always)]
unsafe fn blocks<K: Avx2Kernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    prefetch: bool,
    chunk: &Chunk,
    to: *mut f32,
) {
    // Blocks of even size.
    let most = n.div_ceil(n.div_ceil(BLOCK_ROWS).max(1)).max(1);
    for row in (0..n).step_by(most) {
        let chunk = Chunk {
            x: chunk.x.wrapping_add(row * chunk.x_stride),
            ..*chunk
        };
        // SAFETY: the caller's, for each.
        unsafe {
            let to = to.add(row * NR);
            match most.min(n - row) {
                1 if n_panels == 2 => micro_kernel::<K, 1, 8, true>(kernel, &chunk, 0, to),
                1 => micro_kernel::<K, 1, 4, true>(kernel, &chunk, 0, to),
                2 => micro_kernel::<K, 2, 4, true>(kernel, &chunk, 0, to),
                3 => half_panels::<K, 3, true>(kernel, &chunk, to),
                4 => half_panels::<K, 4, true>(kernel, &chunk, to),
                5 => half_panels::<K, 5, true>(kernel, &chunk, to),
                _ if prefetch => half_panels::<K, 6, true>(kernel, &chunk, to),
                _ => half_panels::<K, 6, false>(kernel, &chunk, to),
            }
        }
    }
}

/// The products of `M` rows and a panel, half by half.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn half_panels<K: Avx2Kernel, const M: usize, const PREFETCH: bool>(
    kernel: K,
    chunk: &Chunk,
    to: *mut f32,
) {
    for out in [0, LANES] {
        // SAFETY: the caller's.
        unsafe { micro_kernel::<K, M, 2, PREFETCH>(kernel, chunk, out, to) }
    }
}

/// The register block: `M` rows by `V` vectors of outputs, from output `out` of the first panel on.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn micro_kernel<K: Avx2Kernel, const M: usize, const V: usize, const PREFETCH: bool>(
    kernel: K,
    chunk: &Chunk,
    out: usize,
    to: *mut f32,
) {
    let Chunk {
        x,
        x_stride,
        part_stride,
        w,
        w_stride,
        k_groups,
        compensation,
        is_first,
        is_last,
    } = *chunk;
    // Where an output is, if panels are so far apart.
    let offset = |out: usize, stride: usize| out / NR * stride + out % NR;
    // SAFETY: the machine has AVX2, which `p` proves. `M` rows of `k_groups` in parts, the panels and as many starts and
    // sums are the caller's.
    unsafe {
        let mut acc = [[kernel.init_acc(compensation.wrapping_add(out)); V]; M];
        for i in 0..V {
            let out = out + i * WIDTH;
            for m in 0..M {
                acc[m][i] = if is_first {
                    kernel.init_acc(compensation.wrapping_add(out))
                } else {
                    kernel.load_acc(to.add(offset(out, K::BLOCKING.ld_acc) + m * NR))
                };
            }
        }
        for group in 0..k_groups {
            let mut at = group * NR + out;
            if PREFETCH {
                for line in (0..V * WIDTH).step_by(LANES) {
                    let ahead = at + offset(line, w_stride) + PREFETCH_GROUPS;
                    kernel.simd().prefetch(w.wrapping_add(ahead));
                }
            }
            for part in 0..K::PARTS {
                // Nothing, but the compiler does not know it: what has been loaded is loaded again, where it would be kept
                // in registers that sums need.
                asm!("/* {} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags));
                let mut panel = [_mm256_setzero_si256(); V];
                for i in 0..V {
                    let groups = w.add(at + offset(i * WIDTH, w_stride));
                    panel[i] = kernel.unpack_b(part, _mm256_loadu_si256(groups.cast()));
                }
                for m in 0..M {
                    let x = x.add(m * x_stride + part * part_stride + group);
                    let x = _mm256_set1_epi32(*x as i32);
                    for i in 0..V {
                        acc[m][i] = kernel.multiply_add(acc[m][i], x, panel[i]);
                    }
                }
            }
        }
        for i in 0..V {
            let out = out + i * WIDTH;
            for m in 0..M {
                let to = to.add(offset(out, K::BLOCKING.ld_acc) + m * NR);
                if is_last {
                    kernel.store_f32(to, acc[m][i]);
                } else {
                    kernel.store_acc(to, acc[m][i]);
                }
            }
        }
    }
}
