//! Storage element types, widened to f32 as they are loaded.

use half::{bf16, f16};

use super::vector::{MAX_LANES, Simd};

/// Element type of weights, or of keys and values. Widening is exact, so a sum does not depend on where it happens.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Zero, for padding.
    const ZERO: Self;

    /// `from` itself if the type is f32, which needs no widening.
    fn as_f32(from: &[Self]) -> Option<&[f32]>;

    /// Widens the `LANES` elements at `from`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V;

    /// Widens the first `n < LANES` elements at `from`; the other lanes are 0.
    ///
    /// # Safety
    /// The `n` elements must be readable.
    #[inline(always)]
    unsafe fn load_first<S: Simd>(simd: S, from: *const Self, n: usize) -> S::V {
        let mut padded = [Self::ZERO; MAX_LANES];
        assert!(n < S::LANES && S::LANES <= MAX_LANES);
        // SAFETY: the caller vouches for `n` elements at `from`; `padded` holds more, and is not part of them.
        unsafe { std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), n) };
        // SAFETY: `padded` holds `LANES` elements, asserted above.
        unsafe { Self::load(simd, padded.as_ptr()) }
    }

    /// Widens up to `LANES` elements from the start of `from`; lanes beyond its end are 0.
    #[inline(always)]
    fn read<S: Simd>(simd: S, from: &[Self]) -> S::V {
        if from.len() >= S::LANES {
            // SAFETY: `from` holds `LANES` elements.
            unsafe { Self::load(simd, from.as_ptr()) }
        } else {
            // SAFETY: `from` holds `from.len()` elements.
            unsafe { Self::load_first(simd, from.as_ptr(), from.len()) }
        }
    }
}

impl Element for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn as_f32(from: &[Self]) -> Option<&[f32]> {
        Some(from)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V {
        // SAFETY: the caller's.
        unsafe { simd.load(from) }
    }

    #[inline(always)]
    unsafe fn load_first<S: Simd>(simd: S, from: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { simd.load_first(from, n) }
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V {
        // SAFETY: the caller's.
        unsafe { simd.load_f16(from) }
    }
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V {
        // SAFETY: the caller's.
        unsafe { simd.load_bf16(from) }
    }
}

impl Element for i8 {
    const ZERO: Self = 0;

    #[inline(always)]
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V {
        // SAFETY: the caller's.
        unsafe { simd.load_i8(from) }
    }
}

/// Widens `from` to f32.
#[inline(always)]
pub(crate) fn widen<S: Simd, E: Element>(s: S, to: &mut [f32], from: &[E]) {
    assert_eq!(to.len(), from.len());
    for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        s.write(to, E::read(s, from));
    }
}
