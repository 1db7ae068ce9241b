//! `overhear transcribe`: transcribes the inputs, several at the same time, and writes their outputs.
//!
//! Outputs are written as soon as a file is done. If several are transcribed at a time, long ones come first. The display is in
//! the order in which files are begun, as if they were transcribed one after another: reports of a file are held back until the
//! files before it are done. On standard output transcripts have the order of the inputs, in which files are begun, then.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use overhear::audio::AudioOptions;
use overhear::output::{CaptionOptions, Format, format_timestamp};
use overhear::{Engine, Language, Model, ModelOptions, TranscribeOptions, Transcript, temporary};

use crate::args::{TranscribeArgs, formats};
use crate::failure::Failure;
use crate::in_flight::{InFlight, Message, Report, work};
use crate::info;
use crate::inputs::{self, Input};
use crate::interrupt::{Interrupt, POLL, start};
use crate::jobs::{self, Job, jobs, plan};
use crate::journal::Journal;
use crate::live::{Live, LiveOptions};
use crate::manifest;
use crate::memory::{FILES, PIECES, n_at_once};
use crate::models::{self, Located, LocatedDraft};
use crate::options::{
    audio_options, caption_options, model_options, transcribe_options, with_vad, with_words,
    without_effect,
};
use crate::outputs::{self, Destination};
use crate::values::{BatchSize, Verbosity};
use crate::warnings;

/// Time that a signal waits for the engine to stop at its next token. One encoder pass of a large model may take
/// longer; the segments so far are written without waiting for it.
const STOP_WITHIN: Duration = Duration::from_millis(1500);

/// Length of a frame; shorter audio has no content.
const MIN_DURATION_S: f64 = 0.01;

