//! Buffers of 32-bit words that start at a cache line, and their bytes as the packed formats see them.

/// Words of a cache line.
const LINE: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

/// Words, zero at first. A word holds two bfloat16 or four bytes, the first in its low part.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlignedBuffer {
    lines: Box<[Line]>,
}

impl AlignedBuffer {
    /// `len` words and as many more as fill a cache line. The system hands out the pages as they are written, so that
    /// threads that fill a large buffer together also share that work.
    pub(crate) fn new(len: usize) -> Self {
        let lines = Box::<[Line]>::new_zeroed_slice(len.div_ceil(LINE));
        Self {
            // SAFETY: zero is a valid word.
            lines: unsafe { lines.assume_init() },
        }
    }

    /// At least `len` words; if that takes a new buffer, it is zero.
    pub(crate) fn grow(&mut self, len: usize) {
        if self.lines.len() * LINE < len {
            *self = Self::new(len);
        }
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        // SAFETY: a `Line` is `LINE` words without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * LINE) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u32] {
        let len = self.lines.len() * LINE;
        // SAFETY: a `Line` is `LINE` words without padding, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

/// The halves of words, low one first.
pub(crate) fn as_u16(words: &[u32]) -> &[u16] {
    // SAFETY: a word is two halves, whose alignment is lower.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 2 * words.len()) }
}

/// The halves of words, low one first.
pub(crate) fn as_u16_mut(words: &mut [u32]) -> &mut [u16] {
    // SAFETY: a word is two halves, whose alignment is lower; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
}

/// The memory of f32 as halves, whatever they hold.
pub(crate) fn f32_as_u16_mut(elements: &mut [f32]) -> &mut [u16] {
    // SAFETY: an f32 is as large as two halves, whose alignment is lower; any bits are valid; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), 2 * elements.len()) }
}

/// The memory of f32 as words, whatever they hold.
pub(crate) fn f32_as_u32_mut(elements: &mut [f32]) -> &mut [u32] {
    // SAFETY: an f32 is as large as a word and aligned as one; any bits are valid; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), elements.len()) }
}

/// The bytes of words, lowest first.
pub(crate) fn as_bytes(words: &[u32]) -> &[u8] {
    // SAFETY: a word is four bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) }
}

/// The bytes of words, lowest first.
pub(crate) fn as_bytes_mut(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: a word is four bytes; borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
}

#[cfg(not(target_endian = "little"))]
compile_error!("words are packed lowest byte first");
