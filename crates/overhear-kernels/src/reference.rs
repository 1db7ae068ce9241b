//! Reference implementation of every kernel, in its plainest form: the oracle of the tests, and the kernels of the
//! scalar set.

use half::f16;

use crate::attention::{AttentionShape, QuantizedKv};
use crate::elementwise::LAYER_NORM_EPSILON;
use crate::gemm::{Packing, PostOp, StoredMatrix};
use crate::matrix::{Matrix, Rows};
use crate::spectrogram::Spectrogram;

/// Reference of [`crate::Kernels::linear`]. Sums are f64, so that the oracle's own rounding is negligible.
///
/// # Panics
/// If the shapes do not fit.
pub fn linear(y: &mut [f32], x: Rows<'_>, w: &StoredMatrix, bias: Option<&[f32]>, post_op: PostOp) {
    let (n_out, n_in) = (w.n_out(), w.n_in());
    assert!(bias.is_none_or(|b| b.len() == n_out));
    let mut weights = vec![0.0; n_in];
    for out in 0..n_out {
        w.copy_row(out, &mut weights);
        for row in 0..y.len() / n_out {
            let x = &x.data[row * x.stride..][..n_in];
            let dot = dot(x, weights.iter().copied());
            let sum = (dot + bias.map_or(0.0, |b| f64::from(b[out]))) as f32;
            let y = &mut y[row * n_out + out];
            match post_op {
                PostOp::Store => *y = sum,
                PostOp::Gelu => *y = gelu(sum),
                PostOp::Add => *y += sum,
            }
        }
    }
}

/// Reference of [`crate::Kernels::linear_packed`], on operands that are not packed yet. bf16: f32 sums along K, of
/// each pair the second product first, one rounding each, as `vdpbf16ps` does. int8: exact sums.
///
/// # Panics
/// If the shapes do not fit.
pub fn linear_packed(
    y: &mut [f32],
    x: Rows<'_>,
    w: &Matrix,
    packing: Packing,
    bias: Option<&[f32]>,
    post_op: PostOp,
) {
    let (n_out, n_in) = (w.n_rows(), w.n_cols());
    let mut weights = vec![0.0; n_in];
    for out in 0..n_out {
        w.copy_row(out, &mut weights);
        for row in 0..y.len() / n_out {
            let x = &x.data[row * x.stride..][..n_in];
            let dot = match packing {
                Packing::Bf16 => bf16_dot(x, &weights),
                Packing::Int8 => int8_dot(x, &weights),
            };
            let sum = dot + bias.map_or(0.0, |bias| bias[out]);
            let y = &mut y[row * n_out + out];
            match post_op {
                PostOp::Store => *y = sum,
                PostOp::Gelu => *y = gelu(sum),
                PostOp::Add => *y += sum,
            }
        }
    }
}

fn bf16_dot(x: &[f32], w: &[f32]) -> f32 {
    let round = |x: &f32| half::bf16::from_f32(*x).to_f32();
    let mut sum = 0.0;
    for (x, w) in x.chunks(2).zip(w.chunks(2)) {
        for (x, w) in x.iter().zip(w).rev() {
            sum += round(x) * round(w);
        }
    }
    sum
}

/// Dot product in int8. A row has 253 quantisation steps from its lowest number or zero to its highest, so that all
/// of them fit a byte relative to any integer zero point; weights have 127 up to their largest magnitude.
fn int8_dot(x: &[f32], w: &[f32]) -> f32 {
    let (lowest, highest) = x
        .iter()
        .fold((0.0, 0.0), |(a, b): (f32, f32), x| (a.min(*x), b.max(*x)));
    let w_max = w.iter().fold(0.0, |max: f32, w| max.max(w.abs()));
    let width = highest - lowest;
    if width == 0.0 || w_max == 0.0 {
        return 0.0;
    }
    let steps = |x: f32, per_unit: f32| (x * per_unit).round_ties_even() as i32;
    let products = x.iter().zip(w);
    let sum: i32 = products
        .map(|(x, w)| steps(*x, 253.0 / width) * steps(*w, 127.0 / w_max))
        .sum();
    sum as f32 * (width / 253.0 * (w_max / 127.0))
}

/// Dot product of two rows.
fn dot(x: &[f32], w: impl Iterator<Item = f32>) -> f64 {
    x.iter()
        .zip(w)
        .map(|(&x, w)| f64::from(x) * f64::from(w))
        .sum()
}

/// Reference of [`crate::Kernels::layer_norm`].
///
/// # Panics
/// If the shapes do not fit.
pub fn layer_norm(y: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32]) {
    let n_state = gamma.len();
    assert!(y.len() == x.len() && beta.len() == n_state && x.len().is_multiple_of(n_state));
    for (y, x) in y.chunks_exact_mut(n_state).zip(x.chunks_exact(n_state)) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n_state as f64;
        let variance = x
            .iter()
            .map(|&x| (f64::from(x) - mean).powi(2))
            .sum::<f64>()
            / n_state as f64;
        let scale = 1.0 / (variance + f64::from(LAYER_NORM_EPSILON)).sqrt();
        for i in 0..n_state {
            y[i] = ((f64::from(x[i]) - mean) * scale) as f32 * gamma[i] + beta[i];
        }
    }
}

