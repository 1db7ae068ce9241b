//! Register blocks of AVX2, whose registers are half as many as AVX-512's and half as long.
//!
//! A word is multiplied in *parts*: the high halves of bfloat16, then the low ones, as f32; even bytes, then odd ones, as
//! 16 bits, as products of whole bytes would saturate; or whole, where the machine has the instruction. A block is up to
//! 6 rows by half a panel. Weights are widened as they are loaded; rows once for all panels, a chunk of K at a time, which
//! stays in the first-level cache with as much of a panel. Between chunks the sums wait where they go.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::registers::MAX_ROWS;
use crate::arch::Avx2;
use crate::gemm::layout::{LANES, PANEL};
use crate::gemm::microkernel::{Operands, Unit};
use crate::simd::Simd;

/// Lanes of a vector.
const WIDTH: usize = Avx2::LANES;
/// Rows whose sums of half a panel are in registers: 12 vectors, and two of weights, one of a row, one to spare.
const BLOCK_ROWS: usize = 6;
/// Words of K that are multiplied at a time: of a panel 16 KiB, of twelve rows in two parts 12.
const CHUNK: usize = 128;
/// The same with few rows. The halves of a panel are read one after the other, and memory should not wait for the second.
const FEW_CHUNK: usize = 64;
/// Words from one part of a row to the next: a cache line more, so that they do not fight for the same places of the
/// first-level cache.
const PLACE: usize = CHUNK + LANES;
/// Words ahead that a panel is fetched with few rows: what memory brings in the time that it takes to answer.
const FETCH_WORDS: usize = 1024;

/// Words in parts. A part of a word of a row, in all lanes, is multiplied by that of 8 words of a panel.
pub(super) trait Parts: Unit<Simd = Avx2> {
    /// 8 sums.
    type Sums: Copy;

    /// Parts of a word. If there is one, a row's is the word itself.
    const N: usize;

    /// Sums to begin with: 0 for bfloat16, the 8 numbers at `from` for bytes.
    ///
    /// # Safety
    /// For bytes, they must be readable.
    unsafe fn start(self, from: *const i32) -> Self::Sums;

    /// Sums as [`Self::keep`] has written them.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, from: *const f32) -> Self::Sums;

    /// A part of 8 words of a row.
    fn part_of_row(self, part: usize, words: __m256i) -> __m256i;

    /// A part of 8 words of a panel.
    fn part_of_panel(self, part: usize, words: __m256i) -> __m256i;

    /// `sums + x . w` in each lane, as [`RegisterKernel::dot`](crate::gemm::microkernel::Dot::dot) if parts are added in their order.
    fn add(self, sums: Self::Sums, x: __m256i, w: __m256i) -> Self::Sums;

    /// Writes the sums as they are, to be added to.
    ///
    /// # Safety
    /// 8 elements must be writable.
    unsafe fn keep(self, to: *mut f32, sums: Self::Sums);

    /// Writes the sums as 8 f32.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store(self, to: *mut f32, sums: Self::Sums);
}

/// Rows of a chunk, in parts.
type Widened = [MaybeUninit<u32>; MAX_ROWS * 2 * PLACE];

