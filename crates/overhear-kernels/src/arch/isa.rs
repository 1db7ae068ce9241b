//! Names of instruction sets: found at run time, or forced by `OVERHEAR_ISA`.

use std::fmt;
use std::str::FromStr;

use super::token::Arch;

/// Environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "OVERHEAR_ISA";

/// Instruction set that kernels exist for, weakest first within an architecture.
///
/// A further set is a variant here, in [`Isa::ALL`] and [`Isa::name`]; a proof token in this folder; an
/// implementation of `simd::Simd` for it and, for packed GEMM, of `gemm::microkernel::MicroKernel`; and an arm in
/// `dispatch`. Nothing outside this crate changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Scalar loops, on every machine.
    Scalar,
    /// 128-bit NEON, on every aarch64.
    Neon,
    /// 256-bit AVX2 with FMA and F16C; AVX-VNNI if present.
    Avx2,
    /// 512-bit AVX-512 F, BW, VL and DQ; BF16 and VNNI if present.
    Avx512,
    /// AVX-512 with BF16 and VNNI, and the tiles of AMX with BF16 and INT8.
    Amx,
}

/// Reason why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// Overhear has no set of this name.
    Unknown(String),
    /// The machine lacks the set.
    Unavailable(Isa),
}

impl Isa {
    /// All sets that overhear has kernels for, weakest first, whatever this machine can run.
    pub const ALL: &'static [Isa] = &[Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// Name used by `OVERHEAR_ISA` and `overhear info`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        Arch::new(self).is_some()
    }

    /// Strongest set of this machine.
    ///
    /// # Panics
    /// Never: the scalar set is always available.
    #[must_use]
    pub fn detect() -> Self {
        let strongest = Isa::ALL
            .iter()
            .copied()
            .rev()
            .find(|isa| isa.is_available());
        strongest.expect("the scalar set is always there")
    }

    /// The set that `OVERHEAR_ISA` names, or the strongest if the variable is unset or empty.
    ///
    /// # Errors
    /// If the name is unknown or the machine lacks the set.
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var_os(ISA_VARIABLE) {
            Some(name) if !name.is_empty() => Self::forced(&name.to_string_lossy()),
            _ => Ok(Self::detect()),
        }
    }

    /// The set called `name`, which this machine must have.
    fn forced(name: &str) -> Result<Self, IsaError> {
        let isa: Isa = name.parse()?;
        if isa.is_available() {
            Ok(isa)
        } else {
            Err(IsaError::Unavailable(isa))
        }
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        let isa = Isa::ALL.iter().copied().find(|isa| isa.name() == name);
        isa.ok_or_else(|| IsaError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IsaError::Unknown(name) => {
                write!(
                    f,
                    "unknown instruction set `{name}`; known: {}",
                    names(|_| true)
                )
            }
            IsaError::Unavailable(isa) => {
                write!(
                    f,
                    "this machine lacks instruction set `{isa}`; it has: {}",
                    names(Isa::is_available)
                )
            }
        }
    }
}

/// Names of the sets that satisfy `passes`, in order, separated by commas.
fn names(passes: fn(Isa) -> bool) -> String {
    let names: Vec<_> = Isa::ALL
        .iter()
        .filter(|&&isa| passes(isa))
        .map(|isa| isa.name())
        .collect();
    names.join(", ")
}

impl std::error::Error for IsaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_to_their_set() {
        for &isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
    }

    #[test]
    fn unknown_names_and_missing_sets_are_errors_that_say_what_there_is() {
        let unknown = Isa::forced("sse9").expect_err("no such set").to_string();
        assert_eq!(
            unknown,
            "unknown instruction set `sse9`; known: scalar, neon, avx2, avx512, amx"
        );
        for &isa in Isa::ALL {
            match Isa::forced(isa.name()) {
                Ok(forced) => assert!(forced == isa && isa.is_available()),
                Err(error) => {
                    assert!(!isa.is_available());
                    let message = error.to_string();
                    assert!(message.starts_with(&format!(
                        "this machine lacks instruction set `{isa}`; it has: scalar"
                    )));
                }
            }
        }
    }

    #[test]
    fn detection_takes_the_strongest_set() {
        let detected = Isa::detect();
        assert!(
            Isa::ALL
                .iter()
                .all(|&isa| !isa.is_available() || isa <= detected)
        );
    }
}
