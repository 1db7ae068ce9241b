//! Kernel of the log spectrogram: FFT, powers, filterbank, logarithm.

use super::plan::{Pass, Spectrogram};
use crate::arch::Arch;
use crate::kernels::Kernels;
use crate::parallel::scratch;
use crate::reference;
use crate::simd::{Simd, Vectorized};

impl Kernels {
    /// `log10(max(filter energy, floor))` of the frames of `samples`, the first at its start, each `plan.hop` samples
    /// after the previous one.
    ///
    /// `out`: `[n_frames, n_filters]`, contiguous, whose length determines `n_frames`. A frame's result does not
    /// depend on the others.
    ///
    /// # Panics
    /// If `out` is not whole frames, or the samples end before the last frame does.
    pub fn log_spectrogram(&self, plan: &Spectrogram, out: &mut [f32], samples: &[f32]) {
        let n_frames = out.len() / plan.n_filters();
        assert_eq!(
            out.len(),
            n_frames * plan.n_filters(),
            "out is not rows of {}",
            plan.n_filters()
        );
        let n_samples = match n_frames {
            0 => return,
            n => (n - 1) * plan.hop + plan.window.len(),
        };
        assert!(
            samples.len() >= n_samples,
            "{} samples for {n_frames} frames",
            samples.len()
        );
        match self.arch {
            Arch::Scalar => reference::log_spectrogram(plan, out, samples),
            arch => scratch::with(2 * plan.n_rows() * arch.lanes(), |scratch| {
                let call = LogSpectrogram {
                    plan,
                    out,
                    samples,
                    scratch,
                };
                arch.run(call, || unreachable!("the scalar set has no vectors"));
            }),
        }
    }
}

/// Task: all frames of a call, shapes checked.
struct LogSpectrogram<'a> {
    plan: &'a Spectrogram,
    /// Output, `[n_frames, n_filters]`.
    out: &'a mut [f32],
    samples: &'a [f32],
    /// Scratch: rows of one vector, twice `n_rows` of the plan. Input and output of the FFT, then powers and energies
    /// in their place.
    scratch: &'a mut [f32],
}

impl Vectorized for LogSpectrogram<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (plan, n_filters) = (self.plan, self.plan.filters.len());
        let (mut a, mut b) = self.scratch.split_at_mut(plan.n_rows() * S::LANES);
        let batches = self.out.chunks_mut(S::LANES * n_filters);
        for (batch, out) in batches.enumerate() {
            let samples = &self.samples[batch * S::LANES * plan.hop..];
            load_frames::<S>(plan, a, samples, out.len() / n_filters);
            for pass in &plan.passes {
                pass.run(s, a, b);
                std::mem::swap(&mut a, &mut b);
            }
            powers(s, plan, a, b);
            energies(s, plan, b, a);
            let energies = &mut a[..n_filters * S::LANES];
            for energy in &mut *energies {
                *energy = log10(*energy, plan);
            }
            for (frame, out) in out.chunks_mut(n_filters).enumerate() {
                for (filter, out) in out.iter_mut().enumerate() {
                    *out = energies[filter * S::LANES + frame];
                }
            }
        }
    }
}

/// Loads windowed frames: row `i` is sample `i` of all frames. Lanes beyond `n_frames` are zero.
#[inline(always)]
fn load_frames<S: Simd>(plan: &Spectrogram, rows: &mut [f32], samples: &[f32], n_frames: usize) {
    if n_frames < S::LANES {
        rows.fill(0.0);
    }
    for lane in 0..n_frames.min(S::LANES) {
        let frame = samples[lane * plan.hop..].iter().zip(&plan.window);
        for (row, (sample, window)) in rows.chunks_exact_mut(S::LANES).zip(frame) {
            row[lane] = sample * window;
        }
    }
}

/// A complex number per lane.
type Complex<V> = (V, V);

