//! Beam search: `whisper/decoding.py::BeamSearchDecoder`.
//!
//! openai/whisper keys candidates by their whole sequence, which matters only in the first step, when all beams are
//! equal. Here the first step has one row, and later all rows differ, so candidates are distinct without keys. Tokens
//! that the logit filters forbid are no candidates; in openai/whisper they are candidates of probability 0.

use super::row::{Next, Row, Rules};

pub(super) struct BeamSearchDecoder {
    beam_size: usize,
    max_candidates: usize,
    /// Finished hypotheses, in the order in which they ended; those of one step by descending score.
    finished: Vec<Row>,
    /// Candidates of a step, kept so that a step does not allocate.
    candidates: Vec<Candidate>,
    next_rows: Vec<Row>,
    max_tokens: usize,
}

/// A row extended by one token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Number of candidates collected before this one.
    order: usize,
    row: usize,
    token: usize,
    logprob: f32,
    score: f32,
}

impl BeamSearchDecoder {
    /// Returns a decoder for texts of up to `max_tokens` tokens.
    pub(super) fn new(beam_size: usize, max_candidates: usize, max_tokens: usize) -> Self {
        Self {
            beam_size,
            max_candidates,
            finished: Vec::new(),
            candidates: Vec::with_capacity(beam_size * (beam_size + 1)),
            next_rows: (0..beam_size)
                .map(|_| Row::with_capacity(max_tokens))
                .collect(),
            max_tokens,
        }
    }

    /// Replaces `rows` by their best continuations, and returns whether the search is over. `logits`:
    /// `[rows.len(), n_vocab]`. `source[i]`, on entry the number of row `i` in the state, is set to the row whose
    /// self-attention cache row `i` continues.
    ///
    /// In the first step there is a single, empty row.
    pub(super) fn update(
        &mut self,
        rows: &mut Vec<Row>,
        next: &[Next],
        logits: &[f32],
        rules: &Rules<'_>,
        source: &mut [usize],
    ) -> bool {
        self.collect(rows, next, logits, rules);
        // Equal scores keep the order of collection.
        let best_first = |a: &Candidate, b: &Candidate| {
            let by_score = b.score.total_cmp(&a.score);
            by_score.then(a.order.cmp(&b.order))
        };
        self.candidates.sort_unstable_by(best_first);
        let first = source[0];
        let mut n_kept = 0;
        for candidate in &self.candidates {
            let from = &rows[candidate.row];
            let has_ended = candidate.token == rules.specials.eot as usize;
            let to = if !has_ended {
                source[n_kept] = first + candidate.row;
                n_kept += 1;
                &mut self.next_rows[n_kept - 1]
            } else if self.finished.len() < self.max_candidates {
                self.finished.push(Row::default());
                let last = self.finished.len() - 1;
                &mut self.finished[last]
            } else {
                continue;
            };
            to.clone_from(from);
            to.push(
                candidate.token,
                &next[candidate.row],
                candidate.logprob,
                rules,
            );
            if n_kept == self.beam_size {
                break;
            }
        }
        rows.resize_with(n_kept, || Row::with_capacity(self.max_tokens));
        rows.iter_mut()
            .zip(&mut self.next_rows)
            .for_each(|(row, next)| std::mem::swap(row, next));
        // No row continues if damaged weights make all logits NaN.
        self.finished.len() >= self.max_candidates || rows.is_empty()
    }

    /// Collects the most probable tokens after each row.
    fn collect(&mut self, rows: &[Row], next: &[Next], logits: &[f32], rules: &Rules<'_>) {
        let n_vocab = logits.len() / rows.len();
        self.candidates.clear();
        for (i, row) in rows.iter().enumerate() {
            let logits = &logits[i * n_vocab..][..n_vocab];
            for &(token, _) in &next[i].largest {
                let logprob = rules.logprob(row, &next[i], logits, token);
                let bonus = rules.bonus(row, token);
                self.candidates.push(Candidate {
                    order: self.candidates.len(),
                    row: i,
                    token,
                    logprob,
                    score: row.sum_logprob + logprob + bonus,
                });
            }
        }
    }

    /// Returns the hypotheses to rank: the finished ones, and if they are fewer than beams, the best of the unfinished
    /// ones.
    pub(super) fn finalize(mut self, mut rows: Vec<Row>) -> Vec<Row> {
        // As `np.argsort(..)[::-1]`: of equal scores the last comes first.
        rows.reverse();
        rows.sort_by(|a, b| b.score().total_cmp(&a.score()));
        let n_missing = self.beam_size.saturating_sub(self.finished.len());
        self.finished.extend(rows.into_iter().take(n_missing));
        if self.finished.is_empty() {
            self.finished.push(Row::default());
        }
        self.finished
    }
}
