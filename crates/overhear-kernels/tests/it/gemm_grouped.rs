//! Group-quantised weights of 4 and 5 bits.

use half::f16;

use super::{Random, all_sets};
use overhear_kernels::{
    Dtype, GroupFormat, GroupedActivations, GroupedMatrix, Kernels, Matrix, MatrixData, Pool,
    PostOp, Rows,
};

const FORMATS: [GroupFormat; 2] = [GroupFormat::Q4, GroupFormat::Q5];

/// Levels of a format: those of `q - zero_point`.
fn levels(format: GroupFormat) -> std::ops::Range<i32> {
    -format.zero_point()..format.zero_point()
}

/// A matrix whose groups of 32 are whole multiples of a scale that f16 has, as a q4_0 or q5_0 file's are: an element of
/// every group is the lowest level.
fn quantized(random: &mut Random, n_out: usize, n_in: usize, format: GroupFormat) -> Matrix {
    let mut data = Vec::new();
    for _ in 0..n_out {
        for first in (0..n_in).step_by(32) {
            let scale = f16::from_f32(0.01 * random.next()).to_f32();
            let len = 32.min(n_in - first);
            let extreme = (random.next().abs() * 100.0) as usize % len;
            for k in 0..len {
                let levels = levels(format);
                let level = (random.next() * 6.0) as i32;
                let level = level.clamp(levels.start, levels.end - 1);
                data.push(scale * if k == extreme { levels.start } else { level } as f32);
            }
        }
    }
    Matrix::new(n_out, n_in, MatrixData::F32(data))
}

#[test]
fn weights_that_were_quantised_before_come_back_exactly() {
    let (pool, mut random) = (Pool::new(2), Random(5));
    for (n_out, n_in) in [(1, 1), (32, 64), (33, 65), (70, 160)] {
        for format in FORMATS {
            let w = quantized(&mut random, n_out, n_in, format);
            for kernels in all_sets() {
                let grouped = kernels.quantize_weights(&pool, &w, format);
                assert_eq!(
                    (grouped.n_out(), grouped.n_in(), grouped.format()),
                    (n_out, n_in, format)
                );
                let (mut want, mut found) = (vec![0.0; n_in], vec![0.0; n_in]);
                for out in 0..n_out {
                    w.copy_row(out, &mut want);
                    grouped.copy_row(out, &mut found);
                    assert_eq!(found, want, "{} {format:?} {out}", kernels.isa());
                }
            }
        }
    }
}

/// Blocks by other quantisers than ggml's own need not use the lowest level, nor a scale of either sign.
#[test]
fn blocks_of_any_quantiser_come_back_exactly() {
    let (n_out, n_in) = (64, 96);
    let (pool, mut random) = (Pool::new(2), Random(9));
    for format in FORMATS {
        for largest in 0..format.zero_point() {
            let mut data = Vec::new();
            for _ in 0..n_out * n_in / 32 {
                let scale = f16::from_f32(0.01 * random.next()).to_f32();
                let level = |x: f32| {
                    (x * largest as f32)
                        .round()
                        .clamp(-largest as f32, largest as f32)
                };
                data.extend((0..32).map(|_| scale * level(random.next())));
            }
            let w = Matrix::new(n_out, n_in, MatrixData::F32(data));
            let read = |first: usize, to: &mut [u8]| {
                for (i, to) in to.chunks_exact_mut(4 * n_in).enumerate() {
                    let mut row = vec![0.0f32; n_in];
                    w.copy_row(first + i, &mut row);
                    to.copy_from_slice(bytemuck::cast_slice(&row));
                }
                Ok::<(), ()>(())
            };
            for kernels in all_sets() {
                let shape = (n_out, n_in);
                let grouped =
                    kernels.quantize_weights_from(&pool, shape, Dtype::F32, format, true, read);
                let grouped = grouped.unwrap();
                let (mut want, mut found) = (vec![0.0; n_in], vec![0.0; n_in]);
                for out in 0..n_out {
                    w.copy_row(out, &mut want);
                    grouped.copy_row(out, &mut found);
                    assert_eq!(found, want, "{} {format:?} {largest} {out}", kernels.isa());
                }
            }
        }
    }
}

