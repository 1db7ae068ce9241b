//! Most probable sequence of languages of the pieces of a recording.
//!
//! Language detection in one or two seconds is unreliable (base is right for two of three utterances), so the pieces
//! are evaluated together: the sequence maximises the sum of log-likelihoods, less a penalty for each change of
//! language and a larger one for each language of the recording. A recording has few languages, and each is usually
//! detected clearly in some piece.

/// Penalty for a change of language between two pieces in nats: speakers rarely change every other second.
const CHANGE: f64 = 1.0;
/// Penalty for each language of the recording beyond the first, in nats. For a recording in four languages the result
/// is the same from 4 to 6; with 3 it has one language too many, with 8 one too few.
const NEW_LANGUAGE: f64 = 5.0;

/// Returns the language of each piece, as an index into `evidence[piece]`.
///
/// `evidence`: for each piece, the log-likelihood of each language. `known`: a language of the recording, which
/// precedes the first piece, if one is known.
///
/// Greedy: the set of languages grows by the one that adds most to the score, while that is more than the penalty.
pub(super) fn most_probable_sequence(evidence: &[Vec<f64>], known: Option<usize>) -> Vec<usize> {
    let n_languages = evidence.first().map_or(0, Vec::len);
    let mut spoken: Vec<usize> = known.into_iter().collect();
    let mut best = Path {
        score: f64::NEG_INFINITY,
        languages: Vec::new(),
    };
    if known.is_some() {
        best = Path::through(evidence, &spoken, known);
    }
    loop {
        let others = (0..n_languages).filter(|language| !spoken.contains(language));
        let with = |other: usize| [&spoken[..], &[other]].concat();
        let grown = others
            .map(|other| (other, Path::through(evidence, &with(other), known)))
            .reduce(|best, other| {
                if other.1.score > best.1.score {
                    other
                } else {
                    best
                }
            });
        let price = if spoken.is_empty() { 0.0 } else { NEW_LANGUAGE };
        match grown {
            Some((other, path)) if path.score - price > best.score => {
                spoken.push(other);
                best = path;
            }
            _ => return best.languages,
        }
    }
}

/// A language for every piece.
struct Path {
    /// Sum of log-likelihoods, less the penalties for changes.
    score: f64,
    languages: Vec<usize>,
}

impl Path {
    /// Returns the best path with languages in `spoken` that starts from `before`, by Viterbi's algorithm.
    fn through(evidence: &[Vec<f64>], spoken: &[usize], before: Option<usize>) -> Self {
        let begin = |&language: &usize| match before {
            Some(before) if before != language => -CHANGE,
            _ => 0.0,
        };
        // `scores`: by language, the best score of a path that ends in it; `came_from`: by piece and language, the
        // predecessor on that path.
        let mut scores: Vec<f64> = spoken.iter().map(begin).collect();
        let mut came_from: Vec<Vec<usize>> = Vec::with_capacity(evidence.len());
        for (piece, of) in evidence.iter().enumerate() {
            let changed = largest(&scores);
            let from = |here: usize| match scores[changed] - CHANGE > scores[here] {
                true if piece > 0 => changed,
                _ => here,
            };
            let from: Vec<usize> = (0..spoken.len()).map(from).collect();
            let score = |here: usize| {
                let change = if from[here] == here { 0.0 } else { CHANGE };
                scores[from[here]] - change + of[spoken[here]]
            };
            scores = (0..spoken.len()).map(score).collect();
            came_from.push(from);
        }
        let mut here = largest(&scores);
        let score = scores[here];
        let mut languages = Vec::with_capacity(evidence.len());
        for from in came_from.iter().rev() {
            languages.push(spoken[here]);
            here = from[here];
        }
        languages.reverse();
        Self { score, languages }
    }
}

/// Returns the index of the largest number; of equal ones, the first.
fn largest(numbers: &[f64]) -> usize {
    (0..numbers.len()).fold(
        0,
        |best, i| if numbers[i] > numbers[best] { i } else { best },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the evidence of pieces, each with a lead of `nats` for one language of four.
    fn pieces(heard: &[(usize, f64)]) -> Vec<Vec<f64>> {
        let piece = |&(language, nats): &(usize, f64)| {
            let mut of = vec![-nats; 4];
            of[language] = 0.0;
            of
        };
        heard.iter().map(piece).collect()
    }

    #[test]
    fn a_language_is_heard_where_it_is_clear_and_where_it_is_known_to_be_spoken() {
        struct Case {
            name: &'static str,
            heard: Vec<(usize, f64)>,
            known: Option<usize>,
            expected: Vec<usize>,
        }
        let cases = [
            Case {
                name: "nothing",
                heard: vec![],
                known: None,
                expected: vec![],
            },
            Case {
                name: "one piece",
                heard: vec![(2, 0.1)],
                known: None,
                expected: vec![2],
            },
            Case {
                name: "one doubtful piece amid another language",
                heard: vec![(0, 3.0), (1, 5.0), (0, 3.0)],
                known: None,
                expected: vec![0, 0, 0],
            },
            Case {
                name: "one clear piece",
                heard: vec![(0, 5.0), (1, 8.0), (0, 5.0)],
                known: None,
                expected: vec![0, 1, 0],
            },
            Case {
                name: "doubtful pieces, of a language that is clear later",
                heard: vec![(0, 6.0), (1, 1.5), (1, 1.5), (0, 6.0), (1, 9.0)],
                known: None,
                expected: vec![0, 1, 1, 0, 1],
            },
            Case {
                name: "doubt between a known language and one that is heard nowhere else",
                heard: vec![(0, 9.0), (3, 3.0), (3, 1.0)],
                known: None,
                expected: vec![0, 0, 0],
            },
            Case {
                name: "a language that is known costs nothing",
                heard: vec![(0, 9.0), (1, 2.0), (1, 1.0)],
                known: Some(1),
                expected: vec![0, 1, 1],
            },
            Case {
                name: "pieces without speech go with the language behind",
                heard: vec![(0, 9.0), (1, 0.0), (1, 0.0), (2, 9.0)],
                known: None,
                expected: vec![0, 2, 2, 2],
            },
        ];
        for case in cases {
            let found = most_probable_sequence(&pieces(&case.heard), case.known);
            assert_eq!(found, case.expected, "{}", case.name);
        }
    }

    #[test]
    fn the_best_path_is_the_best_of_all() {
        // Enumerates all paths of six pieces in three languages.
        let number = |i: usize| ((i * 7919 + 13) % 101) as f64 / 25.0;
        let evidence: Vec<Vec<f64>> = (0..6)
            .map(|piece| {
                (0..3)
                    .map(|language| -number(piece * 3 + language))
                    .collect()
            })
            .collect();
        for before in [None, Some(2)] {
            let score = |path: &[usize]| {
                let heard: f64 = path.iter().zip(&evidence).map(|(&l, of)| of[l]).sum();
                let from = before.iter().chain(path);
                let n_changes = from.zip(path.iter().skip(usize::from(before.is_none())));
                heard - CHANGE * n_changes.filter(|(a, b)| a != b).count() as f64
            };
            let all = (0..3usize.pow(6))
                .map(|n| -> Vec<usize> { (0..6).map(|piece| n / 3usize.pow(piece) % 3).collect() });
            let best = all
                .map(|path| score(&path))
                .fold(f64::NEG_INFINITY, f64::max);
            let found = Path::through(&evidence, &[0, 1, 2], before);
            assert!((found.score - best).abs() < 1e-9, "{} {best}", found.score);
            assert!((score(&found.languages) - best).abs() < 1e-9);
        }
    }
}
