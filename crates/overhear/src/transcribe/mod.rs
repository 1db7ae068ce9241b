//! Transcription of a file of any length: `whisper/transcribe.py`.

mod batched;
mod fallback;
mod hallucination;
mod language;
pub(crate) mod options;
mod pieces;
mod plan;
mod progress;
mod prompt;
mod rest;
pub(crate) mod result;
mod segments;
mod sequence;
mod silence;
mod speech;
mod stretches;
mod windows;
mod words;

use std::ops::ControlFlow;
use std::sync::Arc;

pub(crate) use language::detect_spoken_language;
pub(crate) use options::TranscribeOptions;
pub use options::{LanguageOptions, Thresholds, WordOptions};
pub use progress::Progress;
pub use result::{Alternative, WindowHypotheses};
pub(crate) use result::{Event, Segment, Transcript, Word};
pub use silence::Silence;

use batched::{MIN_REST, transcribe_pieces};
use hallucination::Window;
use plan::{plan, report_again};
use progress::Position;
use prompt::PromptHistory;
use speech::transcribe_speech;
use stretches::Stretch;
use windows::{Frames, Windows};
use words::Next;

use crate::align::{Alignment, Wanted, WordTiming, add_words, find_alignment};
use crate::decode::{BoostTrie, DecodingOptions, DecodingResult, DecodingTask};
use crate::engine::Seat;
use crate::mel::{FRAMES_PER_SECOND, N_FRAMES};
use crate::{Audio, Error, Language, Model, Result, TokenId};

/// Event function of the caller.
pub(crate) type OnEvent<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Segments and hypotheses of windows that are done.
type Done = (Vec<Segment>, Vec<WindowHypotheses>);

/// Duration of audio in seconds between two `Measuring` events of the first pass.
const MEASURING_S: f64 = 60.0;

/// Model, options and properties of a file that is transcribed.
struct File<'a> {
    model: &'a Model,
    options: &'a TranscribeOptions,
    boosts: Option<Arc<BoostTrie>>,
    /// Number of frames.
    content_frames: usize,
    /// Level up to which frames are silent; with the hallucination guard only.
    silence_level: Option<f32>,
}

/// Sequential transcription of a file or of a piece of it.
struct Transcription<'a, F> {
    file: &'a File<'a>,
    windows: Windows<F>,
    /// Language of the current window.
    language: Language,
    /// Decoding options of all windows, except temperature, prompt and seed.
    decoding: DecodingOptions,
    prompt: PromptHistory,
    segments: Vec<Segment>,
    n_best: Vec<WindowHypotheses>,
    /// End of the last word in seconds; set with word timestamps only.
    last_speech_s: f64,
    /// Whether the current window begins where a repetition loop was cut.
    is_after_loop: bool,
}

/// Result of decoding a window.
struct Decoded {
    result: DecodingResult,
    /// Whether a repetition loop was cut out of the window's text.
    is_loop_cut: bool,
}

/// Transcribes `audio` in the last of `seats`, or in all of them if [`TranscribeOptions::batched`], from `progress` on:
/// `whisper/transcribe.py::transcribe`.
pub(crate) fn transcribe(
    model: &Model,
    seats: Vec<Seat>,
    audio: &Audio,
    options: &TranscribeOptions,
    progress: Progress,
    on_event: OnEvent<'_>,
) -> Result<Transcript> {
    options.validate(model.tokenizer())?;
    match &options.vad {
        Some(vad) => transcribe_speech(model, seats, audio, (options, vad), progress, on_event),
        None => transcribe_all(model, seats, audio, options, progress, on_event),
    }
}