/// Every set must pack the same blocks, of any dtype, whose error is at most that of plain rounding.
#[test]
fn a_scale_is_at_least_as_good_as_the_largest_elements() {
    let (pool, mut random) = (Pool::new(2), Random(6));
    let (n_out, n_in) = (40, 96);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let w = random.matrix(n_out, n_in, dtype);
        for format in FORMATS {
            let first = Kernels::detect().quantize_weights(&pool, &w, format);
            let (mut row, mut found) = (vec![0.0; n_in], vec![0.0; n_in]);
            let (mut error, mut plain_error) = (0.0, 0.0);
            for out in 0..n_out {
                w.copy_row(out, &mut row);
                first.copy_row(out, &mut found);
                for kernels in all_sets() {
                    let grouped = kernels.quantize_weights(&pool, &w, format);
                    let mut again = vec![0.0; n_in];
                    grouped.copy_row(out, &mut again);
                    assert_eq!(again, found, "{} {dtype:?} {format:?}", kernels.isa());
                }
                for (x, found) in row.chunks(32).zip(found.chunks(32)) {
                    let extreme = x
                        .iter()
                        .fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
                    let scale = extreme / levels(format).start as f32;
                    let last = (levels(format).end - 1) as f32;
                    for (x, found) in x.iter().zip(found) {
                        error += (x - found).powi(2);
                        plain_error += (x - (x / scale).round().min(last) * scale).powi(2);
                    }
                }
            }
            assert!(
                error < 0.95 * plain_error,
                "{format:?}: {error}, {plain_error}"
            );
        }
    }
}

/// The bits must be those of exact dot products of groups, added in sequence with the product of their scales.
#[test]
fn a_product_is_that_of_the_groups_levels() {
    let (n_out, n_in) = if cfg!(miri) { (33, 65) } else { (103, 647) };
    let (pool, mut random) = (Pool::new(2), Random(7));
    let w = random.matrix(n_out, n_in, Dtype::F32);
    let bias = random.vec(n_out);
    let norm = (random.vec(n_in), random.vec(n_in));
    for format in FORMATS {
        let grouped = Kernels::detect().quantize_weights(&pool, &w, format);
        for n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 40] {
            let x = random.vec(n * (n_in + 3));
            let rows = Rows {
                data: &x,
                stride: n_in + 3,
            };
            for kernels in all_sets() {
                let mut quantized = GroupedActivations::new(format, 0, 0);
                kernels.quantize_rows(&pool, &mut quantized, &grouped, rows, n, None);
                let mut found = vec![0.0; n * n_out];
                let store = PostOp::Store;
                kernels.linear_grouped(&pool, &mut found, &quantized, &grouped, Some(&bias), store);
                for (i, found) in found.iter().enumerate() {
                    let (row, out) = (i / n_out, i % n_out);
                    let want = plain(&x[row * (n_in + 3)..][..n_in], &grouped, out) + bias[out];
                    assert_eq!(*found, want, "{} {format:?} {n} rows at {i}", kernels.isa());
                }
                // Residual, and layer normalisation on the way, which rounds by set.
                let norm = Some((&norm.0[..], &norm.1[..]));
                kernels.quantize_rows(&pool, &mut quantized, &grouped, rows, n, norm);
                let mut sum = found.clone();
                kernels.linear_grouped(&pool, &mut sum, &quantized, &grouped, None, PostOp::Add);
                let mut alone = vec![0.0; n * n_out];
                kernels.linear_grouped(&pool, &mut alone, &quantized, &grouped, None, store);
                for ((sum, found), alone) in sum.iter().zip(&found).zip(&alone) {
                    assert_eq!(*sum, found + alone);
                }
            }
        }
    }
}

/// The product of a row with output `out`, in the order that kernels promise.
fn plain(x: &[f32], w: &GroupedMatrix, out: usize) -> f32 {
    let mut row = vec![0.0; w.n_in()];
    w.copy_row(out, &mut row);
    let mut sum = 0.0f32;
    for (group, (x, weights)) in x.chunks(32).zip(row.chunks(32)).enumerate() {
        let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let (scale, inverse) = (largest / 127.0, 127.0 / largest);
        let w_scale = w.scale(out, group);
        let dot: i32 = x
            .iter()
            .zip(weights)
            .map(|(x, w)| (x * inverse).round_ties_even() as i32 * (w / w_scale).round() as i32)
            .sum();
        sum = (dot as f32).mul_add(w_scale * scale, sum);
    }
    sum
}

