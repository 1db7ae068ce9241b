//! Dynamic time warping: `whisper/timing.py::dtw_cpu` and `backtrace`.

/// Predecessor of a cell, in the reference's numbering: the previous token at the previous time.
const DIAGONAL: u8 = 0;
/// The previous row: the previous token at the same time.
const TOKEN: u8 = 1;
/// The previous column: the same token at the previous time.
const TIME: u8 = 2;

/// Returns the cheapest monotone path through `cost`, `[n_rows, n_columns]`, from corner to corner, as (row, column).
///
/// Sums are f32, and ties prefer the step in time, as in the reference. So does NaN; a path that thereby reaches the
/// first column before the first row continues along that column (the reference gives such tokens time -1; here it is
/// 0).
///
/// # Panics
/// If there is no row or no column.
pub(super) fn dtw(cost: &[f32], n_rows: usize, n_columns: usize) -> Vec<(usize, usize)> {
    assert!(n_rows > 0 && n_columns > 0 && cost.len() == n_rows * n_columns);
    backtrace(&trace(cost, n_columns), n_rows, n_columns)
}

/// Returns the best predecessor of each cell, `[n_rows, n_columns]`.
fn trace(cost: &[f32], n_columns: usize) -> Vec<u8> {
    let mut trace = vec![TIME; cost.len()];
    // Sums of the previous row, with a virtual column in front of the first.
    let mut above = vec![f32::INFINITY; n_columns + 1];
    above[0] = 0.0;
    let mut current = above.clone();
    for (cost, trace) in cost
        .chunks_exact(n_columns)
        .zip(trace.chunks_exact_mut(n_columns))
    {
        current[0] = f32::INFINITY;
        let mut before = f32::INFINITY;
        for column in 0..n_columns {
            let (diagonal, token, time) = (above[column], above[column + 1], before);
            let (sum, step) = if diagonal < token && diagonal < time {
                (diagonal, DIAGONAL)
            } else if token < diagonal && token < time {
                (token, TOKEN)
            } else {
                (time, TIME)
            };
            before = cost[column] + sum;
            current[column + 1] = before;
            trace[column] = step;
        }
        std::mem::swap(&mut above, &mut current);
    }
    trace
}

fn backtrace(trace: &[u8], n_rows: usize, n_columns: usize) -> Vec<(usize, usize)> {
    // One more than row and column: 0 is outside of the matrix.
    let (mut row, mut column) = (n_rows, n_columns);
    let mut path = Vec::with_capacity(n_rows + n_columns);
    while row > 0 {
        path.push((row - 1, column.saturating_sub(1)));
        let step = match column {
            0 => TOKEN,
            _ => trace[(row - 1) * n_columns + column - 1],
        };
        row -= usize::from(step != TIME);
        column -= usize::from(step != TOKEN);
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_monotone(path: &[(usize, usize)], n_rows: usize, n_columns: usize) -> bool {
        let step = |w: &[(usize, usize)]| (w[1].0 - w[0].0, w[1].1 - w[0].1);
        path.first() == Some(&(0, 0))
            && path.last() == Some(&(n_rows - 1, n_columns - 1))
            && path.is_sorted()
            && path.windows(2).all(|w| w[1].1 >= w[0].1)
            && path
                .windows(2)
                .all(|w| matches!(step(w), (1, 1) | (1, 0) | (0, 1)))
    }

    /// Finds the least sum over all paths by enumeration.
    fn brute_force(cost: &[f32], n_columns: usize, row: usize, column: usize) -> f64 {
        let here = f64::from(cost[row * n_columns + column]);
        let before = match (row, column) {
            (0, 0) => 0.0,
            (0, _) => brute_force(cost, n_columns, 0, column - 1),
            (_, 0) => brute_force(cost, n_columns, row - 1, 0),
            _ => brute_force(cost, n_columns, row - 1, column - 1)
                .min(brute_force(cost, n_columns, row - 1, column))
                .min(brute_force(cost, n_columns, row, column - 1)),
        };
        here + before
    }

    fn matrix(max: usize) -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
        (1..=max, 1..=max).prop_flat_map(|(n_rows, n_columns)| {
            let cost = prop::collection::vec(-9f32..9.0, n_rows * n_columns);
            (Just(n_rows), Just(n_columns), cost)
        })
    }

    proptest! {
        #[test]
        fn the_path_is_monotone_and_as_cheap_as_the_best_of_all((n_rows, n_columns, cost) in matrix(6)) {
            let path = dtw(&cost, n_rows, n_columns);
            prop_assert!(is_monotone(&path, n_rows, n_columns), "{:?}", path);
            let sum: f64 = path.iter().map(|(row, column)| f64::from(cost[row * n_columns + column])).sum();
            let best = brute_force(&cost, n_columns, n_rows - 1, n_columns - 1);
            // Up to 11 terms below 9, added in f32.
            prop_assert!((sum - best).abs() < 1e-4, "{} is not {}", sum, best);
        }

        #[test]
        fn large_matrices_have_monotone_paths((n_rows, n_columns, cost) in matrix(60)) {
            prop_assert!(is_monotone(&dtw(&cost, n_rows, n_columns), n_rows, n_columns));
        }
    }

    #[test]
    fn ties_go_on_in_time() {
        // All paths cost the same. From the end the path goes back in time as far as possible, then up.
        let expected = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)];
        assert_eq!(dtw(&[0.0; 9], 3, 3), expected);
    }

    #[test]
    fn nan_and_infinity_give_a_path() {
        for cost in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..12 {
                let mut costs = vec![1.0; 12];
                costs[at] = cost;
                let path = dtw(&costs, 3, 4);
                assert_eq!(path.last(), Some(&(2, 3)), "{cost} at {at}");
                assert_eq!(path.first().map(|first| first.0), Some(0));
                assert!(path.windows(2).all(|w| w[1].0 - w[0].0 < 2));
            }
        }
    }
}
