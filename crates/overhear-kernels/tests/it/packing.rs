//! Packing of weights and of rows of activations.

use super::gemm_packed::PACKINGS;
use super::{Random, all_sets};
use overhear_kernels::{Dtype, PackedActivations, Packing, Pool, Rows, Source};

#[test]
fn packing_rows_normalises_them_as_layer_norm_does() {
    let pool = Pool::new(2);
    for (n, n_cols) in [(1, 1), (3, 33), (40, 384)] {
        let mut random = Random(n as u64);
        let (x, gamma, beta) = (
            random.vec(n * n_cols),
            random.vec(n_cols),
            random.vec(n_cols),
        );
        for kernels in all_sets() {
            let mut normal = vec![0.0; x.len()];
            kernels.layer_norm(&pool, &mut normal, &x, &gamma, &beta);
            for packing in PACKINGS {
                let pack = |data: &[f32], norm| {
                    let mut to = PackedActivations::new(packing, 0, 0);
                    let source = Source::F32(Rows {
                        data,
                        stride: n_cols,
                    });
                    kernels.pack_rows(&pool, &mut to, source, (n, n_cols), norm);
                    (to.rows().groups().to_vec(), to.rows().scales())
                };
                let (found, scales) = pack(&x, Some((&gamma, &beta)));
                let (expected, expected_scales) = pack(&normal, None);
                // The scalar set's own layer norm sums in f64: an element in a thousand may round the other way.
                let differing = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
                assert!(
                    differing <= 1 + found.len() / 100,
                    "{packing:?}: {differing}"
                );
                for (scale, expected) in scales.iter().zip(expected_scales) {
                    assert!((scale / expected - 1.0).abs() < 1e-5);
                }
            }
        }
    }
}

#[test]
fn packed_weights_are_read_back_as_they_are_multiplied() {
    let pool = Pool::new(2);
    let w = Random(9).matrix(45, 37, Dtype::F16);
    let (mut stored, mut packed_row) = (vec![0.0; 37], vec![0.0; 37]);
    for kernels in all_sets() {
        for (packing, step) in [(Packing::Bf16, 1.0 / 256.0), (Packing::Int8, 0.5 / 127.0)] {
            let packed = kernels.pack_weights(&pool, &w, packing);
            for out in 0..45 {
                w.copy_row(out, &mut stored);
                packed.copy_row(out, &mut packed_row);
                let largest = stored.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                for (stored, packed) in stored.iter().zip(&packed_row) {
                    assert!(
                        (stored - packed).abs() <= 1.001 * step * largest,
                        "{packing:?}"
                    );
                }
            }
        }
    }
}

/// Each weight must be rounded to bf16, or by its output's scale.
#[test]
fn packed_weights_are_the_rounded_ones_from_any_dtype() {
    let pool = Pool::new(2);
    let mut random = Random(17);
    // Parts of panels, of blocks of K and of K groups.
    for (n_out, n_in) in [(1, 1), (32, 128), (33, 257), (70, 90), (96, 515)] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let w = random.matrix(n_out, n_in, dtype);
            for kernels in all_sets() {
                for packing in PACKINGS {
                    let packed = kernels.pack_weights(&pool, &w, packing);
                    let (mut row, mut found) = (vec![0.0f32; n_in], vec![0.0; n_in]);
                    for out in 0..n_out {
                        w.copy_row(out, &mut row);
                        packed.copy_row(out, &mut found);
                        let largest = row.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
                        let (scale, inverse) = (largest / 127.0, 127.0 / largest);
                        for (found, w) in found.iter().zip(&row) {
                            let want = match packing {
                                Packing::Bf16 => half::bf16::from_f32(*w).to_f32(),
                                Packing::Int8 => (w * inverse).round_ties_even() * scale,
                            };
                            assert_eq!(*found, want, "{} {dtype:?} {packing:?}", kernels.isa());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn weights_that_cannot_be_read_are_an_error() {
    let (n_out, n_in) = (100, 10);
    let pool = Pool::new(2);
    for kernels in all_sets() {
        for bad in [0, 64, 96] {
            let read = |first: usize, to: &mut [u8]| {
                assert_eq!(to.len(), 32.min(n_out - first) * n_in * 2);
                to.fill(0);
                if first == bad { Err(first) } else { Ok(()) }
            };
            let found =
                kernels.pack_weights_from(&pool, (n_out, n_in), Dtype::F16, Packing::Int8, read);
            assert_eq!(found.err(), Some(bad));
        }
    }
}
