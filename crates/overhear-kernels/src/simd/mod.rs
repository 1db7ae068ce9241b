//! The small vector vocabulary that the kernels are written in, once for all instruction sets.
//!
//! A set is a *proof token*: a value of [`Avx512`] exists only on a machine that has AVX-512, so every operation
//! on it may use the instructions. The operations are `#[inline(always)]` and so are the kernels; the one
//! function that is compiled *for* the set is the entry, [`Simd::vectorize`], into which all of it is inlined.
//! A kernel must therefore be reached through [`Set::run`], or it would be slow (not wrong).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod element;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod plain;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use element::{Element, widen};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::dot::Amx;

/// The widest vector there is, in elements.
pub(crate) const MAX_LANES: usize = 16;

/// A kernel call with its arguments, to be compiled for any set.
pub(crate) trait Vectorized {
    /// What the kernel returns.
    type Output;

    /// Runs the kernel; `#[inline(always)]` in every implementation.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The proof token of the set in use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Set {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(test)]
    Plain(plain::Plain),
    /// With the tiles of AMX in plain Rust.
    #[cfg(test)]
    PlainTiles(plain::Plain),
}

impl Set {
    /// The token of `isa`, or `None` if this machine cannot run it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Set::Scalar),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::new().map(Set::Neon),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::new().map(Set::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::new().map(Set::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Amx::new().map(Set::Amx),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon => None,
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => None,
        }
    }

    /// Elements of a vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Set::Scalar => 1,
            #[cfg(target_arch = "aarch64")]
            Set::Neon(_) => Neon::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) | Set::Amx(_) => Avx512::LANES,
            #[cfg(test)]
            Set::Plain(_) | Set::PlainTiles(_) => plain::Plain::LANES,
        }
    }

    /// Runs `vectorized` compiled for the set, or `scalar` where the set has no vectors.
    #[inline]
    pub(crate) fn run<T: Vectorized>(
        self,
        vectorized: T,
        scalar: impl FnOnce() -> T::Output,
    ) -> T::Output {
        match self {
            Set::Scalar => scalar(),
            #[cfg(target_arch = "aarch64")]
            Set::Neon(simd) => simd.vectorize(vectorized),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(simd) => simd.vectorize(vectorized),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(simd) => simd.vectorize(vectorized),
            #[cfg(target_arch = "x86_64")]
            Set::Amx(amx) => amx.simd().vectorize(vectorized),
            #[cfg(test)]
            Set::Plain(simd) | Set::PlainTiles(simd) => simd.vectorize(vectorized),
        }
    }
}

/// Vectors of `LANES` f32.
///
/// # Safety
/// An implementor's value proves that the machine has its instructions.
pub(crate) unsafe trait Simd: Copy + Send + Sync + 'static {
    /// A vector register.
    type V: Copy;

    /// Elements of a vector.
    const LANES: usize;

    /// Rows of the register block: `ROWS` x 4 vectors of sums and `ROWS` + 1 operands must fit the registers.
    const ROWS: usize;

    /// Compiles `task` for this set and runs it.
    fn vectorize<T: Vectorized>(self, task: T) -> T::Output;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;

    /// The `LANES` elements at `from`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, from: *const f32) -> Self::V;

    /// The first `n <= LANES` elements at `from`; the other lanes are 0.
    ///
    /// # Safety
    /// The `n` elements must be readable.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::V;

    /// Writes all lanes to `to`.
    ///
    /// # Safety
    /// `LANES` elements must be writable.
    unsafe fn store(self, to: *mut f32, v: Self::V);

    /// Writes the first `n <= LANES` lanes to `to`.
    ///
    /// # Safety
    /// `n` elements must be writable.
    unsafe fn store_first(self, to: *mut f32, v: Self::V, n: usize);

    /// Widens the `LANES` IEEE halves at `from`, exactly.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_f16(self, from: *const half::f16) -> Self::V;

    /// Widens the `LANES` bfloat16 at `from`, exactly.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_bf16(self, from: *const half::bf16) -> Self::V;

    /// Widens the `LANES` signed bytes at `from`, exactly.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_i8(self, from: *const i8) -> Self::V;

    /// Rounds the lanes to IEEE halves, to nearest even, and writes them to `to`.
    ///
    /// # Safety
    /// `LANES` halves must be writable.
    unsafe fn store_f16(self, to: *mut half::f16, v: Self::V);

    /// Asks for the cache line at `at`, which need not be readable.
    fn prefetch<T>(self, at: *const T);

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a`, but 0 in the lanes where `x < limit`.
    fn zero_if_below(self, a: Self::V, x: Self::V, limit: Self::V) -> Self::V;
    /// To the nearest whole number, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for whole `n` in `-126..=127`.
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V;

    /// The sums of four vectors, halving each (`i` with `i + LANES / 2`) until one lane is left.
    fn sum4(self, v: [Self::V; 4]) -> [f32; 4];

    /// The sum of the lanes, in the order of [`Simd::sum4`].
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        self.sum4([v; 4])[0]
    }

    /// The largest lane; NaN is skipped unless it is in the first.
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        let mut lanes = [0.0f32; 16];
        assert!(Self::LANES <= lanes.len());
        // SAFETY: `lanes` holds `LANES` elements, asserted above.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        lanes[1..Self::LANES]
            .iter()
            .fold(lanes[0], |max, &x| if x > max { x } else { max })
    }

    /// Up to `LANES` elements from the start of `from`; lanes beyond its end are 0.
    #[inline(always)]
    fn read(self, from: &[f32]) -> Self::V {
        if from.len() >= Self::LANES {
            // SAFETY: `from` holds `LANES` elements.
            unsafe { self.load(from.as_ptr()) }
        } else {
            // SAFETY: `from` holds `from.len()` elements.
            unsafe { self.load_first(from.as_ptr(), from.len()) }
        }
    }

    /// Writes up to `LANES` lanes to the start of `to`; what does not fit is dropped.
    #[inline(always)]
    fn write(self, to: &mut [f32], v: Self::V) {
        if to.len() >= Self::LANES {
            // SAFETY: `to` holds `LANES` elements.
            unsafe { self.store(to.as_mut_ptr(), v) }
        } else {
            // SAFETY: `to` holds `to.len()` elements.
            unsafe { self.store_first(to.as_mut_ptr(), v, to.len()) }
        }
    }

    /// Writes up to `LANES` lanes to the start of `to`, rounded to halves; what does not fit is dropped.
    #[inline(always)]
    fn write_f16(self, to: &mut [half::f16], v: Self::V) {
        if to.len() >= Self::LANES {
            // SAFETY: `to` holds `LANES` elements.
            unsafe { self.store_f16(to.as_mut_ptr(), v) }
        } else {
            let mut lanes = [half::f16::ZERO; MAX_LANES];
            assert!(Self::LANES <= lanes.len());
            // SAFETY: `lanes` holds `LANES` elements, asserted above.
            unsafe { self.store_f16(lanes.as_mut_ptr(), v) };
            to.copy_from_slice(&lanes[..to.len()]);
        }
    }
}
