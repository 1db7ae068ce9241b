//! `overhear transcribe`: transcribes the inputs one after another, and writes their outputs.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use overhear::audio::AudioOptions;
use overhear::output::{CaptionOptions, Format, format_timestamp};
use overhear::{
    Audio, Error, Event, Language, Model, ModelOptions, Segment, TranscribeOptions, Transcript,
};

use crate::args::{TranscribeArgs, formats};
use crate::failure::Failure;
use crate::inputs::{self, Input};
use crate::interrupt::{Interrupt, POLL, propagate, start};
use crate::live::{Live, LiveOptions};
use crate::models::{self, Located};
use crate::naming::{Target, targets};
use crate::options::{
    audio_options, caption_options, model_options, refuse_not_yet, transcribe_options, with_words,
    without_effect,
};
use crate::outputs::{self, Destination};
use crate::values::Verbosity;
use crate::warnings;

/// Time that a signal waits for the engine to stop at its next token. One encoder pass of a large model may take
/// longer; the segments so far are written without waiting for it.
const STOP_WITHIN: Duration = Duration::from_millis(1500);

/// Length of a frame; shorter audio has no content.
const MIN_DURATION_S: f64 = 0.01;

/// Transcribes the inputs that `args` name.
pub(crate) fn run(args: &TranscribeArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    refuse_not_yet(&args.not_yet)?;
    if args.quiet {
        warnings::silence();
    }
    let options = with_words(transcribe_options(&args.decoding)?, &args.words)?;
    let captions = caption_options(&args.words)?;
    let model_options = model_options(&args.model)?;
    let formats = formats(&args.output_format);
    let destination = Destination::new(&args.output_dir, &formats)?;

    let (found, missing): (Vec<_>, Vec<_>) = inputs::expand(&args.files, args.recursive)
        .into_iter()
        .partition(Result::is_ok);
    let inputs: Vec<Input> = found.into_iter().flatten().collect();
    let n_missing = missing.len();
    missing
        .into_iter()
        .filter_map(Result::err)
        .for_each(|failure| failure.report());

    let mut jobs = jobs(&inputs, &destination, &formats);
    if args.skip_existing && matches!(destination, Destination::Folder(_)) {
        jobs.retain(|job| {
            !formats
                .iter()
                .all(|&format| job.target.path(format).exists())
        });
    }
    let folders: BTreeSet<_> = jobs.iter().map(|job| job.target.folder()).collect();
    folders.into_iter().for_each(outputs::remove_left_over);
    let n_skipped = inputs.len() - jobs.len();
    let n_inputs = inputs.len() + n_missing;
    if jobs.is_empty() {
        return outcome(n_missing, n_inputs);
    }
    if let Destination::Folder(folder) = &destination {
        outputs::prepare(folder)?;
    }
    let mut run = Run {
        model: ModelSlot::Located(models::locate(&args.model)?, model_options, args.quiet),
        options,
        audio_options: audio_options(&args.audio),
        formats,
        captions,
        destination,
        interrupt,
        live: Live::new(live_options(args, n_inputs > 1)),
    };
    for warning in without_effect(&args.words, &args.decoding) {
        warnings::warn(warning);
    }
    if n_skipped > 0 {
        run.live.note(&format!(
            "{n_skipped} of {n_inputs} inputs skipped: their outputs are there"
        ));
    }
    let n_failed = run.all(&jobs)?;
    // A failure of standard output is returned only after the outputs of every input are written.
    run.live
        .finish()
        .and(outcome(n_missing + n_failed, n_inputs))
}

fn outcome(n_failed: usize, n_inputs: usize) -> Result<(), Failure> {
    match n_failed {
        0 => Ok(()),
        _ => Err(Failure::Inputs {
            all: n_failed == n_inputs,
        }),
    }
}

fn live_options(args: &TranscribeArgs, headers: bool) -> LiveOptions {
    let to_stdout = args.writes_to_stdout();
    LiveOptions {
        segments: args.verbose == Verbosity::Segments && !args.quiet && !to_stdout,
        headers,
        notes: args.verbose != Verbosity::Nothing && !args.quiet,
        colours: args.print_colors,
    }
}

/// One input with the target of its outputs.
struct Job<'a> {
    input: &'a Input,
    target: Target,
}

