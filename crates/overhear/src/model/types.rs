//! Types that describe how a model is stored and run, and their names.

use std::str::FromStr;

use overhear_kernels as kernels;

use crate::names::{by_name, display_name};
use crate::{ComputeType, Device, Error, Result};

/// Element type that a checkpoint stores its weights in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// All types.
    pub const ALL: &'static [Self] = &[Self::F32, Self::F16, Self::Bf16];

    /// Name: `f32`, `f16` or `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

impl From<kernels::Dtype> for Dtype {
    fn from(dtype: kernels::Dtype) -> Self {
        match dtype {
            kernels::Dtype::F32 => Self::F32,
            kernels::Dtype::F16 => Self::F16,
            kernels::Dtype::Bf16 => Self::Bf16,
        }
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

/// Instruction set that the kernels of the processor use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Scalar loops, on every machine.
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
    /// All sets, whatever this machine can run.
    pub const ALL: &'static [Self] = &[
        Self::Scalar,
        Self::Neon,
        Self::Avx2,
        Self::Avx512,
        Self::Amx,
    ];

    /// Name used by the environment variable `OVERHEAR_ISA`: `avx2`, `avx512`, ...
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

    /// Instruction set of models opened by this process: the machine's best, or the one that `OVERHEAR_ISA` names.
    ///
    /// # Errors
    /// [`Error::Option`] if `OVERHEAR_ISA` names a set that this machine does not have.
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
    /// Name: `cpu`.
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
    fn names_parse_back_and_unknown_ones_are_errors_that_list_the_known() {
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
            "dtype: unknown dtype `int4`; known: f32, f16, bf16"
        );
    }

    #[test]
    fn instruction_sets_are_called_as_the_kernels_call_them() {
        for &isa in kernels::Isa::ALL {
            assert_eq!(Isa::from(isa).name(), isa.name());
        }
    }
}
