//! The proof token of the instruction set in use.

#[cfg(target_arch = "x86_64")]
use super::amx::Amx;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::Avx512;
#[cfg(any(test, feature = "testing"))]
use super::emulated::Emulated;
use super::isa::Isa;
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;

/// The proof token of the instruction set in use. `crate::dispatch` says what each one runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arch {
    /// No vectors: the kernels of `crate::reference`; packed kernels run on `Emulated` vectors.
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX-512 as on a machine without its BF16 and VNNI.
    #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
    PlainAvx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// Emulated vectors and register kernels.
    #[cfg(any(test, feature = "testing"))]
    Emulated(Emulated),
    /// Emulated vectors and emulated AMX tiles.
    #[cfg(any(test, feature = "testing"))]
    EmulatedAmx(Emulated),
}

impl Arch {
    /// The token of `isa`, or `None` if this machine cannot run it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Arch::Scalar),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::new().map(Arch::Neon),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::new().map(Arch::Avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::new().map(Arch::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Amx::new().map(Arch::Amx),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon => None,
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => None,
        }
    }
}
