//! Element types of converted weights.

use std::str::FromStr;

use half::{bf16, f16};

use super::quantize::{self, BLOCK};
use crate::names::{by_name, display_name};
use crate::{Error, Result};

/// Type of the weights of a converted model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementType {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// ggml's blocks of 32: 8 bits with a scale.
    Q8_0,
    /// 5 bits with a scale.
    Q5_0,
    /// 5 bits with a scale and a minimum.
    Q5_1,
    /// 4 bits with a scale.
    Q4_0,
    /// 4 bits with a scale and a minimum.
    Q4_1,
}

impl ElementType {
    /// All types.
    pub const ALL: [Self; 8] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4_0,
        Self::Q4_1,
    ];

    /// Returns the name: `f32`, `q5_0`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
        }
    }

    /// Returns whether elements are in blocks of 32.
    pub(super) fn is_block(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Appends `row` to `bytes`; a whole number of blocks, if elements are in blocks. Returns whether all elements are within
    /// the range of the type.
    pub(super) fn encode(self, row: &[f32], bytes: &mut Vec<u8>) -> bool {
        let before = bytes.len();
        match self {
            Self::F32 => row.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            Self::F16 => row
                .iter()
                .for_each(|&x| bytes.extend(f16::from_f32(x).to_le_bytes())),
            Self::Bf16 => row
                .iter()
                .for_each(|&x| bytes.extend(bf16::from_f32(x).to_le_bytes())),
            _ => {
                let blocks = row.as_chunks::<BLOCK>().0;
                return blocks
                    .iter()
                    .all(|block| quantize::append(self, block, bytes));
            }
        }
        let (halves, _) = bytes[before..].as_chunks::<2>();
        match self {
            Self::F16 => halves
                .iter()
                .all(|&half| f16::from_le_bytes(half).is_finite()),
            Self::Bf16 => halves
                .iter()
                .all(|&half| bf16::from_le_bytes(half).is_finite()),
            _ => true,
        }
    }
}

impl FromStr for ElementType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("dtype", "dtype", name, Self::ALL, Self::name)
    }
}

display_name!(ElementType);
