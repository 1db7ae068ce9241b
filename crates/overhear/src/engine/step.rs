//! Step of all windows that are being decoded: one decoder call, and the next token of every row.

use std::time::Instant;

use super::drafter::Drafter;
use crate::backend::{Batch, Capacity, State};
use crate::decode::{Next, Window};
use crate::host::Host;
use crate::{Error, Result};

/// Runner of the steps of a state. Its buffers are kept, so that a step allocates nothing.
pub(crate) struct Stepper {
    host: Host,
    capacity: Capacity,
    batch: Batch,
    /// Windows of the step: index and number of rows of logits.
    joined: Vec<(usize, usize)>,
    /// Statistics of each row of logits.
    next: Vec<Next>,
    /// For each row, the row that it continues (`rearrange`).
    source: Vec<usize>,
    /// Rows with drafted tokens, and the number of their tokens that are right.
    drafted: Vec<(usize, usize)>,
    /// Speculative decoding.
    pub(crate) drafter: Option<Drafter>,
}

impl Stepper {
    /// Steps of a state of this capacity, of tokens that `drafter` proposes.
    pub(crate) fn new(host: &Host, capacity: Capacity, drafter: Option<Drafter>) -> Self {
        Self {
            host: host.clone(),
            capacity,
            batch: Batch::default(),
            joined: Vec::with_capacity(capacity.slots),
            next: Vec::new(),
            source: Vec::with_capacity(capacity.rows),
            drafted: Vec::with_capacity(capacity.slots),
            drafter,
        }
    }

    /// Fails if there are fewer rows than `n_rows`.
    pub(crate) fn check_rows(&self, n_rows: usize) -> Result<()> {
        Capacity::check("rows", n_rows, self.capacity.rows)
    }

    /// Runs one step of every window that is not done. A window that begins waits for the next step if its prompt does not
    /// fit into the capacity beside the other windows' tokens. A failure ends its window; [`Window::finish`] returns it.
    pub(crate) fn step(&mut self, state: &mut dyn State, windows: &mut [Option<Window>]) {
        self.batch.clear();
        self.joined.clear();
        if let Some(drafter) = &mut self.drafter
            && let Err(error) = drafter.draft(state, windows)
        {
            let windows = windows.iter_mut().flatten();
            return fail(windows.filter(|window| !window.is_done()), &error);
        }
        let unfinished = |begun: bool| {
            let windows = windows.iter().enumerate();
            let windows = windows.filter_map(|(i, window)| Some((i, window.as_ref()?)));
            windows.filter(move |(_, window)| !window.is_done() && window.is_begun() == begun)
        };
        for (i, window) in unfinished(true).chain(unfinished(false)) {
            if self.batch.tokens.len() + window.n_next_tokens() > self.capacity.tokens {
                continue;
            }
            if !window.is_begun() {
                state.truncate(window.first_row(), 0);
                if let Some(drafter) = &mut self.drafter {
                    drafter.truncate(window.slot(), 0);
                    drafter.pace().began();
                }
            }
            let n_logits = window.push(&mut self.batch);
            self.joined.push((i, n_logits));
        }
        let joined = || self.joined.iter().filter_map(|&(i, _)| windows[i].as_ref());
        // Beams, and the prompts of windows that begin, take time that says nothing about drafts.
        let all_take_drafts = joined().all(|window| window.max_draft() > 0);
        let longest = joined().map(Window::n_drafted).max().unwrap_or(0);
        let began = Instant::now();
        if let Err(error) = self.choose(state, windows) {
            let is_joined = |i: usize| self.joined.iter().any(|&(joined, _)| joined == i);
            let windows = windows.iter_mut().enumerate();
            let windows = windows.filter(|&(i, _)| is_joined(i));
            return fail(windows.filter_map(|(_, window)| window.as_mut()), &error);
        }
        if let Some(drafter) = &mut self.drafter
            && all_take_drafts
        {
            drafter.pace().stepped(longest, began.elapsed());
        }
    }

    /// Decodes the batch and chooses the next tokens of every window in it.
    fn choose(&mut self, state: &mut dyn State, windows: &mut [Option<Window>]) -> Result<()> {
        let logits = state.decode(&self.batch)?;
        let n_logits = self.batch.logits_at.len();
        if self.next.len() < n_logits {
            self.next.resize_with(n_logits, Next::default);
        }
        let next = &mut self.next[..n_logits];
        let mut unnamed = next.iter_mut();
        for &(i, n) in &self.joined {
            for (at, next) in unnamed.by_ref().take(n).enumerate() {
                next.window = i;
                next.at = at;
            }
        }
        let shared = &*windows;
        self.host.pool.run_rows(logits, next, &|logits, next| {
            if let Some(window) = &shared[next.window] {
                window.prepare(logits, next);
            }
        });

        self.source.clear();
        self.source.extend(0..self.capacity.rows);
        let n_vocab = logits.len() / n_logits.max(1);
        let (mut logits, mut next) = (&*logits, &self.next[..n_logits]);
        let mut is_damaged = false;
        for &(i, n) in &self.joined {
            let (its_logits, its_next);
            (its_logits, logits) = logits.split_at(n * n_vocab);
            (its_next, next) = next.split_at(n);
            if let Some(window) = &mut windows[i] {
                let n_drafted = window.n_drafted();
                let n_before = window.n_sampled();
                is_damaged |= !window.update(its_logits, its_next, &mut self.source);
                if let Some(drafter) = &mut self.drafter {
                    let n_sampled = window.n_sampled() - n_before;
                    drafter.pace().sampled(n_sampled);
                    if n_drafted > 0 {
                        drafter
                            .pace()
                            .verified(n_drafted, n_sampled.saturating_sub(1));
                        drafter.truncate(window.slot(), window.n_cached());
                        self.drafted.push((window.first_row(), window.n_cached()));
                    }
                }
            }
        }
        for (row, n_tokens) in self.drafted.drain(..) {
            state.truncate(row, n_tokens);
        }
        if is_damaged {
            blame_encoder(state, windows);
        }
        let is_moved = self
            .source
            .iter()
            .enumerate()
            .any(|(row, &from)| row != from);
        if is_moved {
            state.rearrange(&self.source);
        }
        Ok(())
    }
}

/// Ends `windows` with `error`.
fn fail<'a>(windows: impl Iterator<Item = &'a mut Window>, error: &Error) {
    let reason = match error {
        Error::Device(reason) => reason.clone(),
        error => error.to_string(),
    };
    for window in windows {
        window.fail(Error::Device(reason.clone()));
    }
}

/// Replaces the error of failed windows whose encoder output is not finite by one that names the encoder.
fn blame_encoder(state: &dyn State, windows: &mut [Option<Window>]) {
    for window in windows.iter_mut().flatten() {
        let features = state.audio_features(window.slot());
        if window.has_failed() && !features.iter().all(|x| x.is_finite()) {
            let what = "the encoder's outputs".into();
            window.fail(Error::NotFinite { what });
        }
    }
}
