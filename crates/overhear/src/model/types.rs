//! Element types, instruction sets, compute types and devices, and their names.

use std::str::FromStr;

use overhear_kernels as kernels;

use crate::names::{by_name, display_name};
use crate::{ComputeType, Device, Error, Result};

/// Element type of the weights in a checkpoint. Types without a note are kept or rounded for the compute type; the others become
/// f32 first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE double precision, rounded to f32.
    F64,
    /// Bytes with a scale for each row, of CTranslate2; widened.
    Int8,
    /// 16-bit integers with a scale, of CTranslate2; widened.
    Int16,
    /// Blocks of 8-bit elements, of ggml, as the following; widened.
    Q8_0,
    /// Blocks of 5-bit elements; widened.
    Q5_0,
    /// Blocks of 5-bit elements with a minimum; widened.
    Q5_1,
    /// Blocks of 4-bit elements; widened.
    Q4_0,
    /// Blocks of 4-bit elements with a minimum; widened.
    Q4_1,
    /// k-quants of 2 bits; widened.
    Q2K,
    /// k-quants of 3 bits; widened.
    Q3K,
    /// k-quants of 4 bits; widened.
    Q4K,
    /// k-quants of 5 bits; widened.
    Q5K,
    /// k-quants of 6 bits; widened.
    Q6K,
}

impl Dtype {
    /// All element types.
    pub const ALL: &'static [Self] = &[
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::F64,
        Self::Int8,
        Self::Int16,
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

    /// Returns the name: `f32`, `f16`, `bf16`, `int8`, `q8_0`, ...
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Q8_0 => "q8_0",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// Returns the element type that files call `name`, one of those that a checkpoint is read with.
    pub(super) fn in_files(name: &str) -> Self {
        let is_named = |dtype: &&Self| match dtype {
            Self::Int8 => name == "I8",
            Self::Int16 => name == "I16",
            dtype => dtype.name().eq_ignore_ascii_case(name),
        };
        let found = Self::ALL.iter().find(is_named);
        *found.expect("a type that is read has a name here")
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name(
            "dtype",
            "dtype",
            name,
            Self::ALL.iter().copied(),
            Self::name,
        )
    }
}

display_name!(Dtype);

/// Instruction set of the CPU kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Scalar loops; on every machine.
    Scalar,
    /// 128-bit NEON, with BF16 and DotProd if present.
    Neon,
    /// 256-bit AVX2 with FMA and F16C; AVX-VNNI if present.
    Avx2,
    /// 512-bit AVX-512 F, BW, VL and DQ; BF16 and VNNI if present.
    Avx512,
    /// AVX-512 with BF16 and VNNI, and the tiles of AMX with BF16 and INT8.
    Amx,
}

impl Isa {
    /// All instruction sets, whether or not this machine has them.
    pub const ALL: &'static [Self] = &[
        Self::Scalar,
        Self::Neon,
        Self::Avx2,
        Self::Avx512,
        Self::Amx,
    ];

    /// Returns the name, as in the environment variable `OVERHEAR_ISA`: `avx2`, `avx512`, ...
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Returns the instruction set of models that this process opens: the machine's best, or the one that
    /// `OVERHEAR_ISA` names.
    ///
    /// # Errors
    /// [`Error::Option`] if `OVERHEAR_ISA` names an instruction set that does not exist or that this machine does not
    /// have.
    pub fn from_env() -> Result<Self> {
        let kernels = kernels::Kernels::from_env().map_err(|error| Error::Option {
            name: kernels::ISA_VARIABLE,
            reason: error.to_string(),
        })?;
        Ok(kernels.isa().into())
    }
}

impl From<kernels::Isa> for Isa {
    fn from(isa: kernels::Isa) -> Self {
        match isa {
            kernels::Isa::Scalar => Self::Scalar,
            kernels::Isa::Neon => Self::Neon,
            kernels::Isa::Avx2 => Self::Avx2,
            kernels::Isa::Avx512 => Self::Avx512,
            kernels::Isa::Amx => Self::Amx,
        }
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = Self::ALL.iter().copied();
        by_name("isa", "instruction set", name, all, Self::name)
    }
}

display_name!(Isa);

impl FromStr for ComputeType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("compute_type", "compute type", name, Self::ALL, Self::name)
    }
}

display_name!(ComputeType);

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name("device", "device", name, [Self::Cpu], Self::name)
    }
}

impl Device {
    /// Returns the name: `cpu`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
    }
}

display_name!(Device);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_unknown_names_are_errors_that_list_the_known_ones() {
        for &dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse::<Dtype>().unwrap(), dtype);
        }
        for &isa in Isa::ALL {
            assert_eq!(isa.to_string().parse::<Isa>().unwrap(), isa);
        }
        for compute_type in ComputeType::ALL {
            let name = compute_type.to_string();
            assert_eq!(name.parse::<ComputeType>().unwrap(), compute_type);
        }
        assert_eq!("cpu".parse::<Device>().unwrap(), Device::Cpu);
        assert_eq!(
            "int4".parse::<Dtype>().unwrap_err().to_string(),
            "dtype: unknown dtype `int4`; known: f32, f16, bf16, f64, int8, int16, q8_0, q5_0, q5_1, q4_0, q4_1, q2_k, q3_k, q4_k, q5_k, q6_k"
        );
    }

    #[test]
    fn instruction_sets_have_the_same_names_as_in_the_kernels() {
        for &isa in kernels::Isa::ALL {
            assert_eq!(Isa::from(isa).name(), isa.name());
        }
    }
}
