//! Weight-only int8: weights in int8 times activations in f32.

use half::{bf16, f16};

use super::{Random, all_sets, sets};
use overhear_kernels::{
    Dtype, Kernels, Matrix, MatrixData, PackedActivations, Packing, Pool, PostOp, Rows, Source,
    Storage,
};

/// A matrix with inputs whose weights are large in all outputs, an input whose weights are zero, and outputs of
/// several sizes.
fn uneven(random: &mut Random, n_out: usize, n_in: usize, dtype: Dtype) -> Matrix {
    let mut data = random.vec(n_out * n_in);
    for (i, x) in data.iter_mut().enumerate() {
        let (out, k) = (i / n_in, i % n_in);
        let column = match k % 9 {
            3 => 50.0,
            7 if n_in > 60 => 0.0,
            _ => 1.0,
        };
        *x *= column * (1 + out % 3) as f32;
    }
    let data = match dtype {
        Dtype::F32 => MatrixData::F32(data),
        Dtype::F16 => MatrixData::F16(data.into_iter().map(f16::from_f32).collect()),
        Dtype::Bf16 => MatrixData::Bf16(data.into_iter().map(bf16::from_f32).collect()),
    };
    Matrix::new(n_out, n_in, data)
}

/// Each weight must be rounded by its input's and its output's scale.
#[test]
fn bytes_are_the_rounded_weights_of_any_dtype() {
    let pool = Pool::new(2);
    let mut random = Random(17);
    // Parts of panels and of blocks of K.
    for (n_out, n_in) in [(0, 3), (2, 0), (1, 1), (32, 64), (33, 65), (70, 90)] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let w = uneven(&mut random, n_out, n_in, dtype);
            for kernels in all_sets() {
                let stored = kernels.store_weights(&pool, &w, Storage::Int8);
                assert_eq!(
                    (stored.n_out(), stored.n_in(), stored.storage()),
                    (n_out, n_in, Storage::Int8)
                );
                let (_, columns) = stored.scales().unwrap();
                assert_eq!(columns.len(), n_in);
                let (mut row, mut found) = (vec![0.0f32; n_in], vec![0.0; n_in]);
                for out in 0..n_out {
                    w.copy_row(out, &mut row);
                    stored.copy_row(out, &mut found);
                    let evened: Vec<f32> = row.iter().zip(columns).map(|(w, c)| w / c).collect();
                    let largest = evened.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                    let (scale, inverse) = (largest / 127.0, 127.0 / largest);
                    for ((found, w), column) in found.iter().zip(&evened).zip(columns) {
                        let want = (w * inverse).round_ties_even() * scale * column;
                        assert_eq!(*found, want, "{} {dtype:?}", kernels.isa());
                    }
                }
            }
        }
    }
}

/// The bits must be those of a product with the bytes as f32, whose sums are scaled before the bias.
#[test]
fn a_product_of_bytes_is_that_of_whole_numbers_scaled() {
    let (n_out, n_in) = if cfg!(miri) { (33, 9) } else { (103, 1283) };
    let pool = Pool::new(2);
    let mut random = Random(4);
    let w = uneven(&mut random, n_out, n_in, Dtype::F32);
    let bytes = Kernels::detect().store_weights(&pool, &w, Storage::Int8);
    let (scales, columns) = bytes.scales().unwrap();
    assert!(columns[3] >= 8.0 * columns[4] && columns[4] == columns[5]);
    let whole = (0..n_out).flat_map(|out| {
        let mut row = vec![0.0; n_in];
        bytes.copy_row(out, &mut row);
        for (x, column) in row.iter_mut().zip(columns) {
            *x = (*x / scales[out] / column).round_ties_even() * column;
        }
        row
    });
    let whole = Matrix::new(n_out, n_in, MatrixData::F32(whole.collect()));
    let whole = Kernels::detect().store_weights(&pool, &whole, Storage::Float(Dtype::F32));
    let bias = random.vec(n_out);
    for n in [1, 2, 5, 13, 25, 40] {
        let x = random.vec(n * n_in);
        let x = Rows {
            data: &x,
            stride: n_in,
        };
        for kernels in sets() {
            let mut found = vec![0.0; n * n_out];
            let (bias, store) = (Some(&bias[..]), PostOp::Store);
            kernels.linear(&pool, &mut found, x, &bytes, bias, store);
            let mut sums = vec![0.0; n * n_out];
            kernels.linear(&pool, &mut sums, x, &whole, None, store);
            for (i, (found, sum)) in found.iter().zip(&sums).enumerate() {
                let out = i % n_out;
                let want = sum * scales[out] + bias.map_or(0.0, |bias| bias[out]);
                assert_eq!(*found, want, "{} {n} rows at {i}", kernels.isa());
            }
        }
    }
}

