//! Which of several texts is the window's: `MaximumLikelihoodRanker` of `whisper/decoding.py`.

use super::row::Row;

/// Compares texts of different lengths.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaximumLikelihoodRanker {
    /// `None`: simple length normalisation.
    pub(super) length_penalty: Option<f64>,
}

impl MaximumLikelihoodRanker {
    /// What texts are ranked by.
    pub(super) fn score(self, row: &Row) -> f64 {
        let length = row.tokens.len() as f64;
        let penalty = match self.length_penalty {
            None => length,
            Some(alpha) => ((5.0 + length) / 6.0).powf(alpha),
        };
        f64::from(row.score()) / penalty
    }

    /// Best first, of equals the first, none twice; there is at least one if there was one.
    pub(super) fn rank(self, rows: Vec<Row>) -> Vec<(f64, Row)> {
        let mut ranked: Vec<(f64, Row)> = Vec::with_capacity(rows.len());
        for row in rows {
            if !ranked.iter().any(|(_, other)| other.tokens == row.tokens) {
                ranked.push((self.score(&row), row));
            }
        }
        // An empty text of probability 1 is 0 / 0.
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
    fn length_decides_as_much_as_the_penalty_says() {
        let rows = || vec![row(&[1], -1.0), row(&[2; 7], -4.0)];
        assert_eq!(ranked(None, rows())[0], (-4.0 / 7.0, vec![2; 7]));
        assert_eq!(ranked(Some(0.0), rows())[0], (-1.0, vec![1]));
        assert_eq!(ranked(Some(1.0), rows())[1], (-2.0, vec![2; 7]));
    }

    #[test]
    fn the_first_of_equals_is_best_and_none_comes_twice() {
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
    fn a_text_without_tokens_is_the_last() {
        for sum in [0.0, -1.0] {
            assert_eq!(ranked(None, vec![row(&[], sum), row(&[1], -9.0)])[0].1, [1]);
        }
    }
}
