//! Measurements, in the order of the pipeline's stages.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use overhear::bench::MachineLimits;
use overhear::decode::{
    DecodingOptions, DecodingRules, LogMel, Session, Suppress, log_mel_spectrogram,
};
use overhear::tokenizer::TokenId;
use overhear::transcribe::Thresholds;
use overhear::{Audio, Error, Event, Language, Model, ModelOptions, Result, TranscribeOptions};

use super::report::{Figure, Limits, Report};
use super::work::Work;
use super::{input, memory};

/// Tokens of a full window, and of a shorter one that is subtracted to get the time of one token.
const N_TOKENS: usize = 100;
const N_FEW_TOKENS: usize = 20;
/// Numbers of rows of the measured decoder steps.
const N_ROWS: [usize; 5] = [1, 5, 8, 16, 32];
/// Steps of every row before the timed ones, and number of timed steps.
const N_STEPS_BEFORE: usize = 20;
const N_STEPS: usize = 10;
/// Number of beams of the window decoded by beam search.
const N_BEAMS: usize = 5;
/// Length of a window in seconds.
const WINDOW_S: f64 = 30.0;

/// Measures the model in the folder `path`, `repeats` times per figure.
pub(super) fn measure(path: &Path, options: &ModelOptions, repeats: usize) -> Result<Report> {
    let machine = MachineLimits::new(options.threads);
    let mut limits = Limits::measure(&machine);
    memory::reset_peak();

    let (model, load) = open(path, options, repeats)?;
    let work = Work::of(&model);
    let samples = input::samples();
    let mel = log_mel_spectrogram(&samples, model.dims().n_mels, 0);
    let bench = Bench {
        model: &model,
        repeats,
        samples,
        mel,
    };
    let log_mel = bench.log_mel()?;
    let (encoder, prompt, token) = bench.stages()?;
    let window = bench.window(None)?;
    let peak_mb = memory::peak_mb();
    let beams = bench.window(Some(N_BEAMS))?;

    let encoder_limit = limits.arithmetic(model.compute_type());
    let step_read = machine.read_bandwidth(work.step_bytes as usize);
    limits.step_gb_s = step_read / 1e9;
    let mut figures = vec![
        Figure::new("load", &load),
        Figure::new("log-mel", &log_mel),
        Figure::new("encoder", &encoder).operations(work.encoder_ops, encoder_limit),
        Figure::new("prompt", &prompt),
        Figure::new("token", &token).bytes(work.step_bytes, step_read),
        Figure::new("first token", &bench.first_token(path, options)?),
        Figure::new("window", &window).real_time(WINDOW_S),
        Figure::new("window, 5 beams", &beams).real_time(WINDOW_S),
    ];
    for n_rows in N_ROWS {
        let step = bench.step(n_rows)?;
        let name = format!("step, {n_rows} rows");
        figures.push(Figure::new(&name, &step).bytes(work.step_bytes, step_read));
    }
    Ok(Report::new(&model, path, repeats, limits, figures, peak_mb))
}

/// Opens the model `repeats` times, one after another.
fn open(path: &Path, options: &ModelOptions, repeats: usize) -> Result<(Model, Vec<f64>)> {
    let mut load = Vec::new();
    loop {
        let start = Instant::now();
        let model = Model::open(path, options)?;
        load.push(start.elapsed().as_secs_f64());
        if load.len() == repeats {
            return Ok((model, load));
        }
    }
}

struct Bench<'a> {
    model: &'a Model,
    repeats: usize,
    samples: Vec<f32>,
    mel: LogMel,
}

