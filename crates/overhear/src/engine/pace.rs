//! Length of drafts: as many tokens as give the most tokens per second, by what steps were measured to take and how many
//! drafted tokens were right.

use std::time::Duration;

use crate::decode::MAX_DRAFT;

/// Weight of a new measurement in a moving average.
const WEIGHT: f64 = 0.1;
/// Weight of a drafted token, right or wrong.
const WEIGHT_OF_TOKEN: f64 = 0.02;
/// Number of steps between two measurements of the length that is not in use: none, or [`PROBE`]. Drafts that do not pay are
/// tried again after twice as many steps each time, up to [`MOST_STEPS`].
const STEPS: usize = 128;
const MOST_STEPS: usize = 4096;
/// Length of drafts whose cost is measured before it is known, and number of steps of a measurement.
const PROBE: usize = 4;
const PROBE_STEPS: usize = 3;
/// Assumed cost of a further token in a step of one, where it has not been measured.
const SLOPE: f64 = 0.1;
/// Assumed number of tokens of a window, where there has been none: as many as 30 seconds of speech have.
const TOKENS_OF_WINDOW: usize = 80;

/// Measurements of the steps of a state, and the length of drafts that follows from them.
pub(crate) struct Pace {
    /// Seconds of a step by the number of drafted tokens per window.
    step_s: [Option<f64>; MAX_DRAFT + 1],
    /// Seconds of drafting one token for every window.
    draft_s: Option<f64>,
    /// Seconds that the first draft of a window takes more: the encoder or cross-attention's keys and values, and the text
    /// before the draft.
    first_s: Option<f64>,
    /// Probability that a drafted token is right if those before it are.
    acceptance: f64,
    /// Numbers of windows, and of their tokens.
    n_windows: usize,
    n_tokens: usize,
    n_steps: usize,
    /// Step that begins the next measurement, and the number of steps to the one after it.
    probe_at: usize,
    probe_steps: usize,
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
            draft_s: None,
            first_s: None,
            acceptance: 0.8,
            n_windows: 0,
            n_tokens: 0,
            n_steps: 0,
            probe_at: 0,
            probe_steps: STEPS,
            statistics: DraftStatistics::default(),
            #[cfg(test)]
            forced: None,
        }
    }
}

impl Pace {
    /// Returns the number of tokens to draft for the next step of windows that take drafts.
    pub(crate) fn n_draft(&mut self) -> usize {
        #[cfg(test)]
        if let Some(n) = self.forced {
            return n;
        }
        if self.step_s[0].is_none() {
            return 0;
        }
        let best = self.best();
        let n = match self.n_steps.checked_sub(self.probe_at) {
            None => best,
            Some(_) if best == 0 => PROBE,
            Some(0) => 0,
            Some(_) => best,
        };
        if self.n_steps + 1 == self.probe_at + PROBE_STEPS {
            self.probe_steps = match best {
                0 => MOST_STEPS.min(2 * self.probe_steps),
                _ => STEPS,
            };
            self.probe_at = self.n_steps + self.probe_steps;
        }
        self.n_steps += 1;
        n
    }

