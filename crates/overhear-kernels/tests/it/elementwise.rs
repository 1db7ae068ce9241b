//! Kernels over rows and elements against the oracle.

use super::{AWKWARD, LOG_ERROR, NORM_ERROR, Random, sets};
use overhear_kernels::{Isa, Kernels, Maxima, Pool, reference};

/// Compares `layer_norm` on every set with the oracle, about a mean that would swamp a one-pass variance.
fn check_layer_norm(n: usize, n_state: usize, mean: f32) {
    let mut random = Random(n_state as u64);
    let x: Vec<f32> = random.vec(n * n_state).iter().map(|x| x + mean).collect();
    let (gamma, beta) = (random.vec(n_state), random.vec(n_state));
    let mut want = vec![0.0; x.len()];
    reference::layer_norm(&mut want, &x, &gamma, &beta);
    for kernels in sets() {
        let run = |threads| {
            let mut y = vec![f32::NAN; x.len()];
            kernels.layer_norm(&Pool::new(threads), &mut y, &x, &gamma, &beta);
            y
        };
        let y = run(1);
        // An offset costs the bits that it takes: half an epsilon of it is an error of `x` itself.
        let bound = NORM_ERROR * (1.0 + mean.abs());
        for (i, (y, want)) in y.iter().zip(&want).enumerate() {
            assert!(
                (y - want).abs() <= bound,
                "{}: {n} x {n_state} at {i}: {y}, not {want}",
                kernels.isa()
            );
        }
        assert_eq!(y, run(3), "threads");
    }
}

#[test]
fn a_transpose_and_a_sum_are_those_of_every_element() {
    let kernels = Kernels::detect();
    let mut random = Random(5);
    for (n_rows, n_cols) in [(1, 1), (3, 7), (80, 3000), (128, 1001), (40_000, 3)] {
        let x = random.vec(n_rows * n_cols);
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let mut turned = vec![f32::NAN; x.len()];
            kernels.transpose(&pool, &mut turned, &x, n_cols);
            let mut sums = x.clone();
            kernels.add(&pool, &mut sums, &turned);
            for (i, x) in x.iter().enumerate() {
                let (row, column) = (i / n_cols, i % n_cols);
                assert_eq!(turned[column * n_rows + row], *x);
                assert_eq!(sums[i], x + turned[i]);
            }
        }
    }
}

#[test]
fn layer_norm_matches_scalar_on_awkward_sizes() {
    for &n_state in AWKWARD.iter().filter(|&&n| n > 1) {
        for n in [0, 1, 3] {
            check_layer_norm(n, n_state, 0.0);
            check_layer_norm(n, n_state, 50.0);
        }
    }
    if !cfg!(miri) {
        check_layer_norm(1500, 384, 1.0);
        check_layer_norm(100, 1280, 1.0);
    }
}

#[test]
fn log_sum_exp_matches_scalar_on_awkward_sizes() {
    for &len in AWKWARD.iter().chain(&[51865][..usize::from(!cfg!(miri))]) {
        let mut x = Random(len as u64).vec(len);
        for offset in [0.0, 300.0, -300.0] {
            x.iter_mut().for_each(|x| *x += offset);
            let want = reference::log_sum_exp(&x);
            for kernels in sets() {
                let got = kernels.log_sum_exp(&x);
                let below = kernels.log_sum_exp_below(&x, &maxima(&kernels, &x));
                assert_eq!(got.to_bits(), below.to_bits(), "{}", kernels.isa());
                let close = got == want || (got - want).abs() <= LOG_ERROR * want.abs().max(1.0);
                assert!(
                    close,
                    "{}: {len} about {offset}: {got}, not {want}",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn log_sum_exp_takes_suppressed_logits() {
    for kernels in sets() {
        let mut x = vec![f32::NEG_INFINITY; 37];
        assert_eq!(kernels.log_sum_exp(&x), f32::NEG_INFINITY);
        x[31] = 2.5;
        assert_eq!(kernels.log_sum_exp(&x), 2.5);
        assert_eq!(kernels.log_sum_exp_below(&x, &maxima(&kernels, &x)), 2.5);
        x[3] = f32::NAN;
        assert!(kernels.log_sum_exp(&x).is_nan());
        let below = kernels.log_sum_exp_below(&x, &maxima(&kernels, &x));
        assert!(below.is_nan());
    }
}

fn maxima(kernels: &Kernels, x: &[f32]) -> Maxima {
    let mut maxima = Maxima::default();
    kernels.find_maxima(x, &mut maxima);
    maxima
}

#[test]
fn maxima_are_the_largest_that_are_not_nan() {
    for len in [0, 1, 63, 64, 65, 255, 256, 257, 700] {
        let mut x = Random(len as u64).vec(len);
        x.iter_mut().step_by(5).for_each(|x| *x = f32::NAN);
        x.iter_mut().take(300).for_each(|x| *x = x.min(-7.0));
        for kernels in sets().into_iter().chain(Kernels::new(Isa::Scalar)) {
            let maxima = maxima(&kernels, &x);
            for end in 0..=len {
                let largest = x[..end].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(maxima.largest_before(&x, end), largest, "{end} of {len}");
                if end == len {
                    assert_eq!(maxima.largest(), largest, "{}: {len}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn argmax_is_the_first_of_equals_and_never_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for kernels in sets() {
        let argmax = |x: &[f32]| maxima(&kernels, x).argmax(x);
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[nan; 40]), None);
        assert_eq!(argmax(&[nan, -inf, -inf]), Some(1));
        assert_eq!(argmax(&[0.0, -0.0, 0.0]), Some(0));
        assert_eq!(argmax(&[-0.0, 0.0]), Some(0));
        for len in [1, 15, 16, 17, 255, 256, 257, 700] {
            for at in (0..len).step_by(if cfg!(miri) { 97 } else { 1 }) {
                let mut x: Vec<f32> = (0..len).map(|i| -((i % 7) as f32) - 1.0).collect();
                x[at] = 3.0;
                x[len - 1] = 3.0;
                x[at / 2] = if at / 2 == at { 3.0 } else { nan };
                assert_eq!(
                    argmax(&x),
                    reference::argmax(&x),
                    "{}: {at} of {len}",
                    kernels.isa()
                );
            }
        }
    }
}

#[test]
fn top_k_is_the_head_of_a_stable_sort_and_never_nan() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let mut random = Random(7);
    for len in [0, 1, 5, 255, 256, 257, 700] {
        let mut x = random.vec(len);
        // Equals in one block and across blocks, and elements that are never chosen.
        for i in 0..len {
            match i % 11 {
                0 => x[i] = -inf,
                3 => x[i] = nan,
                5 | 8 => x[i] = (x[i] * 3.0).round(),
                _ => {}
            }
        }
        let mut sorted: Vec<(usize, f32)> = x.iter().copied().enumerate().collect();
        sorted.retain(|(_, x)| *x > -inf);
        sorted.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
        for kernels in sets() {
            for k in [0, 1, 2, 6, 40, 1000] {
                let mut largest = vec![(9, 9.0)];
                maxima(&kernels, &x).top_k(&x, k, &mut largest);
                let expected = &sorted[..k.min(sorted.len())];
                assert_eq!(largest, expected, "{}: {k} of {len}", kernels.isa());
            }
        }
    }
}
