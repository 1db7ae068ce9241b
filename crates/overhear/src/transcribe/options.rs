//! Options of a transcription, and the decoding options derived from them.

use crate::decode::{DecodingOptions, DecodingRules};
use crate::vad::VadOptions;
use crate::{Error, Language, Result, Task, Tokenizer};

/// Options of [`Model::transcribe`](crate::Model::transcribe). Names and defaults are those of openai/whisper.
///
/// [`DecodingOptions`] is not a field, since `transcribe` and `decode` of openai/whisper differ in some options and
/// defaults: `transcribe` takes a list of temperatures, uses 5 samples at temperatures above 0 (the default of the
/// command line), and takes prompts as text; `decode` takes one temperature, uses one sample by default, and takes
/// prompts as tokens. Options that both share, with the same defaults, are in [`DecodingRules`].
///
/// ```
/// use overhear::decode::DecodingRules;
/// use overhear::transcribe::WordOptions;
/// use overhear::{Language, TranscribeOptions};
///
/// let options = TranscribeOptions {
///     language: Some(Language::ENGLISH),
///     words: Some(WordOptions::default()),
///     rules: DecodingRules {
///         beam_size: Some(5),
///         ..Default::default()
///     },
///     ..Default::default()
/// };
/// # assert_eq!(options.n_rows(), 5);
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct TranscribeOptions {
    /// Task: transcription, or translation to English.
    pub task: Task,
    /// Language of the speech. `None`: it is detected, by default from the first 30 seconds.
    pub language: Option<Language>,
    /// Options of language detection.
    pub languages: LanguageOptions,
    /// Temperatures, tried in order until a window passes the thresholds. Default: 0, 0.2, 0.4, 0.6, 0.8, 1.
    pub temperatures: Vec<f32>,
    /// Number of independent samples at temperatures above 0, of which the most probable is kept. `None`: one. Default:
    /// 5, as on openai/whisper's command line.
    pub best_of: Option<usize>,
    /// Rules of search and sampling. Beam search applies to temperature 0 only; openai/whisper's command line uses 5
    /// beams.
    pub rules: DecodingRules,
    /// Thresholds for repeating a window at the next temperature, and for silence.
    pub thresholds: Thresholds,
    /// Whether the previous text is the prompt of the next window. Default: true.
    pub condition_on_previous_text: bool,
    /// Prompt of the first window, used as if it were previous text.
    pub initial_prompt: Option<String>,
    /// Whether `initial_prompt` is prepended to the prompt of every window. Default: false.
    pub carry_initial_prompt: bool,
    /// Text that every window must begin with. As in openai/whisper, it is not part of the transcript.
    pub prefix: Option<String>,
    /// Words prepended to the prompt of every window: faster-whisper's `hotwords`. Ignored with a `prefix`. At most the
    /// first 223 tokens are used.
    pub hotwords: Option<String>,
    /// Word timestamps, to which the times of segments are adjusted. `None`, the default: no words.
    pub words: Option<WordOptions>,
    /// Times `start, end, start, end, ...` of the clips to process, in seconds; the last end is optional.
    pub clip_timestamps: Vec<f64>,
    /// Voice activity detection: only the regions of speech are transcribed, joined as if they were the whole file, and times
    /// are mapped back to the file, as with faster-whisper's `vad_filter`. `None`, the default: the whole file is transcribed.
    /// Not to be combined with `clip_timestamps`.
    pub vad: Option<VadOptions>,
    /// Whether to compute for each segment the evidence that it is a hallucination over silence ([`Silence`]), and to
    /// clear segments with strong evidence. Default: false, as in openai/whisper.
    ///
    /// [`Silence`]: crate::transcribe::Silence
    pub hallucination_guard: bool,
    /// Whether to transcribe in pieces of up to 30 seconds, cut where the audio is quietest, several of which an
    /// [`Engine`](crate::Engine) decodes at the same time, as faster-whisper's `BatchedInferencePipeline` does. The text
    /// before a piece is no part of its prompt (`condition_on_previous_text` is taken as false), so the transcript does
    /// not depend on the number of pieces decoded at the same time. A last segment that the model leaves out because it
    /// may be cut off is transcribed in the same window: pieces end in pauses. Default: false.
    pub batched: bool,
    /// Number of hypotheses to return per window, best first, if the search has as many: one per beam or sample, and
    /// one for greedy search. Default: 0.
    pub n_best: usize,
}