/// Each method returns the seconds of every repeat.
impl Bench<'_> {
    fn log_mel(&self) -> Result<Vec<f64>> {
        let n_mels = self.model.dims().n_mels;
        self.time(|| {
            black_box(log_mel_spectrogram(&self.samples, n_mels, 0));
            Ok(())
        })
    }

    /// Measures the encoder, the prompt up to the first token, and one token after it.
    fn stages(&self) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
        let mut session = self.model.session(1)?;
        let encoder = self.time(|| session.encode(&self.mel))?;
        let prompt = self.time(|| self.decode(&mut session, 1))?;
        let few = self.time(|| self.decode(&mut session, N_FEW_TOKENS))?;
        let all = self.time(|| self.decode(&mut session, N_TOKENS))?;
        let n_between = (N_TOKENS - N_FEW_TOKENS) as f64;
        let token = all
            .iter()
            .zip(few)
            .map(|(all, few)| (all - few) / n_between);
        Ok((encoder, prompt, token.collect()))
    }

    /// Measures a step that decodes one token of each of `n_rows` rows.
    fn step(&self, n_rows: usize) -> Result<Vec<f64>> {
        let token = self.model.tokenizer().sot();
        let tokens = vec![token; n_rows];
        let mut session = self.model.session(n_rows)?;
        session.encode(&self.mel)?;
        for _ in 0..N_STEPS_BEFORE {
            session.step(&tokens)?;
        }
        let seconds = self.time(|| {
            (0..n_rows).for_each(|row| session.truncate(row, N_STEPS_BEFORE));
            for _ in 0..N_STEPS {
                black_box(session.step(&tokens)?);
            }
            Ok(())
        })?;
        Ok(seconds.iter().map(|s| s / N_STEPS as f64).collect())
    }

    /// Measures a window from samples to text.
    fn window(&self, beam_size: Option<usize>) -> Result<Vec<f64>> {
        let audio = self.audio()?;
        let options = TranscribeOptions {
            rules: DecodingRules {
                beam_size,
                ..self.transcribe_options().rules
            },
            ..self.transcribe_options()
        };
        self.time(|| self.model.transcribe(&audio, &options).map(drop))
    }

    /// Measures the time from opening the model to the first token of a window.
    fn first_token(&self, path: &Path, options: &ModelOptions) -> Result<Vec<f64>> {
        let audio = self.audio()?;
        let transcribe_options = self.transcribe_options();
        self.time(|| {
            let model = Model::open(path, options)?;
            let until_token = |event: Event<'_>| match event {
                Event::Token => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            match model.transcribe_with(&audio, &transcribe_options, until_token) {
                Err(Error::Canceled) => Ok(()),
                other => other.map(drop),
            }
        })
    }

    /// Decodes exactly `n_tokens` tokens of the window in `session`.
    fn decode(&self, session: &mut Session, n_tokens: usize) -> Result<()> {
        let options = DecodingOptions {
            language: Some(Language::ENGLISH),
            rules: DecodingRules {
                sample_len: NonZeroUsize::new(n_tokens),
                without_timestamps: true,
                suppress_tokens: self.all_but_text(),
                ..DecodingRules::default()
            },
            ..DecodingOptions::default()
        };
        let result = session.decode(&options)?;
        assert_eq!(
            result.tokens.len(),
            n_tokens,
            "the end-of-text token is suppressed"
        );
        Ok(())
    }

    fn transcribe_options(&self) -> TranscribeOptions {
        TranscribeOptions {
            language: Some(Language::ENGLISH),
            temperatures: vec![0.0],
            rules: DecodingRules {
                sample_len: NonZeroUsize::new(N_TOKENS),
                without_timestamps: true,
                suppress_tokens: self.all_but_text(),
                ..DecodingRules::default()
            },
            thresholds: Thresholds {
                no_speech: None,
                ..Thresholds::default()
            },
            ..TranscribeOptions::default()
        }
    }

    /// Returns the tokens to suppress: the end of text and all following ids. Only text can be sampled, so that every
    /// window has exactly the requested number of tokens, on any audio.
    fn all_but_text(&self) -> Suppress {
        let tokenizer = self.model.tokenizer();
        Suppress::Tokens((tokenizer.eot()..tokenizer.n_vocab() as TokenId).collect())
    }

    fn audio(&self) -> Result<Audio> {
        Audio::from_samples(self.samples.clone(), input::SAMPLE_RATE)
    }

    /// Runs `work` once to warm up and then `repeats` times.
    fn time(&self, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
        work()?;
        let run = |_| {
            let start = Instant::now();
            work().map(|()| start.elapsed().as_secs_f64())
        };
        (0..self.repeats).map(run).collect()
    }
}