/// Transcribes the inputs that `args` name.
pub(crate) fn run(args: &TranscribeArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    if args.quiet {
        warnings::silence();
    }
    let options = with_words(transcribe_options(&args.decoding)?, &args.words)?;
    let options = with_vad(options, &args.filter)?;
    let captions = caption_options(&args.words)?;
    let model_options = model_options(&args.model)?;
    let formats = formats(&args.output_format);
    let destination = Destination::new(&args.output_dir, &formats)?;

    let mut found = inputs::expand(&args.files, args.recursive);
    found.extend(manifest::inputs(&args.manifest)?.into_iter().map(Ok));
    inputs::retain_first(&mut found);
    let (found, missing): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
    let inputs: Vec<Input> = found.into_iter().flatten().collect();
    let n_missing = missing.len();
    missing
        .into_iter()
        .filter_map(Result::err)
        .for_each(|failure| failure.report());

    let mut jobs = jobs(&inputs, &destination, &formats);
    let shard = match args.shard {
        Some(shard) => Some(shard.resolve(|name| std::env::var(name).ok())?),
        None => None,
    };
    if let Some(shard) = shard {
        let mut is_in = shard.of(&inputs).into_iter();
        jobs.retain(|_| is_in.next().unwrap_or(false));
    }
    let n_inputs = jobs.len() + n_missing;
    if args.skip_existing && matches!(destination, Destination::Folder(_)) {
        jobs.retain(|job| {
            !formats
                .iter()
                .all(|&format| job.target.path(format).exists())
        });
    }
    let folders: BTreeSet<_> = jobs.iter().map(|job| job.target.folder()).collect();
    folders
        .into_iter()
        .for_each(temporary::remove_left_over_files);
    let n_skipped = n_inputs - n_missing - jobs.len();
    // The model, where the journal states which one it is.
    let mut located = None;
    let mut journal = match &args.journal {
        Some(folder) => {
            if let Destination::Stdout(_) = destination {
                return Err(Failure::Usage(
                    "--journal needs outputs in files: choose a folder with --output-dir"
                        .to_owned(),
                ));
            }
            let model = models::locate(&args.model)?.folder(interrupt, args.quiet)?;
            let fingerprint = model.fingerprint();
            located = Some(Located::from(model));
            let model = (fingerprint, &args.model.compute_type);
            let track = args.audio.audio_track;
            let all = format!("{:?}", (model, track, &formats, &captions, &options));
            Some(Journal::open(folder, shard, &all)?)
        }
        None => None,
    };
    let n_failed = match &mut journal {
        Some(journal) => plan(journal, &mut jobs, &formats, args.retry_failed),
        None => 0,
    };
    let n_failed = n_failed + n_missing;
    let n_done = n_inputs - n_failed - n_skipped - jobs.len();
    let is_several = !options.batched && !args.batch_size.is_one();
    let to_files = matches!(destination, Destination::Folder(_));
    jobs::sort(&mut jobs, is_several && to_files);
    let options_shown = live_options(args, n_inputs > 1);
    let mut live = Live::new(options_shown, n_inputs, n_done + n_skipped);
    if let (Some(shard), 0) = (shard, n_inputs) {
        live.note(&format!("none of the inputs is in share {shard}"));
    }
    if n_skipped > 0 {
        live.note(&format!(
            "{n_skipped} of {n_inputs} inputs skipped: their outputs exist"
        ));
    }
    if n_done > 0 {
        live.note(&format!(
            "{n_done} of {n_inputs} inputs are done according to the journal"
        ));
    }
    if jobs.is_empty() {
        live.bars.clear();
        return outcome(n_failed, n_inputs);
    }
    if let Destination::Folder(folder) = &destination {
        outputs::prepare(folder)?;
    }
    let mut run = Run {
        model: ModelSlot::Located {
            model: Box::new(match located {
                Some(located) => located,
                None => models::locate(&args.model)?,
            }),
            draft: LocatedDraft::new(&args.draft, &args.model)?,
            options: model_options,
            quiet: args.quiet,
        },
        engine: None,
        n_at_once: 1,
        n_done: 0,
        finished_s: 0.0,
        n_failed,
        batch_size: args.batch_size,
        options,
        audio_options: audio_options(&args.audio),
        formats,
        captions,
        destination,
        journal,
        interrupt,
        live,
    };
    for warning in without_effect(args) {
        warnings::warn(warning);
    }
    let end = run.all(&jobs);
    match &end {
        Ok(()) => run.live.bars.finish(),
        Err(_) => run.live.bars.clear(),
    }
    end?;
    run.note_drafts();
    // A failure of standard output is returned only after the outputs of every input are written.
    run.live.finish().and(outcome(run.n_failed, n_inputs))
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

/// The model, which is downloaded if necessary, and opened after the first input was recognised as audio.
enum ModelSlot {
    Located {
        model: Box<Located>,
        draft: Option<LocatedDraft>,
        options: ModelOptions,
        quiet: bool,
    },
    Opened(Model),
}

struct Run<'a> {
    model: ModelSlot,
    /// Engine, once the model is open.
    engine: Option<Engine>,
    /// Number of files transcribed at the same time; 1 until the engine exists.
    n_at_once: usize,
    /// Number of files that are done, and seconds of their audio that this run has transcribed.
    n_done: usize,
    finished_s: f64,
    /// Number of inputs that failed.
    n_failed: usize,
    batch_size: BatchSize,
    options: TranscribeOptions,
    audio_options: AudioOptions,
    formats: Vec<Format>,
    captions: CaptionOptions,
    destination: Destination,
    journal: Option<Journal>,
    interrupt: &'a Interrupt,
    live: Live,
}

