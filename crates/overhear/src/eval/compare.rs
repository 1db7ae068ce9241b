//! Comparison of error rates on the same recordings.

use serde::Serialize;

use super::score::Errors;

/// Difference of two error rates, with the standard error of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Second rate minus the first.
    pub mean: f64,
    /// Standard error of a ratio of sums over recordings, which are taken for independent (Cochran, *Sampling Techniques*).
    pub standard_error: f64,
}

/// Returns by how much the error rate of the second of each pair exceeds that of the first. Pairs are the errors of two
/// transcripts of one recording; as they are compared pair by pair, what makes a recording hard for both does not add to
/// the standard error. `None` if the references are empty.
#[must_use]
pub fn paired_difference(pairs: &[(Errors, Errors)]) -> Option<Difference> {
    let n_items: usize = pairs.iter().map(|(first, _)| first.reference).sum();
    if n_items == 0 {
        return None;
    }
    let n_items = n_items as f64;
    let above = |(first, second): &(Errors, Errors)| second.total() as f64 - first.total() as f64;
    let mean = pairs.iter().map(above).sum::<f64>() / n_items;
    let deviation = |pair: &(Errors, Errors)| above(pair) - mean * pair.0.reference as f64;
    let squares = pairs.iter().map(|pair| deviation(pair).powi(2));
    Some(Difference {
        mean,
        standard_error: squares.sum::<f64>().sqrt() / n_items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(reference: usize, substitutions: usize) -> Errors {
        Errors {
            reference,
            substitutions,
            ..Errors::default()
        }
    }

    #[test]
    fn differences_are_paired() {
        // Of 10 and 30 words, 1 and 2 more are wrong: 3 / 40, and deviations of 0.25 and -0.25 words.
        let pairs = [
            (errors(10, 5), errors(10, 6)),
            (errors(30, 1), errors(30, 3)),
        ];
        let difference = Difference {
            mean: 0.075,
            standard_error: 0.125_f64.sqrt() / 40.0,
        };
        assert_eq!(paired_difference(&pairs), Some(difference));
        let turned = pairs.map(|(first, second)| (second, first));
        let lower = paired_difference(&turned);
        assert_eq!(lower.map(|lower| lower.mean), Some(-0.075));
    }

    #[test]
    fn a_difference_in_proportion_to_words_has_no_error() {
        let pairs = [
            (errors(10, 1), errors(10, 2)),
            (errors(20, 7), errors(20, 9)),
        ];
        let difference = paired_difference(&pairs);
        assert!(difference.is_some_and(|d| d.mean == 0.1 && d.standard_error < 1e-15));
        assert_eq!(paired_difference(&[(errors(0, 0), errors(0, 3))]), None);
        assert_eq!(paired_difference(&[]), None);
    }
}
