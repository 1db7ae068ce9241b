//! One window being decoded: its rows of a state, from the prompt to the texts to choose from.

use super::beam::BeamSearchDecoder;
use super::greedy::GreedyDecoder;
use super::row::{Next, Row};
use super::{DecodingResult, DecodingTask};
use crate::backend::Batch;
use crate::{Error, Result};

/// A window in `slot` whose texts are rows from `first_row` on. Several windows may share a state and its steps.
pub(crate) struct Window {
    task: DecodingTask,
    slot: usize,
    first_row: usize,
    decoder: TokenDecoder,
    rows: Vec<Row>,
    no_speech_prob: f64,
    is_begun: bool,
    /// Tokens of each text.
    n_sampled: usize,
    is_done: bool,
    failure: Option<Error>,
}

/// What chooses tokens: `whisper/decoding.py::TokenDecoder`.
pub(super) enum TokenDecoder {
    Greedy(GreedyDecoder),
    Beam(BeamSearchDecoder),
}

impl Window {
    pub(crate) fn new(task: DecodingTask, slot: usize, first_row: usize) -> Self {
        let mut row = Row::with_capacity(task.max_tokens);
        row.clone_from(&task.resumed);
        Self {
            slot,
            first_row,
            decoder: task.decoder(),
            n_sampled: row.tokens.len(),
            rows: vec![row],
            no_speech_prob: 0.0,
            is_begun: false,
            is_done: false,
            failure: None,
            task,
        }
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    pub(crate) fn first_row(&self) -> usize {
        self.first_row
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Ends the window with `error`.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failure = Some(error);
        self.is_done = true;
    }

    /// Tokens that [`Window::push`] will add.
    pub(crate) fn n_next_tokens(&self) -> usize {
        match self.is_begun {
            true => self.unfinished().count(),
            false => self.task.initial_tokens.len(),
        }
    }

    /// Rows whose texts go on, by index.
    fn unfinished(&self) -> impl Iterator<Item = usize> {
        (0..self.rows.len()).filter(|&row| !self.rows[row].is_complete)
    }

    /// Adds the tokens that its rows go on with, and returns how many rows of logits it will take.
    pub(crate) fn push(&self, batch: &mut Batch) -> usize {
        let before = batch.logits_at.len();
        if !self.is_begun {
            let tokens = &self.task.initial_tokens;
            let logits_at = [self.task.sot_index, tokens.len() - 1];
            let logits_at = &logits_at[..self.n_first_logits()];
            batch.push(self.first_row, self.slot, tokens, logits_at);
        } else {
            for row in self.unfinished() {
                let last = self.rows[row].tokens.last_chunk::<1>();
                let last = last.expect("a row that has begun has tokens");
                batch.push(self.first_row + row, self.slot, last, &[0]);
            }
        }
        batch.logits_at.len() - before
    }

    /// Rows of logits of the first step: behind start-of-transcript, and behind the prompt. An English-only model's
    /// prompt may be start-of-transcript alone: both are the same logits then.
    fn n_first_logits(&self) -> usize {
        match self.task.sot_index + 1 == self.task.initial_tokens.len() {
            true => 1,
            false => 2,
        }
    }

    /// Filters a row of `logits`, the one at `next.at` of those that [`Window::push`] asked for, and works out its
    /// statistics. Rows may be prepared at the same time.
    pub(crate) fn prepare(&self, logits: &mut [f32], next: &mut Next) {
        if self.is_begun {
            let row = self.unfinished().nth(next.at);
            let row = row.expect("logits for every row that goes on");
            return self.task.prepare(&self.rows[row], logits, next);
        }
        if next.at == 0 {
            next.log_sum_at_sot = self.task.model.kernels().log_sum_exp(logits);
            next.no_speech = logits[self.task.tokenizer().no_speech() as usize];
        }
        if next.at + 1 == self.n_first_logits() {
            self.task.prepare(&self.rows[0], logits, next);
        }
    }

    /// Chooses the next tokens from `logits`, those that its part of the batch asked for, prepared. `source`: the numbers
    /// of all rows; those of this window are replaced by the rows that they go on from. False if it failed.
    pub(crate) fn update(
        &mut self,
        mut logits: &[f32],
        mut next: &[Next],
        source: &mut [usize],
    ) -> bool {
        let n_vocab = logits.len() / next.len();
        if !self.is_begun {
            let first = &next[0];
            if let Err(error) = self.check(first.log_sum_at_sot, &logits[..n_vocab]) {
                self.fail(error);
                return false;
            }
            self.no_speech_prob = f64::from((first.no_speech - first.log_sum_at_sot).exp());
            let skipped = next.len() - 1;
            (logits, next) = (&logits[skipped * n_vocab..], &next[skipped..]);
            self.is_begun = true;
        }
        for (next, logits) in next.iter().zip(logits.chunks_exact(n_vocab)) {
            if let Err(error) = self.check(next.log_sum, logits) {
                self.fail(error);
                return false;
            }
        }
        let task = &self.task;
        let (rows, rules) = (&mut self.rows, task.rules());
        let source = &mut source[self.first_row..][..task.n_group];
        let is_completed = match &mut self.decoder {
            TokenDecoder::Greedy(greedy) => {
                greedy.update(rows, next, logits, &rules, source);
                rows.iter().all(|row| row.is_complete)
            }
            TokenDecoder::Beam(beam) => beam.update(rows, next, logits, &rules, source),
        };
        self.n_sampled += 1;
        self.is_done = is_completed || self.n_sampled == task.max_tokens || self.is_looping();
        true
    }

    /// Whether logits are numbers. The logarithm of their sum of exponentials, needed anyway, is one if they are, unless
    /// all are forbidden.
    fn check(&self, log_sum: f32, logits: &[f32]) -> Result<()> {
        if log_sum.is_finite() || logits.iter().all(|&logit| logit < f32::INFINITY) {
            return Ok(());
        }
        let what = format!("the logits for token {} of a window", self.n_sampled + 1);
        Err(Error::NotFinite { what })
    }

    /// Whether the best of the beams loops. Its likelihood per token only grows, and the others would follow; rows of
    /// the greedy search are complete when they loop.
    fn is_looping(&self) -> bool {
        let is_beam = matches!(self.decoder, TokenDecoder::Beam(_));
        is_beam && self.rows.first().is_some_and(|row| row.looped.is_some())
    }

    /// The best text, and the others beside it.
    ///
    /// # Errors
    /// What the window failed with: [`Error::NotFinite`], [`Error::Device`].
    pub(crate) fn finish(mut self) -> Result<DecodingResult> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        if self.is_looping() {
            self.rows.truncate(1);
            return Ok(self.task.result(self.rows, self.no_speech_prob));
        }
        let rows = match self.decoder {
            TokenDecoder::Greedy(_) => self.rows,
            TokenDecoder::Beam(beam) => beam.finalize(self.rows),
        };
        Ok(self.task.result(rows, self.no_speech_prob))
    }
}
