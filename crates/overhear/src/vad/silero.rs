//! The network of Silero VAD for 16 kHz: a spectrogram and four convolutions of each frame, an LSTM over the frames.
//!
//! <https://github.com/snakers4/silero-vad>, `silero_vad_16k_op15.onnx` of 6.2. Everything before the LSTM's recurrence is
//! computed for many frames at a time, one matrix product for each column of a convolution's output; only the recurrence
//! goes frame by frame. A frame's result does not depend on how many are computed at a time, to the bit.

use std::sync::Arc;

use overhear_kernels::{
    Dtype, Kernels, Matrix, MatrixData, Pool, PostOp, Rows, Storage, StoredMatrix,
};

use super::FRAME_SAMPLES;
use super::weights::Weights;
use crate::host::Host;

/// Number of samples before a frame that are part of its input.
pub(super) const CONTEXT: usize = 64;
/// Number of samples of input of a frame.
pub(super) const INPUT: usize = CONTEXT + FRAME_SAMPLES;
/// Number of samples of input with the reflection at its end.
const PADDED: usize = INPUT + 64;
/// Samples per discrete Fourier transform, and from one to the next.
const N_FFT: usize = 256;
const HOP: usize = 128;
/// Number of transforms of a frame, and of frequencies of each.
const N_COLUMNS: usize = (PADDED - N_FFT) / HOP + 1;
const N_BINS: usize = N_FFT / 2 + 1;
/// Taps of a convolution.
const TAPS: usize = 3;
/// Size of the LSTM.
const N_STATE: usize = 128;
/// Outputs, inputs and stride of each convolution.
const CONVOLUTIONS: [(usize, usize, usize); 4] = [
    (128, N_BINS, 1),
    (64, 128, 2),
    (64, 64, 2),
    (N_STATE, 64, 1),
];

/// Weights of the network, and the kernels and threads that run it.
pub(super) struct Silero {
    kernels: Kernels,
    pool: Arc<Pool>,
    /// The caller's thread alone: a product with one row takes less time than waking another.
    caller: Pool,
    /// `[2 * N_BINS, N_FFT]`: real parts, then imaginary ones, of a windowed Fourier transform.
    stft: StoredMatrix,
    convolutions: Vec<Convolution>,
    /// `[4 * N_STATE, N_STATE]`: gates i, f, g and o of the input, and of the last output.
    weight_ih: StoredMatrix,
    weight_hh: StoredMatrix,
    bias: Vec<f32>,
    /// `[N_STATE]`.
    out_weight: Vec<f32>,
    out_bias: f32,
}

/// Convolution with a padding of one column of zeros at both sides, and ReLU.
struct Convolution {
    /// `[n_out, TAPS * n_in]`.
    weight: StoredMatrix,
    bias: Vec<f32>,
    stride: usize,
}

/// State of the LSTM, zeros at the start of a recording.
pub(super) struct LstmState {
    h: [f32; N_STATE],
    c: [f32; N_STATE],
}

impl LstmState {
    pub(super) fn new() -> Self {
        Self {
            h: [0.0; N_STATE],
            c: [0.0; N_STATE],
        }
    }
}

impl Silero {
    pub(super) fn new(host: &Host) -> Self {
        let weights = Weights::open();
        let (kernels, pool) = (host.kernels, Arc::clone(&host.pool));
        let matrix = |name: &str, n_out: usize, n_in: usize| {
            let elements = MatrixData::F32(weights.tensor(name, n_out * n_in));
            let matrix = Matrix::new(n_out, n_in, elements);
            kernels.store_weights(&pool, &matrix, Storage::Float(Dtype::F32))
        };
        let convolution =
            |(layer, &(n_out, n_in, stride)): (usize, &(usize, usize, usize))| Convolution {
                weight: matrix(&format!("conv{layer}.weight"), n_out, TAPS * n_in),
                bias: weights.tensor(&format!("conv{layer}.bias"), n_out),
                stride,
            };
        Self {
            stft: matrix("stft.weight", 2 * N_BINS, N_FFT),
            convolutions: CONVOLUTIONS.iter().enumerate().map(convolution).collect(),
            weight_ih: matrix("lstm.weight_ih", 4 * N_STATE, N_STATE),
            weight_hh: matrix("lstm.weight_hh", 4 * N_STATE, N_STATE),
            bias: weights.tensor("lstm.bias", 4 * N_STATE),
            out_weight: weights.tensor("out.weight", N_STATE),
            out_bias: weights.tensor("out.bias", 1)[0],
            caller: Pool::new(1),
            kernels,
            pool,
        }
    }

