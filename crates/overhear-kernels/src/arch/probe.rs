//! Limits of this machine: peak arithmetic on registers and tiles, bandwidth of memory and caches.
//!
//! Kernels are measured against these. Each figure is the median of 7 runs of at least 20 ms on all threads of the
//! pool, to be reported beside a kernel that was measured in the same run.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::{Amx, TILE, WHOLE_TILES, release_tiles};
use crate::parallel::Pool;

const RUNS: usize = 7;
const RUN_SECONDS: f64 = 0.02;

/// f32 operations per second of fused multiply-adds (two each) on the registers of `isa`; `None` for the scalar set,
/// or if the machine lacks the set.
#[must_use]
pub fn f32_fma(isa: Isa, pool: &Pool) -> Option<f64> {
    if !isa.is_available() {
        return None;
    }
    match isa {
        Isa::Scalar => None,
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the set, checked above.
        Isa::Avx512 | Isa::Amx => Some(rate(pool, &|steps| unsafe { x86::fma_512(steps) })),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the set, checked above.
        Isa::Avx2 => Some(rate(pool, &|steps| unsafe { x86::fma_256(steps) })),
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the machine has the set, checked above.
        Isa::Neon => Some(rate(pool, &|steps| unsafe { arm::fma_128(steps) })),
        _ => None,
    }
}

/// bf16 operations per second of dot products on the registers of `isa`, a multiply-add being two: AMX tiles
/// (`tdpbf16ps`) or AVX-512 (`vdpbf16ps`); `None` if there are none.
#[must_use]
pub fn bf16_dot(isa: Isa, pool: &Pool) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Amx => return tiles(false, pool),
        Isa::Avx512 if isa.is_available() && is_x86_feature_detected!("avx512bf16") => {
            // SAFETY: detected above.
            return Some(rate(pool, &|steps| unsafe { x86::bf16_dots(steps) }));
        }
        _ => {}
    }
    let _ = (isa, pool);
    None
}

/// int8 operations per second of dot products, a multiply-add being two: `tdpbusd`, `vpdpbusd`, `sdot`; for AVX2
/// without AVX-VNNI, `vpmaddwd`. `None` if there are none.
#[must_use]
pub fn int8_dot(isa: Isa, pool: &Pool) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Amx => return tiles(true, pool),
        Isa::Avx512 if isa.is_available() && is_x86_feature_detected!("avx512vnni") => {
            // SAFETY: detected above.
            return Some(rate(pool, &|steps| unsafe { x86::int8_dots(steps) }));
        }
        Isa::Avx2 if isa.is_available() && is_x86_feature_detected!("avxvnni") => {
            // SAFETY: detected above.
            return Some(rate(pool, &|steps| unsafe { x86::int8_dots_256(steps) }));
        }
        Isa::Avx2 if isa.is_available() => {
            // SAFETY: the machine has the set, checked above.
            return Some(rate(pool, &|steps| unsafe { x86::int8_widened(steps) }));
        }
        _ => {}
    }
    #[cfg(target_arch = "aarch64")]
    if isa == Isa::Neon && std::arch::is_aarch64_feature_detected!("dotprod") {
        // SAFETY: detected above.
        return Some(rate(pool, &|steps| unsafe { arm::int8_dots(steps) }));
    }
    let _ = (isa, pool);
    None
}

/// Operations per second of tile products.
#[cfg(target_arch = "x86_64")]
fn tiles(int8: bool, pool: &Pool) -> Option<f64> {
    let amx = Amx::new()?;
    // A step of tile products takes several times as long as a step of vectors.
    let chains = |steps: usize| amx_chains(amx, int8, steps / 10);
    Some(rate(pool, &chains))
}

/// Runs `steps` steps of four independent chains of tile products. Returns the number of operations.
#[cfg(target_arch = "x86_64")]
fn amx_chains(_: Amx, int8: bool, steps: usize) -> u64 {
    use std::arch::asm;
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
        WHOLE_TILES.load();
        if int8 {
            chains!("tdpbusd");
        } else {
            chains!("tdpbf16ps");
        }
        release_tiles();
    }
    let k_groups = steps.max(1) * 4 * TILE * TILE * TILE;
    (2 * k_groups * if int8 { 4 } else { 2 }) as u64
}

