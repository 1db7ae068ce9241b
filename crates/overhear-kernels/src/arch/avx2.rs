//! Proof tokens of AVX2 and AVX-VNNI.

use super::avx512::Avx512;

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, if the processor and the operating system support the instructions.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    /// The token, which AVX-512's implies.
    pub(crate) fn of_avx512(_: Avx512) -> Self {
        Self(())
    }
}

/// Proof that the machine has AVX2, FMA, F16C and AVX-VNNI (`vpdpbusd` on 256 bits).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Vnni(Avx2);

impl Avx2Vnni {
    /// The token, if the processor supports AVX-VNNI.
    pub(crate) fn new(avx2: Avx2) -> Option<Self> {
        is_x86_feature_detected!("avxvnni").then_some(Self(avx2))
    }

    /// The token of the f32 vectors.
    #[inline(always)]
    pub(crate) fn avx2(self) -> Avx2 {
        self.0
    }
}
