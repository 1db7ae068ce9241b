//! Proof tokens of AVX-512, AVX-512 BF16 and AVX-512 VNNI.

/// Proof that the machine has AVX-512 F, BW, VL and DQ, AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, if the processor and the operating system support the instructions.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

/// Proof that the machine has AVX-512 F, BW, VL, DQ and BF16 (`vdpbf16ps`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    /// The token, if the processor supports AVX-512 BF16.
    pub(crate) fn new(avx512: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512bf16").then_some(Self(avx512))
    }

    /// The token of the f32 vectors.
    #[inline(always)]
    pub(crate) fn avx512(self) -> Avx512 {
        self.0
    }
}

/// Proof that the machine has AVX-512 F, BW, VL, DQ and VNNI (`vpdpbusd`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni(Avx512);

impl Avx512Vnni {
    /// The token, if the processor supports AVX-512 VNNI.
    pub(crate) fn new(avx512: Avx512) -> Option<Self> {
        is_x86_feature_detected!("avx512vnni").then_some(Self(avx512))
    }

    /// The token of the f32 vectors.
    #[inline(always)]
    pub(crate) fn avx512(self) -> Avx512 {
        self.0
    }
}