#[inline(always)]
fn get<S: Simd>(s: S, rows: &[f32], i: usize) -> Complex<S::V> {
    let (re, im) = rows[2 * i * S::LANES..2 * (i + 1) * S::LANES].split_at(S::LANES);
    (s.read(re), s.read(im))
}

#[inline(always)]
fn put<S: Simd>(s: S, rows: &mut [f32], i: usize, (re, im): Complex<S::V>) {
    let (to_re, to_im) = rows[2 * i * S::LANES..2 * (i + 1) * S::LANES].split_at_mut(S::LANES);
    s.write(to_re, re);
    s.write(to_im, im);
}

#[inline(always)]
fn add<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> Complex<S::V> {
    (s.add(a.0, b.0), s.add(a.1, b.1))
}

#[inline(always)]
fn sub<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> Complex<S::V> {
    (s.sub(a.0, b.0), s.sub(a.1, b.1))
}

/// `a - i b` and `a + i b`.
#[inline(always)]
fn quarter<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> [Complex<S::V>; 2] {
    [
        (s.add(a.0, b.1), s.sub(a.1, b.0)),
        (s.sub(a.0, b.1), s.add(a.1, b.0)),
    ]
}

/// `c + x a + y b`
#[inline(always)]
fn blend<S: Simd>(
    s: S,
    c: Complex<S::V>,
    (x, a): (f32, Complex<S::V>),
    (y, b): (f32, Complex<S::V>),
) -> Complex<S::V> {
    let (x, y) = (s.splat(x), s.splat(y));
    (
        s.fma(y, b.0, s.fma(x, a.0, c.0)),
        s.fma(y, b.1, s.fma(x, a.1, c.1)),
    )
}

/// FFT of `R` numbers. A trait, because a function passed as an argument might not be inlined.
trait Butterfly<const R: usize> {
    fn apply<S: Simd>(s: S, inputs: [Complex<S::V>; R]) -> [Complex<S::V>; R];
}

struct Radix2;
struct Radix4;
struct Radix5;

impl Butterfly<2> for Radix2 {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b]: [Complex<S::V>; 2]) -> [Complex<S::V>; 2] {
        [add(s, a, b), sub(s, a, b)]
    }
}

impl Butterfly<4> for Radix4 {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c, d]: [Complex<S::V>; 4]) -> [Complex<S::V>; 4] {
        let (even, odd) = (add(s, a, c), add(s, b, d));
        let [second, fourth] = quarter(s, sub(s, a, c), sub(s, b, d));
        [add(s, even, odd), second, sub(s, even, odd), fourth]
    }
}

impl Butterfly<5> for Radix5 {
    #[inline(always)]
    fn apply<S: Simd>(s: S, [a, b, c, d, e]: [Complex<S::V>; 5]) -> [Complex<S::V>; 5] {
        // Cosines and sines of 2 pi / 5 and 4 pi / 5.
        const COS: [f32; 2] = [0.309_017, -0.809_017];
        const SIN: [f32; 2] = [0.951_056_5, 0.587_785_25];
        let (outer, inner) = (add(s, b, e), add(s, c, d));
        let (outer_gap, inner_gap) = (sub(s, b, e), sub(s, c, d));
        let zero = (s.splat(0.0), s.splat(0.0));
        let first = blend(s, a, (COS[0], outer), (COS[1], inner));
        let second = blend(s, a, (COS[1], outer), (COS[0], inner));
        let [b, e] = quarter(
            s,
            first,
            blend(s, zero, (SIN[0], outer_gap), (SIN[1], inner_gap)),
        );
        let [c, d] = quarter(
            s,
            second,
            blend(s, zero, (SIN[1], outer_gap), (-SIN[0], inner_gap)),
        );
        [add(s, a, add(s, outer, inner)), b, c, d, e]
    }
}

impl Pass {
    #[inline(always)]
    fn run<S: Simd>(&self, s: S, x: &[f32], y: &mut [f32]) {
        match self.radix {
            5 => self.run_radix::<S, 5, Radix5>(s, x, y),
            4 => self.run_radix::<S, 4, Radix4>(s, x, y),
            _ => self.run_radix::<S, 2, Radix2>(s, x, y),
        }
    }

