//! Map from times in the audio of the regions, joined, to times in the recording:
//! `faster_whisper/vad.py::SpeechTimestampsMap`.
//!
//! The reference rounds times to 10 ms and samples down. Here times are counted in whole samples, so that a time of the
//! transcript, a multiple of 10 ms, is mapped exactly; and a word that begins or ends in a neighbouring region is limited to
//! the region of its middle.

use super::Region;
use crate::Segment;
use crate::audio::SAMPLE_RATE;

/// Map of times.
pub(crate) struct SpeechTimestampsMap {
    regions: Vec<Region>,
    /// For each region, the sample of the joined audio after its last one.
    ends: Vec<usize>,
    /// Number of samples by which a segment may reach into a region where it has no speech.
    reach: usize,
}

/// Accuracy in samples of the times of segments: 0.2 s.
const ACCURACY: usize = SAMPLE_RATE as usize / 5;

impl SpeechTimestampsMap {
    /// Creates the map. `regions`: in order, without overlap, extended by up to `pad` samples at either end.
    pub(crate) fn new(regions: Vec<Region>, pad: usize) -> Self {
        let mut end = 0;
        let ends = regions.iter().map(|region| {
            end += region.end - region.start;
            end
        });
        Self {
            ends: ends.collect(),
            regions,
            reach: pad + ACCURACY,
        }
    }

    /// Maps the start of something. Where two regions meet, that is the start of the second.
    pub(crate) fn start(&self, time_s: f64) -> f64 {
        let sample = to_sample(time_s);
        self.in_region(sample, self.ends.partition_point(|&end| end <= sample))
    }

    /// Maps the end of something. Where two regions meet, that is the end of the first.
    pub(crate) fn end(&self, time_s: f64) -> f64 {
        let sample = to_sample(time_s);
        self.in_region(sample, self.ends.partition_point(|&end| end < sample))
    }

    /// Maps the times of a segment and of its words, and the frame of its window: `restore_speech_timestamps`.
    pub(crate) fn restore(&self, segment: &mut Segment) {
        segment.seek = self.frame(segment.seek);
        for word in segment.words.iter_mut().flatten() {
            let middle = to_sample((word.start + word.end) / 2.0);
            let region = self.ends.partition_point(|&end| end <= middle);
            word.start = self.in_region(to_sample(word.start), region);
            word.end = self.in_region(to_sample(word.end), region);
        }
        match segment.words.as_deref() {
            Some([first, .., last]) => (segment.start, segment.end) = (first.start, last.end),
            Some([word]) => (segment.start, segment.end) = (word.start, word.end),
            _ => (segment.start, segment.end) = self.span(segment.start, segment.end),
        }
    }

    /// Maps the times of a segment without words. Where it reaches into a neighbouring region by no more than the region's
    /// padding and the accuracy of times, it has no speech there, and is limited to the other region: the silence between
    /// the regions may be minutes.
    fn span(&self, start_s: f64, end_s: f64) -> (f64, f64) {
        let [mut start, mut end] = [start_s, end_s].map(to_sample);
        let first = self.ends.partition_point(|&end| end <= start);
        let last = self.ends.partition_point(|&region_end| region_end < end);
        if first < last && self.ends[first] - start <= self.reach {
            start = self.ends[first];
        }
        if first < last && end - self.ends[last - 1] <= self.reach && self.ends[last - 1] > start {
            end = self.ends[last - 1];
        }
        let [start_s, end_s] = [start, end].map(|sample| sample as f64 / f64::from(SAMPLE_RATE));
        // A segment without duration where two regions meet begins in the second.
        let start_s = self.start(start_s);
        (start_s, self.end(end_s).max(start_s))
    }

    /// Maps a frame of 10 ms.
    pub(crate) fn frame(&self, frame: usize) -> usize {
        (self.start(frame as f64 / 100.0) * 100.0 + 1e-6) as usize
    }

    /// Returns the time in seconds of a sample of the joined audio, limited to `region`, or to the last one. Without regions,
    /// there is no other time than 0.
    fn in_region(&self, sample: usize, region: usize) -> f64 {
        let index = region.min(self.regions.len().saturating_sub(1));
        let (Some(region), Some(end)) = (self.regions.get(index), self.ends.get(index)) else {
            return 0.0;
        };
        let first = end - (region.end - region.start);
        let offset = sample.clamp(first, *end) - first;
        (region.start + offset) as f64 / f64::from(SAMPLE_RATE)
    }
}

