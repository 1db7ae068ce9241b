//! Cuts of a recording at its quietest places, into pieces that are probably in one language each.

use std::ops::Range;

/// Minimum and maximum number of frames of a piece, for each of two cuts: 1 to 5 s and 1.5 to 4.5 s. Shorter pieces are
/// too short for language detection, longer ones often contain several speakers. Two cuts with different ends ensure
/// that a change of language within a piece of one cut is resolved by the other.
pub(super) const CUTS: [Range<usize>; 2] = [100..500, 150..450];
/// Number of frames over which levels are averaged, 0.2 s: longer than the closure of a consonant.
const N_AVERAGED: usize = 20;

/// Returns the number of levels that [`end`] needs: those of the longest piece, and of a shortest one after it.
pub(super) fn n_ahead(lengths: &Range<usize>) -> usize {
    lengths.end + lengths.start
}

/// Returns the end of the piece that begins at the first of `levels`: the quietest place (of equal ones the last) that
/// leaves at least a shortest piece after it, or the end of `levels` if they are no more than a piece may have.
///
/// `levels`: one per frame, [`n_ahead`] of them, or fewer at the end of the recording. `lengths`: minimum and maximum
/// length of pieces.
pub(super) fn end(levels: &[f32], lengths: &Range<usize>) -> usize {
    if levels.len() <= lengths.end {
        return levels.len();
    }
    let last = lengths.end.min(levels.len() - lengths.start);
    quietest(levels, lengths.start..last)
}

/// Returns the quietest place of `frames`, the last of equals. `levels`: the level of each frame, of 10 more at either
/// side of `frames`.
pub(super) fn quietest(levels: &[f32], frames: Range<usize>) -> usize {
    let around = |frame: usize| &levels[frame - N_AVERAGED / 2..frame + N_AVERAGED / 2];
    let end = frames.end;
    frames
        .map(|frame| (frame, around(frame).iter().sum::<f32>()))
        .reduce(|best, other| if other.1 <= best.1 { other } else { best })
        .map_or(end, |(frame, _)| frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pieces of `levels` by the first cut.
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
        // Pauses that are too early, and too short, then two of which the second is deeper.
        levels[50..80].fill(0.0);
        levels[150..154].fill(0.0);
        levels[200..230].fill(0.5);
        levels[400..430].fill(0.25);
        levels[800..820].fill(0.0);
        let ends: Vec<usize> = pieces(&levels).iter().map(|piece| piece.end).collect();
        assert_eq!(ends, [420, 810, 1200]);
    }

    #[test]
    fn pieces_cover_all_and_have_maximum_length_at_constant_level() {
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
