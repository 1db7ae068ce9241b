//! Register blocks of AVX2, which has half as many registers as AVX-512, half as wide.
//!
//! A K group is multiplied in *parts*: the high, then the low halves of bf16, as f32; the even, then the odd bytes of
//! int8, as 16 bits, because products of whole bytes (`vpmaddubsw`) would saturate; or whole with AVX-VNNI. A block
//! is at most 6 rows by half a panel. B is unpacked as it is loaded; A is unpacked once for all panels, a chunk of K
//! at a time, which stays in L1 together with the same chunk of a panel. Between chunks the accumulators are in
//! memory.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::registers::MR;
use crate::arch::Avx2;
use crate::gemm::layout::{LANES, NR};
use crate::gemm::microkernel::{MicroKernel, Operands};
use crate::simd::Simd;

/// Lanes of a vector.
const WIDTH: usize = Avx2::LANES;
/// Rows of a register block by half a panel: 12 vectors of accumulators, two of B, one of A, one to spare.
const BLOCK_ROWS: usize = 6;
/// K groups of a chunk: 16 KiB of a panel, and 12 KiB of twelve unpacked rows in two parts.
const CHUNK: usize = 128;
/// K groups of a chunk in skinny calls. The halves of a panel are read one after the other, and memory should not
/// wait for the second.
const SKINNY_CHUNK: usize = 64;
/// Stride between the parts of a row, in K groups: a chunk and a cache line, so that they do not compete for the same
/// L1 sets.
const PART_STRIDE: usize = CHUNK + LANES;
/// Prefetch distance in B for skinny calls, in K groups: what memory delivers during its latency.
const PREFETCH_GROUPS: usize = 1024;

/// Register kernel of AVX2: a part of a K group of A, broadcast, times the same part of 8 K groups of B.
pub(super) trait Avx2Kernel: MicroKernel<Simd = Avx2> {
    /// 8 accumulators.
    type Acc: Copy;

    /// Parts of a K group. If there is one, A is not unpacked.
    const PARTS: usize;

    /// Initial accumulators: 0 for bf16, the 8 values of the compensation at `from` for int8.
    ///
    /// # Safety
    /// For int8, 8 values must be readable.
    unsafe fn init_acc(self, from: *const i32) -> Self::Acc;

    /// Loads accumulators that [`Self::store_acc`] has stored.
    ///
    /// # Safety
    /// 8 elements must be readable.
    unsafe fn load_acc(self, from: *const f32) -> Self::Acc;

    /// Part `part` of 8 K groups of A.
    fn unpack_a(self, part: usize, groups: __m256i) -> __m256i;

    /// Part `part` of 8 K groups of B.
    fn unpack_b(self, part: usize, groups: __m256i) -> __m256i;

    /// `acc + x . w` in each lane; over all parts in order the same as
    /// [`RegisterKernel::dot`](crate::gemm::microkernel::RegisterKernel::dot).
    fn multiply_add(self, acc: Self::Acc, x: __m256i, w: __m256i) -> Self::Acc;

    /// Stores the accumulators as they are, to be continued.
    ///
    /// # Safety
    /// 8 elements must be writable.
    unsafe fn store_acc(self, to: *mut f32, acc: Self::Acc);

    /// Stores the accumulators as 8 f32.
    ///
    /// # Safety
    /// 8 elements must be writable.
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc);
}

/// Unpacked rows of a chunk.
type UnpackedA = [MaybeUninit<u32>; MR * 2 * PART_STRIDE];

/// Computes the accumulators of [`MicroKernel::multiply`]; the caller runs the epilogue.
///
/// # Safety
/// As [`MicroKernel::multiply`].
#[inline(always)]
pub(super) unsafe fn multiply<K: Avx2Kernel>(
    kernel: K,
    n: usize,
    n_panels: usize,
    prefetch: bool,
    operands: &Operands,
    to: *mut f32,
) {
    let mut unpacked: UnpackedA = [const { MaybeUninit::uninit() }; MR * 2 * PART_STRIDE];
    let k_groups = operands.k_groups;
    // A single row takes two panels, as memory delivers more from two streams.
    let block_panels = if n == 1 { 2 } else { 1 };
    // Skinny calls read B panel by panel; others unpack a chunk of A once for all panels.
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

/// A chunk of K of some rows and panels.
#[derive(Clone, Copy)]
struct Chunk {
    /// A: row 0, its first part.
    x: *const u32,
    x_stride: usize,
    /// Stride between the parts of a row, in K groups.
    part_stride: usize,
    w: *const u32,
    /// Panel stride of B, in K groups.
    w_stride: usize,
    k_groups: usize,
    compensation: *const i32,
    /// Whether accumulators start from `compensation` (first chunk) or continue from memory.
    is_first: bool,
    is_last: bool,
}

/// Replaces the rows of a chunk by their unpacked parts.
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
            // SAFETY: the machine has AVX2, which `kernel` proves; the caller vouches for the K groups up to the
            // last; `to` has whole vectors for every part of every row.
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

/// Multiplies `n` rows by one panel, or one row by up to two.
///
/// # Safety
/// The chunk must be readable and the accumulators writable for as many rows and panels.
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

/// Multiplies `M` rows by a panel, one half after the other.
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

/// Register block: `M` rows by `V` vectors of outputs, from output `out` of the first panel on.
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
    // Offset of an output if panels are `stride` apart.
    let offset = |out: usize, stride: usize| out / NR * stride + out % NR;
    // SAFETY: the machine has AVX2, which `kernel` proves. `M` rows of `k_groups` in parts, the panels and as many
    // compensations and accumulators are the caller's.
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
                // An empty `asm!` as a barrier: loaded values are loaded again for the next part, instead of being
                // kept in registers that the accumulators need.
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
