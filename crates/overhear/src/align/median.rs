//! `whisper/timing.py::median_filter`: each element becomes the median of the seven around it.

/// Width of the filter, in elements.
const WIDTH: usize = 7;
/// Number of elements on either side of the middle.
const PAD: usize = WIDTH / 2;

/// Filters `x` into `y`, with reflected ends (`x[3] x[2] x[1] | x[0] x[1] ...`). Rows of up to three elements are
/// copied. NaN counts as the largest value, as in torch's sort. `padded` is working memory.
pub(super) fn median_filter(x: &[f32], y: &mut [f32], padded: &mut Vec<f32>) {
    if x.len() <= PAD {
        y.copy_from_slice(x);
        return;
    }
    padded.clear();
    padded.extend(x[1..=PAD].iter().rev());
    padded.extend_from_slice(x);
    padded.extend(x[x.len() - 1 - PAD..x.len() - 1].iter().rev());
    if x.iter().any(|x| x.is_nan()) {
        for (window, y) in padded.windows(WIDTH).zip(y) {
            let mut window: [f32; WIDTH] = window.try_into().expect("windows of that width");
            window.sort_unstable_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
            *y = window[PAD];
        }
        return;
    }
    // Seven shifted slices rather than windows: so the loop below consists of minima and maxima, and is vectorised.
    let n = x.len();
    let shifted: [&[f32]; WIDTH] = std::array::from_fn(|i| &padded[i..i + n]);
    for (i, y) in y.iter_mut().enumerate() {
        *y = median_of_7(shifted.map(|x| x[i]));
    }
}

/// Returns the median of seven by exchanges that leave the rest unsorted (N. Devillard, "Fast median search", 1998).
#[inline(always)]
fn median_of_7(mut p: [f32; WIDTH]) -> f32 {
    for (a, b) in [
        (0, 5),
        (0, 3),
        (1, 6),
        (2, 4),
        (0, 1),
        (3, 5),
        (2, 6),
        (2, 3),
        (3, 6),
        (4, 5),
        (1, 4),
        (1, 3),
        (3, 4),
    ] {
        // Not `f32::min`, whose handling of NaN costs three instructions more.
        let (x, y) = (p[a], p[b]);
        p[a] = if x < y { x } else { y };
        p[b] = if x < y { y } else { x };
    }
    p[PAD]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filtered(x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        median_filter(x, &mut y, &mut Vec::new());
        y
    }

    /// Reference by definition: reflect the index, sort, take the middle.
    fn naive(x: &[f32]) -> Vec<f32> {
        if x.len() <= PAD {
            return x.to_vec();
        }
        let last = x.len() as isize - 1;
        let at = |i: isize| x[(last - (last - i.abs()).abs()) as usize];
        (0..x.len() as isize)
            .map(|i| {
                let mut window: Vec<f32> = (i - 3..=i + 3).map(at).collect();
                window.sort_by(f32::total_cmp);
                window[PAD]
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_filter_equals_its_definition(x in prop::collection::vec(-1e3f32..1e3, 0..40)) {
            prop_assert_eq!(filtered(&x), naive(&x));
        }

        #[test]
        fn the_filter_equals_its_definition_with_ties(x in prop::collection::vec((0u8..3).prop_map(f32::from), 0..40)) {
            prop_assert_eq!(filtered(&x), naive(&x));
        }

        #[test]
        fn nan_counts_as_the_largest(x in prop::collection::vec((0u8..5).prop_map(f32::from), 4..40)) {
            // Values above 3 are NaN in one row and the largest number in the other.
            let with_nan: Vec<f32> = x.iter().map(|&x| if x > 3.0 { -f32::NAN } else { x }).collect();
            let expected = filtered(&x);
            for (found, expected) in filtered(&with_nan).into_iter().zip(expected) {
                prop_assert!(found == expected || found.is_nan() && expected == 4.0);
            }
        }
    }
}