#[test]
fn outputs_of_zeros_and_of_numbers_too_small_to_divide_by_are_zero() {
    let mut data = Random(1).vec(40 * 7);
    data[..7].fill(0.0);
    data[7..14].fill(1e-40);
    data[14..21].fill(-0.0);
    let w = Matrix::new(40, 7, MatrixData::F32(data));
    let x = Rows {
        data: &[1e30, -3.0, 1.0, 2.0, -1e30, 5.0, 1.0],
        stride: 7,
    };
    for kernels in all_sets() {
        let pool = Pool::new(1);
        let stored = kernels.store_weights(&pool, &w, Storage::Int8);
        let mut y = [7.0; 40];
        kernels.linear(&pool, &mut y, x, &stored, None, PostOp::Store);
        assert_eq!(y[..3], [0.0; 3], "{}", kernels.isa());
        assert!(y[3..].iter().all(|y| y.is_finite() && *y != 0.0));
    }
}

#[test]
fn every_byte_is_widened_exactly() {
    let all: Vec<f32> = (-127..=127i16).map(f32::from).collect();
    let n = all.len();
    // Every output has every byte, and so has every input, so that none has a scale.
    let weight = |out: usize, k: usize| all[(out + k) % n];
    let data = (0..n * n).map(|i| weight(i / n, i % n)).collect();
    let w = Matrix::new(n, n, MatrixData::F32(data));
    for kernels in all_sets() {
        let pool = Pool::new(1);
        let stored = kernels.store_weights(&pool, &w, Storage::Int8);
        // Unit vectors show the weights one by one; few rows, and many.
        for n_rows in [1, 25] {
            let mut x = vec![0.0; n_rows * n];
            (0..n_rows).for_each(|row| x[row * n + row] = 1.0);
            let x = Rows {
                data: &x,
                stride: n,
            };
            let mut y = vec![0.0; n_rows * n];
            kernels.linear(&pool, &mut y, x, &stored, None, PostOp::Store);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(*y, weight(i % n, i / n), "{}", kernels.isa());
            }
        }
    }
}

/// Purpose of the input scales: weights beside an input of large ones keep their steps.
#[test]
fn large_inputs_do_not_take_the_steps_of_the_others() {
    let (n_out, n_in) = (64, 128);
    let mut random = Random(23);
    let w = uneven(&mut random, n_out, n_in, Dtype::F32);
    let stored = Kernels::detect().store_weights(&Pool::new(1), &w, Storage::Int8);
    let (mut row, mut found) = (vec![0.0; n_in], vec![0.0; n_in]);
    let (mut errors, mut squares) = (0.0, 0.0);
    for out in 0..n_out {
        w.copy_row(out, &mut row);
        stored.copy_row(out, &mut found);
        for k in (0..n_in).filter(|k| k % 9 != 3) {
            errors += (row[k] - found[k]).powi(2);
            squares += row[k].powi(2);
        }
    }
    // Without input scales: steps of 50 / 127 of a weight's own largest, 0.2 of the root mean square.
    assert!(
        (errors / squares).sqrt() < 0.03,
        "{}",
        (errors / squares).sqrt()
    );
}

#[test]
fn weights_that_cannot_be_read_are_an_error() {
    let (n_out, n_in) = (1100, 10);
    for kernels in all_sets() {
        // Rows read for the input scales, or only to be packed.
        for bad in [0, 32, 1088] {
            let read = |first: usize, to: &mut [u8]| {
                assert_eq!(to.len(), 32.min(n_out - first) * n_in * 2);
                to.fill(0);
                if first == bad { Err(first) } else { Ok(()) }
            };
            let pool = Pool::new(2);
            let found =
                kernels.store_weights_from(&pool, (n_out, n_in), Dtype::F16, Storage::Int8, read);
            assert_eq!(found.err(), Some(bad));
        }
    }
}

#[test]
fn bfloat16_rows_are_widened_as_they_are() {
    for (n_rows, n_cols) in [(0, 4), (3, 0), (1, 1), (5, 37), (4, 2048)] {
        let values = Random(8).vec(n_rows * n_cols);
        let mut rows = PackedActivations::new(Packing::Bf16, 0, 0);
        let from = Source::F32(Rows {
            data: &values,
            stride: n_cols,
        });
        Kernels::detect().pack_rows(&Pool::new(2), &mut rows, from, (n_rows, n_cols), None);
        let mut found = vec![f32::NAN; n_rows * n_cols];
        rows.copy_widened(&mut found);
        let want: Vec<f32> = values
            .iter()
            .map(|x| half::bf16::from_f32(*x).to_f32())
            .collect();
        assert_eq!(found, want, "[{n_rows}, {n_cols}]");
    }
}
