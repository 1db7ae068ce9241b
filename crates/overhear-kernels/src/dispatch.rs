//! Dispatch: which vectors and microkernels each instruction set runs.
//!
//! This is the one place that knows every implementation of the traits in `crate::simd` and
//! `crate::gemm::microkernel`. Kernels call these methods of [`Arch`] and are compiled once per implementation.

use crate::arch::{Arch, Emulated};
#[cfg(target_arch = "x86_64")]
use crate::arch::{Avx2, Avx2Vnni, Avx512, Avx512Bf16, Avx512Vnni};
#[cfg(target_arch = "aarch64")]
use crate::arch::{Neon, NeonBf16, NeonDotProd};
use crate::gemm::grouped::kernel::{GroupedKernel, GroupedTask};
use crate::gemm::microkernel::{Blocking, GemmTask, MAX_MR, MicroKernel};
#[cfg(any(test, feature = "testing"))]
use crate::gemm::microkernels::EmulatedAmx;
#[cfg(target_arch = "aarch64")]
use crate::gemm::microkernels::NeonWide;
#[cfg(target_arch = "x86_64")]
use crate::gemm::microkernels::{AmxTiles, Avx2Bf16, Avx2Int8, Avx512WideBf16, Avx512WideInt8};
use crate::gemm::microkernels::{EmulatedBf16, EmulatedGrouped, EmulatedInt8, registers, tiles};
#[cfg(any(target_arch = "x86_64", test, feature = "testing"))]
use crate::gemm::tile_kernel::TileKernel;
use crate::gemm::tile_kernel::TileTask;
use crate::simd::{Simd, Vectorized};

const _: () = assert!(tiles::MR <= MAX_MR && registers::MR <= MAX_MR);

