//! AMX: detection, the permission of the operating system, and the tile configuration.
//!
//! AMX intrinsics are not stable, so tiles are driven by `asm!`. The configuration is loaded at the start of a task and
//! released at its end. No function of this crate is compiled with `amx-tile` enabled, so the compiler never touches
//! tiles, and their contents survive from one `asm!` to the next.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::TILE;
use super::avx512::{Avx512, Avx512Bf16};

/// Proof that the machine has AVX-512 with BF16, VBMI and VNNI, and AMX with BF16 and INT8, and that the operating system
/// lets this process use tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512Bf16);

impl Amx {
    /// The token, if the processor has the instructions and the operating system grants them; asked once per process.
    pub(crate) fn new() -> Option<Self> {
        static HAS: OnceLock<bool> = OnceLock::new();
        let bf16 = Avx512Bf16::new(Avx512::new()?)?;
        let has = HAS.get_or_init(|| {
            is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vbmi")
                && has_tiles()
                && may_use_tiles()
        });
        has.then_some(Self(bf16))
    }

    /// The token of the bf16 stores and dot products in registers.
    #[inline(always)]
    pub(crate) fn avx512_bf16(self) -> Avx512Bf16 {
        self.0
    }

    /// The token of the f32 vectors.
    #[inline(always)]
    pub(crate) fn avx512(self) -> Avx512 {
        self.0.avx512()
    }
}

/// Whether the processor has AMX (CPUID) and the operating system saves its registers (XCR0).
fn has_tiles() -> bool {
    /// AMX-BF16, AMX-TILE and AMX-INT8 in CPUID leaf 7, EDX.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// XTILECFG and XTILEDATA in XCR0.
    const STATES: u64 = 3 << 17;
    #[target_feature(enable = "xsave")]
    fn states() -> u64 {
        // SAFETY: the system has enabled `xgetbv`, as AVX-512 was detected.
        unsafe { _xgetbv(0) }
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: AVX-512 was detected, which needs `xsave`.
    features & FEATURES == FEATURES && unsafe { states() } & STATES == STATES
}

/// Requests the permission to use XTILEDATA from Linux (`arch_prctl(ARCH_REQ_XCOMP_PERM)`), which holds for all threads of
/// the process.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the system call touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _, out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

/// Permission on other operating systems: none is known to grant it.
#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// Tile configuration: the 64 bytes that `ldtilecfg` reads.
#[repr(C, align(64))]
pub(crate) struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    n_rows: [u8; 16],
}

/// Configuration of whole tiles: all eight are 16 rows of 64 bytes.
pub(crate) static WHOLE_TILES: TileConfig = TileConfig::new(TILE);

impl TileConfig {
    /// Configuration for steps of `k_groups <= 16` K groups: accumulators (tmm0 to tmm3) are 16 x 16 32-bit elements, A
    /// tiles (tmm4, tmm5) 16 rows of `k_groups`, B tiles (tmm6, tmm7) `k_groups` rows of 16 outputs.
    pub(crate) const fn new(k_groups: usize) -> Self {
        let mut config = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            n_rows: [0; 16],
        };
        let mut i = 0;
        while i < 8 {
            let (is_a, is_b) = (i == 4 || i == 5, i >= 6);
            config.row_bytes[i] = if is_a { 4 * k_groups as u16 } else { 64 };
            config.n_rows[i] = if is_b { k_groups as u8 } else { TILE as u8 };
            i += 1;
        }
        config
    }

    /// Loads the configuration into this thread's tiles, which become zero.
    ///
    /// # Safety
    /// The machine must have tiles: an [`Amx`] exists.
    #[inline(always)]
    pub(crate) unsafe fn load(&self) {
        // SAFETY: the caller's; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly)) };
    }
}

/// Returns this thread's tiles to their initial state, so that the operating system need not save them.
///
/// # Safety
/// The machine must have tiles: an [`Amx`] exists.
#[inline(always)]
pub(crate) unsafe fn release_tiles() {
    // SAFETY: the caller's.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}
