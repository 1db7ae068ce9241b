//! AMX: `tdpbf16ps` and `tdpbusd`.
//!
//! Its intrinsics are not stable, and tile registers cannot go from one `asm!` to the next, so a block is one `asm!`:
//! sums loaded, K walked, sums stored. What shape the tiles have is set at the start of a task and released at its
//! end; within it, all are 16 rows of 64 bytes but at the end of a K that is no multiple of 16 words.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::avx512::Avx512Bf16;
use super::tiles::{self, TILE, TileUnit, Tiles};
use super::{DotTask, Operands, Unit};
use crate::packed::PANEL;
use crate::simd::Avx512;

/// Proof that the machine has AVX-512 with BF16 and VNNI, and AMX with BF16 and INT8, and that its system lets us use
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amx(Avx512Bf16);

impl Amx {
    pub(crate) fn new() -> Option<Self> {
        static HAS: OnceLock<bool> = OnceLock::new();
        let bf16 = Avx512Bf16::new(Avx512::new()?)?;
        let has = HAS.get_or_init(|| {
            is_x86_feature_detected!("avx512vnni") && has_tiles() && may_use_tiles()
        });
        has.then_some(Self(bf16))
    }

    pub(crate) fn simd(self) -> Avx512 {
        self.0.simd()
    }
}

/// Whether the processor has the instructions and the system keeps their registers.
fn has_tiles() -> bool {
    /// AMX-BF16, AMX-TILE and AMX-INT8.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// XTILECFG and XTILEDATA.
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

/// Asks Linux for the use of tiles, which it grants a process once and for all its threads.
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

/// Other systems are not known to.
#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// The shape of the tiles, as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    n_rows: [u8; 16],
}

impl Shapes {
    /// Sums (tiles 0 to 3) of 16 x 16; rows (4, 5) of `words`, panels (6, 7) of `words` rows.
    const fn new(words: usize) -> Self {
        let mut shapes = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            n_rows: [0; 16],
        };
        let mut i = 0;
        while i < 8 {
            let (is_rows, is_panel) = (i == 4 || i == 5, i >= 6);
            shapes.row_bytes[i] = if is_rows { 4 * words as u16 } else { 64 };
            shapes.n_rows[i] = if is_panel { words as u8 } else { TILE as u8 };
            i += 1;
        }
        shapes
    }
}

static WHOLE: Shapes = Shapes::new(TILE);

/// Sets the shape of this thread's tiles.
///
/// # Safety
/// The machine must have tiles.
#[inline(always)]
unsafe fn configure(shapes: &Shapes) {
    // SAFETY: the caller's; 64 bytes are read.
    unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(nostack, readonly)) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,avx2,fma,f16c")]
