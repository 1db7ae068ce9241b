//! Construction of [`Kernels`].
//!
//! Every kernel is a method of [`Kernels`], in an `impl Kernels` block beside its code: it checks shapes, partitions
//! the work into tasks and runs them compiled for the instruction set (`crate::dispatch`).

use crate::arch::{Arch, Isa, IsaError};

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    pub(crate) isa: Isa,
    pub(crate) arch: Arch,
}

impl Kernels {
    /// The kernels of `isa`, or `None` if this machine cannot run it.
    #[must_use]
    pub fn new(isa: Isa) -> Option<Self> {
        Arch::new(isa).map(|arch| Self { isa, arch })
    }

    /// The fastest kernels of this machine.
    ///
    /// # Panics
    /// Never: the scalar set is always there.
    #[must_use]
    pub fn detect() -> Self {
        Self::new(Isa::detect()).expect("detected sets are available")
    }

    /// The kernels that `OVERHEAR_ISA` names, or the fastest of this machine if it is unset or empty.
    ///
    /// # Errors
    /// If the name is unknown or the machine lacks the set.
    pub fn from_env() -> Result<Self, IsaError> {
        let isa = Isa::from_env()?;
        Self::new(isa).ok_or(IsaError::Unavailable(isa))
    }

    /// Whether softmax numerators are computed by `crate::math::exp2_i16`.
    #[cfg(test)]
    pub(crate) fn computes_exp2_in_16_bits(&self) -> bool {
        self.arch.lanes() == 16 && !self.arch.has_tiles()
    }

    /// Instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }
}
