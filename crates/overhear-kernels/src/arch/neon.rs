//! Proof tokens of NEON and its BF16 and DotProd extensions.

/// Proof that the machine is an aarch64 with NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    /// The token, if the machine has the instructions.
    pub(crate) fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

/// Proof that the machine has NEON and BF16 (`bfmlalt`, `bfmlalb`, `bfcvtn`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonBf16(Neon);

impl NeonBf16 {
    /// The token, if the processor supports BF16.
    pub(crate) fn new(neon: Neon) -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("bf16").then_some(Self(neon))
    }

    /// The token of the f32 vectors.
    #[inline(always)]
    pub(crate) fn neon(self) -> Neon {
        self.0
    }
}

/// Proof that the machine has NEON and DotProd (`sdot`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct NeonDotProd(Neon);

impl NeonDotProd {
    /// The token, if the processor supports DotProd.
    pub(crate) fn new(neon: Neon) -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(neon))
    }

    /// The token of the f32 vectors.
    #[inline(always)]
    pub(crate) fn neon(self) -> Neon {
        self.0
    }
}
