//! Scratch memory per thread, kept between calls so that kernels do not allocate once it is large enough.

use std::cell::RefCell;

/// Elements of a cache line, to which scratch memory is aligned.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(
    dead_code,
    reason = "the elements are read through the vector's pointer"
)]
struct Line([f32; LINE]);

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements that start at a cache line. Their contents are unspecified.
///
/// # Panics
/// If called from within `f`.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|lines| {
        let n_lines = len.div_ceil(LINE);
        if lines.len() < n_lines {
            lines.resize(n_lines, Line([0.0; LINE]));
        }
        // SAFETY: a `Line` is `LINE` f32 without padding, so `n_lines` of them are `n_lines * LINE >= len` f32, all
        // initialised, borrowed mutably for as long as the slice lives.
        let elements =
            unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), len) };
        f(elements)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn scratch_is_aligned_and_as_long_as_asked() {
        for len in [0, 1, 16, 1000, 17] {
            super::with(len, |scratch| {
                assert_eq!(scratch.len(), len);
                assert_eq!(scratch.as_ptr().align_offset(64), 0);
                scratch.fill(1.0);
            });
        }
    }
}
