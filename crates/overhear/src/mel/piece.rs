//! Piece of a file's spectrogram, apart from the stream that it was read from.

use super::{MelStream, MelWindow, N_FRAMES};
use crate::Result;

/// Frames of a piece of a file, at most a window's.
pub(crate) struct MelPiece {
    /// First frame.
    start: usize,
    n_frames: usize,
    /// The frames, zeros after them.
    mel: MelWindow,
    /// Whether each frame is silent; empty if that was not asked for.
    is_silent: Vec<bool>,
}

impl MelPiece {
    /// Reads the `n_frames` frames of `stream` from `start` on, at most [`N_FRAMES`]. `silence_level`: see
    /// [`MelStream::silent_frames`].
    pub(crate) fn new(
        stream: &mut MelStream,
        start: usize,
        n_frames: usize,
        silence_level: Option<f32>,
    ) -> Result<Self> {
        assert!(n_frames <= N_FRAMES, "a piece of {n_frames} frames");
        Ok(Self {
            start,
            n_frames,
            is_silent: match silence_level {
                Some(level) => stream.silent_frames(start, n_frames, level)?,
                None => Vec::new(),
            },
            mel: stream.window(start, n_frames)?,
        })
    }

    /// Frame of the file at which the piece ends.
    pub(crate) fn end(&self) -> usize {
        self.start + self.n_frames
    }

    /// Returns a window of the `n_frames` frames from `seek` on, which are within the piece: as [`MelStream::window`].
    pub(crate) fn window(&self, seek: usize, n_frames: usize) -> MelWindow {
        let n_mels = self.mel.n_mels;
        let frames = (seek - self.start) * n_mels..(seek - self.start + n_frames) * n_mels;
        let mut window = MelWindow::zeros(n_mels);
        window.data[..n_frames * n_mels].copy_from_slice(&self.mel.data[frames]);
        window
    }

    /// Returns, for each of the `n_frames` frames from `seek` on, whether it is silent: [`MelStream::silent_frames`].
    pub(crate) fn silent_frames(&self, seek: usize, n_frames: usize) -> Vec<bool> {
        self.is_silent[seek - self.start..][..n_frames].to_vec()
    }
}