/// Options of language detection and of recordings in several languages.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LanguageOptions {
    /// Languages that detection may return; empty: all. Default: empty.
    pub allowed: Vec<Language>,
    /// Maximum number of 30-second windows for language detection: the first one above `detection_threshold` decides,
    /// or else the majority. Default: 1, as in openai/whisper.
    pub detection_segments: usize,
    /// Probability of the most probable language above which a window decides alone. `None`: never. Default: 0.5.
    pub detection_threshold: Option<f64>,
    /// Whether the recording is in several languages: each segment is then transcribed in its own language and states
    /// it. Takes an additional pass of the encoder over the audio, a few seconds at a time. `language`, if set, is one
    /// of the languages. Default: false.
    pub multilingual: bool,
}

/// Thresholds for repeating a window at the next temperature, and for silence. `None`: no such test.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Thresholds {
    /// Compression ratio above which decoding counts as failed. Default: 2.4.
    pub compression_ratio: Option<f64>,
    /// Mean log-probability per token below which decoding counts as failed. Default: -1.
    pub logprob: Option<f64>,
    /// Probability of no speech above which a window below `logprob` counts as silence. Default: 0.6.
    pub no_speech: Option<f64>,
}

/// Options of word timestamps.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct WordOptions {
    /// Punctuation that is merged with the next word.
    pub prepend_punctuations: String,
    /// Punctuation that is merged with the previous word.
    pub append_punctuations: String,
    /// Duration of silence in seconds around a possible hallucination above which both are skipped. Default: `None`.
    pub hallucination_silence_threshold: Option<f64>,
}

impl Default for TranscribeOptions {
    fn default() -> Self {
        Self {
            task: Task::Transcribe,
            language: None,
            languages: LanguageOptions::default(),
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            best_of: Some(5),
            rules: DecodingRules::default(),
            thresholds: Thresholds::default(),
            condition_on_previous_text: true,
            initial_prompt: None,
            carry_initial_prompt: false,
            prefix: None,
            hotwords: None,
            words: None,
            clip_timestamps: vec![0.0],
            vad: None,
            hallucination_guard: false,
            batched: false,
            n_best: 0,
        }
    }
}

impl Default for LanguageOptions {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            detection_segments: 1,
            detection_threshold: Some(0.5),
            multilingual: false,
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            compression_ratio: Some(2.4),
            logprob: Some(-1.0),
            no_speech: Some(0.6),
        }
    }
}

impl Default for WordOptions {
    fn default() -> Self {
        Self {
            prepend_punctuations: "\"'“¿([{-".to_owned(),
            append_punctuations: "\"'.。,，!！?？:：”)]}、".to_owned(),
            hallucination_silence_threshold: None,
        }
    }
}

impl LanguageOptions {
    /// Checks the options that do not depend on the audio.
    ///
    /// # Errors
    /// [`Error::Option`] if an option is invalid or does not fit the model.
    pub(super) fn validate(&self, tokenizer: &Tokenizer) -> Result<()> {
        if self.detection_segments == 0 {
            return Err(Error::Option {
                name: "detection_segments",
                reason: "at least one is needed".to_owned(),
            });
        }
        check_known("languages", &self.allowed, tokenizer)
    }
}

/// Returns an error if the multilingual model of `tokenizer` lacks one of `languages`.
fn check_known(name: &'static str, languages: &[Language], tokenizer: &Tokenizer) -> Result<()> {
    let is_known = |language: Language| tokenizer.language_token(language).is_some();
    let unknown = languages.iter().find(|&&language| !is_known(language));
    let Some(language) = unknown.filter(|_| tokenizer.is_multilingual()) else {
        return Ok(());
    };
    let known: Vec<&str> = Language::all()
        .filter(|&language| is_known(language))
        .map(Language::code)
        .collect();
    let (language, known) = (language.name(), known.join(", "));
    let reason = format!("this model does not know {language}; it knows {known}");
    Err(Error::Option { name, reason })
}

