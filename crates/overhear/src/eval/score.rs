//! Edit distance between a transcript and its reference, and the error rates derived from it.
//!
//! The same functions serve words (WER) and characters (CER): items are of any type.

use std::ops::AddAssign;

use serde::Serialize;

/// Maximum number of cells of an alignment table, 16 MB of costs; larger alignments are split in two.
const MAX_CELLS: usize = 1 << 22;

/// Step of an alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The next items of both are equal.
    Match,
    /// The next item of the reference was replaced by the next of the hypothesis.
    Substitution,
    /// The next item of the reference is missing from the hypothesis.
    Deletion,
    /// The next item of the hypothesis is not in the reference.
    Insertion,
}

/// Numbers of edits. The rate of several files is that of their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Number of items of the reference.
    pub reference: usize,
    /// Number of substitutions.
    pub substitutions: usize,
    /// Number of deletions.
    pub deletions: usize,
    /// Number of insertions.
    pub insertions: usize,
}

impl Errors {
    /// Counts the edits of an alignment.
    #[must_use]
    pub fn of(edits: &[Edit]) -> Self {
        let count = |kind| edits.iter().filter(|&&edit| edit == kind).count();
        Self {
            reference: edits.len() - count(Edit::Insertion),
            substitutions: count(Edit::Substitution),
            deletions: count(Edit::Deletion),
            insertions: count(Edit::Insertion),
        }
    }

    /// Returns the number of all errors: the edit distance.
    #[must_use]
    pub fn total(&self) -> usize {
        self.substitutions + self.deletions + self.insertions
    }

    /// Returns the errors per item of the reference, which may be above 1; `None` if the reference is empty.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        (self.reference > 0).then(|| self.total() as f64 / self.reference as f64)
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Self) {
        self.reference += other.reference;
        self.substitutions += other.substitutions;
        self.deletions += other.deletions;
        self.insertions += other.insertions;
    }
}

/// Returns an alignment with the fewest edits (Levenshtein 1966), in order. Takes time proportional to the product of
/// the lengths, and memory proportional to their sum (Hirschberg 1975).
#[must_use]
pub fn align<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Vec<Edit> {
    let mut edits = Vec::with_capacity(reference.len().max(hypothesis.len()));
    align_within(MAX_CELLS, reference, hypothesis, &mut edits);
    edits
}

fn align_within<T: PartialEq>(max_cells: usize, a: &[T], b: &[T], edits: &mut Vec<Edit>) {
    let n_prefix = n_equal(a.iter().zip(b));
    edits.extend(std::iter::repeat_n(Edit::Match, n_prefix));
    let (a, b) = (&a[n_prefix..], &b[n_prefix..]);
    let n_suffix = n_equal(a.iter().rev().zip(b.iter().rev()));
    let (a, b) = (&a[..a.len() - n_suffix], &b[..b.len() - n_suffix]);

    if a.len() < 2 || (a.len() + 1) * (b.len() + 1) <= max_cells {
        align_by_table(a, b, edits);
    } else {
        // Some best alignment passes through the middle of `a`, at the position of `b` where both halves together cost
        // least.
        let middle = a.len() / 2;
        let before = last_row(a[..middle].iter(), b.iter());
        let after = last_row(a[middle..].iter().rev(), b.iter().rev());
        let costs = before.iter().zip(after.iter().rev());
        let cheapest = costs.map(|(before, after)| before + after).enumerate();
        let (cut, _) = cheapest.min_by_key(|(_, cost)| *cost).unwrap_or_default();
        align_within(max_cells, &a[..middle], &b[..cut], edits);
        align_within(max_cells, &a[middle..], &b[cut..], edits);
    }
    edits.extend(std::iter::repeat_n(Edit::Match, n_suffix));
}

fn n_equal<'a, T: PartialEq + 'a>(pairs: impl Iterator<Item = (&'a T, &'a T)>) -> usize {
    pairs.take_while(|(a, b)| a == b).count()
}