/// Transcribes all of `audio`, as [`transcribe`].
fn transcribe_all(
    model: &Model,
    mut seats: Vec<Seat>,
    audio: &Audio,
    options: &TranscribeOptions,
    mut progress: Progress,
    on_event: OnEvent<'_>,
) -> Result<Transcript> {
    let tokenizer = model.tokenizer();
    let seat = seats.pop().expect("at least one seat");
    let mut windows = Windows::open(model, audio, seat, &mut measuring(on_event))?;
    send(
        on_event,
        Event::Duration {
            duration_s: windows.mel.duration_s(),
        },
    )?;
    if options.words.is_some() {
        model.alignment_heads().warn();
    }
    let silence_level = match options.hallucination_guard {
        true => Some(windows.mel.silence_level()?),
        false => None,
    };
    let content_frames = windows.mel.content_frames();
    progress.verify(tokenizer, model.dims().n_vocab, content_frames)?;
    let known = progress.plan.take();
    let (position, done) = (progress.position, progress.into_results());
    let plan = match known {
        Some(plan) => {
            report_again(&plan, position, &done.0, on_event)?;
            plan
        }
        None => plan(model, options, &mut windows, on_event)?,
    };

    let file = File {
        model,
        options,
        boosts: BoostTrie::new(tokenizer, &options.rules.boost)?.map(Arc::new),
        content_frames,
        silence_level,
    };
    let (mel, segments, n_best) = if options.batched {
        seats.push(windows.seat);
        let (from, stretches) = ((position, done), plan.stretches);
        transcribe_pieces(&file, windows.mel, stretches, from, seats, on_event)?
    } else {
        let first = plan.stretches.get(position.stretch);
        let language = first.map_or(plan.language, |first| first.language);
        let mut transcription = Transcription::new(&file, windows, language, 0);
        transcription.restore(position, done);
        transcription.run(&plan.stretches, position, on_event)?;
        let Transcription {
            windows,
            segments,
            n_best,
            ..
        } = transcription;
        (windows.mel, segments, n_best)
    };
    let tokens: Vec<TokenId> = segments
        .iter()
        .flat_map(|segment| &segment.tokens)
        .copied()
        .collect();
    Ok(Transcript {
        text: tokenizer.decode(&tokens),
        segments,
        language: plan.language,
        duration_s: mel.duration_s(),
        warnings: mel.warnings().to_vec(),
        n_best,
    })
}

impl<'a, F: Frames> Transcription<'a, F> {
    /// Creates a transcription that begins at frame `start`.
    fn new(file: &'a File<'a>, windows: Windows<F>, language: Language, start: usize) -> Self {
        let (model, options) = (file.model, file.options);
        Self {
            file,
            windows,
            language,
            decoding: options.decoding_options(model.tokenizer(), language),
            prompt: PromptHistory::new(model, options),
            segments: Vec::new(),
            n_best: Vec::new(),
            last_speech_s: start as f64 / FRAMES_PER_SECOND,
            is_after_loop: false,
        }
    }

    /// Restores the state at `position`, after the windows that gave `done`.
    fn restore(&mut self, position: Position, done: Done) {
        (self.segments, self.n_best) = done;
        for segment in &self.segments {
            self.prompt.push(&segment.tokens);
        }
        self.prompt.reset_at(position.prompt_reset_since);
        self.last_speech_s = position.last_speech_s;
        self.is_after_loop = position.is_after_loop;
    }

    /// Transcribes the stretches window by window, beginning at `from`. Text in one language is not used as the prompt for
    /// another.
    fn run(&mut self, stretches: &[Stretch], from: Position, on_event: OnEvent<'_>) -> Result<()> {
        let min_rest = if self.file.options.batched {
            MIN_REST
        } else {
            1
        };
        for (index, stretch) in stretches.iter().enumerate().skip(from.stretch) {
            if stretch.language != std::mem::replace(&mut self.language, stretch.language) {
                self.prompt.reset();
            }
            let mut seek = match index == from.stretch {
                true => from.seek.max(stretch.start),
                false => stretch.start,
            };
            while seek < stretch.end && (seek == stretch.start || stretch.end - seek >= min_rest) {
                let (n_segments, n_best) = (self.segments.len(), self.n_best.len());
                seek = self.window(seek, stretch.end, on_event)?;
                let position = Position {
                    stretch: index,
                    seek,
                    prompt_reset_since: self.prompt.reset_since(),
                    last_speech_s: self.last_speech_s,
                    is_after_loop: self.is_after_loop,
                };
                let (segments, n_best) = (&self.segments[n_segments..], &self.n_best[n_best..]);
                let done = Progress::of_window(position, segments, n_best);
                send(on_event, Event::Resumable(&done))?;
                let position_s = seek.min(stretch.end) as f64 / FRAMES_PER_SECOND;
                send(on_event, Event::Progress { position_s })?;
            }
        }
        Ok(())
    }

