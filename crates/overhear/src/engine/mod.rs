//! Engine: owner of a device's state, which lends *seats* in it to files that are transcribed at the same time.
//!
//! A [`Seat`] is a slot of audio and some rows of text. The seat's owner encodes windows into the slot and asks for them
//! to be decoded. Windows of all seats share every step, so that one pass over the weights serves all of them (continuous
//! batching). A row's result never depends on the other rows, so each file has the transcript that it has alone, to the
//! bit.
//!
//! The engine has no thread of its own. One of the owners that wait for a window, the *leader*, runs the steps for all of
//! them; when the leader's window is done, another owner becomes the leader. Between two steps, an owner that needs the
//! state exclusively, to encode or to align, gets it first (a fair unlock).

mod drafter;
mod pace;
mod step;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

pub use pace::DraftStatistics;
pub(crate) use step::Stepper;

use drafter::Drafter;

use crate::audio::Audio;
use crate::backend::{Capacity, GoesOn, State};
use crate::decode::{DecodingResult, DecodingTask, MAX_DRAFT, Window};
use crate::mel::MelWindow;
use crate::model::draft::Drafts;
use crate::transcribe::{OnEvent, Progress, transcribe};
use crate::{Error, Event, Model, Result, TranscribeOptions, Transcript};

/// Interval at which an owner that does not lead is asked whether to go on.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// Engine that transcribes several files at the same time with one model: their windows share every pass over the
/// decoder's weights.
///
/// Each file is transcribed as [`Model::transcribe`] does it, on a thread of the caller's, and with the same result to
/// the bit. Cheap to clone; memory is allocated when the engine is made. An event function must not wait for another file
/// of the same engine: while a window is encoded no other file goes on.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    model: Model,
    /// Number of rows of text of each seat.
    n_rows: usize,
    core: Mutex<Core>,
    /// Per seat: notified when its window is done, or when its owner becomes the leader.
    turn: Vec<Condvar>,
    /// Notified when a seat becomes free.
    freed: Condvar,
}

/// Mutable part of the engine, used by one thread at a time.
struct Core {
    state: Box<dyn State>,
    stepper: Stepper,
    is_taken: Vec<bool>,
    /// Windows by seat, being decoded or done.
    windows: Vec<Option<Window>>,
    /// Seat whose owner runs the steps.
    leader: Option<usize>,
}

/// Share of the state for one file: slot `index`, and `n_rows` rows from `index * n_rows` on.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    index: usize,
}

/// Slot and first row of a seat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(crate) first_row: usize,
}

impl Engine {
    /// An engine for `n_files` files at a time, transcribed with up to [`TranscribeOptions::n_rows`] rows of text each.
    ///
    /// # Errors
    /// [`Error::Device`] if there is not enough memory.
    pub fn new(model: &Model, n_files: usize, n_rows: usize) -> Result<Self> {
        let (n_seats, n_rows) = (n_files.max(1), n_rows.max(1));
        let drafter = match model.draft() {
            None => None,
            Some(Drafts::Lookup) => Some(Drafter::lookup()),
            Some(Drafts::Model(draft)) => Some(Drafter::model(draft, n_seats)?),
        };
        Self::with_drafter(model, n_seats, n_rows, drafter)
    }

