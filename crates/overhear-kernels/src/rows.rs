//! Kernels over rows: layer normalisation, what the encoder's input needs, and the reductions that decoding needs.

use crate::math::exp;
use crate::simd::{Set, Simd, Vectorized};
use crate::split::Split;
use crate::{Pool, scalar};

/// Elements of a task: a few microseconds' work.
const TASK_ELEMENTS: usize = 16 << 10;

/// See [`crate::Kernels::layer_norm`]; shapes have been checked.
pub(crate) fn layer_norm(
    set: Set,
    pool: &Pool,
    y: &mut [f32],
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
) {
    let n_state = gamma.len().max(1);
    let len = TASK_ELEMENTS.div_ceil(n_state) * n_state;
    let y = Split::new(y);
    pool.run(x.len().div_ceil(len), &|task| {
        let x = &x[task * len..x.len().min((task + 1) * len)];
        // SAFETY: the tasks' rows are disjoint.
        let y = unsafe { y.take(task * len, x.len()) };
        let mut call = LayerNorm { y, x, gamma, beta };
        set.run(&mut call, || unreachable!("the scalar set has no vectors"));
    });
}

/// See [`crate::Kernels::transpose`]; shapes have been checked. A task writes some rows of `y`, of as many columns of `x`.
pub(crate) fn transpose(pool: &Pool, y: &mut [f32], x: &[f32], n_cols: usize) {
    let n_rows = x.len() / n_cols;
    let columns = TASK_ELEMENTS.div_ceil(n_rows);
    let y = Split::new(y);
    pool.run(n_cols.div_ceil(columns), &|task| {
        let first = task * columns;
        let n = columns.min(n_cols - first);
        // SAFETY: the tasks' rows are disjoint.
        let y = unsafe { y.take(first * n_rows, n * n_rows) };
        for (row, x) in x.chunks_exact(n_cols).enumerate() {
            for (y, x) in y[row..].iter_mut().step_by(n_rows).zip(&x[first..][..n]) {
                *y = *x;
            }
        }
    });
}

/// See [`crate::Kernels::add`]; shapes have been checked.
pub(crate) fn add(pool: &Pool, y: &mut [f32], x: &[f32]) {
    let y = Split::new(y);
    pool.run(x.len().div_ceil(TASK_ELEMENTS), &|task| {
        let first = task * TASK_ELEMENTS;
        let x = &x[first..x.len().min(first + TASK_ELEMENTS)];
        // SAFETY: the tasks' elements are disjoint.
        let y = unsafe { y.take(first, x.len()) };
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
}

struct LayerNorm<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
}

impl Vectorized for &mut LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n_state = self.gamma.len();
        for (y, x) in self
            .y
            .chunks_exact_mut(n_state)
            .zip(self.x.chunks_exact(n_state))
        {
            normalise(s, y, x, self.gamma, self.beta);
        }
    }
}

/// One row of [`crate::Kernels::layer_norm`].
///
/// The variance is taken about the mean in a second pass, as the difference of two sums would cancel.
#[inline(always)]
pub(crate) fn normalise<S: Simd>(s: S, y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32]) {
    let n_state = gamma.len();
    let mean = sum_of_powers::<S, 1>(s, x, 0.0) / n_state as f32;
    let variance = sum_of_powers::<S, 2>(s, x, mean) / n_state as f32;
    let scale = s.splat(1.0 / (variance + scalar::LAYER_NORM_EPSILON).sqrt());
    let mean = s.splat(mean);
    let parameters = gamma.chunks(S::LANES).zip(beta.chunks(S::LANES));
    for ((y, x), (gamma, beta)) in y
        .chunks_mut(S::LANES)
        .zip(x.chunks(S::LANES))
        .zip(parameters)
    {
        let normal = s.mul(s.sub(s.read(x), mean), scale);
        s.write(y, s.fma(normal, s.read(gamma), s.read(beta)));
    }
}

/// The sum of `(x - mean)^P`, `P` 1 or 2, by lanes.
#[inline(always)]
fn sum_of_powers<S: Simd, const P: u32>(s: S, x: &[f32], mean: f32) -> f32 {
    let mut sums = s.splat(0.0);
    let whole = x.chunks_exact(S::LANES);
    let tail: f32 = whole
        .remainder()
        .iter()
        .map(|x| (x - mean).powi(P as i32))
        .sum();
    for x in whole {
        let d = s.sub(s.read(x), s.splat(mean));
        sums = if P == 2 {
            s.fma(d, d, sums)
        } else {
            s.add(sums, d)
        };
    }
    s.sum(sums) + tail
}

/// See [`crate::Kernels::log_sum_exp`].
pub(crate) struct LogSumExp<'a> {
    pub(crate) x: &'a [f32],
    /// The largest element, if it is known.
    pub(crate) max: Option<f32>,
}

impl Vectorized for LogSumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let max = self.max.unwrap_or_else(|| largest(s, self.x));
        if max == f32::NEG_INFINITY {
            return scalar::log_sum_exp(self.x);
        }
        // Lanes add up to 64 terms in f32, the blocks add up in f64: the vocabulary has 50,000.
        let mut sum = 0.0f64;
        for block in self.x.chunks(64 * S::LANES) {
            let mut sums = s.splat(0.0);
            for x in block.chunks(S::LANES) {
                let x = read_padded(s, x);
                sums = s.add(sums, exp(s, s.sub(x, s.splat(max))));
            }
            sum += f64::from(s.sum(sums));
        }
        max + sum.ln() as f32
    }
}