    /// Transcribes the window at frame `seek`, and returns the first frame of the next window.
    fn window(&mut self, seek: usize, stretch_end: usize, on_event: OnEvent<'_>) -> Result<usize> {
        let n_frames = N_FRAMES.min(stretch_end - seek);
        self.windows.encode(seek, n_frames, on_event)?;
        let is_after_loop = std::mem::take(&mut self.is_after_loop);
        // Each window has its own random numbers.
        self.decoding.rules.seed = self.file.options.rules.seed.wrapping_add(seek as u64);
        let Decoded {
            mut result,
            is_loop_cut,
        } = self.decode_with_fallback(on_event)?;
        if fallback::is_silence(&result, &self.file.options.thresholds) {
            return Ok(seek + n_frames);
        }
        if self.file.options.batched && !is_loop_cut {
            self.continue_text(&mut result, (seek, n_frames), on_event)?;
        }
        let tokenizer = self.file.model.tokenizer();
        let mut split = segments::split(&result.tokens, &tokenizer.timestamps(), n_frames);
        let is_amid_file = self.file.options.batched && stretch_end < self.file.content_frames;
        if self.file.options.languages.multilingual || is_amid_file {
            // The audio after the stretch is in another language, or in another piece.
            split.end_within(n_frames);
        }
        // All temperatures ended in a repetition loop. The next window continues after the cut, but only once: a second
        // loop may be in the audio.
        let resumed_at = match &result.looped {
            Some(_) if !is_after_loop => {
                segments::end_frames(&result.tokens, &tokenizer.timestamps())
            }
            _ => None,
        };
        split.n_done = resumed_at.unwrap_or(split.n_done);
        let n_before = self.segments.len();
        let spans = split.spans.iter().enumerate();
        let mut segments: Vec<Segment> = spans
            .map(|(i, span)| segments::segment(span, &result, tokenizer, n_before + i, seek))
            .collect();
        let mut next = seek + split.n_done;
        let is_silent = match self.file.silence_level {
            Some(level) => Some(self.windows.mel.silent_frames(seek, n_frames, level)?),
            None => None,
        };
        let alignment = self.align(&segments, n_frames, is_silent.as_deref())?;
        if let Some(words) = &self.file.options.words {
            let window = Window {
                seek,
                n_frames,
                content_frames: self.file.content_frames,
                is_closed: split.is_closed,
                last_speech_s: self.last_speech_s,
            };
            match self.add_words(window, words, alignment.words, &mut segments, next) {
                Next::At(frame) => next = frame,
                Next::Again(frame) => return Ok(frame),
            }
        }
        // The rules for words may have moved the next window away from the cut.
        self.is_after_loop = resumed_at.is_some() && next == seek + split.n_done;
        if self.file.options.n_best > 0 {
            let mut hypotheses = std::mem::take(&mut result.hypotheses);
            hypotheses.truncate(self.file.options.n_best);
            self.n_best.push(WindowHypotheses { seek, hypotheses });
        }
        if let Some(is_silent) = is_silent {
            let attention = alignment.silent_attention;
            self.drop_hallucinations(&is_silent, attention, &mut segments);
        }
        for mut segment in segments {
            segments::clear_if_empty(&mut segment);
            segment.language = self
                .file
                .options
                .languages
                .multilingual
                .then_some(result.language);
            segment.loop_cut = self.file.options.rules.loop_guard.then_some(is_loop_cut);
            self.prompt.push(&segment.tokens);
            self.segments.push(segment);
            send(
                on_event,
                Event::Segment(&self.segments[self.segments.len() - 1]),
            )?;
        }
        if !self.file.options.is_conditioned() || result.temperature > 0.5 || is_loop_cut {
            self.prompt.reset();
        }
        Ok(next)
    }

