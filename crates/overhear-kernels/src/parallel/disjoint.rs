//! Output buffer that several tasks write at once.

use std::marker::PhantomData;

/// Slice of which each task takes parts that no other task takes.
pub(crate) struct Disjoint<'a, T = f32> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: `Disjoint` is an exclusive borrow that `take` divides; numbers may be written from any thread.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above; shared use is through `take`, whose contract keeps the parts apart.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<T> Clone for Disjoint<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: PhantomData,
        }
    }

    /// The slice without its first `n` elements.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn skip(self, n: usize) -> Self {
        Self {
            start: self.range(n, 0),
            len: self.len - n,
            lifetime: PhantomData,
        }
    }

    /// Pointer to elements `from..from + len`.
    ///
    /// # Panics
    /// If they are out of range.
    #[inline]
    pub(crate) fn range(self, from: usize, len: usize) -> *mut T {
        assert!(from <= self.len && len <= self.len - from);
        self.start.wrapping_add(from)
    }

    /// Number of elements.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Elements `from..from + len`.
    ///
    /// # Safety
    /// No other live part may overlap them.
    ///
    /// # Panics
    /// If they are out of range.
    #[inline]
    pub(crate) unsafe fn take(self, from: usize, len: usize) -> &'a mut [T] {
        // SAFETY: in range, as asserted; exclusive by the caller's word and the borrow of `lifetime`.
        unsafe { std::slice::from_raw_parts_mut(self.range(from, len), len) }
    }
}
