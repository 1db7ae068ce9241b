//! Sampling at temperatures above 0. The text depends on the seed alone, not on the number of threads or rows. It
//! cannot equal that of openai/whisper, which draws from torch's generator.

/// What the state of a generator grows by with each number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 generator (Steele, Lea, Flood 2014): tiny, and good enough to sample tokens. Every token is drawn with the next
/// number, so that the number of any later token is known.
pub(super) struct Sampler {
    state: u64,
}

impl Sampler {
    /// Returns the generator of row `row` of a window. The generators of rows are independent.
    pub(super) fn new(seed: u64, row: usize) -> Self {
        let mut sampler = Self { state: seed };
        sampler.state = sampler.next().wrapping_add(row as u64);
        sampler.state = sampler.next();
        sampler
    }

    /// Returns the generator as it is after `n` more numbers.
    pub(super) fn ahead(&self, n: usize) -> Self {
        let state = self.state.wrapping_add(STEP.wrapping_mul(n as u64));
        Self { state }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a random number in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws an index with probability `softmax(logits / temperature)`.
    pub(super) fn draw(&mut self, logits: &[f32], temperature: f32) -> usize {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from(((logit - max) / temperature).exp());
        let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        let mut left = self.uniform() * total;
        let mut drawn = 0;
        for (token, &logit) in logits.iter().enumerate() {
            let weight = weight(logit);
            if weight > 0.0 {
                drawn = token;
                left -= weight;
                if left < 0.0 {
                    break;
                }
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution_and_never_a_forbidden_token() {
        let logits = [f32::NEG_INFINITY, 2f32.ln(), 0.0, f32::NEG_INFINITY];
        let mut sampler = Sampler::new(1, 0);
        let mut counts = [0; 4];
        for _ in 0..3000 {
            counts[sampler.draw(&logits, 1.0)] += 1;
        }
        assert_eq!((counts[0], counts[3]), (0, 0));
        // Binomial(3000, 2/3): standard deviation 26.
        assert!((1900..2100).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn the_number_of_a_later_token_is_known() {
        let mut sampler = Sampler::new(1, 2);
        for n in 0..5 {
            let ahead = Sampler::new(1, 2).ahead(n).uniform();
            assert_eq!(ahead.to_bits(), sampler.uniform().to_bits());
        }
    }

    #[test]
    fn same_seed_same_draws_and_rows_differ() {
        let draws = |seed, row| {
            let mut sampler = Sampler::new(seed, row);
            (0..20)
                .map(|_| sampler.draw(&[0.0; 100], 1.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(draws(7, 0), draws(7, 0));
        assert_ne!(draws(7, 0), draws(7, 1));
        assert_ne!(draws(7, 0), draws(8, 0));
    }
}