impl Run<'_> {
    /// Processes `jobs`. A failure that concerns more than one input ends the run.
    fn all(&mut self, jobs: &[Job<'_>]) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::channel();
        let mut in_flight: VecDeque<InFlight<'_>> = VecDeque::new();
        let mut n_begun = 0;
        loop {
            while let Some(job) = jobs.get(n_begun)
                && in_flight.iter().filter(|file| file.is_running()).count()
                    < if job.is_alone { 1 } else { self.n_at_once }
                && self.interrupt.signal().is_none()
            {
                n_begun += 1;
                match self.begin(job, n_begun - 1, jobs.len(), &sender) {
                    Ok(file) => in_flight.push_back(file),
                    Err(failure @ Failure::Input(_)) => {
                        in_flight.push_back(InFlight::failed(job, n_begun - 1, failure));
                    }
                    // Reported below, together with the other files.
                    Err(Failure::Interrupted { .. }) => {
                        self.record(|journal| journal.stopped(job.identity.as_ref()))?;
                        n_begun -= 1;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            let n_done = in_flight
                .iter()
                .filter(|file| matches!(file.end, Some(Ok(()))));
            let n_done = self.n_done + n_done.count();
            let done_s = in_flight.iter().map(InFlight::done_s).sum::<f64>();
            self.live.bars.update(n_done, self.finished_s + done_s);
            while let Some(first) = in_flight.front_mut() {
                self.show(first);
                let Some(end) = first.end.take() else { break };
                self.finish(first, end)?;
                in_flight.pop_front();
            }
            if let Some(signal) = self.interrupt.signal() {
                self.collect(&mut in_flight, &receiver)?;
                if !in_flight.is_empty() || n_begun < jobs.len() {
                    let left = self.stop(in_flight, &jobs[n_begun..])?;
                    return Err(Failure::Interrupted { signal, left });
                }
            }
            if in_flight.is_empty() && n_begun == jobs.len() {
                return Ok(());
            }
            match receiver.recv_timeout(POLL) {
                Ok((index, message)) => self.take(&mut in_flight, index, message)?,
                Err(RecvTimeoutError::Timeout) => {
                    self.live.bars.tick();
                    in_flight
                        .iter()
                        .filter(|file| file.is_running())
                        .for_each(|file| file.bar.tick());
                    in_flight.iter_mut().for_each(InFlight::propagate_panic);
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("this function has a sender"),
            }
        }
    }

    /// Opens the input of a job and starts its transcription.
    fn begin<'j>(
        &mut self,
        job: &'j Job<'j>,
        index: usize,
        n_jobs: usize,
        sender: &Sender<(usize, Message)>,
    ) -> Result<InFlight<'j>, Failure> {
        let name = job.input.display();
        warnings::about(&name);
        let progress = match &mut self.journal {
            Some(journal) => journal.started(job.identity.as_ref())?,
            None => None,
        };
        let audio = job.input.open(&self.audio_options, self.interrupt)?;
        let engine = self.engine(n_jobs)?;
        let options = self.options_of(job)?;
        let mut file = InFlight::new(job, index, self.live.bars.file(&name));
        if let Some(what) = audio.decoded_by_ffmpeg() {
            file.reports.push_back(Report::Note(format!(
                "{name}: decoded by ffmpeg ({what} is not built in)"
            )));
        }
        let (progress_file, progress) = progress.unzip();
        file.progress = progress_file;
        if let Some(progress) = &progress
            && progress.n_windows() > 0
        {
            file.go_on();
            file.reports.push_back(Report::Note(format!(
                "{name}: goes on after {} windows, according to the journal",
                progress.n_windows()
            )));
        }
        file.transcript.language = options.language.unwrap_or(file.transcript.language);
        let (interrupt, sender) = (self.interrupt.clone(), sender.clone());
        file.worker = Some(start(move || {
            let send = |message| sender.send((index, message)).is_ok();
            work(&engine, &audio, &options, progress, &interrupt, &send);
        })?);
        Ok(file)
    }

    /// Records a message of a file in flight. Writes the outputs of a file that is done.
    fn take(
        &mut self,
        in_flight: &mut VecDeque<InFlight<'_>>,
        index: usize,
        message: Message,
    ) -> Result<(), Failure> {
        let file = in_flight.iter_mut().find(|file| file.index == index);
        let file = file.expect("a file is in flight until its last message");
        if let (Message::Resumable(done), Some(journal)) = (&message, &self.journal)
            && let Some(progress) = &mut file.progress
        {
            journal.progressed(progress, done)?;
        }
        if file.take(message) && matches!(self.destination, Destination::Folder(_)) {
            self.write(file.job, &file.transcript, true)?;
            let paths = file.job.target.paths(&self.formats);
            self.record(|journal| journal.done(file.job.identity.as_ref(), &paths))?;
        }
        Ok(())
    }

    /// Writes to the journal, if there is one.
    fn record(
        &mut self,
        event: impl FnOnce(&mut Journal) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.journal.as_mut().map_or(Ok(()), event)
    }

    /// Displays what a file has reported.
    fn show(&mut self, file: &mut InFlight<'_>) {
        // Nothing is reported before the model is open.
        let ModelSlot::Opened(model) = &self.model else {
            return;
        };
        if file.worker.is_some() && !file.is_shown {
            file.is_shown = true;
            self.live.begin(&file.job.input.display());
        }
        while let Some(report) = file.reports.pop_front() {
            match report {
                Report::Note(note) => self.live.note(&note),
                Report::Language(language, probability) => {
                    let name = language.name();
                    self.live.note(&format!(
                        "detected language: {name} ({:.1} %)",
                        100.0 * probability
                    ));
                }
                // Shown at once.
                Report::Measuring(_) | Report::Duration(_) | Report::Progress(_) => {}
                Report::Segment(segment) => {
                    let language = file.transcript.language;
                    self.live.segment(&segment, model.tokenizer(), language);
                }
            }
        }
    }

    /// Ends the display of a file. Reports and counts its failure.
    fn finish(&mut self, file: &InFlight<'_>, end: Result<(), Failure>) -> Result<(), Failure> {
        self.finished_s += file.done_s();
        self.n_done += usize::from(end.is_ok());
        if let Err(Failure::Input(reason)) = end {
            self.record(|journal| journal.failed(file.job.identity.as_ref(), &reason))?;
            Failure::Input(reason).report();
            self.n_failed += 1;
            return Ok(());
        }
        end?;
        let transcript = &file.transcript;
        warnings::about(&file.job.input.display());
        if transcript.duration_s < MIN_DURATION_S {
            warnings::warn_file("shorter than 10 ms, nothing to transcribe");
        }
        warnings::warn_audio(&transcript.warnings);
        match self.destination {
            Destination::Stdout(_) => self.write(file.job, transcript, true),
            Destination::Folder(_) => Ok(()),
        }
    }

    /// After a signal: records the reports of the files in flight until all of them have stopped or [`STOP_WITHIN`] has
    /// passed. Finishes the files that are done.
    fn collect(
        &mut self,
        in_flight: &mut VecDeque<InFlight<'_>>,
        receiver: &mpsc::Receiver<(usize, Message)>,
    ) -> Result<(), Failure> {
        let stop_at = Instant::now() + STOP_WITHIN;
        while in_flight.iter().any(InFlight::is_running) && Instant::now() < stop_at {
            if let Ok((index, message)) = receiver.recv_timeout(POLL) {
                self.take(in_flight, index, message)?;
            }
        }
        for mut file in std::mem::take(in_flight) {
            self.show(&mut file);
            match file.end.take() {
                Some(end) => self.finish(&file, end)?,
                None => in_flight.push_back(file),
            }
        }
        Ok(())
    }

    /// Writes the partial transcripts of the files that were stopped. Returns a description of these files and of the
    /// jobs that were not started.
    fn stop(
        &mut self,
        in_flight: VecDeque<InFlight<'_>>,
        not_begun: &[Job<'_>],
    ) -> Result<String, Failure> {
        let mut left = Vec::new();
        for InFlight {
            job, transcript, ..
        } in in_flight
        {
            let name = job.input.display();
            warnings::about(&name);
            warnings::warn_audio(&transcript.warnings);
            self.record(|journal| journal.stopped(job.identity.as_ref()))?;
            left.push(match transcript.segments.last() {
                Some(last) => {
                    self.write(job, &transcript, false)?;
                    let end = format_timestamp(last.end, false, '.');
                    format!("the first {end} of {name} is {}", self.partial(job))
                }
                None => format!("nothing of {name} is written"),
            });
        }
        let mut n_not_begun = not_begun.len();
        if left.is_empty()
            && let Some(job) = not_begun.first()
        {
            left.push(format!("nothing of {} is written", job.input.display()));
            n_not_begun -= 1;
        }
        match n_not_begun {
            0 => {}
            1 => left.push("1 more input was not started".to_owned()),
            n => left.push(format!("{n} more inputs were not started")),
        }
        Ok(format!(": {}", left.join("; ")))
    }

    /// Returns the engine, made on first use for as many of `n_jobs` files at the same time as the batch size allows.
    fn engine(&mut self, n_jobs: usize) -> Result<Engine, Failure> {
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let model = self.model()?;
        let n_rows = self.options.n_rows();
        let bytes = Engine::bytes_per_file(&model, n_rows);
        let n_seats = match (self.batch_size, self.options.batched) {
            (BatchSize::Number(n), true) => n_at_once(n.get(), bytes),
            (BatchSize::Number(n), false) => n.get().min(n_jobs),
            (BatchSize::Auto, true) => n_at_once(PIECES, bytes),
            (BatchSize::Auto, false) => n_at_once(FILES.min(n_jobs), bytes),
        };
        // All seats are for the pieces of one file.
        self.n_at_once = if self.options.batched { 1 } else { n_seats };
        let engine = Engine::new(&model, n_seats, n_rows)?;
        self.live.bars.begin(model.compute_type());
        self.engine = Some(engine.clone());
        Ok(engine)
    }

    /// Tells how many drafted tokens were right.
    fn note_drafts(&mut self) {
        let statistics = self.engine.as_ref().and_then(Engine::draft_statistics);
        let Some(drafts) = statistics.filter(|drafts| drafts.n_verified > 0) else {
            return;
        };
        self.live.note(&format!(
            "drafts: {:.0} % of {} tokens right, {:.2} tokens per step with a draft",
            100.0 * drafts.n_accepted as f64 / drafts.n_drafted as f64,
            drafts.n_drafted,
            1.0 + drafts.n_accepted as f64 / drafts.n_verified as f64,
        ));
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

    /// Returns the options for a job: those of the command line, and those that the manifest states for it. For an
    /// English-only model the language is English.
    fn options_of(&mut self, job: &Job<'_>) -> Result<TranscribeOptions, Failure> {
        let mut options = self.options.clone();
        let overrides = &job.input.overrides;
        overrides.apply(&mut options).map_err(Failure::Input)?;
        if options.vad.is_some() && options.clip_timestamps != self.options.clip_timestamps {
            return Err(Failure::Input(format!(
                "{}: clip_timestamps of the manifest cannot be combined with --vad-filter",
                job.input.display()
            )));
        }
        let is_english_only = !self.model()?.is_multilingual();
        if let Some(language) = options
            .language
            .filter(|&language| is_english_only && language != Language::ENGLISH)
        {
            warnings::warn(&format!(
                "this model is English-only; --language {} is ignored",
                language.name()
            ));
            options.language = Some(Language::ENGLISH);
        }
        Ok(options)
    }

    /// Returns the model, opened on first use.
    fn model(&mut self) -> Result<Model, Failure> {
        let (located, draft, options, quiet) = match &self.model {
            ModelSlot::Opened(model) => return Ok(model.clone()),
            ModelSlot::Located {
                model,
                draft,
                options,
                quiet,
            } => (model.clone(), draft.clone(), options.clone(), *quiet),
        };
        let path = located.folder(self.interrupt, quiet)?;
        let compute_type = options.compute_type;
        let draft = match draft {
            Some(draft) => Some(draft.draft(&path, compute_type, self.interrupt, quiet)?),
            None => None,
        };
        let open = move || {
            let model = path.open(options)?;
            match draft {
                Some((draft, _folder)) => model.with_draft(&draft),
                None => Ok(model),
            }
        };
        let model = self.interrupt.run(open)??;
        if let Some(weights) = info::of_quantised(compute_type, &model) {
            let chosen = model.compute_type();
            self.live.note(&format!("compute type {chosen}: {weights}"));
        }
        self.model = ModelSlot::Opened(model.clone());
        Ok(model)
    }
}
