//! Combines the attention weights of the alignment heads to one matrix of tokens by frames: the middle part of
//! `whisper/timing.py::find_alignment`.

use std::ops::Range;

use super::median::median_filter;

/// Accumulator of the heads' filtered weights, one head at a time.
pub(super) struct AlignmentMatrix {
    /// Rows of a head that are part of the result.
    rows: Range<usize>,
    n_frames: usize,
    n_heads: usize,
    /// Sum over heads, `[rows, n_frames]`.
    sum: Vec<f32>,
    columns: Columns,
    /// Working memory: a standardised row, the same with reflected ends, and filtered.
    row: Vec<f32>,
    padded: Vec<f32>,
    filtered: Vec<f32>,
}

/// Mean and standard deviation of each frame's column.
struct Columns {
    /// Working memory.
    sum: Vec<f64>,
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl AlignmentMatrix {
    pub(super) fn new(rows: Range<usize>, n_frames: usize) -> Self {
        Self {
            n_frames,
            n_heads: 0,
            sum: vec![0.0; rows.len() * n_frames],
            rows,
            columns: Columns::new(n_frames),
            row: vec![0.0; n_frames],
            padded: Vec::new(),
            filtered: vec![0.0; n_frames],
        }
    }

    /// Adds a head's weights, `[n_tokens, n_frames]`: standardised over all tokens, then filtered over the frames. A
    /// frame with the same weight for all tokens has no deviation, and becomes NaN.
    pub(super) fn add(&mut self, weights: &[f32]) {
        self.columns.measure(weights, self.n_frames);
        let counting = self.rows.start * self.n_frames..self.rows.end * self.n_frames;
        let sums = self.sum.chunks_exact_mut(self.n_frames);
        for (weights, sum) in weights[counting].chunks_exact(self.n_frames).zip(sums) {
            self.columns.standardise(weights, &mut self.row);
            median_filter(&self.row, &mut self.filtered, &mut self.padded);
            sum.iter_mut()
                .zip(&self.filtered)
                .for_each(|(sum, x)| *sum += x);
        }
        self.n_heads += 1;
    }

    /// Returns the negated mean over the heads, the cost for dynamic time warping.
    pub(super) fn into_cost(mut self) -> Vec<f32> {
        let n_heads = self.n_heads as f32;
        self.sum.iter_mut().for_each(|sum| *sum = -(*sum / n_heads));
        self.sum
    }
}

impl Columns {
    fn new(n_frames: usize) -> Self {
        Self {
            sum: vec![0.0; n_frames],
            mean: vec![0.0; n_frames],
            deviation: vec![0.0; n_frames],
        }
    }

    /// Computes mean and population standard deviation, summed in f64 as torch does on a CPU.
    fn measure(&mut self, weights: &[f32], n_frames: usize) {
        let n_rows = (weights.len() / n_frames) as f64;
        self.sum.fill(0.0);
        for row in weights.chunks_exact(n_frames) {
            let terms = self.sum.iter_mut().zip(row);
            terms.for_each(|(sum, &x)| *sum += f64::from(x));
        }
        // `sum` holds the mean in full precision until the deviation is computed.
        self.sum.iter_mut().for_each(|sum| *sum /= n_rows);
        let mut squares = vec![0.0f64; n_frames];
        for row in weights.chunks_exact(n_frames) {
            let terms = squares.iter_mut().zip(row).zip(&self.sum);
            terms.for_each(|((square, &x), mean)| {
                let d = f64::from(x) - mean;
                *square += d * d;
            });
        }
        for (frame, square) in squares.iter().enumerate() {
            self.mean[frame] = self.sum[frame] as f32;
            self.deviation[frame] = (square / n_rows).sqrt() as f32;
        }
    }

    fn standardise(&self, weights: &[f32], row: &mut [f32]) {
        let columns = self.mean.iter().zip(&self.deviation);
        for ((x, weight), (mean, deviation)) in row.iter_mut().zip(weights).zip(columns) {
            *x = (weight - mean) / deviation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_standardised_over_tokens_and_averaged() {
        // Three frames are too few for the filter. The first row is not part of the result, but of the columns.
        let mut matrix = AlignmentMatrix::new(1..3, 3);
        matrix.add(&[1.0, 0.0, 0.0, 2.0, 0.0, 3.0, 3.0, 9.0, 0.0]);
        let (a, b) = (1.5f32.sqrt(), 0.5f32.sqrt());
        let expected = [0.0, b, -2.0 * b, -a, -2.0 * b, b];
        // The mean of a head and itself is that head.
        let mut twice = AlignmentMatrix::new(1..3, 3);
        twice.add(&[1.0, 0.0, 0.0, 2.0, 0.0, 3.0, 3.0, 9.0, 0.0]);
        twice.add(&[1.0, 0.0, 0.0, 2.0, 0.0, 3.0, 3.0, 9.0, 0.0]);
        for cost in [matrix.into_cost(), twice.into_cost()] {
            for (found, expected) in cost.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{cost:?}");
            }
        }
    }

    #[test]
    fn a_frame_that_all_tokens_share_alike_is_nan_as_in_the_reference() {
        let mut matrix = AlignmentMatrix::new(0..2, 2);
        matrix.add(&[0.5, 0.25, 0.5, 0.75]);
        let cost = matrix.into_cost();
        assert!(cost[0].is_nan() && cost[2].is_nan());
        assert_eq!((cost[1], cost[3]), (1.0, -1.0));
    }
}
