//! AVX2 microkernels: K groups unpacked in registers, or AVX-VNNI (`vpdpbusd` on 256 bits).

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx2_block::{Avx2Kernel, multiply};
use super::registers::{self, MR};
use crate::arch::{Avx2, Avx2Vnni};
use crate::gemm::microkernel::{Blocking, Epilogue, GemmTask, MicroKernel, Operands};
use crate::gemm::vector_ops::VectorOps;
use crate::simd::Simd;

/// bf16 by f32 multiply-adds. A product of two bf16 is exact in f32, so adding it is one rounding, as in `vdpbf16ps`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Bf16(pub(crate) Avx2);

/// int8 by 16-bit multiply-adds (`vpmaddwd`).
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
fn vectorize<K: MicroKernel, T: GemmTask>(kernel: K, task: T) {
    task.run(kernel)
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
#[inline(never)]
fn vectorize_vnni<T: GemmTask>(kernel: Avx2Vnni, task: T) {
    task.run(kernel)
}

/// Common part of the [`MicroKernel`] implementations in this file.
macro_rules! avx2_kernel {
    ($vectorize:ident) => {
        const MR: usize = MR;
        const BLOCKING: Blocking = registers::BLOCKING;

        #[inline]
        fn vectorize<T: GemmTask>(self, task: T) {
            // SAFETY: `self` proves the features.
            unsafe { $vectorize(self, task) }
        }

        #[inline(always)]
        unsafe fn multiply<F: Epilogue<Self>>(
            self,
            n: usize,
            n_panels: usize,
            prefetch: bool,
            operands: &Operands,
            to: *mut f32,
            epilogue: &F,
        ) {
            // SAFETY: the caller's.
            unsafe {
                multiply(self, n, n_panels, prefetch, operands, to);
                registers::run_epilogue(self, n, n_panels, to, epilogue);
            }
        }
    };
}

/// Implements [`VectorOps`] for a microkernel in this file.
macro_rules! avx2_ops {
    ($kernel:ty) => {
        impl VectorOps for $kernel {
            type Simd = Avx2;

            #[inline(always)]
            fn simd(self) -> Avx2 {
                self.avx2()
            }

            #[inline(always)]
            unsafe fn store_bf16(self, to: *mut u16, v: __m256) {
                // SAFETY: `self` proves avx2; the caller vouches for the elements.
                unsafe { _mm_storeu_si128(to.cast(), round_bf16(v)) }
            }
        }
    };
}

avx2_ops!(Avx2Bf16);
avx2_ops!(Avx2Int8);
avx2_ops!(Avx2Vnni);

// In what follows the proof is `self`: it exists only where `Avx2::new` found every feature that is named there.
//
// SAFETY: an `Avx2` is a proof.
unsafe impl MicroKernel for Avx2Bf16 {
    const IS_INT8: bool = false;

    avx2_kernel!(vectorize);
}

// SAFETY: as above.
unsafe impl MicroKernel for Avx2Int8 {
    const IS_INT8: bool = true;

    avx2_kernel!(vectorize);
}

// SAFETY: `Avx2Vnni(_)` is built by `new` alone.
unsafe impl MicroKernel for Avx2Vnni {
    const IS_INT8: bool = true;

    avx2_kernel!(vectorize_vnni);
}

/// Rounds to the nearest bf16, with the bits of [`crate::math::round_bf16`].
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

impl Avx2Kernel for Avx2Bf16 {
    type Acc = __m256;

    const PARTS: usize = 2;

    #[inline(always)]
    unsafe fn init_acc(self, _: *const i32) -> __m256 {
        self.0.splat(0.0)
    }

    #[inline(always)]
    unsafe fn load_acc(self, from: *const f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { self.0.load(from) }
    }

    #[inline(always)]
    fn unpack_a(self, part: usize, groups: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe {
            match part {
                0 => _mm256_and_si256(groups, _mm256_set1_epi32(0xffff_0000u32 as i32)),
                _ => _mm256_slli_epi32::<16>(groups),
            }
        }
    }

    #[inline(always)]
    fn unpack_b(self, part: usize, groups: __m256i) -> __m256i {
        self.unpack_a(part, groups)
    }

    #[inline(always)]
    fn multiply_add(self, acc: __m256, x: __m256i, w: __m256i) -> __m256 {
        // SAFETY: `self` proves fma.
        unsafe { _mm256_fmadd_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(w), acc) }
    }

    #[inline(always)]
    unsafe fn store_acc(self, to: *mut f32, acc: __m256) {
        // SAFETY: the caller's.
        unsafe { self.0.store(to, acc) }
    }

    #[inline(always)]
    unsafe fn store_f32(self, to: *mut f32, acc: __m256) {
        // SAFETY: the caller's.
        unsafe { self.0.store(to, acc) }
    }
}