/// See [`Unit::multiply`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn multiply<P: Parts>(
    p: P,
    n: usize,
    n_panels: usize,
    fetch: bool,
    operands: &Operands,
    to: *mut f32,
) {
    let mut widened: Widened = [const { MaybeUninit::uninit() }; MAX_ROWS * 2 * PLACE];
    let n_words = operands.n_words;
    // One row takes two panels, as memory answers faster in two places.
    let of_block = if n == 1 { 2 } else { 1 };
    // With few rows, memory is read panel by panel; else a chunk of rows is widened for all.
    let (of_group, most) = match fetch {
        true => (of_block, FEW_CHUNK),
        false => (n_panels.max(1), CHUNK),
    };
    for group in (0..n_panels).step_by(of_group) {
        let end = n_panels.min(group + of_group);
        let mut word = 0;
        loop {
            let len = most.min(n_words - word);
            let mut chunk = Chunk {
                x: operands.x.wrapping_add(word),
                x_stride: operands.x_stride,
                part_stride: 0,
                w: operands.w.wrapping_add(word * PANEL),
                w_stride: operands.w_stride,
                n_words: len,
                starts: operands.starts,
                is_first: word == 0,
                is_last: word + len == n_words,
            };
            // SAFETY: the caller's, of which these are parts.
            unsafe {
                if P::N > 1 {
                    widen(p, n, &mut chunk, &mut widened);
                }
                for panel in (group..end).step_by(of_block) {
                    let chunk = Chunk {
                        w: chunk.w.wrapping_add(panel * chunk.w_stride),
                        starts: chunk.starts.wrapping_add(panel * PANEL),
                        ..chunk
                    };
                    let to = to.add(panel * P::BLOCKING.place);
                    blocks(p, n, of_block.min(end - panel), fetch, &chunk, to);
                }
            }
            word += len;
            if word == n_words {
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
    n_words: usize,
    starts: *const i32,
    /// Whether sums begin with `starts`, or with what is there.
    is_first: bool,
    is_last: bool,
}

/// Replaces the rows of a chunk by their parts.
///
/// # Safety
/// `n` rows must be readable.
#[inline(always)]
unsafe fn widen<P: Parts>(p: P, n: usize, chunk: &mut Chunk, to: &mut Widened) {
    let to = to.as_mut_ptr().cast::<u32>();
    for row in 0..n {
        for word in (0..chunk.n_words).step_by(WIDTH) {
            let mut rest = [0; WIDTH];
            let from = chunk.x.wrapping_add(row * chunk.x_stride + word);
            // SAFETY: the machine has AVX2, which `p` proves; the caller vouches for the words up to the last; `to` has
            // whole vectors for every part of every row.
            unsafe {
                let len = chunk.n_words - word;
                let words = if len >= WIDTH {
                    _mm256_loadu_si256(from.cast())
                } else {
                    rest.as_mut_ptr().copy_from_nonoverlapping(from, len);
                    _mm256_loadu_si256(rest.as_ptr().cast())
                };
                for part in 0..P::N {
                    let to = to.add((row * P::N + part) * PLACE + word);
                    _mm256_storeu_si256(to.cast(), p.part_of_row(part, words));
                }
            }
        }
    }
    (chunk.x, chunk.x_stride, chunk.part_stride) = (to, P::N * PLACE, PLACE);
}

/// The products of `n` rows and a panel, or of one row and up to two.
///
/// # Safety
/// The chunk must be readable and the sums writable for so many rows and panels.
#[inline(always)]
unsafe fn blocks<P: Parts>(
    p: P,
    n: usize,
    n_panels: usize,
    fetch: bool,
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
            let to = to.add(row * PANEL);
            match most.min(n - row) {
                1 if n_panels == 2 => sums::<P, 1, 8, true>(p, &chunk, 0, to),
                1 => sums::<P, 1, 4, true>(p, &chunk, 0, to),
                2 => sums::<P, 2, 4, true>(p, &chunk, 0, to),
                3 => halves::<P, 3, true>(p, &chunk, to),
                4 => halves::<P, 4, true>(p, &chunk, to),
                5 => halves::<P, 5, true>(p, &chunk, to),
                _ if fetch => halves::<P, 6, true>(p, &chunk, to),
                _ => halves::<P, 6, false>(p, &chunk, to),
            }
        }
    }
}

/// The products of `M` rows and a panel, half by half.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn halves<P: Parts, const M: usize, const FETCH: bool>(p: P, chunk: &Chunk, to: *mut f32) {
    for out in [0, LANES] {
        // SAFETY: the caller's.
        unsafe { sums::<P, M, 2, FETCH>(p, chunk, out, to) }
    }
}

/// The register block: `M` rows by `V` vectors of outputs, from output `out` of the first panel on.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn sums<P: Parts, const M: usize, const V: usize, const FETCH: bool>(
    p: P,
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
        n_words,
        starts,
        is_first,
        is_last,
    } = *chunk;
    // Where an output is, if panels are so far apart.
    let place = |out: usize, stride: usize| out / PANEL * stride + out % PANEL;
    // SAFETY: the machine has AVX2, which `p` proves. `M` rows of `n_words` in parts, the panels and as many starts and
    // sums are the caller's.
    unsafe {
        let mut sums = [[p.start(starts.wrapping_add(out)); V]; M];
        for i in 0..V {
            let out = out + i * WIDTH;
            for m in 0..M {
                sums[m][i] = if is_first {
                    p.start(starts.wrapping_add(out))
                } else {
                    p.load(to.add(place(out, P::BLOCKING.place) + m * PANEL))
                };
            }
        }
        for word in 0..n_words {
            let mut at = word * PANEL + out;
            if FETCH {
                for line in (0..V * WIDTH).step_by(LANES) {
                    let ahead = at + place(line, w_stride) + FETCH_WORDS;
                    p.simd().prefetch(w.wrapping_add(ahead));
                }
            }
            for part in 0..P::N {
                // Nothing, but the compiler does not know it: what has been loaded is loaded again, where it would be kept
                // in registers that sums need.
                asm!("/* {} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags));
                let mut panel = [_mm256_setzero_si256(); V];
                for i in 0..V {
                    let words = w.add(at + place(i * WIDTH, w_stride));
                    panel[i] = p.part_of_panel(part, _mm256_loadu_si256(words.cast()));
                }
                for m in 0..M {
                    let x = x.add(m * x_stride + part * part_stride + word);
                    let x = _mm256_set1_epi32(*x as i32);
                    for i in 0..V {
                        sums[m][i] = p.add(sums[m][i], x, panel[i]);
                    }
                }
            }
        }
        for i in 0..V {
            let out = out + i * WIDTH;
            for m in 0..M {
                let to = to.add(place(out, P::BLOCKING.place) + m * PANEL);
                if is_last {
                    p.store(to, sums[m][i]);
                } else {
                    p.keep(to, sums[m][i]);
                }
            }
        }
    }
}