fn jobs<'a>(inputs: &'a [Input], destination: &Destination, formats: &[Format]) -> Vec<Job<'a>> {
    let folder = match destination {
        Destination::Folder(folder) => folder.clone(),
        Destination::Stdout(_) => PathBuf::new(),
    };
    let targets = targets(inputs, &folder, formats);
    inputs
        .iter()
        .zip(targets)
        .map(|(input, target)| Job { input, target })
        .collect()
}

/// The model, which is downloaded if necessary, and opened after the first input was recognised as audio.
enum ModelSlot {
    Located(Located, ModelOptions, bool),
    Opened(Model),
}

struct Run<'a> {
    model: ModelSlot,
    options: TranscribeOptions,
    audio_options: AudioOptions,
    formats: Vec<Format>,
    captions: CaptionOptions,
    destination: Destination,
    interrupt: &'a Interrupt,
    live: Live,
}

impl Run<'_> {
    /// Processes `jobs` and returns how many inputs failed. A failure that does not concern one input alone ends the
    /// run.
    fn all(&mut self, jobs: &[Job<'_>]) -> Result<usize, Failure> {
        let mut n_failed = 0;
        for (i, job) in jobs.iter().enumerate() {
            match self.interrupt.check().and_then(|()| self.one(job)) {
                Ok(()) => {}
                Err(failure @ Failure::Input(_)) => {
                    failure.report();
                    n_failed += 1;
                }
                Err(failure) => return Err(with_rest(failure, &jobs[i..])),
            }
        }
        Ok(n_failed)
    }

    fn one(&mut self, job: &Job<'_>) -> Result<(), Failure> {
        let name = job.input.display();
        warnings::about(&name);
        let audio = job.input.open(&self.audio_options, self.interrupt)?;
        if let Some(what) = audio.decoded_by_ffmpeg() {
            self.live.note(&format!(
                "{name}: decoded by ffmpeg ({what} is not built in)"
            ));
        }
        let model = self.model()?;
        self.live.begin(&name, model.compute_type());
        let transcribed = self.transcribe(&model, audio);
        self.live.end();
        let (transcript, interrupted) = transcribed?;
        if interrupted.is_none() && transcript.duration_s < MIN_DURATION_S {
            warnings::warn_file("shorter than 10 ms, nothing to transcribe");
        }
        warnings::warn_audio(&transcript.warnings);
        let Some(signal) = interrupted else {
            return self.write(job, &transcript, true);
        };
        let mut left = String::new();
        if let Some(last) = transcript.segments.last() {
            self.write(job, &transcript, false)?;
            let end = format_timestamp(last.end, false, '.');
            left = format!(": the first {end} of {name} is {}", self.partial(job));
        }
        Err(Failure::Interrupted { signal, left })
    }

    /// Describes the location of an interrupted job's transcript.
    fn partial(&self, job: &Job<'_>) -> String {
        let paths = self.formats.iter();
        let paths = paths.map(|&format| job.target.partial_path(format).display().to_string());
        match self.destination {
            Destination::Stdout(_) => "on standard output".to_owned(),
            Destination::Folder(_) => format!("in {}", paths.collect::<Vec<_>>().join(", ")),
        }
    }

    fn write(&self, job: &Job<'_>, transcript: &Transcript, complete: bool) -> Result<(), Failure> {
        match &self.destination {
            Destination::Stdout(format) => {
                outputs::write_stdout(*format, &self.captions, transcript)
            }
            Destination::Folder(_) => {
                outputs::prepare(job.target.folder())?;
                let (formats, captions) = (&self.formats, &self.captions);
                outputs::write_files(&job.target, formats, captions, transcript, complete)
            }
        }
    }

    /// Returns the model, opened on first use. With an English-only model the language is English, whatever option was
    /// given.
    fn model(&mut self) -> Result<Model, Failure> {
        let (located, options, quiet) = match &self.model {
            ModelSlot::Opened(model) => return Ok(model.clone()),
            ModelSlot::Located(located, options, quiet) => {
                (located.clone(), options.clone(), *quiet)
            }
        };
        let path = located.folder(self.interrupt, quiet)?;
        let model = self.interrupt.run(move || Model::open(path, &options))??;
        self.model = ModelSlot::Opened(model.clone());
        if !model.is_multilingual()
            && let Some(language) = self
                .options
                .language
                .filter(|&language| language != Language::ENGLISH)
        {
            let name = language.name();
            warnings::warn(&format!(
                "this model knows English only; --language {name} is ignored"
            ));
            self.options.language = Some(Language::ENGLISH);
        }
        Ok(model)
    }

    /// Transcribes on a thread of its own and shows its reports. After a signal, the segments so far are returned as a
    /// transcript, with the signal's number.
    fn transcribe(
        &mut self,
        model: &Model,
        audio: Audio,
    ) -> Result<(Transcript, Option<u8>), Failure> {
        let (sender, receiver) = mpsc::channel();
        let worker = start({
            let (model, options, interrupt) =
                (model.clone(), self.options.clone(), self.interrupt.clone());
            move || work(&model, &audio, &options, &interrupt, &sender)
        })?;
        let mut done = Transcript::default();
        done.language = self.options.language.unwrap_or(done.language);
        let mut stop_at = None;
        loop {
            let interrupted = self.interrupt.signal();
            if interrupted.is_some()
                && Instant::now() > *stop_at.get_or_insert(Instant::now() + STOP_WITHIN)
            {
                return Ok((done, interrupted));
            }
            match receiver.recv_timeout(POLL) {
                Ok(Report::Language(language, probability)) => {
                    done.language = language;
                    let name = language.name();
                    self.live.note(&format!(
                        "detected language: {name} ({:.1} %)",
                        100.0 * probability
                    ));
                }
                Ok(Report::Measuring(position_s)) => self.live.measuring(position_s),
                Ok(Report::Duration(duration_s)) => {
                    done.duration_s = duration_s;
                    self.live.duration(duration_s);
                }
                Ok(Report::Progress(position_s)) => self.live.progress(position_s),
                Ok(Report::Segment(segment)) => {
                    self.live
                        .segment(&segment, model.tokenizer(), done.language);
                    done.text.push_str(&segment.text);
                    done.segments.push(*segment);
                }
                Ok(Report::End(Err(Error::Canceled))) => {
                    return Ok((done, self.interrupt.signal()));
                }
                Ok(Report::End(end)) => return Ok((end?, None)),
                Err(RecvTimeoutError::Timeout) => self.live.tick(),
                Err(RecvTimeoutError::Disconnected) => propagate(worker),
            }
        }
    }
}