/// Returns the sample at a time in seconds.
fn to_sample(time_s: f64) -> usize {
    (time_s * f64::from(SAMPLE_RATE)).round() as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Word;

    fn map(regions: &[(usize, usize)]) -> SpeechTimestampsMap {
        let region = |&(start, end): &(usize, usize)| Region { start, end };
        SpeechTimestampsMap::new(regions.iter().map(region).collect(), 0)
    }

    #[test]
    fn a_segment_that_reaches_into_padding_stays_in_its_region() {
        // 1 to 3 s and 60 to 64 s, of which 0.4 s at either end are padding.
        let regions = [(16_000, 48_000), (960_000, 1_024_000)];
        let regions = regions.map(|(start, end)| Region { start, end }).to_vec();
        let map = SpeechTimestampsMap::new(regions, 6_400);
        for (from, to) in [
            ((1.9, 4.0), (60.0, 62.0)),
            ((0.5, 2.3), (1.5, 3.0)),
            ((0.5, 2.7), (1.5, 60.7)),
            ((1.3, 4.0), (2.3, 62.0)),
            ((1.8, 2.2), (60.0, 60.2)),
            ((0.5, 1.9), (1.5, 2.9)),
            ((5.0, 9.0), (63.0, 64.0)),
        ] {
            assert_eq!(map.span(from.0, from.1), to, "{from:?}");
        }
    }

    #[test]
    fn times_move_by_the_silence_before_their_region() {
        // 1 to 3 s and 10 to 14 s.
        let map = map(&[(16_000, 48_000), (160_000, 224_000)]);
        for (time_s, start_s, end_s) in [
            (0.0, 1.0, 1.0),
            (0.29, 1.29, 1.29),
            (1.98, 2.98, 2.98),
            (2.0, 10.0, 3.0),
            (2.02, 10.02, 10.02),
            (6.0, 14.0, 14.0),
            (7.5, 14.0, 14.0),
        ] {
            assert_eq!(map.start(time_s), start_s, "{time_s}");
            assert_eq!(map.end(time_s), end_s, "{time_s}");
        }
        assert_eq!(
            [0, 199, 200, 230].map(|frame| map.frame(frame)),
            [100, 299, 1000, 1030]
        );
    }

    #[test]
    fn without_regions_all_times_are_0() {
        let map = map(&[]);
        assert_eq!([map.start(3.0), map.end(3.0)], [0.0, 0.0]);
    }

    #[test]
    fn a_word_over_two_regions_is_limited_to_that_of_its_middle() {
        let map = map(&[(16_000, 48_000), (160_000, 224_000)]);
        let word = |start, end| Word {
            start,
            end,
            ..Word::default()
        };
        let mut segment = Segment {
            start: 0.5,
            end: 2.6,
            words: Some(vec![word(0.5, 0.8), word(1.7, 2.2), word(1.9, 2.6)]),
            ..Segment::default()
        };
        map.restore(&mut segment);
        let words = segment.words.unwrap();
        let times: Vec<_> = words.iter().map(|word| (word.start, word.end)).collect();
        assert_eq!(times, [(1.5, 1.8), (2.7, 3.0), (10.0, 10.6)]);
        assert_eq!((segment.start, segment.end), (1.5, 10.6));
        let mut empty = Segment {
            start: 2.0,
            end: 2.0,
            ..Segment::default()
        };
        map.restore(&mut empty);
        assert_eq!((empty.start, empty.end), (10.0, 10.0));
    }

    proptest! {
        #[test]
        fn mapped_times_are_in_order_and_inside_regions(
            lengths in prop::collection::vec((0..200_000_usize, 1..400_000_usize), 1..8),
            mut hundredths in prop::collection::vec(0..15_000_u32, 2..60),
        ) {
            let mut end = 0;
            let regions: Vec<Region> = lengths
                .iter()
                .map(|(gap, length)| {
                    let start = end + gap;
                    end = start + length;
                    Region { start, end }
                })
                .collect();
            hundredths.sort_unstable();
            let times: Vec<f64> = hundredths.iter().map(|&n| f64::from(n) / 100.0).collect();
            let map = SpeechTimestampsMap::new(regions.clone(), 0);
            let is_inside = |time_s: f64| {
                let mut regions = regions.iter();
                regions.any(|region| region.start_s() <= time_s && time_s <= region.end_s())
            };
            let word = |pair: &[f64]| Word { start: pair[0], end: pair[1], ..Word::default() };
            let mut segment = Segment {
                words: Some(times.chunks_exact(2).map(word).collect()),
                ..Segment::default()
            };
            map.restore(&mut segment);
            let words = segment.words.unwrap();
            let of_words: Vec<f64> = words.iter().flat_map(|word| [word.start, word.end]).collect();
            let starts: Vec<f64> = times.iter().map(|&time_s| map.start(time_s)).collect();
            let ends: Vec<f64> = times.iter().map(|&time_s| map.end(time_s)).collect();
            for mapped in [&of_words, &starts, &ends] {
                prop_assert!(mapped.is_sorted(), "{mapped:?}");
                prop_assert!(mapped.iter().all(|&time_s| is_inside(time_s)), "{mapped:?}");
            }
            // Distances within a region are kept.
            let n_samples: usize = lengths.iter().map(|(_, length)| length).sum();
            for (&time_s, &start_s) in times.iter().zip(&starts) {
                if to_sample(time_s) < n_samples {
                    let before: usize = regions
                        .iter()
                        .filter(|region| region.end_s() <= start_s)
                        .map(|region| region.end - region.start)
                        .sum();
                    let region = regions.iter().find(|region| start_s < region.end_s()).unwrap();
                    let joined = before as f64 / 16_000.0 + (start_s - region.start_s());
                    prop_assert!((joined - time_s).abs() < 1e-9, "{time_s} {start_s}");
                }
            }
        }
    }
}
