//! Length of drafts: as many tokens as give the most tokens per second, by what steps were measured to take and how many
//! drafted tokens were right.

use std::time::Duration;

use crate::decode::MAX_DRAFT;

/// Weight of a new measurement in a moving average.
const WEIGHT: f64 = 0.1;
/// Weight of a drafted token, right or wrong.
const WEIGHT_OF_TOKEN: f64 = 0.02;
/// Number of steps after which the length that is not in use is measured again: none, or [`PROBE`].
const STEPS: usize = 128;
/// Length of drafts whose cost is measured before it is known.
const PROBE: usize = 4;
/// Assumed cost of a further token in a step of one, where it has not been measured.
const SLOPE: f64 = 0.1;

/// Measurements of the steps of a state, and the length of drafts that follows from them.
pub(crate) struct Pace {
    /// Seconds of a step by the number of drafted tokens per window.
    step_s: [Option<f64>; MAX_DRAFT + 1],
    /// Seconds of drafting one token.
    draft_s: f64,
    /// Probability that a drafted token is right if those before it are.
    acceptance: f64,
    /// Length of the current drafts, and their seconds.
    n_draft: usize,
    drafted_s: f64,
    n_steps: usize,
    statistics: DraftStatistics,
    #[cfg(test)]
    pub(crate) forced: Option<usize>,
}

/// Results of speculative decoding: [`Engine::draft_statistics`](crate::Engine::draft_statistics).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DraftStatistics {
    /// Number of drafted tokens.
    pub n_drafted: usize,
    /// Number of drafted tokens that were right.
    pub n_accepted: usize,
    /// Number of drafts that were verified. Each gave one token more than were right.
    pub n_verified: usize,
    /// Seconds of drafting.
    pub drafting_s: f64,
    /// Seconds of the steps that verified drafts.
    pub steps_s: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            step_s: [None; MAX_DRAFT + 1],
            draft_s: 0.0,
            acceptance: 0.8,
            n_draft: 0,
            drafted_s: 0.0,
            n_steps: 0,
            statistics: DraftStatistics::default(),
            #[cfg(test)]
            forced: None,
        }
    }
}

impl Pace {
    /// Returns the number of tokens to draft for the next step.
    pub(crate) fn n_draft(&mut self) -> usize {
        self.n_steps += 1;
        let best = self.best();
        self.n_draft = match self.n_steps {
            1 => 0,
            2..=4 => PROBE,
            n if n.is_multiple_of(STEPS) => match best {
                0 => PROBE,
                _ => 0,
            },
            _ => best,
        };
        #[cfg(test)]
        if let Some(n) = self.forced {
            self.n_draft = n;
        }
        self.n_draft
    }

    /// Returns the length of drafts that gives the most tokens per second.
    fn best(&self) -> usize {
        let rate = |n: usize| {
            // Of the drafted tokens those before the first wrong one, and one more.
            let n_tokens: f64 = (0..=n).map(|i| self.acceptance.powi(i as i32)).sum();
            n_tokens / (self.estimated_s(n) + n as f64 * self.draft_s)
        };
        let lengths = 0..=MAX_DRAFT;
        lengths
            .max_by(|&a, &b| rate(a).total_cmp(&rate(b)))
            .unwrap_or(0)
    }

    /// Returns the seconds of a step with drafts of `n` tokens: measured, or on the line through the nearest measurements.
    fn estimated_s(&self, n: usize) -> f64 {
        if let Some(seconds) = self.step_s[n] {
            return seconds;
        }
        let known = |n: usize| self.step_s[n].map(|seconds| (n as f64, seconds));
        let below = (0..n).rev().find_map(known);
        let above = (n + 1..=MAX_DRAFT).find_map(known);
        match (below, above) {
            (Some((m, low)), Some((o, high))) => low + (high - low) * (n as f64 - m) / (o - m),
            (Some((m, low)), None) => match known(0) {
                Some((_, one)) if m > 0.0 => low + (low - one) / m * (n as f64 - m),
                _ => low * (1.0 + SLOPE * (n as f64 - m)),
            },
            (None, Some((_, high))) => high,
            (None, None) => 1.0,
        }
    }

    /// Records the time of drafting.
    pub(crate) fn drafted(&mut self, time: Duration) {
        self.drafted_s = time.as_secs_f64();
    }

    /// Records that of `n_drafted` tokens for a window the first `n_accepted` were right.
    pub(crate) fn verified(&mut self, n_drafted: usize, n_accepted: usize) {
        self.statistics.n_drafted += n_drafted;
        self.statistics.n_accepted += n_accepted;
        self.statistics.n_verified += 1;
        for _ in 0..n_accepted {
            self.acceptance += (1.0 - self.acceptance) * WEIGHT_OF_TOKEN;
        }
        if n_accepted < n_drafted {
            self.acceptance -= self.acceptance * WEIGHT_OF_TOKEN;
        }
    }

    /// Records the time of a step whose longest draft had `n` tokens.
    pub(crate) fn stepped(&mut self, n: usize, time: Duration) {
        let seconds = time.as_secs_f64();
        let average =
            |old: Option<f64>, new: f64| old.map_or(new, |old| old + (new - old) * WEIGHT);
        self.step_s[n] = Some(average(self.step_s[n], seconds));
        if n > 0 {
            self.statistics.drafting_s += self.drafted_s;
            self.statistics.steps_s += seconds;
            let of_token = self.drafted_s / n as f64;
            self.draft_s = average((self.draft_s > 0.0).then_some(self.draft_s), of_token);
        }
    }

    /// Returns the sums over all steps.
    pub(crate) fn statistics(&self) -> DraftStatistics {
        self.statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates steps whose drafted tokens are right in `rights` of 100 cases, and returns the most frequent length of the
    /// later ones.
    fn length(rights: u32, draft_ms: f64, token_ms: f64) -> usize {
        let mut pace = Pace::default();
        let mut random = 1_u32;
        let mut counts = [0; MAX_DRAFT + 1];
        for step in 0..2000 {
            let n = pace.n_draft();
            pace.drafted(Duration::from_secs_f64(1e-3 * draft_ms * n as f64));
            let mut is_right = || {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 16) % 100 < rights
            };
            let n_accepted = (0..n).take_while(|_| is_right()).count();
            pace.verified(n, n_accepted);
            pace.stepped(
                n,
                Duration::from_secs_f64(1e-3 * (10.0 + token_ms * n as f64)),
            );
            counts[n] += usize::from(step >= 1000);
        }
        (0..=MAX_DRAFT).max_by_key(|&n| counts[n]).unwrap_or(0)
    }

    #[test]
    fn drafts_are_as_long_as_pays() {
        assert_eq!(length(0, 1.0, 1.0), 0);
        assert_eq!(length(90, 20.0, 1.0), 0, "drafting costs more than a step");
        assert_eq!(length(100, 0.5, 0.5), MAX_DRAFT);
        assert!((1..=4).contains(&length(60, 1.0, 0.5)));
    }
}
