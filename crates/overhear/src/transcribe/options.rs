//! What a caller can choose, and what follows from it.

use crate::decode::{DecodingOptions, DecodingRules};
use crate::{Error, Language, Result, Task, Tokenizer};

/// Options of [`Model::transcribe`](crate::Model::transcribe). Names and defaults are openai/whisper's.
///
/// [`DecodingOptions`] is no part of them, since the reference's `transcribe` and `decode` differ in some options and in
/// their defaults: `transcribe` takes a list of temperatures, decodes with 5 samples at those above 0 (the default of the
/// command), and takes prompts as text; `decode` takes one temperature, one sample by default, and prompts as tokens.
/// Options that both have with the same defaults are [`DecodingRules`], a part of either.
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
    /// Transcribe, or translate to English.
    pub task: Task,
    /// Language spoken; `None` detects it, by default from the first 30 seconds.
    pub language: Option<Language>,
    /// Detection of the language.
    pub languages: LanguageOptions,
    /// Temperatures to try in turn while a window fails a threshold. Default: 0, 0.2, 0.4, 0.6, 0.8, 1.
    pub temperatures: Vec<f32>,
    /// Number of texts sampled side by side at temperatures above 0, of which the likeliest is kept. `None`: one.
    /// Default: 5, as of the reference's command.
    pub best_of: Option<usize>,
    /// Rules of search and sampling. Beam search is for temperature 0 only; the reference's command has 5 beams.
    pub rules: DecodingRules,
    /// Thresholds at which a window fails or is silence.
    pub thresholds: Thresholds,
    /// Whether the text so far is the next window's prompt. Default: true.
    pub condition_on_previous_text: bool,
    /// Text put before the first window as if it had been said.
    pub initial_prompt: Option<String>,
    /// Whether `initial_prompt` is put before every window. Default: false.
    pub carry_initial_prompt: bool,
    /// Text that every window is taken to begin with. As in the reference it is no part of the transcript.
    pub prefix: Option<String>,
    /// Words put before every window's prompt, as faster-whisper's `hotwords`; not with a `prefix`. Of long ones the
    /// first 223 tokens count.
    pub hotwords: Option<String>,
    /// Word timestamps, to which segments are fitted. `None`, the default: no words.
    pub words: Option<WordOptions>,
    /// Seconds `start, end, start, end, ...` of the clips to process; the last end may be missing.
    pub clip_timestamps: Vec<f64>,
    /// Whether to weigh for every segment what speaks for its having been made up over silence, to report it
    /// ([`Silence`]), and to drop the segment if it is enough. Default: false, as the reference.
    ///
    /// [`Silence`]: crate::transcribe::Silence
    pub hallucination_guard: bool,
    /// Number of hypotheses to keep of each window, best first, as far as the search has so many: a text for each beam
    /// or sample, one for the greedy search. Default: 0, none.
    pub n_best: usize,
}

/// Options of language detection and of recordings in several languages.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LanguageOptions {
    /// Languages that detection may choose from; none stands for all. Default: none.
    pub allowed: Vec<Language>,
    /// Maximum number of windows of 30 seconds to detect the language from: the first that is sure decides, or else the
    /// majority. Default: 1, as the reference.
    pub detection_segments: usize,
    /// Probability of its likeliest language above which a window is sure. `None`: none is. Default: 0.5.
    pub detection_threshold: Option<f64>,
    /// Whether several languages are spoken: each segment is transcribed in its own, and names it. The audio is heard
    /// once more for that, a few seconds at a time; a language that is given is one of them. Default: false.
    pub multilingual: bool,
}

/// Thresholds at which a window fails, so that the next temperature is tried, or is silence. `None`: no such test.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Thresholds {
    /// Compression ratio of its text above which a window has failed. Default: 2.4.
    pub compression_ratio: Option<f64>,
    /// Mean log-probability per token below which a window has failed. Default: -1.
    pub logprob: Option<f64>,
    /// Probability of no speech above which a window that is below `logprob` is silence. Default: 0.6.
    pub no_speech: Option<f64>,
}

/// Options of word timestamps.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct WordOptions {
    /// Punctuation that belongs to the word after it.
    pub prepend_punctuations: String,
    /// Punctuation that belongs to the word before it.
    pub append_punctuations: String,
    /// Seconds of silence around a possible hallucination beyond which both are skipped. Default: `None`.
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
            hallucination_guard: false,
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
    /// Checks what can be checked without audio.
    ///
    /// # Errors
    /// [`Error::Option`].
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

/// Refuses the first of `languages` that the multilingual model of `tokenizer` does not know.
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
    /// Checks what can be checked without audio.
    ///
    /// # Errors
    /// [`Error::Option`].
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

    /// Options of one window at one temperature, but for its prompt, which is the caller's.
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

    /// Sets what hangs on the temperature: beams are for 0, samples for anything above.
    pub(super) fn set_temperature(&self, decoding: &mut DecodingOptions, temperature: f32) {
        let is_sampled = temperature > 0.0;
        decoding.temperature = temperature;
        decoding.best_of = self.best_of.filter(|_| is_sampled);
        decoding.rules.beam_size = self.rules.beam_size.filter(|_| !is_sampled);
        decoding.rules.patience = self.rules.patience.filter(|_| !is_sampled);
    }

    /// Rows of text that decoding with these options needs at once: beams, or samples at a temperature.
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
