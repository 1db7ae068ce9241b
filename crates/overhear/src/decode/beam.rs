//! Beam search: `BeamSearchDecoder` of `whisper/decoding.py`.
//!
//! The reference keys candidates by their whole sequence, which only matters at the first step, when all its beams are
//! equal. Here the first step has one row, and from then on no two rows are: candidates are distinct by themselves.
//! What the rules forbid is no candidate; in the reference it is one of probability 0.

use super::row::{Next, Row, Rules};

pub(super) struct BeamSearchDecoder {
    beam_size: usize,
    max_candidates: usize,
    /// Texts that have ended, in the order in which they did, the better first.
    finished: Vec<Row>,
    /// One text a candidate, kept to allocate nothing in a step.
    candidates: Vec<Candidate>,
    next_rows: Vec<Row>,
    max_tokens: usize,
}

/// One row and one token after it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// How many were collected before it.
    order: usize,
    row: usize,
    token: usize,
    logprob: f32,
    score: f32,
}

impl BeamSearchDecoder {
    /// `max_tokens`: as long as a text may get.
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

    /// Replaces `rows` by the best that go on from them, from `logits`, `[rows.len(), n_vocab]`; true when enough
    /// texts have ended. The first time there is one row, empty. `source`: which row each goes on from; those given
    /// are the numbers of the rows.
    pub(super) fn update(
        &mut self,
        rows: &mut Vec<Row>,
        next: &[Next],
        logits: &[f32],
        rules: &Rules<'_>,
        source: &mut [usize],
    ) -> bool {
        self.collect(rows, next, logits, rules);
        // Equals stay in the order in which they were collected.
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
        // Nothing goes on where nothing but NaN comes of damaged weights.
        self.finished.len() >= self.max_candidates || rows.is_empty()
    }

    /// The likeliest tokens of each row.
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

    /// The texts to choose from: those that have ended, and if they are fewer than beams, the best of those that have
    /// not.
    pub(super) fn finalize(mut self, mut rows: Vec<Row>) -> Vec<Row> {
        // `np.argsort(..)[::-1]`: of equals the last comes first.
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