/// Inputs whose weights are large in all outputs must not take the levels of others, and the product must not show their
/// order.
#[test]
fn large_inputs_have_groups_of_their_own() {
    // A group's worth of large inputs.
    let (n_out, n_in) = (64, 320);
    let (pool, mut random) = (Pool::new(2), Random(23));
    let mut data = random.vec(n_out * n_in);
    for (i, x) in data.iter_mut().enumerate() {
        *x *= if i % n_in % 10 == 3 { 30.0 } else { 1.0 };
    }
    let w = Matrix::new(n_out, n_in, MatrixData::F32(data));
    let x = random.vec(2 * n_in);
    let rows = Rows {
        data: &x,
        stride: n_in,
    };
    for format in FORMATS {
        for kernels in all_sets() {
            let grouped = kernels.quantize_weights(&pool, &w, format);
            let mut quantized = GroupedActivations::new(format, 0, 0);
            kernels.quantize_rows(&pool, &mut quantized, &grouped, rows, 2, None);
            let mut y = vec![0.0; 2 * n_out];
            kernels.linear_grouped(&pool, &mut y, &quantized, &grouped, None, PostOp::Store);
            let (mut row, mut found) = (vec![0.0; n_in], vec![0.0; n_in]);
            let (mut errors, mut squares) = (0.0, 0.0);
            for out in 0..n_out {
                w.copy_row(out, &mut row);
                grouped.copy_row(out, &mut found);
                for k in (0..n_in).filter(|k| k % 10 != 3) {
                    errors += (row[k] - found[k]).powi(2);
                    squares += row[k].powi(2);
                }
                for (x, y) in x.chunks(n_in).zip(y.chunks(n_out)) {
                    let dot: f32 = x.iter().zip(&found).map(|(x, w)| x * w).sum();
                    let size: f32 = x.iter().zip(&found).map(|(x, w)| (x * w).abs()).sum();
                    // Levels of rows are within half a step of 127, of a group's largest element.
                    assert!((y[out] - dot).abs() < 0.02 * size, "{} {dot}", y[out]);
                }
            }
            // In their own order large inputs would leave steps of 30 / 8: an error of about the size of the weights.
            let limit = 0.8 / format.zero_point() as f32;
            let error = (errors / squares).sqrt();
            assert!(error < limit, "{format:?}: {error}");
        }
    }
}

#[test]
fn the_largest_levels_do_not_overflow() {
    let pool = Pool::new(1);
    for format in FORMATS {
        // The first element sets the scale; all others are the highest level, or the lowest.
        for sign in [1.0, -1.0] {
            let end = if sign > 0.0 {
                levels(format).end - 1
            } else {
                levels(format).start
            };
            let data = (0..64).map(|k| if k % 32 == 0 { levels(format).start } else { end } as f32);
            let w = Matrix::new(1, 64, MatrixData::F32(data.collect()));
            for kernels in all_sets() {
                let grouped = kernels.quantize_weights(&pool, &w, format);
                let mut quantized = GroupedActivations::new(format, 1, 64);
                let x = Rows {
                    data: &[127.0; 64],
                    stride: 64,
                };
                kernels.quantize_rows(&pool, &mut quantized, &grouped, x, 1, None);
                let mut y = [0.0];
                kernels.linear_grouped(&pool, &mut y, &quantized, &grouped, None, PostOp::Store);
                let want = 127 * 2 * (levels(format).start + 31 * end);
                assert_eq!(y[0], want as f32, "{} {format:?}", kernels.isa());
            }
        }
    }
}

#[test]
fn zeros_and_numbers_that_are_too_small_or_not_finite_are_told_apart() {
    let pool = Pool::new(1);
    let mut data = Random(1).vec(40 * 7);
    data[..7].fill(0.0);
    data[7..14].fill(1e-40);
    data[14..21].fill(1e9);
    let w = Matrix::new(40, 7, MatrixData::F32(data));
    for format in FORMATS {
        for kernels in all_sets() {
            let grouped = kernels.quantize_weights(&pool, &w, format);
            let product = |x: &[f32; 7]| {
                let mut quantized = GroupedActivations::new(format, 1, 7);
                let rows = Rows { data: x, stride: 7 };
                kernels.quantize_rows(&pool, &mut quantized, &grouped, rows, 1, None);
                let mut y = [7.0; 40];
                kernels.linear_grouped(&pool, &mut y, &quantized, &grouped, None, PostOp::Store);
                y
            };
            let y = product(&[1e30, -3.0, 1.0, 2.0, -1e30, 5.0, 1.0]);
            assert_eq!(y[..2], [0.0; 2], "{}", kernels.isa());
            assert!(y.iter().all(|y| y.is_finite()));
            assert_eq!(product(&[0.0; 7]), [0.0; 40]);
            assert!(product(&[f32::NAN; 7]).iter().all(|y| y.is_nan()));
            assert!(
                product(&[1.0, f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0])[3..]
                    .iter()
                    .all(|y| !y.is_finite())
            );
        }
    }
}

#[test]
fn weights_that_cannot_be_read_are_an_error() {
    let (n_out, n_in) = (100, 10);
    let pool = Pool::new(2);
    let read = |first: usize, to: &mut [u8]| {
        assert_eq!(to.len(), 32.min(n_out - first) * n_in * 2);
        to.fill(0);
        if first == 64 { Err(first) } else { Ok(()) }
    };
    let shape = (n_out, n_in);
    let kernels = Kernels::detect();
    let found =
        kernels.quantize_weights_from(&pool, shape, Dtype::F16, GroupFormat::Q4, true, read);
    assert_eq!(found.err(), Some(64));
}
