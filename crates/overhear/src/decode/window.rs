//! One window being decoded: its rows of a state, from the prompt to the texts to choose from.

use super::beam::BeamSearchDecoder;
use super::greedy::GreedyDecoder;
use super::row::{Next, Row};
use super::{DecodingResult, DecodingTask};
use crate::backend::Batch;
use crate::{Error, Result};

/// A window in `slot` whose texts are rows from `first_row` on. Several windows may share a state and its steps.
pub(super) struct Window<'t> {
    task: &'t DecodingTask<'t>,
    slot: usize,
    first_row: usize,
    decoder: TokenDecoder,
    rows: Vec<Row>,
    /// What goes with the logits of each row that is not complete.
    next: Vec<Next>,
    no_speech_prob: f64,
    is_begun: bool,
    /// Tokens of each text.
    n_sampled: usize,
    is_done: bool,
}

/// What chooses tokens: `whisper/decoding.py::TokenDecoder`.
pub(super) enum TokenDecoder {
    Greedy(GreedyDecoder),
    Beam(BeamSearchDecoder),
}

impl<'t> Window<'t> {
    pub(super) fn new(task: &'t DecodingTask<'t>, slot: usize, first_row: usize) -> Self {
        let mut row = Row::with_capacity(task.max_tokens);
        row.clone_from(&task.resumed);
        Self {
            task,
            slot,
            first_row,
            decoder: task.decoder(),
            n_sampled: row.tokens.len(),
            rows: vec![row],
            next: Vec::with_capacity(task.n_group),
            no_speech_prob: 0.0,
            is_begun: false,
            is_done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Adds the tokens that its rows go on with, and returns how many rows of logits it will take.
    pub(super) fn push(&self, batch: &mut Batch) -> usize {
        let before = batch.logits_at.len();
        if !self.is_begun {
            let tokens = &self.task.initial_tokens;
            let logits_at = [self.task.sot_index, tokens.len() - 1];
            // An English-only model's prompt may be start-of-transcript alone: both are the same logits then.
            let n_logits = if logits_at[0] == logits_at[1] { 1 } else { 2 };
            batch.push(self.first_row, self.slot, tokens, &logits_at[..n_logits]);
        } else {
            for (i, row) in self.rows.iter().enumerate() {
                if !row.is_complete {
                    let last = &row.tokens[row.tokens.len() - 1..];
                    batch.push(self.first_row + i, self.slot, last, &[0]);
                }
            }
        }
        batch.logits_at.len() - before
    }

    /// Chooses the next tokens from `logits`, those that its part of the batch asked for. `source`: the numbers of all
    /// rows; those of this window are replaced by the rows that they go on from.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub(super) fn update(&mut self, mut logits: &mut [f32], source: &mut [usize]) -> Result<()> {
        let task = self.task;
        let n_vocab = task.tokenizer.n_vocab();
        if !self.is_begun {
            self.is_begun = true;
            let at_sot = &logits[..n_vocab];
            let no_speech = at_sot[task.tokenizer.no_speech() as usize];
            let log_sum = task.kernels.log_sum_exp(at_sot);
            self.check(log_sum, at_sot)?;
            self.no_speech_prob = f64::from((no_speech - log_sum).exp());
            let last = logits.len() - n_vocab;
            logits = &mut logits[last..];
        }
        let mut n = 0;
        let unfinished = (0..self.rows.len()).filter(|&i| !self.rows[i].is_complete);
        for row in unfinished {
            if self.next.len() == n {
                self.next.push(Next::default());
            }
            self.next[n].row = row;
            n += 1;
        }
        let (rows, next) = (&self.rows, &mut self.next[..n]);
        task.pool.run_rows(logits, next, &|logits, next| {
            task.prepare(&rows[next.row], logits, next);
        });
        for (next, logits) in self.next[..n].iter().zip(logits.chunks_exact(n_vocab)) {
            self.check(next.log_sum, logits)?;
        }
        let (rows, next) = (&mut self.rows, &self.next[..n]);
        let source = &mut source[self.first_row..][..task.n_group];
        let rules = task.rules();
        let is_completed = match &mut self.decoder {
            TokenDecoder::Greedy(greedy) => {
                greedy.update(rows, next, logits, &rules, source);
                rows.iter().all(|row| row.is_complete)
            }
            TokenDecoder::Beam(beam) => beam.update(rows, next, logits, &rules, source),
        };
        self.n_sampled += 1;
        self.is_done = is_completed || self.n_sampled == task.max_tokens || self.is_looping();
        Ok(())
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
    pub(super) fn finish(mut self) -> DecodingResult {
        if self.is_looping() {
            self.rows.truncate(1);
            return self.task.result(self.rows, self.no_speech_prob);
        }
        let rows = match self.decoder {
            TokenDecoder::Greedy(_) => self.rows,
            TokenDecoder::Beam(beam) => beam.finalize(self.rows),
        };
        self.task.result(rows, self.no_speech_prob)
    }
}