/// Bytes per second of reading a buffer of `n_bytes` repeatedly, shared evenly by all threads: the bandwidth of
/// memory, or of the cache that holds the buffer.
#[must_use]
pub fn read_bandwidth(pool: &Pool, n_bytes: usize) -> f64 {
    /// Bytes of a task: small enough that threads of unequal speed end together.
    const TASK_BYTES: usize = 256 << 10;
    let buffer = vec![1u32; n_bytes.div_ceil(4).max(1)];
    let n = n_bytes.div_ceil(TASK_BYTES).max(pool.n_threads());
    let total = AtomicU64::new(0);
    let seconds = median(|| {
        pool.run(n, &|task| {
            let part = &buffer[task * buffer.len() / n..(task + 1) * buffer.len() / n];
            total.fetch_add(plain_read(part), Ordering::Relaxed);
        });
    });
    black_box(total);
    (4 * buffer.len()) as f64 / seconds
}

/// Seconds that a job costs beyond its tasks: opening it to all threads immediately after the last job, and waiting
/// for the last thread. Every thread has one task of fixed duration; a thread that joins late prolongs the job.
#[must_use]
pub fn fork_join(pool: &Pool) -> f64 {
    const TASK: Duration = Duration::from_micros(10);
    let seconds = median(|| {
        pool.run(pool.n_threads(), &|_| {
            let start = Instant::now();
            while start.elapsed() < TASK {
                std::hint::spin_loop();
            }
        });
    });
    (seconds - TASK.as_secs_f64()).max(0.0)
}

/// Operations per second of `chains`, which runs the given number of steps and returns the operations.
fn rate(pool: &Pool, chains: &(dyn Fn(usize) -> u64 + Sync)) -> f64 {
    const STEPS: usize = 100_000;
    let n = pool.n_threads() * 4;
    let operations = AtomicU64::new(0);
    let seconds = median(|| {
        operations.store(0, Ordering::Relaxed);
        pool.run(n, &|_| {
            operations.fetch_add(chains(black_box(STEPS)), Ordering::Relaxed);
        });
    });
    operations.into_inner() as f64 / seconds
}