impl Arch {
    /// Lanes of an f32 vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Arch::Scalar => 1,
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(_) => Neon::LANES,
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(_) => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(_) | Arch::Amx(_) => Avx512::LANES,
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(_) => Avx512::LANES,
            #[cfg(any(test, feature = "testing"))]
            Arch::Emulated(_) | Arch::EmulatedAmx(_) => Emulated::LANES,
        }
    }

    /// Runs `vectorized` compiled for the set, or `scalar` if the set has no vectors.
    #[inline]
    pub(crate) fn run<T: Vectorized>(
        self,
        vectorized: T,
        scalar: impl FnOnce() -> T::Output,
    ) -> T::Output {
        match self {
            Arch::Scalar => scalar(),
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => simd.vectorize(vectorized),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(simd) => simd.vectorize(vectorized),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => simd.vectorize(vectorized),
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(simd) => simd.vectorize(vectorized),
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(amx) => amx.avx512().vectorize(vectorized),
            #[cfg(any(test, feature = "testing"))]
            Arch::Emulated(simd) | Arch::EmulatedAmx(simd) => simd.vectorize(vectorized),
        }
    }

    /// Runs `task` on the set's bf16 microkernel.
    #[inline]
    pub(crate) fn run_bf16<T: GemmTask>(self, task: T) {
        match self {
            Arch::Scalar => EmulatedBf16(Emulated).vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => match NeonBf16::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => NeonWide(simd).vectorize(task),
            },
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(simd) => Avx2Bf16(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => match Avx512Bf16::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => Avx512WideBf16(simd).vectorize(task),
            },
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(simd) => Avx512WideBf16(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(amx) => AmxTiles::<false>(amx).vectorize(task),
            #[cfg(any(test, feature = "testing"))]
            Arch::Emulated(simd) => EmulatedBf16(simd).vectorize(task),
            #[cfg(any(test, feature = "testing"))]
            Arch::EmulatedAmx(_) => EmulatedAmx::<false>.vectorize(task),
        }
    }

    /// Runs `task` on the set's int8 microkernel.
    #[inline]
    pub(crate) fn run_int8<T: GemmTask>(self, task: T) {
        match self {
            Arch::Scalar => EmulatedInt8(Emulated).vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => match NeonDotProd::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => EmulatedInt8(simd).vectorize(task),
            },
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(simd) => match Avx2Vnni::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => Avx2Int8(simd).vectorize(task),
            },
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => match Avx512Vnni::new(simd) {
                Some(dot) => dot.vectorize(task),
                None => Avx512WideInt8(simd).vectorize(task),
            },
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(simd) => Avx512WideInt8(simd).vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(amx) => AmxTiles::<true>(amx).vectorize(task),
            #[cfg(any(test, feature = "testing"))]
            Arch::Emulated(simd) => EmulatedInt8(simd).vectorize(task),
            #[cfg(any(test, feature = "testing"))]
            Arch::EmulatedAmx(_) => EmulatedAmx::<true>.vectorize(task),
        }
    }

    /// Runs `task` on the set's microkernel of group-quantised weights.
    #[inline]
    pub(crate) fn run_grouped<T: GroupedTask>(self, task: T) {
        match self {
            Arch::Scalar => EmulatedGrouped(Emulated).vectorize_grouped(task),
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => EmulatedGrouped(simd).vectorize_grouped(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(simd) => simd.vectorize_grouped(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => match Avx512Vnni::new(simd) {
                Some(dot) => dot.vectorize_grouped(task),
                None => Avx2::of_avx512(simd).vectorize_grouped(task),
            },
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(simd) => Avx2::of_avx512(simd).vectorize_grouped(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(amx) => match Avx512Vnni::new(amx.avx512()) {
                Some(dot) => dot.vectorize_grouped(task),
                None => Avx2::of_avx512(amx.avx512()).vectorize_grouped(task),
            },
            #[cfg(any(test, feature = "testing"))]
            Arch::Emulated(simd) | Arch::EmulatedAmx(simd) => {
                EmulatedGrouped(simd).vectorize_grouped(task)
            }
        }
    }

    /// Runs `task` compiled for the set; on emulated vectors if the set has none.
    #[inline]
    pub(crate) fn run_any<T: Vectorized>(self, task: T) -> T::Output {
        match self {
            Arch::Scalar => Emulated.vectorize(task),
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => simd.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(simd) => simd.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => simd.vectorize(task),
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(simd) => simd.vectorize(task),
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(amx) => amx.avx512().vectorize(task),
            #[cfg(any(test, feature = "testing"))]
            Arch::Emulated(simd) | Arch::EmulatedAmx(simd) => simd.vectorize(task),
        }
    }

    /// Blocking of the set's microkernels.
    pub(crate) fn blocking(self) -> Blocking {
        match self {
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(_) => tiles::BLOCKING,
            #[cfg(any(test, feature = "testing"))]
            Arch::EmulatedAmx(_) => tiles::BLOCKING,
            _ => registers::BLOCKING,
        }
    }

    /// Whether the set's microkernels are tile kernels.
    pub(crate) fn has_tiles(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(_) => true,
            #[cfg(any(test, feature = "testing"))]
            Arch::EmulatedAmx(_) => true,
            _ => false,
        }
    }

    /// Runs `task` on the set's bf16 tile kernel.
    ///
    /// # Panics
    /// If the set has no tiles.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(unused_variables, reason = "there only the tests have tiles")
    )]
    #[inline]
    pub(crate) fn run_tiles<T: TileTask>(self, task: T) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(amx) => AmxTiles::<false>(amx).vectorize_tiles(task),
            #[cfg(any(test, feature = "testing"))]
            Arch::EmulatedAmx(_) => EmulatedAmx::<false>.vectorize_tiles(task),
            _ => unreachable!("a set without tiles"),
        }
    }

    /// Whether the machine has instructions for bf16 dot products. NEON's widening multiply-adds do not count, as
    /// they take as many instructions as f32.
    pub(crate) fn has_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Arch::Avx512(simd) => Avx512Bf16::new(simd).is_some(),
            #[cfg(target_arch = "x86_64")]
            Arch::Amx(_) => true,
            _ => false,
        }
    }

    /// Whether the set has a microkernel of group-quantised weights.
    pub(crate) fn has_grouped(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(_) | Arch::Avx512(_) | Arch::Amx(_) => true,
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(_) => true,
            _ => false,
        }
    }

    /// Whether the machine has instructions for int8 dot products. 16-bit multiply-adds (`vpmaddwd`) count.
    pub(crate) fn has_int8(self) -> bool {
        match self {
            #[cfg(target_arch = "aarch64")]
            Arch::Neon(simd) => NeonDotProd::new(simd).is_some(),
            #[cfg(target_arch = "x86_64")]
            Arch::Avx2(_) | Arch::Avx512(_) | Arch::Amx(_) => true,
            #[cfg(all(target_arch = "x86_64", any(test, feature = "testing")))]
            Arch::PlainAvx512(_) => true,
            _ => false,
        }
    }
}
