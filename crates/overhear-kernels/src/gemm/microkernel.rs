//! Traits of the microkernels of packed GEMM: no implementation is imported here.

use std::ops::Range;

use super::layout::{LANES, NR};
use crate::arch::TILE;
use crate::math::{exp2, gelu_bf16, round_bf16};
use crate::simd::Simd;

/// The most rows of a block, of any unit.
pub(crate) const MAX_MR: usize = 2 * TILE;

/// A kernel call with its arguments, to be compiled for any unit.
pub(crate) trait GemmTask {
    /// Runs the kernel; `#[inline(always)]` in every implementation.
    fn run<K: MicroKernel>(self, kernel: K);
}

/// How products are cut into tasks, and how their operands and sums lie.
#[derive(Clone, Copy)]
pub(crate) struct Blocking {
    /// How panels lie, see [`crate::packed`].
    pub(crate) panel_width: usize,
    /// The most rows of a block.
    pub(crate) mr: usize,
    /// The most words of K that a block of rows takes before other panels.
    pub(crate) kc_l1: usize,
    /// The most words of K that all rows of a task take before further ones.
    pub(crate) kc: usize,
    /// Bytes of panels, of so many words, that a task keeps in the second-level cache.
    pub(crate) nc_bytes: usize,
    /// The most rows of a task whose sums must wait for further words of K.
    pub(crate) mc: usize,
    /// Elements from the sums of a panel to those of the next: as many as a block has, and a cache line more, so that the
    /// same row of all panels is not in the same place of the first-level cache.
    pub(crate) ld_acc: usize,
}

/// What a block multiplies, and where its sums go.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// Row 0, from its first word.
    pub(crate) x: *const u32,
    pub(crate) x_stride: usize,
    /// The first panel.
    pub(crate) w: *const u32,
    /// Words from panel to panel.
    pub(crate) w_stride: usize,
    /// Words of K.
    pub(crate) k_groups: usize,
    /// What the sums of bytes start from; tiles leave it out.
    pub(crate) compensation: *const i32,
    /// Whether they start from what is there instead; tiles only.
    pub(crate) accumulate: bool,
}

/// What becomes of sums while others are made.
pub(crate) trait Epilogue<K: MicroKernel> {
    /// Whether the sums are to stay where they go.
    const KEEPS_ACC: bool;

    /// The sums of some rows of the block and some outputs of one of its panels, counted from the first panel, are at
    /// `acc`, [`NR`] from row to row.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn store_c(&self, kernel: K, rows: Range<usize>, outs: Range<usize>, acc: *const f32);
}

/// They wait.
impl<K: MicroKernel> Epilogue<K> for () {
    const KEEPS_ACC: bool = true;

    #[inline(always)]
    unsafe fn store_c(&self, _: K, _: Range<usize>, _: Range<usize>, _: *const f32) {}
}

