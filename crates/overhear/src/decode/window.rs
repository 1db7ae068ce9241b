//! A window that is being decoded.

use super::beam::BeamSearchDecoder;
use super::draft::{ALL, Draft, MAX_DRAFT};
use super::greedy::GreedyDecoder;
use super::row::{Next, Row};
use super::{DecodingResult, DecodingTask};
use crate::backend::Batch;
use crate::{Error, Result, TokenId};

/// A window in slot `slot` of a state, whose texts are decoded in the rows from `first_row` on. Several windows can
/// share a state and its steps.
pub(crate) struct Window {
    task: DecodingTask,
    slot: usize,
    first_row: usize,
    decoder: TokenDecoder,
    rows: Vec<Row>,
    /// Draft of the next tokens of the only row.
    draft: Draft,
    no_speech_prob: f64,
    is_begun: bool,
    /// Number of tokens of each text so far.
    n_sampled: usize,
    is_done: bool,
    failure: Option<Error>,
}

/// Search algorithm: `whisper/decoding.py::TokenDecoder`.
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
            draft: Draft::default(),
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

    /// Begins a draft of the next tokens. Returns the maximum number of tokens, 0 if the window takes no drafts.
    pub(crate) fn begin_draft(&mut self) -> usize {
        self.draft.begin(&self.rows[0]);
        self.max_draft()
    }

    /// Returns the maximum number of drafted tokens.
    pub(crate) fn max_draft(&self) -> usize {
        match self.is_begun && !self.is_done && self.task.takes_drafts() {
            // One token follows the drafted ones.
            true => MAX_DRAFT.min(self.task.max_tokens - self.n_sampled - 1),
            false => 0,
        }
    }

    /// Appends to the draft the token that the `logits` of a draft model, `[n_vocab]`, would give, at temperatures above 0
    /// with the random number of its position, unless it ends the text. Returns whether it did.
    pub(crate) fn draft_by(&mut self, logits: &mut [f32], next: &mut Next) -> bool {
        let TokenDecoder::Greedy(greedy) = &self.decoder else {
            return false;
        };
        let n = self.draft.len();
        self.task.filter(self.draft.after(n), logits, next);
        let token = greedy.guess(n, logits, next).map(|token| token as TokenId);
        let token = token.filter(|&token| token != self.task.tokenizer().eot());
        if let Some(token) = token {
            self.draft.push(token, self.task.boosts.as_deref());
        }
        token.is_some()
    }

    /// Appends `token` to the draft, if it is text or a timestamp. Returns whether it is.
    pub(crate) fn draft(&mut self, token: TokenId) -> bool {
        let tokenizer = self.task.tokenizer();
        let is_sampled = token < tokenizer.eot() || tokenizer.timestamps().contains(&token);
        if is_sampled {
            self.draft.push(token, self.task.boosts.as_deref());
        }
        is_sampled
    }

    /// Returns the number of drafted tokens.
    pub(crate) fn n_drafted(&self) -> usize {
        self.draft.len()
    }

    /// Returns the number of tokens of each text so far.
    pub(crate) fn n_sampled(&self) -> usize {
        self.n_sampled
    }

    /// Returns the tokens of the row that a draft was begun for: the initial tokens, and those of the text and of the draft.
    pub(crate) fn drafted_row(&self) -> (&[TokenId], &[TokenId]) {
        let n_resumed = self.task.resumed.tokens.len();
        (&self.task.initial_tokens, &self.draft.tokens()[n_resumed..])
    }

    /// Returns the number of tokens of the only row of greedy search in the self-attention cache: all but the last one.
    pub(crate) fn n_cached(&self) -> usize {
        let n_sampled = self.rows[0].tokens.len() - self.task.resumed.tokens.len();
        self.task.initial_tokens.len() + n_sampled - 1
    }

    /// Returns the number of tokens that [`Window::push`] will add.
    pub(crate) fn n_next_tokens(&self) -> usize {
        match self.is_begun {
            true => self.unfinished().count() + self.draft.len(),
            false => self.task.initial_tokens.len(),
        }
    }

    /// Returns the indices of the rows that are not complete.
    fn unfinished(&self) -> impl Iterator<Item = usize> {
        (0..self.rows.len()).filter(|&row| !self.rows[row].is_complete)
    }

    /// Adds the next tokens of all rows to `batch`, and returns the number of rows of logits that were requested.
    pub(crate) fn push(&self, batch: &mut Batch) -> usize {
        let before = batch.logits_at.len();
        if !self.is_begun {
            let tokens = &self.task.initial_tokens;
            let logits_at = [self.task.sot_index, tokens.len() - 1];
            let logits_at = &logits_at[..self.n_first_logits()];
            batch.push(self.first_row, self.slot, tokens, logits_at);
        } else if self.draft.len() > 0 {
            let tokens = self.draft.last_and_drafted();
            batch.push(self.first_row, self.slot, tokens, &ALL[..tokens.len()]);
        } else {
            for row in self.unfinished() {
                let last = self.rows[row].tokens.last_chunk::<1>();
                let last = last.expect("the first step gave every row a token");
                batch.push(self.first_row + row, self.slot, last, &[0]);
            }
        }
        batch.logits_at.len() - before
    }

    /// Returns the number of rows of logits of the first step: after `<|startoftranscript|>` (for the probability of no
    /// speech) and after the last initial token. They coincide if an English-only model has no other initial token.
    fn n_first_logits(&self) -> usize {
        match self.task.sot_index + 1 == self.task.initial_tokens.len() {
            true => 1,
            false => 2,
        }
    }

    /// Filters row `next.at` of the logits that [`Window::push`] requested, `[n_vocab]`, and sets its statistics in
    /// `next`. Can be called for several rows in parallel.
    pub(crate) fn prepare(&self, logits: &mut [f32], next: &mut Next) {
        if self.draft.len() > 0 {
            let text = self.draft.after(next.at);
            return self.task.prepare(text, logits, next);
        }
        if self.is_begun {
            let row = self.unfinished().nth(next.at);
            let row = row.expect("there is one row of logits per unfinished row");
            return self.task.prepare(self.rows[row].text(), logits, next);
        }
        if next.at == 0 {
            next.log_sum_at_sot = self.task.model.kernels().log_sum_exp(logits);
            next.no_speech = logits[self.task.tokenizer().no_speech() as usize];
        }
        if next.at + 1 == self.n_first_logits() {
            self.task.prepare(self.rows[0].text(), logits, next);
        }
    }

    /// Selects the next tokens. `logits`: the rows that [`Window::push`] requested, after [`Window::prepare`]; `next`:
    /// their statistics. `source`: for every row of the state, the row whose self-attention cache it continues, set for
    /// the rows of this window. Returns false if the window failed.
    pub(crate) fn update(
        &mut self,
        mut logits: &[f32],
        mut next: &[Next],
        source: &mut [usize],
    ) -> bool {
        let n_vocab = logits.len() / next.len();
        if self.draft.len() > 0 {
            return self.verify(logits, next, source);
        }
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
        self.select(logits, next, source)
    }

    /// Selects a token after the text, and after each drafted token as long as the one before is that which was selected.
    fn verify(&mut self, logits: &[f32], next: &[Next], source: &mut [usize]) -> bool {
        let n_vocab = logits.len() / next.len();
        for (i, logits) in logits.chunks_exact(n_vocab).enumerate() {
            if !self.select(logits, &next[i..=i], source) {
                return false;
            }
            let is_right = i < self.draft.len() && {
                self.rows[0].tokens.last() == Some(&self.draft.token(i))
            };
            if self.is_done || !is_right {
                break;
            }
        }
        self.draft.clear();
        true
    }

    /// Selects the next token of every unfinished row; `logits` and `next`: one each per row.
    fn select(&mut self, logits: &[f32], next: &[Next], source: &mut [usize]) -> bool {
        let n_vocab = logits.len() / next.len();
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

    /// Checks that `logits` are numbers or negative infinity. A finite `log_sum` proves it without a pass over the
    /// vocabulary.
    fn check(&self, log_sum: f32, logits: &[f32]) -> Result<()> {
        if log_sum.is_finite() || logits.iter().all(|&logit| logit < f32::INFINITY) {
            return Ok(());
        }
        let what = format!("the logits for token {} of a window", self.n_sampled + 1);
        Err(Error::NotFinite { what })
    }

    /// Returns whether the best beam is in a repetition loop. The search need not go on then: the loop's probability
    /// per token only grows, and the other beams would follow. (In greedy search, a row with a loop is complete.)
    fn is_looping(&self) -> bool {
        let is_beam = matches!(self.decoder, TokenDecoder::Beam(_));
        is_beam && self.rows.first().is_some_and(|row| row.looped.is_some())
    }

    /// Returns the result of a window that is done.
    ///
    /// # Errors
    /// The error that the window failed with: [`Error::NotFinite`], [`Error::Device`].
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
