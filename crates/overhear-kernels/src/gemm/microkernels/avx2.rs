//! AVX2: words widened in registers, or AVX-VNNI (`vpdpbusd` on 256 bits).

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx2_block::{Parts, multiply};
use super::registers::{self, MAX_ROWS};
use crate::arch::{Avx2, Avx2Vnni};
use crate::gemm::microkernel::{Blocking, DotTask, Finish, Operands, Unit};
use crate::simd::Simd;

/// bfloat16, widened to f32. A product of two is exact there, so adding it is one rounding, as in the instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Bf16(pub(crate) Avx2);

/// Bytes, widened to 16 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Int8(pub(crate) Avx2);

impl Avx2Bf16 {
    #[inline(always)]
    fn avx2(self) -> Avx2 {
        self.0
    }
}

impl Avx2Int8 {
    #[inline(always)]
    fn avx2(self) -> Avx2 {
        self.0
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
fn vectorize<U: Unit, T: DotTask>(unit: U, task: T) {
    task.run(unit)
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline(never)]
fn vectorize_vnni<T: DotTask>(unit: Avx2Vnni, task: T) {
    task.run(unit)
}

/// What is the same in every [`Unit`] here.
macro_rules! unit_of_parts {
    ($vectorize:ident) => {
        type Simd = Avx2;

        const ROWS: usize = MAX_ROWS;
        const BLOCKING: Blocking = registers::BLOCKING;

        #[inline(always)]
        fn simd(self) -> Avx2 {
            self.avx2()
        }

        #[inline]
        fn vectorize<T: DotTask>(self, task: T) {
            // SAFETY: `self` proves the features.
            unsafe { $vectorize(self, task) }
        }

        #[inline(always)]
        unsafe fn multiply<F: Finish<Self>>(
            self,
            n: usize,
            n_panels: usize,
            fetch: bool,
            operands: &Operands,
            to: *mut f32,
            finish: &F,
        ) {
            // SAFETY: the caller's.
            unsafe {
                multiply(self, n, n_panels, fetch, operands, to);
                registers::show(self, n, n_panels, to, finish);
            }
        }

        #[inline(always)]
        unsafe fn store_bf16(self, to: *mut u16, v: __m256) {
            // SAFETY: `self` proves avx2; the caller vouches for the elements.
            unsafe { _mm_storeu_si128(to.cast(), round_bf16(v)) }
        }
    };
}

// In what follows the proof is `self`: it exists only where `Avx2::new` found every feature that is named there.
//
// SAFETY: an `Avx2` is a proof.
unsafe impl Unit for Avx2Bf16 {
    const SCALED: bool = false;

    unit_of_parts!(vectorize);
}

// SAFETY: as above.
unsafe impl Unit for Avx2Int8 {
    const SCALED: bool = true;

    unit_of_parts!(vectorize);
}

// SAFETY: `Avx2Vnni(_)` is built by `new` alone.
unsafe impl Unit for Avx2Vnni {
    const SCALED: bool = true;

    unit_of_parts!(vectorize_vnni);
}

/// The nearest bfloat16, to the bits of [`crate::math::round_bf16`].
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn round_bf16(v: __m256) -> __m128i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), is_nan);
        let upper = _mm256_extracti128_si256::<1>(rounded);
        _mm_packus_epi32(_mm256_castsi256_si128(rounded), upper)
    }
}

impl Parts for Avx2Bf16 {
    type Sums = __m256;

    const N: usize = 2;

    #[inline(always)]
    unsafe fn start(self, _: *const i32) -> __m256 {
        self.0.splat(0.0)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { self.0.load(from) }
    }

