//! Input that is being transcribed: its thread, its reports, and its transcript so far.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::thread::JoinHandle;

use overhear::transcribe::Progress;
use overhear::{Audio, Engine, Error, Event, Language, Segment, TranscribeOptions, Transcript};

use crate::bars::FileBar;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, propagate};
use crate::jobs::Job;
use crate::progress::ProgressFile;

/// Message of a transcribing thread to the thread that displays and writes.
pub(crate) enum Report {
    Note(String),
    Language(Language, f32),
    Measuring(f64),
    Duration(f64),
    Segment(Box<Segment>),
    Progress(f64),
}

/// Message of a transcribing thread: a report, what a later run can go on from, or its last message, the result.
pub(crate) enum Message {
    Report(Report),
    Resumable(Box<Progress>),
    End(Box<overhear::Result<Transcript>>),
}

/// Input in flight.
pub(crate) struct InFlight<'a> {
    pub(crate) job: &'a Job<'a>,
    /// Index of the job.
    pub(crate) index: usize,
    /// Transcribing thread; `None` if the input could not be opened.
    pub(crate) worker: Option<JoinHandle<()>>,
    /// Line on the terminal.
    pub(crate) bar: FileBar,
    /// Progress in the journal.
    pub(crate) progress: Option<ProgressFile>,
    /// Reports that are not displayed yet.
    pub(crate) reports: VecDeque<Report>,
    /// Whether the display of the file has begun.
    pub(crate) is_shown: bool,
    /// Transcript, or the part of it that was reported.
    pub(crate) transcript: Transcript,
    /// Outcome; `None` while the file is being transcribed, or if a signal stopped it.
    pub(crate) end: Option<Result<(), Failure>>,
    /// Position in seconds up to which an earlier run has transcribed the file; `None` until it is known.
    resumed_s: Option<f64>,
    /// Position in seconds up to which the file is done.
    position_s: f64,
    is_stopped: bool,
}

impl<'a> InFlight<'a> {
    pub(crate) fn new(job: &'a Job<'a>, index: usize, bar: FileBar) -> Self {
        Self {
            job,
            index,
            worker: None,
            bar,
            progress: None,
            reports: VecDeque::new(),
            is_shown: false,
            transcript: Transcript::default(),
            end: None,
            resumed_s: Some(0.0),
            position_s: 0.0,
            is_stopped: false,
        }
    }

    /// Returns an input that failed before its transcription began.
    pub(crate) fn failed(job: &'a Job<'a>, index: usize, failure: Failure) -> Self {
        Self {
            end: Some(Err(failure)),
            ..Self::new(job, index, FileBar::none())
        }
    }

    /// Goes on from the progress of an earlier run, the end of which is the first position to be reported.
    pub(crate) fn go_on(&mut self) {
        self.resumed_s = None;
    }

    /// Returns the seconds of audio that this run has transcribed.
    pub(crate) fn done_s(&self) -> f64 {
        self.position_s - self.resumed_s.unwrap_or(self.position_s)
    }

    /// Returns whether the thread is at work.
    pub(crate) fn is_running(&self) -> bool {
        self.end.is_none() && !self.is_stopped
    }

    /// Takes a message; returns true if it is the transcript.
    pub(crate) fn take(&mut self, message: Message) -> bool {
        let report = match message {
            Message::Report(report) => report,
            Message::Resumable(_) => return false,
            Message::End(end) => {
                self.bar.finish();
                return self.take_end(*end);
            }
        };
        match &report {
            Report::Language(language, _) => self.transcript.language = *language,
            Report::Duration(duration_s) => {
                self.transcript.duration_s = *duration_s;
                self.bar.duration(*duration_s);
                return false;
            }
            Report::Segment(segment) => {
                self.transcript.text.push_str(&segment.text);
                self.transcript.segments.push((**segment).clone());
            }
            Report::Progress(position_s) => {
                self.position_s = *position_s;
                self.resumed_s.get_or_insert(*position_s);
                self.bar.progress(*position_s);
                return false;
            }
            Report::Measuring(position_s) => {
                self.bar.measuring(*position_s);
                return false;
            }
            Report::Note(_) => {}
        }
        self.reports.push_back(report);
        false
    }

    /// Takes the result; returns true if it is a transcript.
    fn take_end(&mut self, end: overhear::Result<Transcript>) -> bool {
        match end {
            Ok(transcript) => {
                self.transcript = transcript;
                self.end = Some(Ok(()));
                return true;
            }
            Err(Error::Canceled) => self.is_stopped = true,
            Err(error) => self.end = Some(Err(error.into())),
        }
        false
    }

    /// Resumes the panic of a thread that ended without a last report, which would have been received by now.
    pub(crate) fn propagate_panic(&mut self) {
        if self.is_running()
            && let Some(worker) = self.worker.take_if(|worker| worker.is_finished())
        {
            propagate(worker);
        }
    }
}

/// Transcribes `audio` and sends reports and the result. Ends early if `send` returns false, or after a signal. `progress`: what
/// an earlier run has done, if progress is recorded.
pub(crate) fn work(
    engine: &Engine,
    audio: &Audio,
    options: &TranscribeOptions,
    progress: Option<Progress>,
    interrupt: &Interrupt,
    send: &dyn Fn(Message) -> bool,
) {
    let is_recorded = progress.is_some();
    let on_event = |event: Event<'_>| {
        let message = match event {
            Event::LanguageDetected {
                language,
                probability,
            } => Some(Message::Report(Report::Language(language, probability))),
            Event::Measuring { position_s } => Some(Message::Report(Report::Measuring(position_s))),
            Event::Duration { duration_s } => Some(Message::Report(Report::Duration(duration_s))),
            Event::Segment(segment) => {
                Some(Message::Report(Report::Segment(Box::new(segment.clone()))))
            }
            Event::Progress { position_s } => Some(Message::Report(Report::Progress(position_s))),
            Event::Resumable(done) if is_recorded => {
                Some(Message::Resumable(Box::new(done.clone())))
            }
            _ => None,
        };
        let heard = message.is_none_or(send);
        match heard && interrupt.signal().is_none() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let mut end = engine.resume(audio, options, progress.unwrap_or_default(), on_event);
    if let Err(Error::Option {
        name: "progress", ..
    }) = &end
    {
        // The audio is decoded by another program than before, to another length.
        end = engine.transcribe_with(audio, options, on_event);
    }
    send(Message::End(Box::new(end)));
}
