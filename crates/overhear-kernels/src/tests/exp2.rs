//! 2^x of the softmax in bf16, on every set.

use crate::Kernels;
use crate::gemm::microkernel::{GemmTask, MicroKernel};
use crate::math::exp2_i16::exp2_bf16;

struct Exp2<'a>(&'a [f32], &'a mut [u16], &'a mut f32);

impl GemmTask for Exp2<'_> {
    #[inline(always)]
    fn run<K: MicroKernel>(self, kernel: K) {
        use crate::simd::Simd;
        let s = kernel.simd();
        let mut sums = s.splat(0.0);
        for (x, to) in self.0.chunks_exact(32).zip(self.1.chunks_exact_mut(32)) {
            // SAFETY: a panel of each.
            sums =
                unsafe { kernel.exp2_panels(x.as_ptr(), 0, 1, (0.5, 2.0), to.as_mut_ptr(), sums) };
        }
        *self.2 = s.sum(sums);
    }
}

fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[test]
fn weights_of_all_sets_are_those_of_the_twin_or_as_near() {
    // Arguments down to 2^-32 and beyond: scores are twice the argument less two.
    let arguments: Vec<f32> = (0..4096).map(|i| 1.0 - i as f32 * 0.0087).collect();
    let scores: Vec<f32> = arguments.iter().map(|x| 2.0 * (x - 2.0)).collect();
    for kernels in Kernels::vectorized() {
        let (mut found, mut sum) = (vec![0; scores.len()], 0.0);
        kernels.arch.run_bf16(Exp2(&scores, &mut found, &mut sum));
        let all: f64 = found.iter().map(|&bits| f64::from(widened(bits))).sum();
        assert!(
            (f64::from(sum) - all).abs() < 0.002 * all,
            "{}",
            kernels.isa()
        );
        for ((found, score), x) in found.iter().zip(&scores).zip(&arguments) {
            let x_again = score.mul_add(0.5, 2.0);
            let near = f64::from(widened(*found)) / f64::from(*x).exp2() - 1.0;
            let is_twins = *found == exp2_bf16(x_again);
            assert!(
                is_twins || !kernels.computes_exp2_in_16_bits() && near.abs() < 0.0042,
                "{}: 2^{x} is {found:#x}, {near}",
                kernels.isa()
            );
        }
    }
}
