//! What the tests in `tests/it` use beyond the public API: emulated instruction sets, and packed rows as they lie.
//! Compiled with the feature `testing`, which only the tests' dependency on the crate asks for.

#[cfg(target_arch = "x86_64")]
use crate::arch::Avx512;
use crate::arch::{Arch, Emulated};
use crate::{GroupedMatrix, Isa, Kernels, PackedActivations, PackedRows};

impl Kernels {
    /// Emulated vectors and register kernels.
    #[doc(hidden)]
    #[must_use]
    pub fn emulated() -> Self {
        Self {
            isa: Isa::Scalar,
            arch: Arch::Emulated(Emulated),
        }
    }

    /// Emulated vectors and AMX tiles.
    #[doc(hidden)]
    #[must_use]
    pub fn emulated_amx() -> Self {
        Self {
            isa: Isa::Scalar,
            arch: Arch::EmulatedAmx(Emulated),
        }
    }

    /// AVX-512 as on a machine without its BF16 and VNNI, if this machine has it.
    #[cfg(target_arch = "x86_64")]
    fn plain_avx512() -> Option<Self> {
        let arch = Avx512::new().map(Arch::PlainAvx512)?;
        let isa = Isa::Avx512;
        Some(Self { isa, arch })
    }

    /// The sets of this machine other than the scalar one, and the emulated ones.
    #[doc(hidden)]
    #[must_use]
    pub fn vectorized() -> Vec<Self> {
        let found = Isa::ALL
            .iter()
            .filter(|&&isa| isa != Isa::Scalar && !cfg!(miri))
            .filter_map(|&isa| Self::new(isa));
        #[cfg(target_arch = "x86_64")]
        let found = found.chain(Self::plain_avx512().filter(|_| !cfg!(miri)));
        found
            .chain([Self::emulated(), Self::emulated_amx()])
            .collect()
    }

    /// Whether bf16 accumulators are summed in the order of tiles.
    #[doc(hidden)]
    #[must_use]
    pub fn sums_in_tiles(&self) -> bool {
        self.arch.has_tiles()
    }
}

impl PackedActivations {
    /// All rows as the bits of bf16 elements.
    ///
    /// # Panics
    /// If rows are not whole K groups.
    #[doc(hidden)]
    pub fn bits(&mut self) -> &[u16] {
        self.bf16_mut().0
    }
}

impl PackedRows<'_> {
    /// K groups from the first row on, including what lies behind the last row.
    #[doc(hidden)]
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        self.groups
    }

    /// Scale of each int8 row.
    #[doc(hidden)]
    #[must_use]
    pub fn scales(&self) -> Vec<f32> {
        self.quant_params.iter().map(|row| row.scale).collect()
    }
}

impl GroupedMatrix {
    /// Scale of a group of output `out`.
    ///
    /// # Panics
    /// If there is no such group.
    #[doc(hidden)]
    #[must_use]
    pub fn scale(&self, out: usize, group: usize) -> f32 {
        let block = group * self.format().block_bytes();
        let block = &self.blocks()[out / 32 * self.panel_bytes() + block..];
        self.format().scale(block, out % 32).to_f32()
    }
}
