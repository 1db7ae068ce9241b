//! The vector vocabulary: traits that every instruction set implements. No implementation is imported here.

/// Lanes of the widest vector.
pub(crate) const MAX_LANES: usize = 16;

/// Task of a kernel call, compiled for every instruction set.
pub(crate) trait Vectorized {
    /// Result of the kernel.
    type Output;

    /// Runs the task; `#[inline(always)]` in every implementation.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Vectors of `LANES` f32.
///
/// # Safety
/// A value of the implementing type proves that the machine has its instructions.
pub(crate) unsafe trait Simd: Copy + Send + Sync + 'static {
    /// Vector register.
    type V: Copy;

    /// Lanes of a vector.
    const LANES: usize;

    /// Rows of a register block of f32 kernels: `4 * ROWS` vectors of accumulators and `ROWS + 1` operands must fit
    /// the registers.
    const ROWS: usize;

    /// Compiles `task` for this instruction set and runs it.
    fn vectorize<T: Vectorized>(self, task: T) -> T::Output;

    /// `x` in all lanes.
    fn splat(self, x: f32) -> Self::V;

    /// Loads `LANES` elements.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(self, from: *const f32) -> Self::V;

    /// Loads the first `n <= LANES` elements at `from`; the other lanes are 0.
    ///
    /// # Safety
    /// The `n` elements must be readable.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::V;

    /// Stores all lanes.
    ///
    /// # Safety
    /// `LANES` elements must be writable.
    unsafe fn store(self, to: *mut f32, v: Self::V);

    /// Stores the first `n <= LANES` lanes.
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

    /// Prefetches the cache line at `at`, which need not be readable.
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
    /// Rounds to the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for integer `n` in `-126..=127`.
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V;

    /// Horizontal sums of four vectors, halving each (`i` with `i + LANES / 2`) until one lane is left.
    fn sum4(self, v: [Self::V; 4]) -> [f32; 4];

    /// Horizontal sum, in the order of [`Simd::sum4`].
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        self.sum4([v; 4])[0]
    }

    /// Largest lane; NaN is skipped unless it is in the first.
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

    /// Loads up to `LANES` elements from the start of `from`; lanes beyond its end are 0.
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

    /// Stores up to `LANES` lanes to the start of `to`; lanes beyond its end are dropped.
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

    /// Stores up to `LANES` lanes, rounded to f16, to the start of `to`; lanes beyond its end are dropped.
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
