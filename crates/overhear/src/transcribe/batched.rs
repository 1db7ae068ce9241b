//! Batched long form: a file in pieces of up to 30 seconds, several of which are decoded at the same time, as by
//! faster-whisper's `BatchedInferencePipeline`.
//!
//! The file is cut where it is quietest (`pieces`), and each piece is transcribed by the sequential loop as if it were a
//! clip, without the text before it as its prompt. So the transcript does not depend on how many pieces are decoded at
//! the same time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;

use super::progress::Position;
use super::stretches::Stretch;
use super::windows::Windows;
use super::{File, OnEvent, Progress, Segment, Transcription, WindowHypotheses, pieces, send};
use crate::engine::{POLL, Seat};
use crate::mel::{FRAMES_PER_SECOND, MelPiece, MelStream, N_FRAMES};
use crate::{Error, Event, Result};

/// Maximum number of frames of a piece: a window. Pieces are not much shorter, as each costs the encoder a window.
const LONGEST: usize = N_FRAMES;
/// Number of frames before the latest possible end of a piece that are searched for its end.
const SEARCHED: usize = 500;
/// Minimum number of frames after a piece: the model understands little of a shorter one.
const LEFT: usize = 500;

/// Minimum number of frames for a further window of a piece: pieces end in pauses, so fewer frames than a second at the
/// end of a piece hold no speech.
pub(super) const MIN_REST: usize = 100;

/// Transcribes the `stretches` of `file` piece by piece, one in each of the seats, from a position on, before which some is
/// done. Returns the stream, and what the pieces were transcribed to, in order.
pub(super) fn transcribe_pieces(
    file: &File<'_>,
    mel: MelStream,
    stretches: Vec<Stretch>,
    (from, done): (Position, super::Done),
    seats: Vec<Seat>,
    on_event: OnEvent<'_>,
) -> Result<(MelStream, Vec<Segment>, Vec<WindowHypotheses>)> {
    let cutter = Mutex::new(Cutter {
        mel,
        silence_level: file.silence_level,
        stretches: rest(stretches, from),
        n_cut: 0,
    });
    let is_canceled = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let (mut segments, mut n_best) = done;
    let result = thread::scope(|scope| {
        for seat in seats {
            let (sender, cutter, is_canceled) = (sender.clone(), &cutter, &is_canceled);
            scope.spawn(move || work(file, cutter, seat, is_canceled, &sender));
        }
        drop(sender);
        // Pieces that are done before one that comes before them.
        let mut early = BTreeMap::new();
        let mut n_done = 0;
        let mut collect = || loop {
            match receiver.recv_timeout(POLL) {
                Ok((index, done)) => drop(early.insert(index, done)),
                Err(RecvTimeoutError::Timeout) => send(on_event, Event::Token)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while let Some(done) = early.remove(&n_done) {
                n_done += 1;
                let Done {
                    position,
                    segments: found,
                    n_best: hypotheses,
                } = done?;
                let n_before = segments.len();
                for mut segment in found {
                    segment.id = segments.len();
                    send(on_event, Event::Segment(&segment))?;
                    segments.push(segment);
                }
                let piece = Progress::of_window(position, &segments[n_before..], &hypotheses);
                send(on_event, Event::Resumable(&piece))?;
                n_best.extend(hypotheses);
                let position_s = position.seek as f64 / FRAMES_PER_SECOND;
                send(on_event, Event::Progress { position_s })?;
            }
        };
        let result = collect();
        is_canceled.store(true, Ordering::Relaxed);
        result
    });
    let mel = cutter.into_inner().expect("no worker panicked").mel;
    result.map(|()| (mel, segments, n_best))
}

/// Result of a piece.
struct Done {
    /// End of the piece.
    position: Position,
    segments: Vec<Segment>,
    n_best: Vec<WindowHypotheses>,
}

/// Transcribes one piece after the other in `seat`, until there is none or the work is canceled.
fn work(
    file: &File<'_>,
    cutter: &Mutex<Cutter>,
    mut seat: Seat,
    is_canceled: &AtomicBool,
    sender: &Sender<(usize, Result<Done>)>,
) {
    let mut on_event = |_: Event<'_>| match is_canceled.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    while !is_canceled.load(Ordering::Relaxed) {
        // A piece is cut under the lock, so that the file is read forwards.
        let cut = cutter.lock().expect("no worker panicked").cut();
        let (index, (number, stretch), frames) = match cut {
            Ok(Some(cut)) => cut,
            Ok(None) => return,
            Err((index, error)) => {
                let _ = sender.send((index, Err(error)));
                return;
            }
        };
        let windows = Windows::new(frames, seat);
        let Stretch {
            start, language, ..
        } = stretch;
        let mut transcription = Transcription::new(file, windows, language, start);
        let result = transcription.run(&[stretch], Position::default(), &mut on_event);
        let Transcription {
            windows,
            segments,
            n_best,
            ..
        } = transcription;
        seat = windows.seat;
        let done = result.map(|()| Done {
            position: Position {
                stretch: number,
                seek: stretch.end,
                ..Position::default()
            },
            segments,
            n_best,
        });
        if sender.send((index, done)).is_err() {
            return;
        }
    }
}

