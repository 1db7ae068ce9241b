//! k-quants of ggml: super-blocks of 256 elements, in blocks of 32 or 16 whose scales are integers
//! (`ggml-common.h::block_q4_K`, `ggml-quants.c::dequantize_row_q4_K`).

use half::f16;

/// Elements of a super-block.
pub(super) const SUPER_BLOCK: usize = 256;

/// Bytes of the scales and minima of 8 blocks.
const N_SCALE_BYTES: usize = 12;

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Widens a super-block of Q2_K: 16 bytes with the scale of a block of 16 elements in the low half and its minimum in the high
/// half, 64 bytes of quants (`two_bits`), then scale of the scales and of the minima in f16.
pub(super) fn widen_q2_k(bytes: &[u8], elements: &mut [f32]) {
    let (blocks, rest) = bytes.split_at(16);
    let (quants, halves) = rest.split_at(64);
    let (scale, min_scale) = (half(halves), half(&halves[2..]));
    for (i, element) in elements.iter_mut().enumerate() {
        let block = blocks[i / 16];
        let (scale, min) = (
            scale * f32::from(block & 0xf),
            min_scale * f32::from(block >> 4),
        );
        *element = scale * f32::from(two_bits(quants, i)) - min;
    }
}

/// Widens a super-block of Q3_K: 32 bytes of third bits, of which bit `n` of byte `i` is that of element `32 n + i`, 64 bytes with
/// the low 2 bits (`two_bits`), 12 with the scales of 16 blocks, and their scale in f16.
pub(super) fn widen_q3_k(bytes: &[u8], elements: &mut [f32]) {
    let (thirds, rest) = bytes.split_at(32);
    let (quants, rest) = rest.split_at(64);
    let (packed, scale) = rest.split_at(N_SCALE_BYTES);
    let scale = half(scale);
    for (i, element) in elements.iter_mut().enumerate() {
        let third = thirds[i % 32] >> (i / 32) & 1;
        let quant = i16::from(two_bits(quants, i) | third << 2) - 4;
        *element = scale * f32::from(scale_of_16(packed, i / 16)) * f32::from(quant);
    }
}

/// Returns 2 bits of element `i`: of each half of 128 elements, four elements share a byte.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    let (part, at) = (i / 128, i % 128);
    bytes[part * 32 + at % 32] >> (at / 32 * 2) & 3
}

/// Returns the scale of one of 16 blocks, 6 bits less 32: the low 4 bits of two scales share one of the first 8 bytes, the high 2
/// bits of four scales one of the last 4.
fn scale_of_16(packed: &[u8], block: usize) -> i8 {
    let low = packed[block % 8] >> (block / 8 * 4) & 0xf;
    let high = packed[8 + block % 4] >> (block / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

/// Widens a super-block of Q4_K: scale of the scales and of the minima in f16, scales and minima, then for two blocks each 32
/// bytes, of the first block in the low half.
pub(super) fn widen_q4_k(bytes: &[u8], elements: &mut [f32]) {
    let quants = &bytes[4 + N_SCALE_BYTES..];
    widen_with_minima(bytes, elements, |block, i| {
        u32::from(quants[block / 2 * 32 + i] >> (block % 2 * 4) & 0xf)
    });
}

/// Widens a super-block of Q5_K, which is as Q4_K with 32 bytes before the quants: bit `n` of byte `i` is the fifth bit of
/// element `i` of block `n`.
pub(super) fn widen_q5_k(bytes: &[u8], elements: &mut [f32]) {
    let (fifths, quants) = bytes[4 + N_SCALE_BYTES..].split_at(32);
    widen_with_minima(bytes, elements, |block, i| {
        let low = u32::from(quants[block / 2 * 32 + i] >> (block % 2 * 4) & 0xf);
        low | u32::from(fifths[i] >> block & 1) << 4
    });
}

/// Widens 8 blocks of 32 unsigned elements: `quant` returns element `i` of a block.
fn widen_with_minima(bytes: &[u8], elements: &mut [f32], quant: impl Fn(usize, usize) -> u32) {
    let (scale, min_scale) = (half(bytes), half(&bytes[2..]));
    let packed = &bytes[4..4 + N_SCALE_BYTES];
    for (block, elements) in elements.chunks_exact_mut(32).enumerate() {
        let (factor, min) = scale_and_minimum(packed, block);
        let (scale, min) = (scale * f32::from(factor), min_scale * f32::from(min));
        for (i, element) in elements.iter_mut().enumerate() {
            *element = scale * quant(block, i) as f32 - min;
        }
    }
}

/// Returns scale and minimum of `block`, 6 bits each: 4 of each are the low 6 bits of a byte; of the others, the last 4 bytes hold
/// the low 4 bits, and the high bits of the first 8 bytes the high 2.
fn scale_and_minimum(packed: &[u8], block: usize) -> (u8, u8) {
    if block < 4 {
        return (packed[block] & 0x3f, packed[block + 4] & 0x3f);
    }
    let low = packed[block + 4];
    let (high_of_scale, high_of_min) = (packed[block - 4] >> 6, packed[block] >> 6);
    (low & 0xf | high_of_scale << 4, low >> 4 | high_of_min << 4)
}

/// Widens a super-block of Q6_K: 128 bytes with the low 4 bits, 64 with the high 2, 16 signed scales of blocks of 16 elements,
/// and their scale in f16. Of each half of 128 elements, two elements share a byte of low bits, four one of high bits.
pub(super) fn widen_q6_k(bytes: &[u8], elements: &mut [f32]) {
    let (low, rest) = bytes.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half(scale);
    for (i, element) in elements.iter_mut().enumerate() {
        let (part, at) = (i / 128, i % 128);
        let four = low[part * 64 + at % 64] >> (at / 64 * 4) & 0xf;
        let quant = i32::from(four | two_bits(high, i) << 4) - 32;
        *element = scale * f32::from(scales[i / 16] as i8) * quant as f32;
    }
}
