//! Edit lists (`elst`) of a track, converted to a timeline: ISO 14496-12 sections 8.6.5 and 8.6.6.
//!
//! An edit list defines the timeline: parts of the media in any order, repeated or omitted, and empty edits. ffmpeg
//! applies entries after the first one with packet granularity; this implementation is exact to the sample. Empty edits
//! at the start are dropped, as ffmpeg does for files with audio only; between two parts they become silence.

use super::movie::Edit;

/// Maximum number of edits; longer lists are treated as damaged.
const MAX_EDITS: usize = 10_000;
/// Maximum length of an empty edit in seconds; longer ones are treated as damaged.
const MAX_GAP_S: u64 = 24 * 3600;

/// Part of the edited timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// The media from `start` to `end`, in the track's time scale.
    Media { start: u64, end: u64 },
    /// Silence, in ticks of the movie's time scale.
    Gap(u64),
}

/// Returns the timeline that `edits` define. `None`: they are empty or invalid, so the media are played unedited.
pub(super) fn timeline(
    edits: &[Edit],
    track_ticks_per_s: u32,
    movie_ticks_per_s: u32,
) -> Option<Vec<Span>> {
    if track_ticks_per_s == 0 || movie_ticks_per_s == 0 || edits.len() > MAX_EDITS {
        return None;
    }
    let in_track = |ticks: u64| {
        let scaled = (u128::from(ticks) * u128::from(track_ticks_per_s)
            + u128::from(movie_ticks_per_s / 2))
            / u128::from(movie_ticks_per_s);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    // One tick of the movie's time scale in the track's: the precision of the edits' lengths.
    let grain = in_track(1);
    let mut spans: Vec<Span> = Vec::new();
    for edit in edits {
        match (edit.start, spans.last_mut()) {
            (None, None) => {}
            (None, Some(Span::Gap(length))) => *length = length.saturating_add(edit.length),
            (None, Some(_)) => spans.push(Span::Gap(edit.length)),
            (Some(start), last) => {
                let end = match edit.length {
                    0 => u64::MAX,
                    length => start.saturating_add(in_track(length)),
                };
                match last {
                    // Contiguous parts are joined, so that nothing is cut between them.
                    Some(Span::Media { end: last_end, .. })
                        if last_end.abs_diff(start) <= grain =>
                    {
                        *last_end = end;
                    }
                    _ => spans.push(Span::Media { start, end }),
                }
            }
        }
    }
    while let Some(Span::Gap(_)) = spans.last() {
        spans.pop();
    }
    if let Some(Span::Media { end, .. }) = spans.last_mut() {
        // The movie's time scale is often milliseconds: the end is rounded up by one tick, so that no samples are lost.
        *end = end.saturating_add(grain);
    }
    let max_gap = MAX_GAP_S * u64::from(movie_ticks_per_s);
    let sane = spans
        .iter()
        .all(|span| !matches!(span, Span::Gap(length) if *length > max_gap));
    (sane && !spans.is_empty()).then_some(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(length: u64, start: Option<u64>) -> Edit {
        Edit { length, start }
    }

    fn media(start: u64, end: u64) -> Span {
        Span::Media { start, end }
    }

    #[test]
    fn a_list_is_a_timeline_in_ticks_of_the_track() {
        let cases: [(&[Edit], Option<Vec<Span>>); 8] = [
            (&[], None),
            (&[edit(500, None)], None),
            (&[edit(1000, Some(1024))], Some(vec![media(1024, 9024 + 8)])),
            // Up to the end, as in fragmented files.
            (&[edit(0, Some(1024))], Some(vec![media(1024, u64::MAX)])),
            // An empty edit at the start, and one at the end.
            (
                &[edit(500, None), edit(1000, Some(0)), edit(500, None)],
                Some(vec![media(0, 8008)]),
            ),
            (
                &[
                    edit(1000, Some(0)),
                    edit(500, None),
                    edit(7, None),
                    edit(1000, Some(8000)),
                ],
                Some(vec![media(0, 8000), Span::Gap(507), media(8000, 16_008)]),
            ),
            // Contiguous parts, except for rounding.
            (
                &[edit(1000, Some(0)), edit(1000, Some(8003))],
                Some(vec![media(0, 16_003 + 8)]),
            ),
            (
                &[edit(1000, Some(0)), edit(1000, Some(0))],
                Some(vec![media(0, 8000), media(0, 8008)]),
            ),
        ];
        for (edits, expected) in cases {
            assert_eq!(timeline(edits, 8000, 1000), expected, "{edits:?}");
        }
    }

    #[test]
    fn nonsense_is_no_timeline() {
        let one = [edit(1000, Some(0))];
        assert_eq!(timeline(&one, 0, 1000), None);
        assert_eq!(timeline(&one, 8000, 0), None);
        let forever = [one[0], edit(u64::MAX, None), one[0]];
        assert_eq!(timeline(&forever, 8000, 1000), None);
        assert_eq!(timeline(&one.repeat(MAX_EDITS + 1), 8000, 1000), None);
    }
}