    #[inline(always)]
    fn part_of_row(self, part: usize, words: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe {
            match part {
                0 => _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000u32 as i32)),
                _ => _mm256_slli_epi32::<16>(words),
            }
        }
    }

    #[inline(always)]
    fn part_of_panel(self, part: usize, words: __m256i) -> __m256i {
        self.part_of_row(part, words)
    }

    #[inline(always)]
    fn add(self, sums: __m256, x: __m256i, w: __m256i) -> __m256 {
        // SAFETY: `self` proves fma.
        unsafe { _mm256_fmadd_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(w), sums) }
    }

    #[inline(always)]
    unsafe fn keep(self, to: *mut f32, sums: __m256) {
        // SAFETY: the caller's.
        unsafe { self.0.store(to, sums) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sums: __m256) {
        // SAFETY: the caller's.
        unsafe { self.0.store(to, sums) }
    }
}

/// What is the same in both [`Parts`] of bytes: sums of 32 bits.
macro_rules! sums_of_bytes {
    () => {
        type Sums = __m256i;

        #[inline(always)]
        unsafe fn start(self, from: *const i32) -> __m256i {
            // SAFETY: `self` proves avx2; the caller vouches for the numbers.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> __m256i {
            // SAFETY: `self` proves avx2; the caller vouches for the numbers.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn keep(self, to: *mut f32, sums: __m256i) {
            // SAFETY: `self` proves avx2; the caller vouches for the elements.
            unsafe { _mm256_storeu_si256(to.cast(), sums) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32, sums: __m256i) {
            // SAFETY: `self` proves avx2; the caller vouches for the elements.
            unsafe { _mm256_storeu_ps(to, _mm256_cvtepi32_ps(sums)) }
        }
    };
}

impl Parts for Avx2Int8 {
    const N: usize = 2;

    sums_of_bytes!();

    #[inline(always)]
    fn part_of_row(self, part: usize, words: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe {
            match part {
                0 => _mm256_and_si256(words, _mm256_set1_epi16(0xff)),
                _ => _mm256_srli_epi16::<8>(words),
            }
        }
    }

    #[inline(always)]
    fn part_of_panel(self, part: usize, words: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe {
            match part {
                0 => _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words)),
                _ => _mm256_srai_epi16::<8>(words),
            }
        }
    }

    #[inline(always)]
    fn add(self, sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe { add_in_order(sums, _mm256_madd_epi16(x, w)) }
    }
}

impl Parts for Avx2Vnni {
    const N: usize = 1;

    sums_of_bytes!();

    #[inline(always)]
    fn part_of_row(self, _: usize, words: __m256i) -> __m256i {
        words
    }

    #[inline(always)]
    fn part_of_panel(self, _: usize, words: __m256i) -> __m256i {
        words
    }

    #[inline(always)]
    fn add(self, sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves avxvnni.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }
}