    #[inline(always)]
    fn run_radix<S: Simd, const R: usize, B: Butterfly<R>>(&self, s: S, x: &[f32], y: &mut [f32]) {
        let n_groups = self.twiddles.len() / R;
        for (group, twiddles) in self.twiddles.chunks_exact(R).enumerate() {
            for i in 0..self.stride {
                let mut inputs = [(s.splat(0.0), s.splat(0.0)); R];
                for (j, input) in inputs.iter_mut().enumerate() {
                    *input = get(s, x, i + self.stride * (group + n_groups * j));
                }
                let store_c = B::apply(s, inputs);
                put(s, y, i + self.stride * R * group, store_c[0]);
                for k in 1..R {
                    let (re, im) = store_c[k];
                    let (cos, sin) = (s.splat(twiddles[k][0]), s.splat(twiddles[k][1]));
                    let turned = (
                        s.sub(s.mul(re, cos), s.mul(im, sin)),
                        s.fma(re, sin, s.mul(im, cos)),
                    );
                    put(s, y, i + self.stride * (R * group + k), turned);
                }
            }
        }
    }
}

/// Powers of the real FFT's bins, one row each, from the complex FFT.
#[inline(always)]
fn powers<S: Simd>(s: S, plan: &Spectrogram, z: &[f32], powers: &mut [f32]) {
    let n = plan.window.len() / 2;
    for (k, &[cos, sin]) in plan.unfold.iter().enumerate() {
        let (a, b) = (get(s, z, k), get(s, z, (n - k) % n));
        // Twice the FFTs of the even samples, and of the odd samples times -i.
        let even = (s.add(a.0, b.0), s.sub(a.1, b.1));
        let odd = (s.sub(a.0, b.0), s.add(a.1, b.1));
        let (cos, sin) = (s.splat(cos), s.splat(sin));
        let turned = (
            s.sub(s.mul(cos, odd.1), s.mul(sin, odd.0)),
            s.fma(sin, odd.1, s.mul(cos, odd.0)),
        );
        let mirrored = (s.sub(even.0, turned.0), s.add(even.1, turned.1));
        let direct = (s.add(even.0, turned.0), s.sub(even.1, turned.1));
        for (bin, (re, im)) in [(n - k, mirrored), (k, direct)] {
            let power = s.mul(s.splat(0.25), s.fma(re, re, s.mul(im, im)));
            s.write(&mut powers[bin * S::LANES..(bin + 1) * S::LANES], power);
        }
    }
}

/// Filter energies, one row each.
#[inline(always)]
fn energies<S: Simd>(s: S, plan: &Spectrogram, powers: &[f32], energies: &mut [f32]) {
    for (filter, out) in plan.filters.iter().zip(energies.chunks_exact_mut(S::LANES)) {
        let bins = powers[filter.first_bin * S::LANES..].chunks_exact(S::LANES);
        let mut sum = s.splat(0.0);
        for (weight, bin) in filter.weights.iter().zip(bins) {
            sum = s.fma(s.splat(*weight), s.read(bin), sum);
        }
        s.write(out, sum);
    }
}

