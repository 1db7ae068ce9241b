//! Plan of a log spectrogram: window, passes of the FFT, filterbank.

use std::f64::consts::TAU;

/// Plan of a log spectrogram: window, FFT, filterbank and floor of the logarithm.
#[derive(Debug)]
pub struct Spectrogram {
    /// Window, `[n_fft]`.
    pub(crate) window: Vec<f32>,
    /// Samples from one frame to the next.
    pub(crate) hop: usize,
    pub(crate) filters: Vec<Filter>,
    /// Floor of the filter energies; `floor_log` is its decimal logarithm.
    pub(crate) floor: f32,
    pub(crate) floor_log: f32,
    pub(super) passes: Vec<Pass>,
    /// Cosine and sine of `TAU * k / n_fft`, for the bins `0..=n_fft / 4`.
    pub(super) unfold: Vec<[f32; 2]>,
}

/// Filter of the filterbank: weights of a range of bins.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The first bin.
    pub first_bin: usize,
    /// Weights of the bins from `first_bin` on.
    pub weights: Vec<f32>,
}

/// One pass of the FFT.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) radix: usize,
    /// Elements from one input of a butterfly to the same input of the next.
    pub(super) stride: usize,
    /// Cosine and minus sine: `radix` for each of the `m` groups of butterflies.
    pub(super) twiddles: Vec<[f32; 2]>,
}

impl Spectrogram {
    /// A spectrogram of frames of `window.len()` samples, `hop` apart.
    ///
    /// # Panics
    /// If half of the window's length is not a product of 2, 4 and 5, or a filter reaches beyond the
    /// `window.len() / 2 + 1` bins.
    #[must_use]
    pub fn new(window: Vec<f32>, hop: usize, filters: Vec<Filter>, floor: f32) -> Self {
        let n_fft = window.len();
        assert!(
            n_fft > 0 && n_fft.is_multiple_of(4) && hop > 0,
            "a frame of {n_fft}"
        );
        let is_within = |f: &Filter| f.first_bin + f.weights.len() <= n_fft / 2 + 1;
        assert!(
            !filters.is_empty() && filters.iter().all(is_within),
            "no filter, or one beyond the bins"
        );
        let unfold = (0..=n_fft / 4).map(|k| unit(k, n_fft)).collect();
        Self {
            passes: passes(n_fft / 2),
            unfold,
            window,
            hop,
            filters,
            floor,
            floor_log: floor.log10(),
        }
    }

    /// Number of filters, and of values per frame.
    #[must_use]
    pub fn n_filters(&self) -> usize {
        self.filters.len()
    }

    /// Largest number of rows that the transform of a frame takes.
    pub(crate) fn n_rows(&self) -> usize {
        self.window.len().max(self.n_bins()).max(self.filters.len())
    }

    pub(crate) fn n_bins(&self) -> usize {
        self.window.len() / 2 + 1
    }
}

/// Passes of a complex FFT of length `n`.
fn passes(mut n: usize) -> Vec<Pass> {
    let (mut passes, mut stride) = (Vec::new(), 1);
    while n > 1 {
        let radix = [5, 4, 2].into_iter().find(|radix| n.is_multiple_of(*radix));
        let radix = radix.expect("half a window is a product of 2, 4 and 5");
        let twiddle = |i: usize| {
            let [cos, sin] = unit((i / radix) * (i % radix), n);
            [cos, -sin]
        };
        passes.push(Pass {
            radix,
            stride,
            twiddles: (0..n).map(twiddle).collect(),
        });
        n /= radix;
        stride *= radix;
    }
    passes
}

/// Cosine and sine of `2 pi k / n`.
pub(super) fn unit(k: usize, n: usize) -> [f32; 2] {
    let angle = TAU * k as f64 / n as f64;
    [angle.cos() as f32, angle.sin() as f32]
}
