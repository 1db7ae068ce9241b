//! The mel filterbank: `librosa.filters.mel(sr=16000, n_fft=400, n_mels, htk=False, norm="slaney")`.
//!
//! The mel scale is Slaney's: linear below 1 kHz, logarithmic above. Each filter is a triangle of unit area.

use overhear_kernels::Filter;

use super::{N_FFT, SAMPLE_RATE};

/// Number of frequency bins of a real Fourier transform of [`N_FFT`] samples.
pub(crate) const N_BINS: usize = N_FFT / 2 + 1;

/// Returns the filters, each as its range of non-zero weights.
///
/// # Panics
/// If `n_mels` is neither 80 nor 128: no Whisper model has another number.
pub(super) fn mel_filters(n_mels: usize) -> Vec<Filter> {
    assert!(
        n_mels == 80 || n_mels == 128,
        "{n_mels} mel bins: a Whisper model has 80 or 128"
    );
    let nyquist = SAMPLE_RATE as f64 / 2.0;
    let edge = |i: usize| mel_to_hz(hz_to_mel(nyquist) * i as f64 / (n_mels + 1) as f64);
    (0..n_mels)
        .map(|mel| {
            let (low, center, high) = (edge(mel), edge(mel + 1), edge(mel + 2));
            let weight = |bin: usize| {
                let hz = bin as f64 * SAMPLE_RATE as f64 / N_FFT as f64;
                let triangle = ((hz - low) / (center - low)).min((high - hz) / (high - center));
                // librosa's triangles are f32 before they are scaled: so the bits are those of openai/whisper's file.
                (f64::from(triangle.max(0.0) as f32) * (2.0 / (high - low))) as f32
            };
            let first_bin = (0..N_BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(0);
            let weights = (first_bin..N_BINS)
                .map(weight)
                .take_while(|&w| w > 0.0)
                .collect();
            Filter { first_bin, weights }
        })
        .collect()
}

/// Returns the filters as a matrix `[n_mels, N_BINS]`.
///
/// # Panics
/// As [`mel_filters`].
pub(crate) fn filterbank(n_mels: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; n_mels * N_BINS];
    for (row, filter) in matrix.chunks_exact_mut(N_BINS).zip(mel_filters(n_mels)) {
        row[filter.first_bin..][..filter.weights.len()].copy_from_slice(&filter.weights);
    }
    matrix
}

/// Converts to Slaney's mel scale: 200/3 Hz per mel below 1 kHz, then 27 mel per factor of 6.4.
fn hz_to_mel(hz: f64) -> f64 {
    if hz < 1000.0 {
        hz * 3.0 / 200.0
    } else {
        15.0 + (hz / 1000.0).ln() * 27.0 / 6.4f64.ln()
    }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < 15.0 {
        mel * 200.0 / 3.0
    } else {
        1000.0 * (6.4f64.ln() / 27.0 * (mel - 15.0)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::filterbank;

    /// FNV-1a of the matrices in openai/whisper's `assets/mel_filters.npz`, as little-endian f32, zeros without signs.
    const CHECKSUMS: [(usize, u64); 2] =
        [(80, 0x3215_6581_cfa4_00a6), (128, 0x7742_3cc9_4356_40c1)];

    #[test]
    fn the_filters_have_the_bits_of_the_reference() {
        for (n_mels, expected) in CHECKSUMS {
            let matrix = filterbank(n_mels);
            let bytes = matrix.iter().flat_map(|weight| weight.to_le_bytes());
            let checksum = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            assert_eq!(checksum, expected, "{n_mels} mel bins");
        }
    }
}