/// `log10(max(x, floor))`, within two units in the last place of numbers around 10; exact at the floor.
///
/// Series of the area hyperbolic tangent, for a mantissa between half and twice the square root of 2. Written so that
/// the compiler vectorises it.
#[inline(always)]
fn log10(x: f32, plan: &Spectrogram) -> f32 {
    const HALF_SQRT_2_BITS: i32 = 0x3f35_04f3;
    let bits = x.to_bits() as i32;
    let exponent = bits.wrapping_sub(HALF_SQRT_2_BITS) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub(exponent << 23) as u32);
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = 1.0 + square * (1.0 / 3.0 + square * (0.2 + square * (1.0 / 7.0 + square / 9.0)));
    let log = exponent as f32 * std::f32::consts::LOG10_2
        + t * series * (2.0 * std::f32::consts::LOG10_E);
    if x > plan.floor && log > plan.floor_log {
        log
    } else {
        plan.floor_log
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Filter, unit};
    use super::*;
    use crate::arch::Isa;

    const N_FFT: usize = 400;
    const HOP: usize = 160;

    /// Filters of growing width, one of them empty.
    fn plan(n_filters: usize) -> Spectrogram {
        let window = (0..N_FFT)
            .map(|i| unit(i, N_FFT)[0].mul_add(-0.5, 0.5))
            .collect();
        let filter = |i: usize| Filter {
            first_bin: (i * 3).min(180),
            weights: (0..i % 20).map(|j| 0.01 * (j + 1) as f32).collect(),
        };
        Spectrogram::new(window, HOP, (0..n_filters).map(filter).collect(), 1e-10)
    }

    /// Noise whose loudness changes by eight decades of power.
    fn samples(n_frames: usize) -> Vec<f32> {
        let mut seed = 7_u32;
        (0..(n_frames - 1) * HOP + N_FFT)
            .map(|i| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
                noise * if (i / 1000) % 2 == 0 { 1.0 } else { 1e-4 }
            })
            .collect()
    }

    fn kernels() -> impl Iterator<Item = Kernels> {
        let sets = Isa::ALL.iter().filter_map(|&isa| Kernels::new(isa));
        sets.chain([Kernels::emulated()])
    }

    fn spectrogram(kernels: &Kernels, plan: &Spectrogram, samples: &[f32], n: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; n * plan.n_filters()];
        kernels.log_spectrogram(plan, &mut out, samples);
        out
    }

    #[test]
    fn every_set_gives_what_the_definition_says() {
        let n_frames = if cfg!(miri) { 5 } else { 37 };
        let (plan, samples) = (plan(23), samples(n_frames));
        let scalar = Kernels::new(Isa::Scalar).unwrap();
        let expected = spectrogram(&scalar, &plan, &samples, n_frames);
        for kernels in kernels() {
            let found = spectrogram(&kernels, &plan, &samples, n_frames);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                // Where a quiet frame holds a loud sample's end, f32 leaves 1e-7 of that.
                let difference = (found - expected).abs();
                assert!(
                    difference < 2e-5,
                    "{} {i}: {found} {expected}",
                    kernels.isa()
                );
            }
        }
    }

    #[test]
    fn a_frame_does_not_depend_on_its_place_among_others() {
        let n_frames = if cfg!(miri) { 6 } else { 40 };
        let (plan, samples) = (plan(11), samples(n_frames));
        for kernels in kernels() {
            let all = spectrogram(&kernels, &plan, &samples, n_frames);
            for start in [1, 3, n_frames - 1] {
                let n = n_frames - start;
                let part = spectrogram(&kernels, &plan, &samples[start * HOP..], n);
                assert_eq!(part, all[start * plan.n_filters()..], "{}", kernels.isa());
            }
        }
    }

    #[test]
    fn silence_is_the_floor_exactly() {
        let plan = plan(9);
        for kernels in kernels() {
            let found = spectrogram(&kernels, &plan, &[0.0; 2 * HOP + N_FFT], 3);
            assert!(found.iter().all(|&x| x == -10.0), "{}", kernels.isa());
            assert!(spectrogram(&kernels, &plan, &[], 0).is_empty());
        }
    }

    #[test]
    fn the_logarithm_is_right_over_all_energies() {
        let plan = plan(1);
        for i in 0..200_000 {
            let x = f32::from_bits(0x2edb_e6ff + 1 + i * 5_000);
            let (found, expected) = (log10(x, &plan), f64::from(x).log10());
            // Two units in the last place of numbers around 10.
            let tolerance = 2.4e-7 * expected.abs().max(8.0);
            assert!(
                (f64::from(found) - expected).abs() < tolerance,
                "{x}: {found}"
            );
        }
    }
}
