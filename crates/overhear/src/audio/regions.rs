//! Regions of a recording, read as if it contained nothing else.

use std::ops::Range;
use std::sync::Arc;

/// Filter that keeps the samples in some ranges of the samples that pass.
pub(super) struct RegionFilter {
    /// Ranges of samples, in order, without overlap.
    regions: Arc<[Range<usize>]>,
    /// Index of the first range that has not ended.
    next: usize,
    /// Number of samples that have passed.
    position: usize,
}

impl RegionFilter {
    pub(super) fn new(regions: Arc<[Range<usize>]>) -> Self {
        Self {
            regions,
            next: 0,
            position: 0,
        }
    }

    /// Returns whether all ranges have passed.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.regions.len()
    }

    /// Moves those of the next `samples` that are kept to their start, and returns the number of them.
    pub(super) fn keep(&mut self, samples: &mut [f32]) -> usize {
        let end = self.position + samples.len();
        let mut n_kept = 0;
        while let Some(region) = self.regions.get(self.next).filter(|r| r.start < end) {
            let from = region.start.max(self.position) - self.position;
            let to = region.end.min(end) - self.position;
            samples.copy_within(from..to, n_kept);
            n_kept += to - from;
            if region.end > end {
                break;
            }
            self.next += 1;
        }
        self.position = end;
        n_kept
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::Audio;

    #[test]
    fn only_the_regions_are_read_whatever_the_size_of_blocks() {
        let samples: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let audio = Audio::from_samples(samples.clone(), 16_000).unwrap();
        for regions in [
            &[][..],
            &[0..4_000, 4_000..10_000],
            &[0..1, 1..2, 9_999..10_000],
            &[100..200, 200..300, 5_000..5_001, 8_000..9_000],
            &[9_000..12_000, 13_000..14_000],
        ] {
            let kept = regions
                .iter()
                .flat_map(|r| &samples[r.start.min(10_000)..r.end.min(10_000)]);
            let expected: Vec<f32> = kept.copied().collect();
            let speech = audio.only(regions.into());
            assert_eq!(speech.samples().unwrap(), expected, "{regions:?}");
            for n_block in [1, 7, 150, 4_096] {
                let mut reader = speech.reader().unwrap();
                let (mut found, mut block) = (Vec::new(), vec![0.0; n_block]);
                loop {
                    match reader.read(&mut block).unwrap() {
                        0 => break,
                        n => found.extend_from_slice(&block[..n]),
                    }
                }
                assert_eq!(found, expected, "{regions:?} {n_block}");
            }
        }
    }
}