impl TranscribeOptions {
    /// Returns whether the text of a window is in the prompt of the next.
    pub(super) fn is_conditioned(&self) -> bool {
        self.condition_on_previous_text && !self.batched
    }

    /// Checks the options that do not depend on the audio.
    ///
    /// # Errors
    /// [`Error::Option`] if an option is invalid or does not fit the model.
    pub(super) fn validate(&self, tokenizer: &Tokenizer) -> Result<()> {
        let refuse = |name, reason: String| Err(Error::Option { name, reason });
        if self.temperatures.is_empty() {
            return refuse("temperatures", "at least one is needed".to_owned());
        }
        if let Some(t) = self
            .temperatures
            .iter()
            .find(|t| !(t.is_finite() && **t >= 0.0))
        {
            return refuse("temperatures", format!("{t} is not a number from 0 up"));
        }
        if let Some(t) = self
            .clip_timestamps
            .iter()
            .find(|t| !(t.is_finite() && **t >= 0.0))
        {
            return refuse("clip_timestamps", format!("{t} is not a time in seconds"));
        }
        if let Some(vad) = &self.vad {
            vad.verify()?;
            if !(self.clip_timestamps.is_empty() || self.clip_timestamps == [0.0]) {
                let reason = "cannot be combined with clip_timestamps: both choose the audio";
                return refuse("vad", reason.to_owned());
            }
        }
        if let Some(t) = self
            .rules
            .max_initial_timestamp
            .filter(|t| !(t.is_finite() && *t >= 0.0))
        {
            return refuse(
                "max_initial_timestamp",
                format!("{t} is not a time in seconds"),
            );
        }
        let words = self.words.as_ref();
        let silence = words.and_then(|words| words.hallucination_silence_threshold);
        if let Some(t) = silence.filter(|t| t.is_nan()) {
            return refuse(
                "hallucination_silence_threshold",
                format!("{t} is not a number of seconds"),
            );
        }
        let mut decoding = self.decoding_options(tokenizer, Language::ENGLISH);
        for &temperature in &self.temperatures {
            self.set_temperature(&mut decoding, temperature);
            decoding.verify()?;
        }
        self.languages.validate(tokenizer)?;
        check_known("language", self.language.as_slice(), tokenizer)
    }

    /// Returns the decoding options of all windows, to be completed with temperature and prompt.
    pub(super) fn decoding_options(
        &self,
        tokenizer: &Tokenizer,
        language: Language,
    ) -> DecodingOptions {
        DecodingOptions {
            task: self.task,
            language: Some(language),
            temperature: 0.0,
            best_of: None,
            prompt: Vec::new(),
            prefix: self
                .prefix
                .as_deref()
                .map_or_else(Vec::new, |text| tokenizer.encode_prompt(text)),
            rules: self.rules.clone(),
        }
    }

    /// Sets the temperature and the options that depend on it: beam search for 0, samples above.
    pub(super) fn set_temperature(&self, decoding: &mut DecodingOptions, temperature: f32) {
        let is_sampled = temperature > 0.0;
        decoding.temperature = temperature;
        decoding.best_of = self.best_of.filter(|_| is_sampled);
        decoding.rules.beam_size = self.rules.beam_size.filter(|_| !is_sampled);
        decoding.rules.patience = self.rules.patience.filter(|_| !is_sampled);
    }

    /// Returns the number of rows of text that decoding with these options needs: the number of beams or samples.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        let mut decoding = DecodingOptions::default();
        let mut n_rows = |&temperature: &f32| {
            self.set_temperature(&mut decoding, temperature);
            decoding.n_group()
        };
        self.temperatures.iter().map(&mut n_rows).max().unwrap_or(1)
    }
}
