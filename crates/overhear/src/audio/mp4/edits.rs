//! What edit lists (`elst`) make of a track: ISO 14496-12 sections 8.6.5 and 8.6.6.
//!
//! The list is the timeline: parts of the media in any order, repeated or left out, and pauses. ffmpeg follows it by whole
//! packets behind the first entry; here it is exact to the sample. A pause in front is left out, as ffmpeg leaves it out
//! of a file of audio alone; between two parts it is silence.

use super::movie::Edit;

/// Edits that are followed; more is damage.
const MAX_EDITS: usize = 10_000;
/// The longest pause that is believed, in seconds.
const MAX_GAP_S: u64 = 24 * 3600;

/// A part of the edited timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// The media from `start` to `end`, in ticks of the track.
    Media { start: u64, end: u64 },
    /// Silence of so many ticks of the movie.
    Gap(u64),
}

/// The timeline by `edits`. `None`: they say nothing, so the media are played as they are.
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
    // What a tick of the movie is in the track: the lengths are no more exact than that.
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
                    // Where one part goes on from the other there is nothing to cut.
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
        // The movie often counts milliseconds: nothing is cut within the last one.
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
            // To the end, as fragmented files have it.
            (&[edit(0, Some(1024))], Some(vec![media(1024, u64::MAX)])),
            // A pause in front, and one behind.
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
            // Parts that go on from one another, but for rounding.
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