/// Seconds of one call of `f`, the median of the runs.
fn median(mut f: impl FnMut()) -> f64 {
    let mut run = |n: usize| {
        let start = Instant::now();
        (0..n).for_each(|_| f());
        start.elapsed().as_secs_f64() / n as f64
    };
    let first = run(1).min(run(1)).max(1e-9);
    let n = (RUN_SECONDS / first).ceil().max(1.0) as usize;
    let mut seconds: Vec<f64> = (0..RUNS).map(|_| run(n)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[RUNS / 2]
}

/// Sum of a buffer, by the widest loads of the machine.
fn plain_read(data: &[u32]) -> u64 {
    #[inline(always)]
    fn sum(data: &[u32]) -> u64 {
        u64::from(data.iter().copied().fold(0u32, u32::wrapping_add))
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn wide_512(data: &[u32]) -> u64 {
            sum(data)
        }
        #[target_feature(enable = "avx2")]
        fn wide_256(data: &[u32]) -> u64 {
            sum(data)
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: detected above.
            return unsafe { wide_512(data) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: detected above.
            return unsafe { wide_256(data) };
        }
    }
    sum(data)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Independent chains with 32 registers: more than latency times ports of any core.
    const CHAINS_512: usize = 24;
    /// Independent chains with 16 registers.
    const CHAINS_256: usize = 12;

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "avx512f")]
    pub(super) fn fma_512(steps: usize) -> u64 {
        let (a, b) = (black_box(_mm512_set1_ps(0.999)), _mm512_set1_ps(0.001));
        let mut acc = [b; CHAINS_512];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = _mm512_fmadd_ps(*acc, a, b);
            }
        }
        black_box(acc);
        (steps * CHAINS_512 * 16 * 2) as u64
    }

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fma_256(steps: usize) -> u64 {
        let (a, b) = (black_box(_mm256_set1_ps(0.999)), _mm256_set1_ps(0.001));
        let mut acc = [b; CHAINS_256];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = _mm256_fmadd_ps(*acc, a, b);
            }
        }
        black_box(acc);
        (steps * CHAINS_256 * 8 * 2) as u64
    }

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_dots(steps: usize) -> u64 {
        // SAFETY: both are 64 bytes of plain data.
        let one: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi16(0x3f80)) };
        let one = black_box(one);
        let mut acc = [_mm512_setzero_ps(); CHAINS_512];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = _mm512_dpbf16_ps(*acc, one, one);
            }
        }
        black_box(acc);
        (steps * CHAINS_512 * 32 * 2) as u64
    }

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn int8_dots(steps: usize) -> u64 {
        let one = black_box(_mm512_set1_epi8(1));
        let mut acc = [_mm512_setzero_si512(); CHAINS_512];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = _mm512_dpbusd_epi32(*acc, one, one);
            }
        }
        black_box(acc);
        (steps * CHAINS_512 * 64 * 2) as u64
    }

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn int8_dots_256(steps: usize) -> u64 {
        let one = black_box(_mm256_set1_epi8(1));
        let mut acc = [_mm256_setzero_si256(); CHAINS_256];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = _mm256_dpbusd_avx_epi32(*acc, one, one);
            }
        }
        black_box(acc);
        (steps * CHAINS_256 * 32 * 2) as u64
    }

    /// Runs `steps` steps of every chain, on bytes widened to 16 bits. Returns the number of operations.
    #[target_feature(enable = "avx2")]
    pub(super) fn int8_widened(steps: usize) -> u64 {
        let one = black_box(_mm256_set1_epi16(1));
        let mut acc = [one; CHAINS_256];
        for _ in 0..steps {
            for acc in &mut acc {
                // The operand is the accumulator, so that no product is moved out of the loop.
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(*acc, one));
            }
        }
        black_box(acc);
        (steps * CHAINS_256 * 16 * 2) as u64
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::hint::black_box;

    /// Independent chains: more than latency times ports of any core.
    const CHAINS: usize = 24;

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "neon")]
    pub(super) fn fma_128(steps: usize) -> u64 {
        let (a, b) = (black_box(vdupq_n_f32(0.999)), vdupq_n_f32(0.001));
        let mut acc = [b; CHAINS];
        for _ in 0..steps {
            for acc in &mut acc {
                *acc = vfmaq_f32(b, *acc, a);
            }
        }
        black_box(acc);
        (steps * CHAINS * 4 * 2) as u64
    }

    /// Runs `steps` steps of every chain. Returns the number of operations.
    #[target_feature(enable = "neon,dotprod")]
    pub(super) fn int8_dots(steps: usize) -> u64 {
        let one = black_box(vdupq_n_s8(1));
        let mut acc = [vdupq_n_s32(0); CHAINS];
        for _ in 0..steps {
            for acc in &mut acc {
                // SAFETY: the function has the feature; registers alone.
                unsafe {
                    asm!(
                        "sdot {acc:v}.4s, {one:v}.16b, {one:v}.16b",
                        acc = inout(vreg) *acc,
                        one = in(vreg) one,
                        options(pure, nomem, nostack, preserves_flags)
                    );
                }
            }
        }
        black_box(acc);
        (steps * CHAINS * 16 * 2) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "it would take hours")]
    fn every_probe_of_this_machine_gives_a_rate() {
        let pool = Pool::new(2);
        let rates = [
            f32_fma(Isa::detect(), &pool),
            bf16_dot(Isa::detect(), &pool),
            int8_dot(Isa::detect(), &pool),
            int8_dot(Isa::Avx2, &pool),
            Some(read_bandwidth(&pool, 1 << 20)),
        ];
        for rate in rates.into_iter().flatten() {
            assert!(rate > 1e8 && rate.is_finite(), "{rate} a second");
        }
        assert_eq!(f32_fma(Isa::Scalar, &pool), None);
        let seconds = fork_join(&pool);
        assert!(
            seconds > 0.0 && seconds < 0.1,
            "{seconds} s a fork and join"
        );
    }
}