/// Computes the whole table of costs, and traces back through it; of equal paths the one with the later substitution.
fn align_by_table<T: PartialEq>(a: &[T], b: &[T], edits: &mut Vec<Edit>) {
    let width = b.len() + 1;
    let mut costs: Vec<u32> = (0..width as u32).collect();
    for (i, item) in a.iter().enumerate() {
        costs.push(i as u32 + 1);
        for (j, other) in b.iter().enumerate() {
            let at = costs.len();
            let changed = costs[at - width - 1] + u32::from(item != other);
            costs.push(changed.min(costs[at - width] + 1).min(costs[at - 1] + 1));
            debug_assert_eq!(at, (i + 1) * width + j + 1);
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let n_before = edits.len();
    while i > 0 || j > 0 {
        let at = i * width + j;
        let changed = i > 0 && j > 0 && {
            costs[at] == costs[at - width - 1] + u32::from(a[i - 1] != b[j - 1])
        };
        let edit = match () {
            () if changed && a[i - 1] == b[j - 1] => Edit::Match,
            () if changed => Edit::Substitution,
            () if i > 0 && costs[at] == costs[at - width] + 1 => Edit::Deletion,
            () => Edit::Insertion,
        };
        i -= usize::from(edit != Edit::Insertion);
        j -= usize::from(edit != Edit::Deletion);
        edits.push(edit);
    }
    edits[n_before..].reverse();
}

/// Returns the costs of aligning all of `a` with each prefix of `b`.
fn last_row<'a, T: PartialEq + 'a>(
    a: impl Iterator<Item = &'a T>,
    b: impl ExactSizeIterator<Item = &'a T> + Clone,
) -> Vec<u32> {
    let mut row: Vec<u32> = (0..=b.len() as u32).collect();
    for item in a {
        let mut diagonal = row[0];
        row[0] += 1;
        for (j, other) in b.clone().enumerate() {
            let changed = diagonal + u32::from(item != other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn errors(reference: &str, hypothesis: &str) -> [usize; 4] {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let errors = Errors::of(&align(&words(reference), &words(hypothesis)));
        [
            errors.reference,
            errors.substitutions,
            errors.deletions,
            errors.insertions,
        ]
    }

    #[test]
    fn edits_are_counted_by_kind() {
        assert_eq!(errors("a b c d", "a b c d"), [4, 0, 0, 0]);
        assert_eq!(errors("a b c d", "a x c d"), [4, 1, 0, 0]);
        assert_eq!(errors("a b c d", "a c d"), [4, 0, 1, 0]);
        assert_eq!(errors("a b c d", "a b b c d"), [4, 0, 0, 1]);
        assert_eq!(
            errors("the cat sat on the mat", "cat sat in the the mat"),
            [6, 1, 1, 1]
        );
    }

    #[test]
    fn an_empty_reference_has_errors_but_no_rate() {
        let errors = Errors::of(&align(&[], &["you", "you"]));
        assert_eq!((errors.rate(), errors.total()), (None, 2));
        assert_eq!(Errors::of(&align(&["a"; 4], &["a"])).rate(), Some(0.75));
        assert_eq!(Errors::of(&align::<u8>(&[], &[])).total(), 0);
    }

    /// The recursive definition of the distance.
    fn distance(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([x, a_rest @ ..], [y, b_rest @ ..]) => {
                let changed = distance(a_rest, b_rest) + usize::from(x != y);
                let removed = distance(a_rest, b).min(distance(a, b_rest)) + 1;
                changed.min(removed)
            }
        }
    }

    proptest! {
        #[test]
        fn alignments_are_valid_and_shortest_split_or_not(
            a in proptest::collection::vec(0u8..3, 0..7),
            b in proptest::collection::vec(0u8..3, 0..7),
            max_cells in prop_oneof![Just(0), Just(12), Just(MAX_CELLS)],
        ) {
            let mut edits = Vec::new();
            align_within(max_cells, &a, &b, &mut edits);
            prop_assert_eq!(Errors::of(&edits).total(), distance(&a, &b));
            let (mut i, mut j) = (0, 0);
            for edit in edits {
                match edit {
                    Edit::Match => prop_assert_eq!(a[i], b[j]),
                    Edit::Substitution => prop_assert_ne!(a[i], b[j]),
                    Edit::Deletion | Edit::Insertion => {}
                }
                i += usize::from(edit != Edit::Insertion);
                j += usize::from(edit != Edit::Deletion);
            }
            prop_assert_eq!((i, j), (a.len(), b.len()));
        }
    }
}