    /// Appends the probability of speech in each of `n` frames. `samples`: the context of the first frame, then the frames,
    /// `[CONTEXT + n * FRAME_SAMPLES]`.
    pub(super) fn forward(
        &self,
        samples: &[f32],
        state: &mut LstmState,
        probabilities: &mut Vec<f32>,
    ) {
        let n = (samples.len() - CONTEXT) / FRAME_SAMPLES;
        let mut x = self.spectrogram(samples, n); // [n, 1 + 4 + 1, N_BINS]
        for convolution in &self.convolutions {
            x = self.convolve(convolution, &x, n); // [n, 1 + n_columns + 1, n_out]
        }
        let mut gates = vec![0.0; n * 4 * N_STATE];
        let rows = Rows {
            data: &x[N_STATE..],
            stride: TAPS * N_STATE, // of [n, 1 + 1 + 1, N_STATE] the column in the middle
        };
        let (weight, bias) = (&self.weight_ih, Some(&self.bias[..]));
        self.kernels
            .linear(&self.pool, &mut gates, rows, weight, bias, PostOp::Store);
        for gates in gates.chunks_exact_mut(4 * N_STATE) {
            self.step(gates, state);
            let products = state.h.iter().zip(&self.out_weight);
            let sum: f32 = products.map(|(h, weight)| h.max(0.0) * weight).sum();
            probabilities.push(sigmoid(sum + self.out_bias));
        }
    }

    /// Returns the magnitudes `[n, 1 + N_COLUMNS + 1, N_BINS]` of the frames, columns of zeros around them.
    fn spectrogram(&self, samples: &[f32], n: usize) -> Vec<f32> {
        let mut padded = vec![0.0; n * PADDED];
        for (frame, padded) in padded.chunks_exact_mut(PADDED).enumerate() {
            let input = &samples[frame * FRAME_SAMPLES..][..INPUT];
            padded[..INPUT].copy_from_slice(input);
            let reflection = input.iter().rev().skip(1);
            let to = padded[INPUT..].iter_mut();
            to.zip(reflection).for_each(|(to, sample)| *to = *sample);
        }
        let n_out = (N_COLUMNS + 2) * N_BINS;
        let mut spectrogram = vec![0.0; n * n_out];
        let mut product = vec![0.0; n * 2 * N_BINS];
        for column in 0..N_COLUMNS {
            let rows = Rows {
                data: &padded[column * HOP..],
                stride: PADDED,
            };
            self.kernels.linear(
                &self.pool,
                &mut product,
                rows,
                &self.stft,
                None,
                PostOp::Store,
            );
            let frames = spectrogram.chunks_exact_mut(n_out);
            for (frame, parts) in frames.zip(product.chunks_exact(2 * N_BINS)) {
                let (real, imaginary) = parts.split_at(N_BINS);
                let to = &mut frame[(1 + column) * N_BINS..][..N_BINS];
                for (to, (re, im)) in to.iter_mut().zip(real.iter().zip(imaginary)) {
                    *to = (re * re + im * im).sqrt();
                }
            }
        }
        spectrogram
    }

    /// Returns the layer's output `[n, 1 + n_columns_out + 1, n_out]` for `x`, `[n, 1 + n_columns + 1, n_in]`.
    fn convolve(&self, layer: &Convolution, x: &[f32], n: usize) -> Vec<f32> {
        let (n_out, n_in) = (layer.weight.n_out(), layer.weight.n_in() / TAPS);
        let frame_len = x.len() / n;
        let n_columns = (frame_len / n_in - TAPS) / layer.stride + 1;
        let mut y = vec![0.0; n * (n_columns + 2) * n_out];
        let mut product = vec![0.0; n * n_out];
        for column in 0..n_columns {
            let rows = Rows {
                data: &x[column * layer.stride * n_in..],
                stride: frame_len,
            };
            let (weight, bias) = (&layer.weight, Some(&layer.bias[..]));
            self.kernels
                .linear(&self.pool, &mut product, rows, weight, bias, PostOp::Store);
            let frames = y.chunks_exact_mut((n_columns + 2) * n_out);
            for (frame, from) in frames.zip(product.chunks_exact(n_out)) {
                let to = frame[(1 + column) * n_out..].iter_mut();
                to.zip(from).for_each(|(to, from)| *to = from.max(0.0));
            }
        }
        y
    }

    /// Advances the LSTM by a frame. `gates`: the gates i, f, g and o of the frame's input, `[4 * N_STATE]`.
    fn step(&self, gates: &mut [f32], state: &mut LstmState) {
        let rows = Rows {
            data: &state.h,
            stride: N_STATE,
        };
        let weight = &self.weight_hh;
        self.kernels
            .linear(&self.caller, gates, rows, weight, None, PostOp::Add);
        for k in 0..N_STATE {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * N_STATE + k]);
            state.c[k] = sigmoid(f) * state.c[k] + sigmoid(i) * g.tanh();
            state.h[k] = sigmoid(o) * state.c[k].tanh();
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
