//! Windows of a file: the source of their frames, and the seat that one of them at a time is encoded in.

use super::OnEvent;
use crate::engine::Seat;
use crate::mel::{MelPiece, MelStream, MelWindow};
use crate::{Audio, Event, Model, Result};

/// Source of a window's frames.
pub(super) trait Frames {
    /// Returns a window of the `n_frames` frames from `seek` on, zeros after them.
    fn window(&mut self, seek: usize, n_frames: usize) -> Result<MelWindow>;

    /// Returns, for each of the `n_frames` frames from `seek` on, whether it is silent for this file.
    fn silent_frames(&mut self, seek: usize, n_frames: usize, level: f32) -> Result<Vec<bool>>;
}

impl Frames for MelStream {
    fn window(&mut self, seek: usize, n_frames: usize) -> Result<MelWindow> {
        self.window(seek, n_frames)
    }

    fn silent_frames(&mut self, seek: usize, n_frames: usize, level: f32) -> Result<Vec<bool>> {
        self.silent_frames(seek, n_frames, level)
    }
}

impl Frames for MelPiece {
    fn window(&mut self, seek: usize, n_frames: usize) -> Result<MelWindow> {
        Ok(MelPiece::window(self, seek, n_frames))
    }

    fn silent_frames(&mut self, seek: usize, n_frames: usize, _: f32) -> Result<Vec<bool>> {
        Ok(MelPiece::silent_frames(self, seek, n_frames))
    }
}

/// Windows of a file, and the seat in which they are encoded one at a time.
pub(super) struct Windows<F> {
    pub(super) mel: F,
    pub(super) seat: Seat,
    /// First frame and number of frames of the window that is encoded in the seat.
    encoded: Option<(usize, usize)>,
}

impl<F: Frames> Windows<F> {
    /// Windows of `mel`, decoded in `seat`.
    pub(super) fn new(mel: F, seat: Seat) -> Self {
        Self {
            mel,
            seat,
            encoded: None,
        }
    }

    /// Encodes the window of `n_frames` frames from `seek` on, unless it already is the encoded one, as after language
    /// detection in audio of at least 30 seconds.
    pub(super) fn encode(
        &mut self,
        seek: usize,
        n_frames: usize,
        on_event: OnEvent<'_>,
    ) -> Result<()> {
        if self.encoded != Some((seek, n_frames)) {
            self.encoded = None;
            let mel = self.mel.window(seek, n_frames)?;
            self.seat.encode(&mel, &mut || on_event(Event::Layer))?;
            self.encoded = Some((seek, n_frames));
        }
        Ok(())
    }
}

impl Windows<MelStream> {
    /// Windows of `audio`, decoded in `seat`. Calls `on_second` with the number of seconds read so far.
    pub(super) fn open(
        model: &Model,
        audio: &Audio,
        seat: Seat,
        on_second: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Self> {
        let mel = MelStream::open(audio, model.dims().n_mels, model.host(), on_second)?;
        Ok(Self::new(mel, seat))
    }

    /// Encodes the `n_frames` frames from `seek` on, as if the file contained nothing else.
    pub(super) fn encode_alone(
        &mut self,
        seek: usize,
        n_frames: usize,
        on_event: OnEvent<'_>,
    ) -> Result<()> {
        self.encoded = None;
        let mel = self.mel.in_silence(seek, n_frames)?;
        self.seat.encode(&mel, &mut || on_event(Event::Layer))
    }
}