/// Reference of [`crate::Kernels::attention`].
///
/// # Panics
/// If the shapes do not fit.
pub fn attention(out: &mut [f32], q: Rows<'_>, k: Rows<'_>, v: Rows<'_>, shape: &AttentionShape) {
    let AttentionShape {
        n_head,
        head_dim,
        n_query,
        n_key,
        causal,
        ..
    } = *shape;
    assert_eq!(out.len(), n_query * n_head * head_dim);
    assert!(n_key > 0 && (!causal || n_key >= n_query));
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut scores = vec![0.0f32; n_key];
    for query in 0..n_query {
        let n_seen = if causal {
            n_key - n_query + query + 1
        } else {
            n_key
        };
        for head in 0..n_head {
            let at = |rows: &Rows<'_>, row: usize, i: usize| {
                rows.data[row * rows.stride + head * head_dim + i]
            };
            for (key, score) in scores[..n_seen].iter_mut().enumerate() {
                *score = scale
                    * (0..head_dim)
                        .map(|i| at(&q, query, i) * at(&k, key, i))
                        .sum::<f32>();
            }
            let max = scores[..n_seen]
                .iter()
                .copied()
                .fold(f32::NEG_INFINITY, f32::max);
            scores[..n_seen]
                .iter_mut()
                .for_each(|s| *s = (*s - max).exp());
            let sum: f32 = scores[..n_seen].iter().sum();
            for i in 0..head_dim {
                let weighted: f32 = (0..n_seen).map(|key| scores[key] * at(&v, key, i)).sum();
                out[(query * n_head + head) * head_dim + i] = weighted / sum;
            }
        }
    }
}

/// Reference of [`crate::Kernels::attention_f16`]: attention in f32 over the widened keys and values.
///
/// # Panics
/// If the shapes do not fit.
pub fn attention_f16(out: &mut [f32], q: Rows<'_>, k: &[f16], v: &[f16], shape: &AttentionShape) {
    let AttentionShape {
        n_head,
        head_dim,
        n_key,
        ..
    } = *shape;
    let width = n_head * head_dim;
    let [k, v] = [k, v].map(|halves| {
        let mut rows = vec![0.0; n_key * width];
        for (i, half) in halves.iter().enumerate() {
            let (head, key) = (i / (n_key * head_dim), i / head_dim % n_key);
            rows[key * width + head * head_dim + i % head_dim] = half.to_f32();
        }
        rows
    });
    let [k, v] = [&k, &v].map(|data| Rows {
        data,
        stride: width,
    });
    attention(out, q, k, v, shape);
}

/// Reference of [`crate::Kernels::attention_int8`]: attention in f32 over the dequantised keys and values.
///
/// # Panics
/// If the shapes do not fit.
pub fn attention_int8(out: &mut [f32], q: Rows<'_>, kv: &QuantizedKv) {
    let (n_head, head_dim) = (kv.n_head(), kv.head_dim());
    let (n_key, width) = (kv.n_key(), n_head * head_dim);
    let [mut k, mut v] = [(); 2].map(|()| vec![0.0; n_key * width]);
    let mut one = vec![0.0; n_key * head_dim];
    for head in 0..n_head {
        let head_of = |rows: &mut [f32], one: &[f32]| {
            for (row, one) in rows.chunks_exact_mut(width).zip(one.chunks_exact(head_dim)) {
                row[head * head_dim..][..head_dim].copy_from_slice(one);
            }
        };
        kv.copy_keys(head, &mut one);
        head_of(&mut k, &one);
        kv.copy_values(head, &mut one);
        head_of(&mut v, &one);
    }
    let [k, v] = [&k, &v].map(|data| Rows {
        data,
        stride: width,
    });
    let shape = AttentionShape {
        n_head,
        head_dim,
        n_query: out.len() / width,
        n_key,
        causal: false,
        block: 0,
    };
    attention(out, q, k, v, &shape);
}

/// Reference of [`crate::Kernels::convert_heads_f16`].
///
/// # Panics
/// If the shapes do not fit.
pub fn convert_heads_f16(to: &mut [f16], from: Rows<'_>, n_row: usize, head_dim: usize) {
    for (i, to) in to.chunks_exact_mut(head_dim).enumerate() {
        let (head, row) = (i / n_row, i % n_row);
        convert_f16(
            to,
            &from.data[row * from.stride + head * head_dim..][..head_dim],
        );
    }
}

/// Rounding of elements by [`crate::Kernels::convert_heads_f16`] and [`crate::Kernels::store_weights`]: to nearest
/// even, saturating.
pub fn convert_f16<E: Copy + Into<f32>>(to: &mut [f16], from: &[E]) {
    let (least, largest) = (f16::MIN.to_f32(), f16::MAX.to_f32());
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f16::from_f32(from.into().clamp(least, largest));
    }
}