/// Common part of both int8 [`Avx2Kernel`]s: 32-bit integer accumulators.
macro_rules! int8_acc {
    () => {
        type Acc = __m256i;

        #[inline(always)]
        unsafe fn init_acc(self, from: *const i32) -> __m256i {
            // SAFETY: `self` proves avx2; the caller vouches for the numbers.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn load_acc(self, from: *const f32) -> __m256i {
            // SAFETY: `self` proves avx2; the caller vouches for the numbers.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }

        #[inline(always)]
        unsafe fn store_acc(self, to: *mut f32, acc: __m256i) {
            // SAFETY: `self` proves avx2; the caller vouches for the elements.
            unsafe { _mm256_storeu_si256(to.cast(), acc) }
        }

        #[inline(always)]
        unsafe fn store_f32(self, to: *mut f32, acc: __m256i) {
            // SAFETY: `self` proves avx2; the caller vouches for the elements.
            unsafe { _mm256_storeu_ps(to, _mm256_cvtepi32_ps(acc)) }
        }
    };
}

impl Avx2Kernel for Avx2Int8 {
    const PARTS: usize = 2;

    int8_acc!();

    #[inline(always)]
    fn unpack_a(self, part: usize, groups: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe {
            match part {
                0 => _mm256_and_si256(groups, _mm256_set1_epi16(0xff)),
                _ => _mm256_srli_epi16::<8>(groups),
            }
        }
    }

    #[inline(always)]
    fn unpack_b(self, part: usize, groups: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe {
            match part {
                0 => _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(groups)),
                _ => _mm256_srai_epi16::<8>(groups),
            }
        }
    }

    #[inline(always)]
    fn multiply_add(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves avx2.
        unsafe { add_in_order(acc, _mm256_madd_epi16(x, w)) }
    }
}

impl Avx2Kernel for Avx2Vnni {
    const PARTS: usize = 1;

    int8_acc!();

    #[inline(always)]
    fn unpack_a(self, _: usize, groups: __m256i) -> __m256i {
        groups
    }

    #[inline(always)]
    fn unpack_b(self, _: usize, groups: __m256i) -> __m256i {
        groups
    }

    #[inline(always)]
    fn multiply_add(self, acc: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: `self` proves avxvnni.
        unsafe { _mm256_dpbusd_avx_epi32(acc, x, w) }
    }
}

/// `acc + products`, with an empty `asm!` as a barrier: the compiler would otherwise add a K group's parts in another
/// order, for which there are too few registers.
#[target_feature(enable = "avx2")]
#[inline]
fn add_in_order(acc: __m256i, products: __m256i) -> __m256i {
    let mut acc = _mm256_add_epi32(acc, products);
    // SAFETY: it does nothing.
    unsafe { asm!("/* {} */", inout(ymm_reg) acc, options(pure, nomem, nostack, preserves_flags)) };
    acc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Emulated;
    use crate::gemm::layout::NR;
    use crate::gemm::microkernels::{EmulatedBf16, EmulatedInt8};
    use crate::math::round_bf16 as plain_round;

    /// Task: `n` rows by `n_panels` panels.
    struct Multiply<'a> {
        n: usize,
        n_panels: usize,
        k_groups: usize,
        prefetch: bool,
        x: &'a [u32],
        w: &'a [u32],
        compensation: &'a [i32],
        to: &'a mut [f32],
    }

    impl GemmTask for Multiply<'_> {
        #[inline(always)]
        fn run<K: MicroKernel>(self, kernel: K) {
            for row in (0..self.n).step_by(K::MR) {
                let operands = Operands {
                    x: self.x[row * self.k_groups..].as_ptr(),
                    x_stride: self.k_groups,
                    w: self.w.as_ptr(),
                    w_stride: NR * self.k_groups,
                    k_groups: self.k_groups,
                    compensation: self.compensation.as_ptr(),
                    accumulate: false,
                };
                let n = K::MR.min(self.n - row);
                let to = self.to[row * NR..].as_mut_ptr();
                // SAFETY: rows, panels, compensations and accumulators are as many as are multiplied.
                unsafe { kernel.multiply(n, self.n_panels, self.prefetch, &operands, to, &()) };
            }
        }
    }

    /// Compares all block sizes, over K groups made by `group`.
    fn check<K: MicroKernel, T: MicroKernel>(kernel: K, twin: T, mut group: impl FnMut() -> u32) {
        for k_groups in [0, 1, 7, 64, 65, 200, 300] {
            for n in 1..=MR {
                for (n_panels, prefetch) in [(1, true), (1, false), (3, true), (4, false)] {
                    let mut groups = |n: usize| (0..n).map(|_| group()).collect::<Vec<u32>>();
                    let (mut x, mut w) = (groups(n * k_groups), groups(n_panels * NR * k_groups));
                    if K::IS_INT8 && k_groups > 0 {
                        // Values on which `vpmaddubsw` would saturate.
                        x[..k_groups].fill(0xffff_ffff);
                        w[..NR].fill(0x7f7f_7f7f);
                    }
                    let compensation: Vec<i32> =
                        (0..n_panels * NR).map(|i| -77 * i as i32).collect();
                    let bits_of = |is_twin: bool| -> Vec<u32> {
                        let mut to = vec![-1.0; n_panels * registers::BLOCKING.ld_acc];
                        let task = Multiply {
                            n,
                            n_panels,
                            k_groups,
                            prefetch,
                            x: &x,
                            w: &w,
                            compensation: &compensation,
                            to: &mut to,
                        };
                        if is_twin {
                            twin.vectorize(task);
                        } else {
                            kernel.vectorize(task);
                        }
                        to.iter().map(|sum| sum.to_bits()).collect()
                    };
                    let what =
                        format!("{n} rows, {n_panels} panels, {k_groups} groups, {prefetch}");
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
        // bf16 from -1 to 1.
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

    /// Task: rounds elements of whole vectors.
    struct Round<'a>(&'a [f32], &'a mut [u16]);

    impl GemmTask for Round<'_> {
        #[inline(always)]
        fn run<K: MicroKernel>(self, kernel: K) {
            let lanes = <K::Simd as Simd>::LANES;
            for (x, to) in self.0.chunks(lanes).zip(self.1.chunks_mut(lanes)) {
                // SAFETY: a vector of each.
                unsafe { kernel.store_bf16(to.as_mut_ptr(), kernel.simd().load(x.as_ptr())) };
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