/// `sums + products`. The assembly is empty, but the compiler does not know it: it would add a word's parts in another
/// order, for which there are too few registers.
#[target_feature(enable = "avx2")]
#[inline]
fn add_in_order(sums: __m256i, products: __m256i) -> __m256i {
    let mut sums = _mm256_add_epi32(sums, products);
    // SAFETY: it does nothing.
    unsafe {
        asm!("/* {} */", inout(ymm_reg) sums, options(pure, nomem, nostack, preserves_flags))
    };
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Emulated;
    use crate::gemm::layout::PANEL;
    use crate::gemm::microkernels::{EmulatedBf16, EmulatedInt8};
    use crate::math::round_bf16 as plain_round;

    /// `n` rows by `n_panels` panels.
    struct Multiply<'a> {
        n: usize,
        n_panels: usize,
        n_words: usize,
        fetch: bool,
        x: &'a [u32],
        w: &'a [u32],
        starts: &'a [i32],
        to: &'a mut [f32],
    }

    impl DotTask for Multiply<'_> {
        #[inline(always)]
        fn run<U: Unit>(self, unit: U) {
            for row in (0..self.n).step_by(U::ROWS) {
                let operands = Operands {
                    x: self.x[row * self.n_words..].as_ptr(),
                    x_stride: self.n_words,
                    w: self.w.as_ptr(),
                    w_stride: PANEL * self.n_words,
                    n_words: self.n_words,
                    starts: self.starts.as_ptr(),
                    carry: false,
                };
                let n = U::ROWS.min(self.n - row);
                let to = self.to[row * PANEL..].as_mut_ptr();
                // SAFETY: rows, panels, starts and sums are as many as are multiplied.
                unsafe { unit.multiply(n, self.n_panels, self.fetch, &operands, to, &()) };
            }
        }
    }

    /// Compares all sizes of blocks, the words made by `word`.
    fn check<U: Unit, T: Unit>(unit: U, twin: T, mut word: impl FnMut() -> u32) {
        for n_words in [0, 1, 7, 64, 65, 200, 300] {
            for n in 1..=MAX_ROWS {
                for (n_panels, fetch) in [(1, true), (1, false), (3, true), (4, false)] {
                    let mut words = |n: usize| (0..n).map(|_| word()).collect::<Vec<u32>>();
                    let (mut x, mut w) = (words(n * n_words), words(n_panels * PANEL * n_words));
                    if U::SCALED && n_words > 0 {
                        // Where two products at once would saturate.
                        x[..n_words].fill(0xffff_ffff);
                        w[..PANEL].fill(0x7f7f_7f7f);
                    }
                    let starts: Vec<i32> = (0..n_panels * PANEL).map(|i| -77 * i as i32).collect();
                    let bits_of = |is_twin: bool| -> Vec<u32> {
                        let mut to = vec![-1.0; n_panels * registers::BLOCKING.place];
                        let task = Multiply {
                            n,
                            n_panels,
                            n_words,
                            fetch,
                            x: &x,
                            w: &w,
                            starts: &starts,
                            to: &mut to,
                        };
                        if is_twin {
                            twin.vectorize(task);
                        } else {
                            unit.vectorize(task);
                        }
                        to.iter().map(|sum| sum.to_bits()).collect()
                    };
                    let what = format!("{n} rows, {n_panels} panels, {n_words} words, {fetch}");
                    assert_eq!(bits_of(false), bits_of(true), "{what}");
                }
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_twin_to_the_bit() {
        let Some(simd) = Avx2::new() else {
            eprintln!("left out: this machine lacks AVX2");
            return;
        };
        let mut seed = 1u32;
        let mut bits = || {
            seed = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            seed ^ seed >> 15
        };
        // From -1 to 1.
        let half = |bits: u32| u32::from(plain_round(bits as i32 as f32 / i32::MAX as f32));
        check(Avx2Bf16(simd), EmulatedBf16(Emulated), || {
            half(bits()) | half(bits()) << 16
        });
        check(Avx2Int8(simd), EmulatedInt8(Emulated), &mut bits);
        match Avx2Vnni::new(simd) {
            Some(vnni) => check(vnni, EmulatedInt8(Emulated), &mut bits),
            None => eprintln!("left out: this machine lacks AVX-VNNI"),
        }
    }

    /// Rounds elements of whole vectors.
    struct Round<'a>(&'a [f32], &'a mut [u16]);

    impl DotTask for Round<'_> {
        #[inline(always)]
        fn run<U: Unit>(self, unit: U) {
            let lanes = <U::Simd as Simd>::LANES;
            for (x, to) in self.0.chunks(lanes).zip(self.1.chunks_mut(lanes)) {
                // SAFETY: a vector of each.
                unsafe { unit.store_bf16(to.as_mut_ptr(), unit.simd().load(x.as_ptr())) };
            }
        }
    }

    #[test]
    fn every_upper_half_rounds_as_in_plain_rust() {
        let Some(simd) = Avx2::new() else {
            eprintln!("left out: this machine lacks AVX2");
            return;
        };
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let x: Vec<f32> = (0..=0xffff)
                .map(|high: u32| f32::from_bits(high << 16 | low))
                .collect();
            let mut found = vec![0; x.len()];
            Avx2Bf16(simd).vectorize(Round(&x, &mut found));
            let expected: Vec<u16> = x.iter().map(|&x| plain_round(x)).collect();
            assert_eq!(found, expected, "{low:#x}");
        }
    }
}