/// Reference of [`crate::Kernels::attention_probabilities`].
///
/// # Panics
/// If the shapes do not fit.
pub fn attention_probabilities(
    out: &mut [f32],
    q: Rows<'_>,
    k: Rows<'_>,
    n_key: usize,
    head_dim: usize,
) {
    assert!(n_key > 0 && out.len().is_multiple_of(n_key));
    let scale = 1.0 / (head_dim as f64).sqrt();
    for (query, out) in out.chunks_exact_mut(n_key).enumerate() {
        let q = &q.data[query * q.stride..][..head_dim];
        for (key, out) in out.iter_mut().enumerate() {
            let k = &k.data[key * k.stride..][..head_dim];
            *out = (scale * dot(q, k.iter().copied())) as f32;
        }
        let max = out.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        out.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f64 = out.iter().map(|&x| f64::from(x)).sum();
        out.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / sum) as f32);
    }
}

/// Reference of [`crate::Kernels::log_spectrogram`]: the Fourier transform by its definition, in f64.
pub fn log_spectrogram(plan: &Spectrogram, out: &mut [f32], samples: &[f32]) {
    let n = plan.window.len();
    let circle: Vec<(f64, f64)> = (0..n)
        .map(|i| (std::f64::consts::TAU * i as f64 / n as f64).sin_cos())
        .collect();
    for (frame, out) in out.chunks_exact_mut(plan.n_filters()).enumerate() {
        let samples = &samples[frame * plan.hop..][..n];
        let windowed: Vec<f64> = samples
            .iter()
            .zip(&plan.window)
            .map(|(x, w)| f64::from(x * w))
            .collect();
        let power = |bin: usize| {
            let (mut re, mut im) = (0.0, 0.0);
            for (i, x) in windowed.iter().enumerate() {
                let (sin, cos) = circle[bin * i % n];
                re += x * cos;
                im += x * sin;
            }
            re * re + im * im
        };
        let powers: Vec<f64> = (0..plan.n_bins()).map(power).collect();
        for (out, filter) in out.iter_mut().zip(&plan.filters) {
            let bins = powers[filter.first_bin..].iter().zip(&filter.weights);
            let energy: f64 = bins.map(|(power, weight)| power * f64::from(*weight)).sum();
            *out = if energy > f64::from(plan.floor) {
                (energy.log10() as f32).max(plan.floor_log)
            } else {
                plan.floor_log
            };
        }
    }
}

/// `0.5 x (1 + erf(x / sqrt 2))`, the form Whisper was trained with (not the tanh approximation).
#[must_use]
pub fn gelu(x: f32) -> f32 {
    (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

/// Error function, accurate to about 1e-15: Taylor series near 0, continued fraction of the complement beyond.
#[must_use]
pub fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    let value = if magnitude < 3.0 {
        // erf(x) = 2/sqrt(pi) * sum (-1)^n x^(2n+1) / (n! (2n+1)); Abramowitz and Stegun 7.1.5
        let mut term = magnitude;
        let mut sum = magnitude;
        for n in 1..80 {
            term *= -magnitude * magnitude / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        // erfc(x) = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))); A&S 7.1.14
        let fraction = (1..60)
            .rev()
            .fold(magnitude, |tail, n| magnitude + f64::from(n) / 2.0 / tail);
        1.0 - (-magnitude * magnitude).exp() / fraction * std::f64::consts::FRAC_2_SQRT_PI / 2.0
    };
    value.copysign(x)
}

/// Reference of [`crate::Kernels::log_sum_exp`].
#[must_use]
pub fn log_sum_exp(x: &[f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return max;
    }
    let sum: f64 = x.iter().map(|&x| f64::from(x - max).exp()).sum();
    max + sum.ln() as f32
}

/// Reference of [`crate::Kernels::find_maxima`]: the largest of every `block` elements of `x`.
pub fn find_maxima(x: &[f32], of_blocks: &mut [f32], block: usize) {
    for (x, max) in x.chunks(block).zip(of_blocks) {
        *max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    }
}

/// Reference of [`crate::Maxima::argmax`].
#[must_use]
pub fn argmax(x: &[f32]) -> Option<usize> {
    let mut best = None;
    for (i, &value) in x.iter().enumerate() {
        if best.is_none_or(|(_, max)| value > max) && !value.is_nan() {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}

/// Reference of [`crate::Maxima::top_k`].
pub fn top_k(x: &[f32], k: usize, largest: &mut Vec<(usize, f32)>) {
    largest.clear();
    insert_largest(0, x, k, largest);
}

/// Inserts the elements of `x`, whose first index is `first`, into the `k` largest so far.
pub(crate) fn insert_largest(first: usize, x: &[f32], k: usize, largest: &mut Vec<(usize, f32)>) {
    for (i, &value) in x.iter().enumerate() {
        let is_full = largest.len() == k;
        let least = match largest.last() {
            Some(last) if is_full => last.1,
            _ => f32::NEG_INFINITY,
        };
        if k > 0 && value > least {
            if is_full {
                largest.pop();
            }
            let at = largest.partition_point(|larger| larger.1 >= value);
            largest.insert(at, (first + i, value));
        }
    }
}