/// The largest element that is not NaN, or negative infinity. In four vectors, as one would wait for itself.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut max = [s.splat(f32::NEG_INFINITY); 4];
    let fours = x.chunks_exact(4 * S::LANES);
    let rest = fours.remainder();
    for x in fours {
        for i in 0..4 {
            max[i] = s.max(s.read(&x[i * S::LANES..]), max[i]);
        }
    }
    for x in rest.chunks(S::LANES) {
        max[0] = s.max(read_padded(s, x), max[0]);
    }
    s.max_lane(s.max(s.max(max[0], max[1]), s.max(max[2], max[3])))
}

/// Up to `LANES` elements; lanes beyond the end of `from` are negative infinity.
#[inline(always)]
fn read_padded<S: Simd>(s: S, from: &[f32]) -> S::V {
    if from.len() >= S::LANES {
        return s.read(from);
    }
    let mut padded = [f32::NEG_INFINITY; 16];
    padded[..from.len()].copy_from_slice(from);
    s.read(&padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math;

    /// Applies a function of vectors to each element.
    struct Map<'a, F>(&'a mut [f32], F);
    trait Function {
        fn of<S: Simd>(&self, s: S, x: S::V) -> S::V;
    }
    #[derive(Clone, Copy)]
    struct Exp;
    #[derive(Clone, Copy)]
    struct Gelu;
    impl Function for Exp {
        #[inline(always)]
        fn of<S: Simd>(&self, s: S, x: S::V) -> S::V {
            math::exp(s, x)
        }
    }
    impl Function for Gelu {
        #[inline(always)]
        fn of<S: Simd>(&self, s: S, x: S::V) -> S::V {
            math::gelu(s, x)
        }
    }
    impl<F: Function> Vectorized for Map<'_, F> {
        type Output = bool;
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> bool {
            for x in self.0.chunks_mut(S::LANES) {
                let y = self.1.of(s, s.read(x));
                s.write(x, y);
            }
            true
        }
    }

    /// `f(x)` for each `x`, on each set of this machine.
    fn map_on_each_set(x: &[f32], f: impl Function + Copy, check: impl Fn(f32, f32)) {
        let sets = crate::Isa::ALL.iter().filter_map(|&isa| Set::new(isa));
        for set in sets.chain([Set::Plain(crate::simd::plain::Plain)]) {
            let mut y = x.to_vec();
            if set.run(Map(&mut y, f), || false) {
                x.iter().zip(&y).for_each(|(&x, &y)| check(x, y));
            }
        }
    }

    #[test]
    fn exp_is_within_2e_7_of_f64_over_its_range() {
        let n = if cfg!(miri) { 500 } else { 400_000 };
        let x: Vec<f32> = (0..=n)
            .map(|i| -87.3 + 175.0 * i as f32 / n as f32)
            .collect();
        map_on_each_set(&x, Exp, |x, y| {
            let want = f64::from(x).exp();
            assert!(
                (f64::from(y) / want - 1.0).abs() < 2e-7,
                "exp({x}) = {y}, not {want}"
            );
        });
    }

    #[derive(Clone, Copy)]
    struct GeluShort;
    #[derive(Clone, Copy)]
    struct Exp2Short;
    impl Function for GeluShort {
        #[inline(always)]
        fn of<S: Simd>(&self, s: S, x: S::V) -> S::V {
            math::gelu_short(s, x)
        }
    }
    impl Function for Exp2Short {
        #[inline(always)]
        fn of<S: Simd>(&self, s: S, x: S::V) -> S::V {
            math::exp2_short(s, x)
        }
    }

    #[test]
    fn short_gelu_and_exp2_are_within_their_bounds() {
        let n = if cfg!(miri) { 500 } else { 400_000 };
        let x: Vec<f32> = (0..=n)
            .map(|i| -14.0 + 28.0 * i as f32 / n as f32)
            .collect();
        map_on_each_set(&x, GeluShort, |x, y| {
            assert!((y - scalar::gelu(x)).abs() < 6e-5, "gelu({x}) = {y}");
        });
        let x: Vec<f32> = (0..=n).map(|i| -126.0 * i as f32 / n as f32).collect();
        map_on_each_set(&x, Exp2Short, |x, y| {
            let want = f64::from(x).exp2();
            assert!((f64::from(y) / want - 1.0).abs() < 1e-4, "2^{x} = {y}");
        });
        map_on_each_set(&[f32::NEG_INFINITY, -1e30], Exp2Short, |_, y| {
            assert!((0.0..1.3e-38).contains(&y));
        });
        map_on_each_set(&[f32::NAN], GeluShort, |_, y| assert!(y.is_nan()));
    }

    #[test]
    fn exp_underflows_to_0_and_keeps_nan() {
        map_on_each_set(&[-87.34, -1e30, f32::NEG_INFINITY], Exp, |_, y| {
            assert_eq!(y, 0.0)
        });
        map_on_each_set(&[f32::NAN], Exp, |_, y| assert!(y.is_nan()));
        map_on_each_set(&[0.0], Exp, |_, y| assert_eq!(y, 1.0));
    }

    #[test]
    fn gelu_is_within_its_bound_of_the_scalar_one() {
        let n = if cfg!(miri) { 500 } else { 400_000 };
        let x: Vec<f32> = (0..=n)
            .map(|i| -14.0 + 28.0 * i as f32 / n as f32)
            .collect();
        map_on_each_set(&x, Gelu, |x, y| {
            let want = scalar::gelu(x);
            assert!(
                (y - want).abs() < 5e-7 * (x.abs() / 4.0).max(1.0),
                "gelu({x}) = {y}, not {want}"
            );
        });
        map_on_each_set(&[f32::INFINITY], Gelu, |x, y| assert_eq!(x, y));
        map_on_each_set(&[f32::NAN], Gelu, |_, y| assert!(y.is_nan()));
    }
}
