//! Share of each token's cross-attention that falls on silent frames.

use super::FRAMES_PER_POSITION;

/// Accumulator of the cross-attention (0 to 1, the mean over the alignment heads) that falls on silent frames, per text
/// token.
pub(super) struct SilentAttention {
    /// Whether an encoder position is silent: only if all of its frames are.
    is_silent: Vec<bool>,
    /// Per text token, the sum over the heads so far.
    shares: Vec<f32>,
    n_heads: usize,
}

impl SilentAttention {
    /// `is_silent`: one value per frame of audio in the window.
    pub(super) fn new(is_silent: &[bool], n_text: usize) -> Self {
        let is_silent = is_silent
            .chunks(FRAMES_PER_POSITION)
            .map(|frames| frames.iter().all(|&is_silent| is_silent));
        Self {
            is_silent: is_silent.collect(),
            shares: vec![0.0; n_text],
            n_heads: 0,
        }
    }

    /// Adds one head. `weights`: rows of `n_keys`, each predicting a text token.
    pub(super) fn add(&mut self, weights: &[f32], n_keys: usize) {
        self.n_heads += 1;
        for (share, row) in self.shares.iter_mut().zip(weights.chunks_exact(n_keys)) {
            let silent = row.iter().zip(&self.is_silent);
            let silent = silent.filter(|(_, is_silent)| **is_silent);
            *share += silent.map(|(weight, _)| weight).sum::<f32>();
        }
    }

    /// Returns the share of each text token.
    pub(super) fn shares(mut self) -> Vec<f32> {
        let n_heads = self.n_heads as f32;
        self.shares.iter_mut().for_each(|share| *share /= n_heads);
        self.shares
    }
}
