//! Dot products of 32-bit words: two bfloat16, or four bytes, multiplied and added to a 32-bit sum in each of 16
//! lanes. That is what `vdpbf16ps` and `vpdpbusd` do; where they are missing, plain loops do the same.
//!
//! As in [`crate::simd`], a value is the proof that the machine has the instructions, and all is inlined into
//! [`Dot::vectorize`].

#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

#[cfg(target_arch = "x86_64")]
use avx512::{Avx512Bf16, Avx512Int8};
pub(crate) use plain::{PlainBf16, PlainInt8};

use crate::simd::plain::Plain;
use crate::simd::{Set, Simd, Vectorized};

/// Lanes of a vector of words, on every machine: the packed format depends on it.
pub(crate) const LANES: usize = 16;

/// A kernel call with its arguments, to be compiled for any unit.
pub(crate) trait DotTask {
    /// Runs the kernel; `#[inline(always)]` in every implementation.
    fn run<D: Dot>(self, dot: D);
}

/// Vectors of 16 words and their dot products.
///
/// # Safety
/// An implementor's value proves that the machine has its instructions.
pub(crate) unsafe trait Dot: Copy + Send + Sync + 'static {
    /// f32 vectors to go with it.
    type Simd: Simd;
    /// 16 sums.
    type Sums: Copy;
    /// 16 words.
    type Words: Copy;

    /// Rows of a register block: `ROWS` x 2 vectors of sums and 3 of operands must fit the registers.
    const ROWS: usize;
    /// Whether sums are whole numbers that scales turn into f32.
    const SCALED: bool;

    /// The f32 vectors.
    fn simd(self) -> Self::Simd;

    /// Compiles `task` for this unit and runs it.
    fn vectorize<T: DotTask>(self, task: T);

    /// Sums to begin with: 0 for bfloat16, the 16 numbers at `from` for bytes.
    ///
    /// # Safety
    /// For bytes, they must be readable.
    unsafe fn start(self, from: *const i32) -> Self::Sums;

    /// The 16 words at `from`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, from: *const u32) -> Self::Words;

    /// The word at `from`, in all lanes.
    ///
    /// # Safety
    /// It must be readable.
    unsafe fn splat(self, from: *const u32) -> Self::Words;

    /// `sums + x . w` in each lane. bfloat16: the products of the high halves, then of the low ones, are added with
    /// one rounding each. Bytes: those of `x` are unsigned, those of `w` signed, the sum is exact.
    fn dot(self, sums: Self::Sums, x: Self::Words, w: Self::Words) -> Self::Sums;

    /// Writes the sums as 16 f32 to `to`.
    ///
    /// # Safety
    /// They must be writable.
    unsafe fn store(self, to: *mut f32, sums: Self::Sums);

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
}

/// The nearest bfloat16, ties to even; NaN stays NaN. Without branches, so that loops become vectors.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    (if x.is_nan() { 0x7fc0 } else { rounded }) as u16
}

impl Set {
    /// Runs `task` on bfloat16 dot products.
    #[inline]
    pub(crate) fn run_bf16<T: DotTask>(self, task: T) {
        match self {
            Set::Scalar => PlainBf16(Plain).vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => PlainBf16(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => PlainBf16(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => match Avx512Bf16::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => PlainBf16(simd).vectorize(task),
            },
            #[cfg(test)]
            Set::Plain(simd) => PlainBf16(simd).vectorize(task),
        }
    }

    /// Runs `task` on dot products of bytes.
    #[inline]
    pub(crate) fn run_int8<T: DotTask>(self, task: T) {
        match self {
            Set::Scalar => PlainInt8(Plain).vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => PlainInt8(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => PlainInt8(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => match Avx512Int8::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => PlainInt8(simd).vectorize(task),
            },
            #[cfg(test)]
            Set::Plain(simd) => PlainInt8(simd).vectorize(task),
        }
    }

    /// Runs `task` compiled for the set; for the scalar set, on plain Rust.
    #[inline]
    pub(crate) fn run_any<T: Vectorized>(self, task: T) -> T::Output {
        match self {
            Set::Scalar => Plain.vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => simd.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => simd.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => simd.vectorize(task),
            #[cfg(test)]
            Set::Plain(simd) => simd.vectorize(task),
        }
    }

    /// Whether bfloat16 dot products are instructions of the machine.
    pub(crate) fn has_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => Avx512Bf16::new(simd).is_some(),
            _ => false,
        }
    }

    /// Whether dot products of bytes are instructions of the machine.
    pub(crate) fn has_int8(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => Avx512Int8::new(simd).is_some(),
            _ => false,
        }
    }
}