    fn with_drafter(
        model: &Model,
        n_seats: usize,
        n_rows: usize,
        drafter: Option<Drafter>,
    ) -> Result<Self> {
        let n_drafted = drafter.as_ref().map_or(0, |_| MAX_DRAFT);
        let capacity = Capacity::of_seats(n_seats, n_rows, n_drafted, model.dims().n_text_ctx);
        let core = Core {
            state: model.new_state(capacity)?,
            stepper: Stepper::new(model.host(), capacity, drafter),
            is_taken: vec![false; n_seats],
            windows: (0..n_seats).map(|_| None).collect(),
            leader: None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                model: model.clone(),
                n_rows,
                core: Mutex::new(core),
                turn: (0..n_seats).map(|_| Condvar::new()).collect(),
                freed: Condvar::new(),
            }),
        })
    }

    /// Returns the bytes of memory that an engine takes for each file, with up to `n_rows` rows of text.
    #[must_use]
    pub fn bytes_per_file(model: &Model, n_rows: usize) -> u64 {
        model.bytes_per_seat(n_rows)
    }

    /// Transcribes one file, in one seat or, if [`TranscribeOptions::batched`], in all that are free:
    /// [`Model::transcribe`]. Waits while no seat is free.
    ///
    /// # Errors
    /// As [`Model::transcribe`]; [`Error::Capacity`] if `options` need more rows than the engine was made for.
    pub fn transcribe(&self, audio: &Audio, options: &TranscribeOptions) -> Result<Transcript> {
        self.transcribe_with(audio, options, |_| ControlFlow::Continue(()))
    }

    /// Transcribes as [`Engine::transcribe`] and reports to `on_event`: [`Model::transcribe_with`].
    ///
    /// # Errors
    /// As [`Engine::transcribe`], and [`Error::Canceled`] when `on_event` breaks.
    pub fn transcribe_with(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
        on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Transcript> {
        self.resume(audio, options, Progress::default(), on_event)
    }

    /// Transcribes as [`Engine::transcribe_with`], and goes on from the `progress` of an earlier transcription of the same audio,
    /// with the same model and options. The transcript is that of an uninterrupted transcription, to the bit; segments that are
    /// done are reported again, and their windows are not encoded again.
    ///
    /// ```no_run
    /// # fn kept() -> Option<String> { None }
    /// # fn keep(_: &str) {}
    /// # let model = overhear::Model::open("models/nano", &Default::default())?;
    /// # let audio = overhear::Audio::open("speech.flac")?;
    /// use std::ops::ControlFlow;
    ///
    /// use overhear::transcribe::Progress;
    /// use overhear::{Engine, Event, TranscribeOptions};
    ///
    /// let options = TranscribeOptions::default();
    /// let engine = Engine::new(&model, 1, options.n_rows())?;
    /// let mut progress: Progress = kept().map_or_else(Progress::default, |json| serde_json::from_str(&json).unwrap());
    /// let transcript = engine.resume(&audio, &options, progress.clone(), |event| {
    ///     if let Event::Resumable(done) = event {
    ///         progress.add(done.clone());
    ///         keep(&serde_json::to_string(&progress).unwrap());
    ///     }
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), overhear::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Engine::transcribe_with`], and [`Error::Option`] if `progress` is of another model or of audio of another length.
    pub fn resume(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
        progress: Progress,
        mut on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Transcript> {
        self.transcribe_from(audio, options, progress, &mut on_event)
    }

    /// [`Engine::resume`], compiled once for all event functions.
    fn transcribe_from(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
        progress: Progress,
        on_event: OnEvent<'_>,
    ) -> Result<Transcript> {
        Capacity::check("rows", options.n_rows(), self.shared.n_rows)?;
        let mut seats = vec![self.seat()];
        if options.batched {
            seats.extend(self.free_seats());
        }
        transcribe(
            &self.shared.model,
            seats,
            audio,
            options,
            progress,
            on_event,
        )
    }

    /// Returns what drafts have given so far; `None` if the model has none ([`Model::with_draft`]).
    #[must_use]
    pub fn draft_statistics(&self) -> Option<DraftStatistics> {
        let mut core = self.shared.core.lock();
        Some(core.stepper.drafter.as_mut()?.pace().statistics())
    }

    /// Returns a free seat, or waits for one.
    pub(crate) fn seat(&self) -> Seat {
        let mut core = self.shared.core.lock();
        loop {
            if let Some(seat) = self.take_seat(&mut core) {
                return seat;
            }
            self.shared.freed.wait(&mut core);
        }
    }

    /// Returns all seats that are free now.
    fn free_seats(&self) -> Vec<Seat> {
        let mut core = self.shared.core.lock();
        std::iter::from_fn(|| self.take_seat(&mut core)).collect()
    }

    fn take_seat(&self, core: &mut Core) -> Option<Seat> {
        let index = core.is_taken.iter().position(|&is_taken| !is_taken)?;
        core.is_taken[index] = true;
        Some(Seat {
            shared: Arc::clone(&self.shared),
            index,
        })
    }
}

impl Seat {
    fn place(&self) -> Place {
        Place {
            slot: self.index,
            first_row: self.index * self.shared.n_rows,
        }
    }

    /// Encodes `mel` into the seat's slot; `goes_on` may cancel it.
    ///
    /// # Errors
    /// As [`State::encode`].
    pub(crate) fn encode(&mut self, mel: &MelWindow, goes_on: GoesOn<'_>) -> Result<()> {
        let mut core = self.shared.core.lock();
        if let Some(drafter) = &mut core.stepper.drafter {
            drafter.set_mel(self.index, mel);
        }
        core.state.encode(&[(self.index, mel)], goes_on)
    }

    /// Calls `work` with exclusive use of the state and with the place of the seat in it.
    pub(crate) fn alone<T>(&mut self, work: impl FnOnce(&mut dyn State, Place) -> T) -> T {
        work(&mut *self.shared.core.lock().state, self.place())
    }

    /// Decodes the window in the seat's slot, in steps shared with the other seats. `goes_on` is called after every step
    /// while this seat's owner leads, and every [`POLL`] otherwise.
    ///
    /// # Errors
    /// [`Error::Canceled`], [`Error::NotFinite`], [`Error::Device`].
    pub(crate) fn decode(
        &mut self,
        task: DecodingTask,
        goes_on: GoesOn<'_>,
    ) -> Result<DecodingResult> {
        let Place { slot, first_row } = self.place();
        let mut core = self.shared.core.lock();
        core.windows[self.index] = Some(Window::new(task, slot, first_row));
        loop {
            if *core.leader.get_or_insert(self.index) == self.index {
                core.step();
                self.shared.notify_done(&core, self.index);
            } else {
                self.shared.turn[self.index].wait_for(&mut core, POLL);
            }
            let goes_on = MutexGuard::unlocked_fair(&mut core, &mut *goes_on);
            let is_done = core.windows[self.index]
                .as_ref()
                .is_none_or(Window::is_done);
            if goes_on.is_break() || is_done {
                let window = self.shared.leave(&mut core, self.index);
                return match (goes_on.is_break(), window) {
                    (false, Some(window)) => window.finish(),
                    _ => Err(Error::Canceled),
                };
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut core = self.shared.core.lock();
        self.shared.leave(&mut core, self.index);
        core.is_taken[self.index] = false;
        self.shared.freed.notify_one();
    }
}

impl Shared {
    /// Removes the window of `seat` from the steps. If the seat's owner leads, another becomes the leader.
    fn leave(&self, core: &mut Core, seat: usize) -> Option<Window> {
        let window = core.windows[seat].take();
        if core.leader == Some(seat) {
            core.leader = core.windows.iter().position(Option::is_some);
            if let Some(next) = core.leader {
                self.turn[next].notify_one();
            }
        }
        window
    }

    /// Wakes the owners whose windows are done, except the leader.
    fn notify_done(&self, core: &Core, leader: usize) {
        for (seat, window) in core.windows.iter().enumerate() {
            if seat != leader && window.as_ref().is_some_and(Window::is_done) {
                self.turn[seat].notify_one();
            }
        }
    }
}

impl Core {
    fn step(&mut self) {
        self.stepper.step(&mut *self.state, &mut self.windows);
    }
}