/// Next piece of a file: index, number of its stretch and range of frames, and frames; `None` after the last. Errors come
/// with the index, too.
type Cut = std::result::Result<Option<(usize, (usize, Stretch), MelPiece)>, (usize, Error)>;

/// Cuts the stretches of a file into pieces.
struct Cutter {
    mel: MelStream,
    silence_level: Option<f32>,
    /// Remaining stretches with their numbers; the first one begins where the next piece does.
    stretches: VecDeque<(usize, Stretch)>,
    n_cut: usize,
}

impl Cutter {
    /// Returns the next piece. After an error there is no other.
    fn cut(&mut self) -> Cut {
        let Some((number, stretch)) = self.stretches.front().copied() else {
            return Ok(None);
        };
        let index = self.n_cut;
        self.n_cut += 1;
        let piece = self.piece(stretch).map_err(|error| {
            self.stretches.clear();
            (index, error)
        })?;
        match piece.end() < stretch.end {
            true => self.stretches[0].1.start = piece.end(),
            false => drop(self.stretches.pop_front()),
        }
        let stretch = Stretch {
            end: piece.end(),
            ..stretch
        };
        Ok(Some((index, (number, stretch), piece)))
    }

    /// Returns the first piece of `stretch`.
    fn piece(&mut self, stretch: Stretch) -> Result<MelPiece> {
        let n_ahead = (LONGEST + LEFT).min(stretch.end - stretch.start);
        let mut levels = self.mel.levels(stretch.start, n_ahead)?;
        // A file may have become shorter since its first pass.
        levels.resize(n_ahead, f32::NEG_INFINITY);
        let n_frames = piece_length(&levels);
        MelPiece::new(&mut self.mel, stretch.start, n_frames, self.silence_level)
    }
}

/// Returns what is left of the `stretches` from a position on, numbered.
fn rest(stretches: Vec<Stretch>, from: Position) -> VecDeque<(usize, Stretch)> {
    let mut rest: VecDeque<_> = stretches
        .into_iter()
        .enumerate()
        .skip(from.stretch)
        .collect();
    if let Some((number, first)) = rest.front_mut()
        && *number == from.stretch
    {
        first.start = from.seek.max(first.start);
    }
    rest.retain(|(_, stretch)| stretch.start < stretch.end);
    rest
}

/// Returns the number of frames of the piece that begins at the first of `levels`: those of a longest piece and of the
/// least that is left behind it, or all there are.
fn piece_length(levels: &[f32]) -> usize {
    if levels.len() <= LONGEST {
        return levels.len();
    }
    let last = LONGEST.min(levels.len() - LEFT);
    pieces::quietest(levels, last - SEARCHED..last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_in_a_pause_near_the_end_of_a_window_and_leave_no_short_rest() {
        assert_eq!(piece_length(&[]), 0);
        assert_eq!(piece_length(&[1.0; LONGEST]), LONGEST);
        let mut levels = vec![1.0; LONGEST + LEFT];
        assert_eq!(piece_length(&levels), LONGEST - 1, "nothing is quieter");
        levels[100..130].fill(0.0);
        levels[2700..2730].fill(0.5);
        levels[3200..3300].fill(0.0);
        assert_eq!(piece_length(&levels), 2720, "the last of the quietest");
        for n_rest in [1, 10, LEFT - 1] {
            let n_frames = piece_length(&vec![1.0; LONGEST + n_rest]);
            assert!(
                (2000..=LONGEST + n_rest - LEFT).contains(&n_frames),
                "{n_frames}"
            );
        }
    }
}
