//! Ranking of hypotheses: `whisper/decoding.py::MaximumLikelihoodRanker`.

use super::row::Row;

/// Ranking by log-probability, normalised by the length.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaximumLikelihoodRanker {
    /// Exponent of the length penalty. `None`: division by the length.
    pub(super) length_penalty: Option<f64>,
}

impl MaximumLikelihoodRanker {
    /// Returns the normalised score of `row`.
    pub(super) fn score(self, row: &Row) -> f64 {
        let length = row.tokens.len() as f64;
        let penalty = match self.length_penalty {
            None => length,
            Some(alpha) => ((5.0 + length) / 6.0).powf(alpha),
        };
        f64::from(row.score()) / penalty
    }

    /// Returns scores and rows, best first and without duplicates. Of equal scores, the earlier row comes first.
    pub(super) fn rank(self, rows: Vec<Row>) -> Vec<(f64, Row)> {
        let mut ranked: Vec<(f64, Row)> = Vec::with_capacity(rows.len());
        for row in rows {
            if !ranked.iter().any(|(_, other)| other.tokens == row.tokens) {
                ranked.push((self.score(&row), row));
            }
        }
        // The score of an empty text of probability 1 is 0 / 0.
        let key = |score: f64| {
            if score.is_nan() {
                f64::NEG_INFINITY
            } else {
                score
            }
        };
        ranked.sort_by(|a, b| key(b.0).total_cmp(&key(a.0)));
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tokens: &[u32], sum_logprob: f32) -> Row {
        Row {
            tokens: tokens.to_vec(),
            sum_logprob,
            ..Row::default()
        }
    }

    fn ranked(length_penalty: Option<f64>, rows: Vec<Row>) -> Vec<(f64, Vec<u32>)> {
        let ranked = MaximumLikelihoodRanker { length_penalty }.rank(rows);
        let pairs = ranked.into_iter().map(|(score, row)| (score, row.tokens));
        pairs.collect()
    }

    #[test]
    fn the_length_penalty_weighs_the_length() {
        let rows = || vec![row(&[1], -1.0), row(&[2; 7], -4.0)];
        assert_eq!(ranked(None, rows())[0], (-4.0 / 7.0, vec![2; 7]));
        assert_eq!(ranked(Some(0.0), rows())[0], (-1.0, vec![1]));
        assert_eq!(ranked(Some(1.0), rows())[1], (-2.0, vec![2; 7]));
    }

    #[test]
    fn equal_scores_keep_their_order_and_duplicates_are_dropped() {
        let rows = vec![
            row(&[3], -2.0),
            row(&[1], -1.0),
            row(&[2], -1.0),
            row(&[1], -1.0),
        ];
        let tokens: Vec<Vec<u32>> = ranked(None, rows).into_iter().map(|(_, t)| t).collect();
        assert_eq!(tokens, [[1], [2], [3]]);
    }

    #[test]
    fn a_text_without_tokens_is_ranked_last() {
        for sum in [0.0, -1.0] {
            assert_eq!(ranked(None, vec![row(&[], sum), row(&[1], -9.0)])[0].1, [1]);
        }
    }
}
