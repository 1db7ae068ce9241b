//! Elementary functions on vectors against f64 and the oracle.

use crate::arch::{Arch, Emulated};
use crate::simd::{Simd, Vectorized};
use crate::{math, reference};

/// Task: applies a function of vectors to each element.
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
    let sets = crate::Isa::ALL.iter().filter_map(|&isa| Arch::new(isa));
    for set in sets.chain([Arch::Emulated(Emulated)]) {
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
        math::gelu_bf16(s, x)
    }
}
impl Function for Exp2Short {
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, x: S::V) -> S::V {
        math::exp2(s, x)
    }
}

#[test]
fn short_gelu_and_exp2_are_within_their_bounds() {
    let n = if cfg!(miri) { 500 } else { 400_000 };
    let x: Vec<f32> = (0..=n)
        .map(|i| -14.0 + 28.0 * i as f32 / n as f32)
        .collect();
    map_on_each_set(&x, GeluShort, |x, y| {
        assert!((y - reference::gelu(x)).abs() < 6e-5, "gelu({x}) = {y}");
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
        let want = reference::gelu(x);
        assert!(
            (y - want).abs() < 5e-7 * (x.abs() / 4.0).max(1.0),
            "gelu({x}) = {y}, not {want}"
        );
    });
    map_on_each_set(&[f32::INFINITY], Gelu, |x, y| assert_eq!(x, y));
    map_on_each_set(&[f32::NAN], Gelu, |_, y| assert!(y.is_nan()));
}
