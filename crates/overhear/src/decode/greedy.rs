//! Greedy search, and sampling at temperatures above 0: `whisper/decoding.py::GreedyDecoder`.

use super::row::{Next, Row, Rules};
use super::sampler::Sampler;

pub(super) struct GreedyDecoder {
    temperature: f32,
    /// Random number generators, one per row.
    samplers: Vec<Sampler>,
}

impl GreedyDecoder {
    pub(super) fn new(temperature: f32, n_group: usize, seed: u64) -> Self {
        let samplers = (0..n_group).map(|row| Sampler::new(seed, row)).collect();
        Self {
            temperature,
            samplers,
        }
    }

    /// Returns the token that [`GreedyDecoder::update`] would select from `logits` for the only text, after `n` more tokens;
    /// `None` if they are not numbers.
    pub(super) fn guess(&self, n: usize, logits: &[f32], next: &Next) -> Option<usize> {
        match self.temperature > 0.0 {
            true => Some(self.samplers[0].ahead(n).draw(logits, self.temperature)),
            false => next.maxima.argmax(logits),
        }
    }

    /// Appends a token to each unfinished row. `logits`: `[n_unfinished, n_vocab]`. `source[row]` is set to the row
    /// whose self-attention cache `row` continues.
    ///
    /// In the first step there is a single, empty row, from which all rows begin.
    pub(super) fn update(
        &mut self,
        rows: &mut Vec<Row>,
        next: &[Next],
        logits: &[f32],
        rules: &Rules<'_>,
        source: &mut [usize],
    ) {
        let n_vocab = logits.len() / next.len();
        if rows.len() < self.samplers.len() {
            source.fill(source[0]);
            rows.resize(self.samplers.len(), rows[0].clone());
        }
        let unfinished = rows.iter_mut().zip(&mut self.samplers);
        let unfinished = unfinished.filter(|(row, _)| !row.is_complete);
        for (i, (row, sampler)) in unfinished.enumerate() {
            let i = i.min(next.len() - 1);
            let logits = &logits[i * n_vocab..][..n_vocab];
            let token = if self.temperature > 0.0 {
                sampler.draw(logits, self.temperature)
            } else {
                // Logits of damaged weights may be all NaN: end the text rather than panic.
                let likeliest = next[i].maxima.argmax(logits);
                likeliest.unwrap_or(rules.specials.eot as usize)
            };
            let logprob = rules.logprob(row, &next[i], logits, token);
            row.push(token, &next[i], logprob, rules);
            row.is_complete |= row.looped.is_some();
        }
    }
}
