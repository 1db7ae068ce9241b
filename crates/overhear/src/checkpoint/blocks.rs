//! Quantised elements of ggml and GGUF files: blocks of 32 with a scale (`ggml-quants.c`, `ggml-common.h`), and the super-blocks
//! of k-quants (`super_blocks`).

use half::f16;

use super::super_blocks::{
    SUPER_BLOCK, widen_q2_k, widen_q3_k, widen_q4_k, widen_q5_k, widen_q6_k,
};

/// Elements of a block, unless it is a super-block.
const BLOCK: usize = 32;
/// Number of elements of which each format has whole blocks.
pub(super) const WHOLE_BLOCKS: usize = SUPER_BLOCK;
/// Maximum number of bytes of that many elements.
pub(super) const MAX_BYTES: usize = WHOLE_BLOCKS / BLOCK * 34;

/// Layout of a block. Each but the super-blocks begins with a scale in f16; `_1` formats have a minimum in f16 after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockFormat {
    /// Scale, then 32 signed bytes.
    Q8_0,
    /// Scale, 32 fifth bits, then 16 bytes of 4 bits of two elements: element `i` in the low half of byte `i`, element
    /// `i + 16` in the high half. Elements are signed.
    Q5_0,
    /// Scale, minimum, fifth bits and bytes as [`BlockFormat::Q5_0`]. Elements are unsigned.
    Q5_1,
    /// Scale, then 16 bytes of 4 bits of two elements, signed.
    Q4_0,
    /// Scale, minimum, then 16 bytes of 4 bits of two elements, unsigned.
    Q4_1,
    /// Super-blocks, as the following.
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl BlockFormat {
    const ALL: [Self; 10] = [
        Self::Q8_0,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Returns the format of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Returns the format's name (`ggml.c::type_traits`), in capitals.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Returns the elements of a block.
    pub(super) fn n_elements(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => SUPER_BLOCK,
            _ => BLOCK,
        }
    }

    /// Returns the bytes of a block.
    pub(super) fn n_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 2 + 32,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q2K => 16 + 64 + 2 + 2,
            Self::Q3K => 32 + 64 + 12 + 2,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Widens whole blocks to f32.
    pub(super) fn widen(self, blocks: &[u8], elements: &mut [f32]) {
        let blocks = blocks.chunks_exact(self.n_bytes());
        for (block, elements) in blocks.zip(elements.chunks_exact_mut(self.n_elements())) {
            self.widen_block(block, elements);
        }
    }

    fn widen_block(self, block: &[u8], elements: &mut [f32]) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let scale = half(0);
        match self {
            Self::Q2K => widen_q2_k(block, elements),
            Self::Q3K => widen_q3_k(block, elements),
            Self::Q4K => widen_q4_k(block, elements),
            Self::Q5K => widen_q5_k(block, elements),
            Self::Q6K => widen_q6_k(block, elements),
            Self::Q8_0 => {
                for (element, &byte) in elements.iter_mut().zip(&block[2..]) {
                    *element = f32::from(byte as i8) * scale;
                }
            }
            Self::Q4_0 => split(&block[2..], 0, elements, |q| (q as f32 - 8.0) * scale),
            Self::Q4_1 => {
                let min = half(2);
                split(&block[4..], 0, elements, |q| q as f32 * scale + min);
            }
            Self::Q5_0 => {
                let fifth = fifth_bits(&block[2..]);
                split(&block[6..], fifth, elements, |q| (q as f32 - 16.0) * scale);
            }
            Self::Q5_1 => {
                let (min, fifth) = (half(2), fifth_bits(&block[4..]));
                split(&block[8..], fifth, elements, |q| q as f32 * scale + min);
            }
        }
    }
}

