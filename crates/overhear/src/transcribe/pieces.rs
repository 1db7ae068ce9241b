//! A recording cut where it is quietest, into pieces of which each is most likely in one language.

use std::ops::Range;

/// Frames of the shortest and of the longest piece of each cut: 1 to 5 s and 1.5 to 4.5 s. Languages of shorter pieces are
/// guesses, longer ones are rarely in one language where speakers take turns. Two cuts end in different places, so that a
/// piece with the end of one language and the beginning of another is not all that is heard of either.
pub(super) const CUTS: [Range<usize>; 2] = [100..500, 150..450];
/// Frames that the level is averaged over: what is quiet for 0.2 s is a pause, not the closure of a consonant.
const N_AVERAGED: usize = 20;

/// Number of levels that [`end`] looks at: those of the longest piece, and of the shortest behind it.
pub(super) fn n_ahead(lengths: &Range<usize>) -> usize {
    lengths.end + lengths.start
}

/// Returns where the piece that begins at the first of `levels` ends: at the quietest place that leaves no shorter piece
/// behind it, the last of equals; or with the levels, if there are no more than a piece may have.
///
/// `levels`: the level of each frame, [`n_ahead`] of them or all there are. `lengths`: those of the cut.
pub(super) fn end(levels: &[f32], lengths: &Range<usize>) -> usize {
    if levels.len() <= lengths.end {
        return levels.len();
    }
    let around = |frame: usize| &levels[frame - N_AVERAGED / 2..frame + N_AVERAGED / 2];
    let last = lengths.end.min(levels.len() - lengths.start);
    let quietest = (lengths.start..last)
        .map(|frame| (frame, around(frame).iter().sum::<f32>()))
        .reduce(|best, other| if other.1 <= best.1 { other } else { best });
    quietest.map_or(levels.len(), |(frame, _)| frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of `levels` by the first cut.
    fn pieces(levels: &[f32]) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < levels.len() {
            let ahead = &levels[start..levels.len().min(start + n_ahead(&CUTS[0]))];
            pieces.push(start..start + end(ahead, &CUTS[0]));
            start += end(ahead, &CUTS[0]);
        }
        pieces
    }

    #[test]
    fn pieces_end_in_pauses() {
        let mut levels = vec![1.0; 1200];
        // Too early, too short, and two pauses of which the second is deeper.
        levels[50..80].fill(0.0);
        levels[150..154].fill(0.0);
        levels[200..230].fill(0.5);
        levels[400..430].fill(0.25);
        levels[800..820].fill(0.0);
        let ends: Vec<usize> = pieces(&levels).iter().map(|piece| piece.end).collect();
        assert_eq!(ends, [420, 810, 1200]);
    }

    #[test]
    fn pieces_cover_all_and_are_as_long_as_they_may_be_where_nothing_is_quieter() {
        for n in [0, 1, 99, 500, 501, 599, 600, 601, 3000] {
            let pieces = pieces(&vec![0.0; n]);
            let mut next = 0;
            for piece in &pieces {
                assert_eq!(piece.start, next);
                next = piece.end;
            }
            assert_eq!(next, n);
            let is_whole = |piece: &Range<usize>| (100..=500).contains(&piece.len());
            assert!(n <= 500 || pieces.iter().all(is_whole), "{pieces:?}");
            assert!(pieces.len() <= n.div_ceil(499), "{pieces:?}");
        }
    }
}
