//! Windows of the spectrogram of an audio stream of any length.

use std::sync::Arc;

use super::frames::{FrameReader, FrameTransform, SILENCE};
use super::levels::{Levels, level};
use super::{HOP_LENGTH, MelWindow, N_FRAMES, SAMPLE_RATE, largest};
use crate::host::Host;
use crate::{Audio, AudioWarning, Result};

/// Maximum number of frames kept from the first pass: ten minutes, 19 MB at 80 mel bins.
const MAX_KEPT_FRAMES: usize = 10 * 60 * 100;

/// Spectrogram of a whole file, as `log_mel_spectrogram(audio, padding=480000)` of the reference, computed one window
/// at a time.
pub(crate) struct MelStream {
    audio: Audio,
    n_mels: usize,
    host: Host,
    n_samples: usize,
    warnings: Vec<AudioWarning>,
    /// Largest value of the file, in decades.
    max: f32,
    /// Source of further frames; `None`: all frames have been read.
    reader: Option<FrameReader>,
    /// Frames in decades from `first_frame` on, `[_, n_mels]`.
    frames: Vec<f32>,
    first_frame: usize,
}

impl MelStream {
    /// Makes the first pass over `audio`; calls `on_second` with the number of seconds read so far, and ends with its
    /// error.
    pub(crate) fn open(
        audio: &Audio,
        n_mels: usize,
        host: &Host,
        on_second: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Self> {
        let mut reader = frame_reader(audio, n_mels, host)?;
        let mut frames = Vec::new();
        let mut max = SILENCE;
        let mut is_kept = true;
        loop {
            let start = frames.len();
            if start > MAX_KEPT_FRAMES * n_mels {
                is_kept = false;
                frames = Vec::new();
                while reader.read_max(&mut max)? {
                    on_second(reader.n_samples() as f64 / SAMPLE_RATE as f64)?;
                }
                break;
            }
            if reader.read(&mut frames)? == 0 {
                break;
            }
            max = largest(&frames[start..], max);
            on_second(reader.n_samples() as f64 / SAMPLE_RATE as f64)?;
        }
        let mut stream = Self {
            audio: audio.clone(),
            n_mels,
            host: host.clone(),
            n_samples: reader.n_samples(),
            warnings: reader.warnings().to_vec(),
            max,
            reader: None,
            frames,
            first_frame: 0,
        };
        if !is_kept {
            stream.rewind()?;
        }
        Ok(stream)
    }

    /// Returns the number of frames of the audio itself, without padding: `content_frames` of the reference.
    pub(crate) fn content_frames(&self) -> usize {
        self.n_samples / HOP_LENGTH
    }

    /// Returns the length of the audio in seconds.
    pub(crate) fn duration_s(&self) -> f64 {
        self.n_samples as f64 / SAMPLE_RATE as f64
    }

    /// Returns the irregularities of the audio.
    pub(crate) fn warnings(&self) -> &[AudioWarning] {
        &self.warnings
    }

    /// Returns a window of [`N_FRAMES`] frames as `pad_or_trim(mel[:, seek : seek + n_frames])`: the first `n_frames`
    /// are the file's from `seek` on (silence after its end), the others are zero.
    pub(crate) fn window(&mut self, seek: usize, n_frames: usize) -> Result<MelWindow> {
        let mut mel = self.in_silence(seek, n_frames)?;
        mel.data[n_frames * self.n_mels..].fill(0.0);
        Ok(mel)
    }

    /// Returns the `n_frames` frames of the file from `seek` on, in a window that is silent otherwise: as of a file
    /// with nothing else and with the same maximum.
    pub(crate) fn in_silence(&mut self, seek: usize, n_frames: usize) -> Result<MelWindow> {
        self.read_to(seek, seek + n_frames)?;
        let mut mel = MelWindow::zeros(self.n_mels);
        let start = (seek - self.first_frame) * self.n_mels;
        let there = self.frames.get(start..).unwrap_or_default();
        let there = &there[..there.len().min(n_frames * self.n_mels)];
        mel.set_frames(0, there, self.max);
        let n_there = there.len() / self.n_mels;
        let silence = vec![SILENCE; (N_FRAMES - n_there) * self.n_mels];
        mel.set_frames(n_there, &silence, self.max);
        Ok(mel)
    }

    /// Returns the levels in decades of the `n_frames` frames from `seek` on, or fewer at the end of the file; each is
    /// at least the clamp's limit.
    pub(crate) fn levels(&mut self, seek: usize, n_frames: usize) -> Result<Vec<f32>> {
        self.read_to(seek, seek + n_frames)?;
        let start = (seek - self.first_frame) * self.n_mels;
        let there = self.frames.get(start..).unwrap_or_default();
        let frames = there.chunks_exact(self.n_mels).take(n_frames);
        let levels = frames.map(|frame| level(frame).max(self.max - 8.0));
        Ok(levels.collect())
    }

    /// Returns the level up to which frames of this file count as silent, for [`MelStream::silent_frames`]. A file that
    /// is too long to keep is read once more.
    pub(crate) fn silence_level(&self) -> Result<f32> {
        let mut levels = Levels::new();
        if self.reader.is_none() && self.first_frame == 0 {
            levels.count(&self.frames, self.n_mels);
            return Ok(levels.silence());
        }
        let mut reader = frame_reader(&self.audio, self.n_mels, &self.host)?;
        let mut frames = Vec::new();
        while reader.read(&mut frames)? > 0 {
            levels.count(&frames, self.n_mels);
            frames.clear();
        }
        Ok(levels.silence())
    }

    /// Returns, for each of the `n_frames` frames from `seek` on, whether it is silent; frames after the end of the
    /// file are.
    pub(crate) fn silent_frames(
        &mut self,
        seek: usize,
        n_frames: usize,
        silence_level: f32,
    ) -> Result<Vec<bool>> {
        self.read_to(seek, seek + n_frames)?;
        let start = (seek - self.first_frame) * self.n_mels;
        let there = self.frames.get(start..).unwrap_or_default();
        let frames = there.chunks_exact(self.n_mels).take(n_frames);
        let mut is_silent: Vec<bool> = frames.map(|frame| level(frame) <= silence_level).collect();
        is_silent.resize(n_frames, true);
        Ok(is_silent)
    }

    /// Reads until frames `start` to `end` are in `frames`; in a long file, drops those before `start`.
    fn read_to(&mut self, start: usize, end: usize) -> Result<()> {
        if start < self.first_frame {
            self.rewind()?;
        }
        while let Some(reader) = &mut self.reader {
            let n_passed = (start - self.first_frame).min(self.frames.len() / self.n_mels);
            self.frames.drain(..n_passed * self.n_mels);
            self.first_frame += n_passed;
            let n_read = if self.first_frame < start {
                // Frames up to `start` that were not read yet need no transform.
                let n_skipped = reader.skip(start - self.first_frame)?;
                self.first_frame += n_skipped;
                n_skipped
            } else if self.first_frame + self.frames.len() / self.n_mels < end {
                reader.read(&mut self.frames)?
            } else {
                break;
            };
            if n_read == 0 {
                self.compare_passes();
                break;
            }
        }
        Ok(())
    }

    /// Adds, at the end of a further pass, the warnings that only this pass gave, because the file has changed since
    /// the first.
    fn compare_passes(&mut self) {
        let Some(reader) = &self.reader else {
            return;
        };
        let is_shorter = reader.n_samples() < self.n_samples;
        let shorter = is_shorter.then_some(&AudioWarning::Truncated);
        for warning in reader.warnings().iter().chain(shorter) {
            if !self.warnings.contains(warning) {
                self.warnings.push(warning.clone());
            }
        }
    }

    fn rewind(&mut self) -> Result<()> {
        self.reader = Some(frame_reader(&self.audio, self.n_mels, &self.host)?);
        self.frames.clear();
        self.first_frame = 0;
        Ok(())
    }
}

/// Returns a reader of the frames of `audio` from its start.
fn frame_reader(audio: &Audio, n_mels: usize, host: &Host) -> Result<FrameReader> {
    let transform = FrameTransform::new(n_mels, host.kernels, Some(Arc::clone(&host.pool)));
    Ok(FrameReader::new(audio.reader()?, transform))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use overhear_kernels::{Kernels, Pool};

    use super::*;
    use crate::LogMel;
    use crate::mel::log_mel_spectrogram;

    /// Signal with a loud middle: the maximum is not in the first window.
    fn samples(n: usize) -> Vec<f32> {
        let loudness = |i: usize| if i > n / 2 { 0.5 } else { 0.01 };
        (0..n)
            .map(|i| loudness(i) * (i as f32 * 0.05).sin() * ((i / 777) as f32).cos())
            .collect()
    }

    fn open(audio: &Audio) -> MelStream {
        let host = Host {
            kernels: Kernels::detect(),
            pool: Arc::new(Pool::new(2)),
        };
        MelStream::open(audio, 80, &host, &mut |_| Ok(())).unwrap()
    }

    /// Window of the reference: `pad_or_trim(mel[:, seek : seek + n_frames])` of the whole file's spectrogram.
    fn expected(samples: &[f32], seek: usize, n_frames: usize) -> MelWindow {
        let whole = log_mel_spectrogram(samples, 80, 480_000);
        let mut window = LogMel::zeros(80, N_FRAMES);
        for mel in 0..80 {
            for frame in 0..n_frames {
                window.data[mel * N_FRAMES + frame] =
                    whole.data[mel * whole.n_frames + seek + frame];
            }
        }
        MelWindow::of(&window, 80).unwrap()
    }

    #[test]
    fn windows_equal_those_of_the_whole_spectrogram() {
        for n_samples in [
            0, 1, 159, 160, 199, 200, 201, 400, 479_999, 480_000, 480_001, 700_123,
        ] {
            let samples = samples(n_samples);
            let audio = Audio::from_samples(samples.clone(), 16_000).unwrap();
            let mut stream = open(&audio);
            assert_eq!(stream.content_frames(), n_samples / 160);
            let content_frames = stream.content_frames();
            for (seek, n_frames) in [
                (0, N_FRAMES),
                (content_frames / 3, content_frames / 2),
                (0, content_frames.min(100)),
            ] {
                let n_frames = n_frames.min(N_FRAMES);
                assert_eq!(
                    stream.window(seek, n_frames).unwrap(),
                    expected(&samples, seek, n_frames),
                    "{n_samples} {seek}"
                );
            }
        }
    }

    #[test]
    fn a_file_too_long_to_keep_gives_the_same_windows() {
        let samples = samples((MAX_KEPT_FRAMES + 5000) * 160);
        let audio = Audio::from_samples(samples.clone(), 16_000).unwrap();
        let mut stream = open(&audio);
        assert!(stream.reader.is_some(), "not kept");
        let silence_level = stream.silence_level().unwrap();
        // Forwards, overlapping, far ahead, backwards, and beyond the end.
        for seek in [0, 3000, 4500, 50_000, 100, MAX_KEPT_FRAMES + 4990] {
            let n_frames = N_FRAMES.min(stream.content_frames() - seek);
            assert_eq!(
                stream.window(seek, n_frames).unwrap(),
                expected(&samples, seek, n_frames),
                "{seek}"
            );
            assert!(
                stream.frames.len() <= (N_FRAMES + 200) * 80,
                "frames pile up"
            );
        }
        // The first half is the quiet one.
        let mut n_silent = |seek| {
            let is_silent = stream.silent_frames(seek, 1000, silence_level).unwrap();
            is_silent.iter().filter(|&&is_silent| is_silent).count()
        };
        let (quiet, loud, after) = (n_silent(100), n_silent(60_000), n_silent(70_000));
        assert!(quiet > loud && after == 1000, "{quiet} {loud} {after}");
    }
}