/// Bit `i` is the fifth bit of element `i`.
fn fifth_bits(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Widens the elements of 16 `bytes`, with their fifth bits.
fn split(bytes: &[u8], fifth: u32, elements: &mut [f32], widen: impl Fn(u32) -> f32) {
    let (low, high) = elements.split_at_mut(BLOCK / 2);
    for (i, (&byte, (low, high))) in bytes.iter().zip(low.iter_mut().zip(high)).enumerate() {
        *low = widen(u32::from(byte & 0xf) | (fifth >> i & 1) << 4);
        *high = widen(u32::from(byte >> 4) | (fifth >> (i + 16) & 1) << 4);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Blocks of the same 32 numbers, quantised by the package gguf 0.17, and some of what it widens them to.
    const CASES: [(&str, &str, [f32; 4]); 5] = [
        (
            "Q8_0",
            "b02407f92306e3144734dabbde0281f4bcd8e2ef1639f94bdc133105d7cee70cc9f5",
            [0.128_173_83, -2.325_439_5, -0.549_316_4, -0.201_416_02],
        ),
        (
            "Q5_0",
            "a630ed08ac23c1ef3471fc92b9276b17bca0d02e97fb",
            [0.145_263_67, -2.324_218_8, -0.581_054_7, -0.145_263_67],
        ),
        (
            "Q5_1",
            "9f2fa6c0ef28beb3f51279c42ff7ee6bbe49dec40052b92d",
            [0.176_452_64, -2.324_218_8, -0.538_024_9, -0.180_786_13],
        ),
        (
            "Q4_0",
            "a63468789ac886d96c9bb684565860975475",
            [0.0, -2.324_218_8, -0.581_054_7, -0.290_527_34],
        ),
        (
            "Q4_1",
            "e033a6c07a89bcea97fb7fbdd7a4676a80a95496",
            [0.136_718_75, -2.324_218_8, -0.601_562_5, -0.109_375],
        ),
    ];

    /// Formats, with the places of f16 numbers in a block, and the checksum of what the package gguf 0.19 widens two blocks to:
    /// `tools/gguf_blocks.py`.
    const CHECKSUMS: [(&str, &[usize], u64); 10] = [
        ("Q2_K", &[80, 82], 0x8300_4ade_0e0e_f92d),
        ("Q3_K", &[108], 0x7db5_f24e_5504_3b91),
        ("Q4_K", &[0, 2], 0xa193_75eb_b159_4431),
        ("Q5_K", &[0, 2], 0x209d_9e5c_7fcd_d0ed),
        ("Q6_K", &[208], 0x019f_1728_4088_0035),
        ("Q8_0", &[0], 0xb179_7ad6_b17c_9029),
        ("Q5_0", &[0], 0x2862_9f4c_00ce_2f09),
        ("Q5_1", &[0, 2], 0x54f1_8f85_02b5_a1a1),
        ("Q4_0", &[0], 0xdf79_c1cf_505c_26e5),
        ("Q4_1", &[0, 2], 0x9a60_75d1_4ff2_0f35),
    ];

    #[test]
    fn blocks_are_widened_to_the_bits_of_the_package_gguf() {
        for (name, halves, expected) in CHECKSUMS {
            let format = BlockFormat::named(name).unwrap();
            let mut state = 7_u32;
            let mut block: Vec<u8> = (0..format.n_bytes())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            for (i, &at) in halves.iter().enumerate() {
                let number = f16::from_f64(0.0123 * (i + 1) as f64);
                block[at..at + 2].copy_from_slice(&number.to_le_bytes());
            }
            let mut elements = vec![0.0; 2 * format.n_elements()];
            format.widen(&[&block[..], &block[..]].concat(), &mut elements);
            // FNV-1a.
            let bytes = elements
                .iter()
                .flat_map(|element: &f32| element.to_le_bytes());
            let checksum = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            assert_eq!(checksum, expected, "{name}: {:?}", &elements[..3]);
        }
    }

    #[test]
    fn blocks_are_widened_as_by_ggml() {
        for (name, hex, [first, twelfth, sixteenth, last]) in CASES {
            let format = BlockFormat::named(name).unwrap();
            let byte = |i: usize| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap();
            let block: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
            assert_eq!(block.len(), format.n_bytes());
            let mut elements = [0.0; 2 * BLOCK];
            format.widen(&[&block[..], &block[..]].concat(), &mut elements);
            let found = [0, 12, 16, 31].map(|i| elements[i]);
            assert_eq!(found, [first, twelfth, sixteenth, last], "{name}");
            assert_eq!(elements[..BLOCK], elements[BLOCK..]);
        }
    }
}
