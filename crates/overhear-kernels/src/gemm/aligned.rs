//! Buffers of `u32` aligned to cache lines, and views of their bytes. In packed operands each `u32` is a K group.

/// `u32` elements of a cache line.
const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

/// Zero-initialised buffer of `u32` that starts at a cache line. A K group holds two bf16 or four int8 elements, the
/// first in its low bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlignedBuffer {
    lines: Box<[Line]>,
}

impl AlignedBuffer {
    /// A buffer of at least `len` elements, rounded up to whole cache lines. The operating system hands out pages as
    /// they are written, so threads that fill a large buffer together also share the page faults.
    pub(crate) fn new(len: usize) -> Self {
        let lines = Box::<[Line]>::new_zeroed_slice(len.div_ceil(LINE));
        Self {
            // SAFETY: zero is a valid `u32`.
            lines: unsafe { lines.assume_init() },
        }
    }

    /// Grows the buffer to at least `len` elements. A new allocation is zero.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.lines.len() * LINE < len {
            *self = Self::new(len);
        }
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        // SAFETY: a `Line` is `LINE` `u32` without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u32] {
        let len = self.lines.len() * LINE;
        // SAFETY: a `Line` is `LINE` `u32` without padding, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

/// The 16-bit halves of each element, low half first.
pub(crate) fn as_u16(words: &[u32]) -> &[u16] {
    // SAFETY: a `u32` is two `u16`, whose alignment is lower.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 2 * words.len()) }
}

/// The 16-bit halves of each element, low half first.
pub(crate) fn as_u16_mut(words: &mut [u32]) -> &mut [u16] {
    // SAFETY: a `u32` is two `u16`, whose alignment is lower; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
}

/// The memory of f32 elements as `u16`, regardless of its contents.
pub(crate) fn f32_as_u16_mut(elements: &mut [f32]) -> &mut [u16] {
    // SAFETY: an f32 is as large as two `u16`, whose alignment is lower; any bits are valid; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), 2 * elements.len()) }
}

/// The memory of f32 elements as `u32`, regardless of its contents.
pub(crate) fn f32_as_u32_mut(elements: &mut [f32]) -> &mut [u32] {
    // SAFETY: an f32 is as large as a `u32` and aligned as one; any bits are valid; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), elements.len()) }
}

/// The bytes of each element, lowest first.
pub(crate) fn as_bytes(words: &[u32]) -> &[u8] {
    // SAFETY: a `u32` is four bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) }
}

/// The bytes of each element, lowest first.
pub(crate) fn as_bytes_mut(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: a `u32` is four bytes; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
}

#[cfg(not(target_endian = "little"))]
compile_error!("words are packed lowest byte first");