/// Adds the remaining `jobs` to an interruption's message: the first one if nothing of it was written, and the number
/// of others.
fn with_rest(failure: Failure, jobs: &[Job<'_>]) -> Failure {
    let Failure::Interrupted { signal, mut left } = failure else {
        return failure;
    };
    if left.is_empty() {
        left = format!(": nothing is written of {}", jobs[0].input.display());
    }
    match jobs.len() - 1 {
        0 => {}
        1 => left.push_str("; 1 input more was not begun"),
        n => left.push_str(&format!("; {n} inputs more were not begun")),
    }
    Failure::Interrupted { signal, left }
}

/// Message of the transcribing thread to the thread that displays and writes.
enum Report {
    Language(Language, f32),
    Measuring(f64),
    Duration(f64),
    Segment(Box<Segment>),
    Progress(f64),
    End(overhear::Result<Transcript>),
}

fn work(
    model: &Model,
    audio: &Audio,
    options: &TranscribeOptions,
    interrupt: &Interrupt,
    sender: &mpsc::Sender<Report>,
) {
    let on_event = |event: Event<'_>| {
        let report = match event {
            Event::LanguageDetected {
                language,
                probability,
            } => Some(Report::Language(language, probability)),
            Event::Measuring { position_s } => Some(Report::Measuring(position_s)),
            Event::Duration { duration_s } => Some(Report::Duration(duration_s)),
            Event::Segment(segment) => Some(Report::Segment(Box::new(segment.clone()))),
            Event::Progress { position_s } => Some(Report::Progress(position_s)),
            _ => None,
        };
        let heard = report.is_none_or(|report| sender.send(report).is_ok());
        match heard && interrupt.signal().is_none() {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let end = model.transcribe_with(audio, options, on_event);
    let _ = sender.send(Report::End(end));
}