#[inline(never)]
fn vectorize<U: Unit, T: DotTask>(unit: U, task: T) {
    // SAFETY: `unit` proves tiles.
    unsafe { configure(&WHOLE) };
    task.run(unit);
    // SAFETY: as above.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Four tiles of sums, 2 x 2 of rows or of panels: `$step` is a step of K, which adds to each and takes `{second}`, the
/// second tile of rows or the second panel, further by `$second_bytes`.
macro_rules! four_tiles {
    ($t:ident, $second:expr, $second_bytes:literal, $from_2:expr, $to_2:expr, $($step:expr),+) => {
        asm!(
            "test {from}, {from}",
            "jz 3f",
            "tileloadd tmm0, [{from} + {from_stride}]",
            "tileloadd tmm1, [{from} + {from_stride} + 64]",
            "tileloadd tmm2, [{from_2} + {from_stride}]",
            "tileloadd tmm3, [{from_2} + {from_stride} + 64]",
            "jmp 2f",
            "3:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            $($step,)+
            "add {x}, 64",
            "add {w}, 2048",
            concat!("add {second}, ", $second_bytes),
            "dec {n}",
            "jnz 2b",
            "tilestored [{to} + {to_stride}], tmm0",
            "tilestored [{to} + {to_stride} + 64], tmm1",
            "tilestored [{to_2} + {to_stride}], tmm2",
            "tilestored [{to_2} + {to_stride} + 64], tmm3",
            x = inout(reg) $t.x => _,
            x_stride = in(reg) 4 * $t.x_stride,
            w = inout(reg) $t.w => _,
            w_stride = in(reg) 4 * PANEL,
            second = inout(reg) $second => _,
            n = inout(reg) $t.n_steps => _,
            from = in(reg) $t.from,
            from_2 = in(reg) $from_2,
            from_stride = in(reg) 4 * $t.from_stride,
            to = in(reg) $t.to,
            to_2 = in(reg) $to_2,
            to_stride = in(reg) 4 * $t.to_stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// The block of `$t`, by the dot product of tiles `$dot`.
macro_rules! multiply {
    ($t:ident, $dot:literal) => {
        if $t.n_row_tiles == 2 {
            four_tiles!(
                $t,
                $t.x.wrapping_add(TILE * $t.x_stride),
                "64",
                $t.from.wrapping_add(TILE * $t.from_stride),
                $t.to.wrapping_add(TILE * $t.to_stride),
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {w_stride}]",
                concat!($dot, " tmm0, tmm4, tmm6"),
                "tileloadd tmm7, [{w} + {w_stride} + 64]",
                concat!($dot, " tmm1, tmm4, tmm7"),
                "tileloadd tmm5, [{second} + {x_stride}]",
                concat!($dot, " tmm2, tmm5, tmm6"),
                concat!($dot, " tmm3, tmm5, tmm7")
            )
        } else if $t.n_panels == 2 {
            four_tiles!(
                $t,
                $t.w.wrapping_add($t.w_stride),
                "2048",
                $t.from.wrapping_add(PANEL),
                $t.to.wrapping_add(PANEL),
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {w_stride}]",
                concat!($dot, " tmm0, tmm4, tmm6"),
                "tileloadd tmm7, [{w} + {w_stride} + 64]",
                concat!($dot, " tmm1, tmm4, tmm7"),
                "tileloadd tmm6, [{second} + {w_stride}]",
                concat!($dot, " tmm2, tmm4, tmm6"),
                "tileloadd tmm7, [{second} + {w_stride} + 64]",
                concat!($dot, " tmm3, tmm4, tmm7")
            )
        } else {
            asm!(
                "test {from}, {from}",
                "jz 3f",
                "tileloadd tmm0, [{from} + {from_stride}]",
                "tileloadd tmm1, [{from} + {from_stride} + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{x} + {x_stride}]",
                "tileloadd tmm6, [{w} + {w_stride}]",
                concat!($dot, " tmm0, tmm4, tmm6"),
                "tileloadd tmm7, [{w} + {w_stride} + 64]",
                concat!($dot, " tmm1, tmm4, tmm7"),
                "add {x}, 64",
                "add {w}, 2048",
                "dec {n}",
                "jnz 2b",
                "tilestored [{to} + {to_stride}], tmm0",
                "tilestored [{to} + {to_stride} + 64], tmm1",
                x = inout(reg) $t.x => _,
                x_stride = in(reg) 4 * $t.x_stride,
                w = inout(reg) $t.w => _,
                w_stride = in(reg) 4 * PANEL,
                n = inout(reg) $t.n_steps => _,
                from = in(reg) $t.from,
                from_stride = in(reg) 4 * $t.from_stride,
                to = in(reg) $t.to,
                to_stride = in(reg) 4 * $t.to_stride,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            )
        }
    };
}

/// Runs `steps` steps of four independent chains of tile products; the operations done.
pub(crate) fn chains(_: Amx, int8: bool, steps: usize) -> u64 {
    macro_rules! chains {
        ($dot:literal) => {
            asm!(
                "2:",
                concat!($dot, " tmm0, tmm4, tmm6"),
                concat!($dot, " tmm1, tmm4, tmm7"),
                concat!($dot, " tmm2, tmm5, tmm6"),
                concat!($dot, " tmm3, tmm5, tmm7"),
                "dec {n}",
                "jnz 2b",
                n = inout(reg) steps.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem)
            )
        };
    }
    // SAFETY: the proof; the tiles are zeros after their shape is set, and no one else's.
    unsafe {
        configure(&WHOLE);
        if int8 {
            chains!("tdpbusd");
        } else {
            chains!("tdpbf16ps");
        }
        asm!("tilerelease", options(nostack, nomem));
    }
    let words = steps.max(1) * 4 * TILE * TILE * TILE;
    (2 * words * if int8 { 4 } else { 2 }) as u64
}

/// bfloat16 by tiles, or bytes (`INT8`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmxTiles<const INT8: bool>(pub(crate) Amx);

// SAFETY: `Amx(_)` is built by `new` alone.
unsafe impl<const INT8: bool> Unit for AmxTiles<INT8> {
    type Simd = Avx512;

    const ROWS: usize = tiles::ROWS;
    const SCALED: bool = INT8;

    #[inline(always)]
    fn panels_of(n: usize) -> usize {
        tiles::panels_of(n)
    }

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0.simd()
    }

    #[inline]
    fn vectorize<T: DotTask>(self, task: T) {
        // SAFETY: `self` proves the features.
        unsafe { vectorize(self, task) }
    }

    #[inline(always)]
    unsafe fn block(self, n: usize, n_panels: usize, _: bool, operands: &Operands, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { tiles::block(self, n, n_panels, operands, to) }
    }

    #[inline(always)]
    unsafe fn float(self, sums: __m512, starts: *const i32) -> __m512 {
        if !INT8 {
            return sums;
        }
        // SAFETY: `self` proves avx512f; the caller vouches for the numbers.
        unsafe {
            let starts = _mm512_loadu_si512(starts.cast());
            _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_castps_si512(sums), starts))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, v: __m512) {
        // SAFETY: the caller's.
        unsafe { self.0.0.store_bf16(to, v) }
    }
}

impl<const INT8: bool> TileUnit for AmxTiles<INT8> {
    #[inline(always)]
    unsafe fn multiply(self, tiles: &Tiles) {
        // SAFETY: `self` proves tiles, `vectorize` has set their shape; the caller vouches for the memory.
        unsafe {
            if tiles.step_words < TILE {
                configure(&Shapes::new(tiles.step_words));
            }
            if INT8 {
                multiply!(tiles, "tdpbusd");
            } else {
                multiply!(tiles, "tdpbf16ps");
            }
            if tiles.step_words < TILE {
                configure(&WHOLE);
            }
        }
    }
}