/// Blocks of products of packed rows and panels.
///
/// # Safety
/// An implementor's value proves that the machine has its instructions.
pub(crate) unsafe trait MicroKernel: Copy + Send + Sync + 'static {
    /// f32 vectors to go with it.
    type Simd: Simd;

    /// The most rows of a block.
    const ROWS: usize;
    /// Whether sums are whole numbers that scales turn into f32.
    const IS_INT8: bool;
    /// How its products are cut, and their operands and sums lie.
    const BLOCKING: Blocking;

    /// The f32 vectors.
    fn simd(self) -> Self::Simd;

    /// Compiles `task` for this unit and runs it.
    fn vectorize<T: GemmTask>(self, task: T);

    /// Writes the sums of `n <= ROWS` rows and `n_panels` panels to `to`, those of a panel as `[n, 32]` and
    /// [`Blocking::ld_acc`] from those of the next, reading ahead if `prefetch`, and shows them to `epilogue`. Unless that waits,
    /// it may be shown them elsewhere in `to` instead.
    ///
    /// # Safety
    /// The operands must be readable and the sums writable for as many rows and panels; rows of tiles in sixteens.
    unsafe fn multiply<F: Epilogue<Self>>(
        self,
        n: usize,
        n_panels: usize,
        prefetch: bool,
        operands: &Operands,
        to: *mut f32,
        epilogue: &F,
    );

    /// Sums as a block writes them, in f32; those of bytes by tiles lack what they start from, at `compensation`.
    ///
    /// # Safety
    /// For bytes, a vector of `compensation` must be readable.
    #[inline(always)]
    unsafe fn acc_to_f32(
        self,
        acc: <Self::Simd as Simd>::V,
        _starts: *const i32,
    ) -> <Self::Simd as Simd>::V {
        acc
    }

    /// Writes a vector, rounded to bfloat16, to `to`.
    ///
    /// # Safety
    /// As many halves must be writable.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: <Self::Simd as Simd>::V) {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: no vector is longer than 16.
        unsafe { self.simd().store(lanes.as_mut_ptr(), v) };
        for i in 0..<Self::Simd as Simd>::LANES {
            // SAFETY: the caller's.
            unsafe { *to.add(i) = round_bf16(lanes[i]) };
        }
    }

    /// Two vectors, one behind the other.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn store_bf16_pair(self, to: *mut u16, [v, next]: [<Self::Simd as Simd>::V; 2]) {
        // SAFETY: the caller's.
        unsafe {
            self.store_bf16(to, v);
            self.store_bf16(to.add(<Self::Simd as Simd>::LANES), next);
        }
    }

    /// GELU, to an absolute 6e-5.
    #[inline(always)]
    fn gelu(self, x: <Self::Simd as Simd>::V) -> <Self::Simd as Simd>::V {
        gelu_bf16(self.simd(), x)
    }

    /// Writes `2^(scale * score + offset)` of a row's scores of `n_panels` panels of keys, `ld_acc` apart, up to 2^31 and
    /// rounded to bfloat16, to `to`, contiguous, and adds them to `acc`. What is below 2^-32 may become that.
    ///
    /// # Safety
    /// As many scores must be readable and weights writable.
    #[inline(always)]
    unsafe fn exp2_panels(
        self,
        scores: *const f32,
        ld_acc: usize,
        n_panels: usize,
        (scale, offset): (f32, f32),
        to: *mut u16,
        mut acc: <Self::Simd as Simd>::V,
    ) -> <Self::Simd as Simd>::V {
        let s = self.simd();
        let (scale, offset) = (s.splat(scale), s.splat(offset));
        for panel in 0..n_panels {
            for i in (0..NR).step_by(<Self::Simd as Simd>::LANES) {
                // SAFETY: the caller's.
                unsafe {
                    let scores = s.load(scores.add(panel * ld_acc + i));
                    let v = exp2(s, s.fma(scores, scale, offset));
                    acc = s.add(acc, v);
                    self.store_bf16(to.add(panel * NR + i), v);
                }
            }
        }
        acc
    }
}

/// Vectors of 16 words and their dot products. `ROWS` x 2 vectors of sums and 3 of operands must fit the registers.
pub(crate) trait RegisterKernel: MicroKernel {
    /// 16 sums.
    type Acc: Copy;
    /// 16 words.
    type Groups: Copy;

    /// Sums to begin with: 0 for bfloat16, the 16 numbers at `from` for bytes.
    ///
    /// # Safety
    /// For bytes, they must be readable.
    unsafe fn init_acc(self, from: *const i32) -> Self::Acc;

    /// The 16 words at `from`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_b(self, from: *const u32) -> Self::Groups;

    /// The word at `from`, in all lanes.
    ///
    /// # Safety
    /// It must be readable.
    unsafe fn broadcast_a(self, from: *const u32) -> Self::Groups;

    /// `acc + x . w` in each lane. bfloat16: the products of the high halves, then of the low ones, are added with
    /// one rounding each. Bytes: those of `x` are unsigned, those of `w` signed, the sum is exact.
    fn dot(self, acc: Self::Acc, x: Self::Groups, w: Self::Groups) -> Self::Acc;

    /// Writes the sums as 16 f32 to `to`.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store_f32(self, to: *mut f32, acc: Self::Acc);
}
