//! Four lanes in plain Rust: the vectors of [`Emulated`].

use half::{bf16, f16};

use super::vector::{Simd, Vectorized};
use crate::arch::Emulated;

fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY: no instructions to prove.
unsafe impl Simd for Emulated {
    type V = [f32; 4];

    const LANES: usize = 4;
    const ROWS: usize = 3;

    fn vectorize<T: Vectorized>(self, task: T) -> T::Output {
        task.run(self)
    }
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }
    unsafe fn load(self, from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[f32; 4]>().read() }
    }
    unsafe fn load_first(self, from: *const f32, n: usize) -> [f32; 4] {
        // SAFETY: the caller's.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { 0.0 })
    }
    unsafe fn store(self, to: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write(v) }
    }
    unsafe fn store_first(self, to: *mut f32, v: [f32; 4], n: usize) {
        // SAFETY: the caller's.
        (0..n).for_each(|i| unsafe { *to.add(i) = v[i] });
    }
    unsafe fn load_f16(self, from: *const f16) -> [f32; 4] {
        // SAFETY: the caller's.
        std::array::from_fn(|i| unsafe { *from.add(i) }.to_f32())
    }
    unsafe fn load_bf16(self, from: *const bf16) -> [f32; 4] {
        // SAFETY: the caller's.
        std::array::from_fn(|i| unsafe { *from.add(i) }.to_f32())
    }
    unsafe fn load_i8(self, from: *const i8) -> [f32; 4] {
        // SAFETY: the caller's.
        std::array::from_fn(|i| f32::from(unsafe { *from.add(i) }))
    }
    unsafe fn store_f16(self, to: *mut f16, v: [f32; 4]) {
        // SAFETY: the caller's.
        (0..4).for_each(|i| unsafe { *to.add(i) = f16::from_f32(v[i]) });
    }
    fn prefetch<T>(self, _: *const T) {}
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a + b)
    }
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a - b)
    }
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a * b)
    }
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a / b)
    }
    fn fma(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    fn min(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    fn zero_if_below(self, a: [f32; 4], x: [f32; 4], limit: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if x[i] < limit[i] { 0.0 } else { a[i] })
    }
    fn round(self, a: [f32; 4]) -> [f32; 4] {
        a.map(f32::round_ties_even)
    }
    fn scale_by_power(self, a: [f32; 4], n: [f32; 4]) -> [f32; 4] {
        zip(a, n, |a, n| {
            a * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }
    fn sum4(self, v: [[f32; 4]; 4]) -> [f32; 4] {
        v.map(|[a, b, c, d]| (a + c) + (b + d))
    }
}