    /// Returns the length of drafts that gives the most tokens per second.
    fn best(&self) -> usize {
        let n_tokens = (self.n_tokens + TOKENS_OF_WINDOW) as f64 / (self.n_windows + 1) as f64;
        let first_s = self.first_s.unwrap_or(0.0) / n_tokens;
        let draft_s = self.draft_s.unwrap_or(0.0);
        let seconds_per_token = |n: usize| {
            // Of the drafted tokens those before the first wrong one, and one more.
            let n_tokens: f64 = (0..=n).map(|i| self.acceptance.powi(i as i32)).sum();
            let of_step = (self.estimated_s(n) + n as f64 * draft_s) / n_tokens;
            of_step + if n > 0 { first_s } else { 0.0 }
        };
        let lengths = 0..=MAX_DRAFT;
        lengths
            .min_by(|&a, &b| seconds_per_token(a).total_cmp(&seconds_per_token(b)))
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

    /// Records that a window has begun.
    pub(crate) fn began(&mut self) {
        self.n_windows += 1;
    }

    /// Records that a window got `n` tokens in a step.
    pub(crate) fn sampled(&mut self, n: usize) {
        self.n_tokens += n;
    }

    /// Records the time of drafting a token for every window that takes one; of `n_first` windows the first, or the first
    /// after many tokens without drafts.
    pub(crate) fn drafted(&mut self, n_first: usize, time: Duration) {
        let seconds = time.as_secs_f64();
        self.statistics.drafting_s += seconds;
        match n_first {
            0 => self.draft_s = Some(average(self.draft_s, seconds)),
            n => {
                let more = (seconds - self.draft_s.unwrap_or(0.0)).max(0.0) / n as f64;
                self.first_s = Some(average(self.first_s, more));
            }
        }
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
        self.step_s[n] = Some(average(self.step_s[n], seconds));
        if n > 0 {
            self.statistics.steps_s += seconds;
        }
    }

    /// Returns the sums over all steps.
    pub(crate) fn statistics(&self) -> DraftStatistics {
        self.statistics
    }
}

/// Returns the moving average `old` with a new measurement.
fn average(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + (new - old) * WEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drafted tokens are right in `rights` of 100 cases; milliseconds of drafting one, of the first in a window of
    /// `n_tokens`, and of verifying one in a step of 10.
    struct Draft {
        rights: u32,
        draft_ms: f64,
        first_ms: f64,
        n_tokens: usize,
        token_ms: f64,
    }

    /// Simulates steps, and returns the most frequent length of drafts of the later ones, and the milliseconds of all.
    fn simulate(draft: &Draft) -> (usize, f64) {
        let mut pace = Pace::default();
        let mut random = 1_u32;
        let mut counts = [0; MAX_DRAFT + 1];
        let (mut left, mut is_first, mut all_ms) = (0, true, 0.0);
        let ms = |ms: f64| Duration::from_secs_f64(1e-3 * ms);
        for step in 0..4000 {
            if left == 0 {
                (left, is_first) = (draft.n_tokens, true);
                pace.began();
            }
            let n = pace.n_draft().min(left - 1);
            for _ in 0..n {
                let first_ms = if is_first { draft.first_ms } else { 0.0 };
                pace.drafted(usize::from(is_first), ms(draft.draft_ms + first_ms));
                all_ms += draft.draft_ms + first_ms;
                is_first = false;
            }
            let mut is_right = || {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 16) % 100 < draft.rights
            };
            let n_accepted = (0..n).take_while(|_| is_right()).count();
            if n > 0 {
                pace.verified(n, n_accepted);
            }
            let step_ms = 10.0 + draft.token_ms * n as f64;
            pace.stepped(n, ms(step_ms));
            pace.sampled(n_accepted + 1);
            left -= n_accepted + 1;
            all_ms += step_ms;
            counts[n] += usize::from(step >= 1000);
        }
        let most = (0..=MAX_DRAFT).max_by_key(|&n| counts[n]).unwrap_or(0);
        (most, all_ms)
    }

    #[test]
    fn drafts_are_as_long_as_pays() {
        let draft = |rights, draft_ms, first_ms, token_ms| Draft {
            rights,
            draft_ms,
            first_ms,
            n_tokens: 80,
            token_ms,
        };
        let length = |draft| simulate(&draft).0;
        assert_eq!(length(draft(0, 1.0, 0.0, 1.0)), 0);
        assert_eq!(length(draft(90, 20.0, 0.0, 1.0)), 0, "no faster than steps");
        assert_eq!(length(draft(100, 0.5, 0.0, 0.5)), MAX_DRAFT);
        assert!((1..=4).contains(&length(draft(60, 1.0, 0.0, 0.5))));
        let once = draft(90, 1.0, 100.0, 1.0);
        assert!(
            length(once) >= 3,
            "the first draft of 80 tokens costs 10 steps"
        );
        let dear = draft(90, 1.0, 1000.0, 1.0);
        assert_eq!(length(dear), 0, "the first draft costs 100 steps");
    }

    #[test]
    fn drafts_that_do_not_pay_are_seldom_tried() {
        let draft = Draft {
            rights: 30,
            draft_ms: 5.0,
            first_ms: 30.0,
            n_tokens: 80,
            token_ms: 1.0,
        };
        let (length, all_ms) = simulate(&draft);
        assert_eq!(length, 0);
        assert!(all_ms < 1.03 * 10.0 * 4000.0, "{all_ms} ms");
    }
}
