//! Online softmax of attention in f32: the scores of one block of keys at a time. [`Running`] is the decode kernel's
//! (lanes along the keys), [`update_softmax`] the prefill kernel's (lanes along the queries).

use crate::math::exp;
use crate::simd::Simd;

/// State of one query's softmax between blocks of keys.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) max: f32,
    pub(super) sum: f32,
    /// Factor for the output accumulated so far.
    pub(super) rescale: f32,
}

impl Running {
    /// Includes a block of scores, which are replaced by numerators `exp(score - max)`.
    #[inline(always)]
    pub(super) fn update<S: Simd>(self, s: S, scores: &mut [f32]) -> Self {
        if scores.is_empty() {
            return self;
        }
        let max = scores
            .iter()
            .fold(self.max, |max, &x| if x > max { x } else { max });
        let rescale = (self.max - max).exp();
        Self {
            max,
            sum: self.sum * rescale + exponentials(s, scores, max),
            rescale,
        }
    }
}

/// Replaces each score by `exp(score - max)`. Returns their sum.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(s: S, scores: &mut [f32], max: f32) -> f32 {
    let mut sums = s.splat(0.0);
    let mut tail = 0.0;
    for scores in scores.chunks_mut(S::LANES) {
        let terms = exp(s, s.sub(s.read(scores), s.splat(max)));
        s.write(scores, terms);
        if scores.len() == S::LANES {
            sums = s.add(sums, terms);
        } else {
            tail = scores.iter().sum();
        }
    }
    s.sum(sums) + tail
}

/// Includes a block of scores, `[n_keys, queries]`, in the running maxima and sums of `N` vectors of queries. Scores
/// are replaced by numerators `exp(score - max)`. Returns the factors for the outputs accumulated so far.
#[inline(always)]
pub(super) fn update_softmax<S: Simd, const N: usize>(
    s: S,
    scores: &mut [f32],
    max: &mut [S::V; N],
    sum: &mut [S::V; N],
) -> [S::V; N] {
    let old_max = *max;
    for scores in scores.chunks_exact(N * S::LANES) {
        for n in 0..N {
            max[n] = s.max(s.read(&scores[n * S::LANES..]), max[n]);
        }
    }
    let mut rescale = [s.splat(1.0); N];
    for n in 0..N {
        rescale[n] = exp(s, s.sub(old_max[n], max[n]));
        sum[n] = s.mul(sum[n], rescale[n]);
    }
    for scores in scores.chunks_exact_mut(N * S::LANES) {
        for n in 0..N {
            let scores = &mut scores[n * S::LANES..];
            let terms = exp(s, s.sub(s.read(scores), max[n]));
            sum[n] = s.add(sum[n], terms);
            s.write(scores, terms);
        }
    }
    rescale
}