    /// Aligns the segments' text with the encoded window, for words and for the hallucination guard. `is_silent`: of each
    /// frame of the window, if the guard is on.
    fn align(
        &mut self,
        segments: &[Segment],
        n_frames: usize,
        is_silent: Option<&[bool]>,
    ) -> Result<Alignment> {
        let wanted = Wanted {
            words: self.file.options.words.is_some(),
            is_silent,
        };
        if !wanted.words && is_silent.is_none() {
            return Ok(Alignment::default());
        }
        let tokenizer = self.file.model.tokenizer();
        let text_tokens: Vec<TokenId> = segments
            .iter()
            .flat_map(|segment| segments::text_tokens(segment, tokenizer))
            .collect();
        let (model, spoken) = (self.file.model, (self.language, self.file.options.task));
        self.windows.seat.alone(|state, place| {
            let state = (state, place);
            find_alignment(model, state, spoken, &text_tokens, n_frames, wanted)
        })
    }

    /// Adds words to the segments of the encoded window, and returns where to continue; without words, that is at
    /// `next`.
    fn add_words(
        &mut self,
        window: Window,
        options: &WordOptions,
        timings: Vec<WordTiming>,
        segments: &mut Vec<Segment>,
        next: usize,
    ) -> Next {
        let tokenizer = self.file.model.tokenizer();
        let is_text = |token| tokenizer.is_text(token);
        add_words(segments, timings, is_text, options, self.last_speech_s);
        let threshold = options.hallucination_silence_threshold;
        let next = words::next_window(window, segments, next, threshold);
        if let (Next::At(_), Some(end)) = (&next, words::last_end(segments)) {
            self.last_speech_s = end;
        }
        next
    }

    /// Computes the evidence of hallucination of each segment of the encoded window, and clears the hallucinated ones.
    /// `attention`: to silent frames, per text token of the segments and of those that the rules for words have dropped
    /// from the end; empty if the text could not be aligned.
    fn drop_hallucinations(
        &self,
        is_silent: &[bool],
        mut attention: Vec<f32>,
        segments: &mut [Segment],
    ) {
        let tokenizer = self.file.model.tokenizer();
        for segment in segments {
            let n_text = segments::text_tokens(segment, tokenizer).count();
            if n_text == 0 || attention.is_empty() {
                continue;
            }
            let rest = attention.split_off(n_text);
            let mut silence = Silence::of(segment, is_silent, &attention);
            if silence.is_hallucination(segment.no_speech_prob) {
                silence.dropped = Some(std::mem::take(&mut segment.text));
                segments::clear(segment);
            }
            segment.silence = Some(silence);
            attention = rest;
        }
    }

    /// Decodes the encoded window at one temperature after another, until a result passes the thresholds. After a
    /// repetition loop, decoding continues at the cut.
    fn decode_with_fallback(&mut self, on_event: OnEvent<'_>) -> Result<Decoded> {
        self.decoding.prompt = self.prompt.tokens();
        let mut last: Option<Decoded> = None;
        for &temperature in &self.file.options.temperatures {
            self.file
                .options
                .set_temperature(&mut self.decoding, temperature);
            let boosts = self.file.boosts.clone();
            let mut task =
                DecodingTask::new(self.file.model, self.language, boosts, &self.decoding)?;
            let looped = last.map(|last| last.result);
            let looped = looped.filter(|result| result.looped.is_some());
            if let Some(looped) = &looped
                && let Some(&[first_of_round, ..]) = looped.looped.as_deref()
            {
                task.resume(looped, first_of_round);
            }
            let result = self
                .windows
                .seat
                .decode(task, &mut || on_event(Event::Token))?;
            let is_accepted = !fallback::needs_fallback(&result, &self.file.options.thresholds);
            let is_loop_cut = looped.is_some() || result.looped.is_some();
            last = Some(Decoded {
                result,
                is_loop_cut,
            });
            if is_accepted {
                break;
            }
        }
        Ok(last.expect("options have at least one temperature"))
    }
}

/// Returns a function of the position in seconds of a pass over the audio, which sends it every [`MEASURING_S`].
fn measuring(on_event: OnEvent<'_>) -> impl FnMut(f64) -> Result<()> {
    let mut next_s = MEASURING_S;
    move |position_s| {
        if position_s < next_s {
            return Ok(());
        }
        next_s = position_s + MEASURING_S;
        send(on_event, Event::Measuring { position_s })
    }
}

fn send(on_event: OnEvent<'_>, event: Event<'_>) -> Result<()> {
    match on_event(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Canceled),
    }
}
