//! What a caller can choose, and what follows from it.

use std::num::NonZeroUsize;

use crate::decode::{BoostPhrase, DecodingOptions, Suppress};
use crate::{Error, Language, Result, Task, Tokenizer};

/// Options of [`crate::Model::transcribe`]. Names and defaults are openai/whisper's.
#[derive(Clone, Debug)]
pub struct TranscribeOptions {
    /// Transcribe, or translate to English.
    pub task: Task,
    /// The language spoken; `None` detects it from the first 30 seconds.
    pub language: Option<Language>,
    /// Languages that detection may choose from; none stands for all. Default: none.
    pub languages: Vec<Language>,
    /// Most windows of 30 seconds to detect the language from: the first that is sure decides, or else the
    /// majority. Default: 1, as the reference.
    pub language_detection_segments: usize,
    /// A window likelier than this to be of one language is sure. `None`: none is. Default: 0.5.
    pub language_detection_threshold: Option<f64>,
    /// Whether several languages are spoken: each segment is transcribed in its own, and names it. The audio is heard
    /// once more for that, a few seconds at a time; a language that is given is one of them. Default: false.
    pub multilingual: bool,
    /// Temperatures to try in turn while a window fails a threshold. Default: 0, 0.2, 0.4, 0.6, 0.8, 1.
    pub temperatures: Vec<f32>,
    /// Texts sampled side by side at temperatures above 0, of which the likeliest is kept. Default: 5, as of the
    /// reference's command.
    pub best_of: Option<usize>,
    /// Texts followed at once by beam search at temperature 0. `None`: one, the greedy search. Default: `None`; the
    /// reference's command has 5.
    pub beam_size: Option<usize>,
    /// How long beam search goes on: until `beam_size * patience` texts have ended. `None`: 1.
    pub patience: Option<f64>,
    /// Exponent, 0 to 1, of the length by which log-probabilities are divided to compare texts. `None`: divide by the
    /// number of tokens.
    pub length_penalty: Option<f64>,
    /// A window whose text compresses better than this has failed. `None`: no such test. Default: 2.4.
    pub compression_ratio_threshold: Option<f64>,
    /// A window whose mean log-probability per token is below this has failed. Default: -1.
    pub logprob_threshold: Option<f64>,
    /// A window likelier than this to be silent, and below `logprob_threshold`, is silence. Default: 0.6.
    pub no_speech_threshold: Option<f64>,
    /// Whether the text so far is the next window's prompt. Default: true.
    pub condition_on_previous_text: bool,
    /// Text put before the first window as if it had been said.
    pub initial_prompt: Option<String>,
    /// Whether `initial_prompt` is put before every window. Default: false.
    pub carry_initial_prompt: bool,
    /// Text that every window is taken to begin with. As in the reference it is no part of the transcript.
    pub prefix: Option<String>,
    /// Most tokens sampled per window. `None`: half of the decoder's positions, 224.
    pub sample_len: Option<NonZeroUsize>,
    /// Tokens never sampled. Default: all that are not speech.
    pub suppress_tokens: Suppress,
    /// Whether a window may not begin with a blank or end at once. Default: true.
    pub suppress_blank: bool,
    /// Whether to leave timestamps out. Default: false.
    pub without_timestamps: bool,
    /// Latest time, in seconds, at which the first timestamp may stand. `None`: no limit. Default: 1.
    pub max_initial_timestamp: Option<f64>,
    /// Whether to find out when each word was said, and to fit segments to that. Default: false.
    pub word_timestamps: bool,
    /// Punctuation that belongs to the word after it.
    pub prepend_punctuations: String,
    /// Punctuation that belongs to the word before it.
    pub append_punctuations: String,
    /// Silence longer than this many seconds around a possible hallucination is skipped, and the hallucination
    /// with it. Needs `word_timestamps`, and without them does nothing. Default: `None`.
    pub hallucination_silence_threshold: Option<f64>,
    /// Seconds `start, end, start, end, ...` of the clips to process; the last end may be missing.
    pub clip_timestamps: Vec<f64>,
    /// Seed of the sampling at temperatures above 0. Default: 0.
    pub seed: u64,
    /// Words put before every window's prompt, as faster-whisper's `hotwords`; not with a `prefix`. Of long ones the
    /// first 223 tokens count.
    pub hotwords: Option<String>,
    /// Phrases to be made likelier, without a part in the prompt. Default: none.
    pub boost: Vec<BoostPhrase>,
    /// Whether to stop a window as soon as its text goes round in a loop, to cut the loop behind its first round, and
    /// to go on from there at the next temperature. What came of it is no prompt of later windows. Default: false, as
    /// the reference.
    pub loop_guard: bool,
    /// Whether to weigh for every segment what speaks for its having been made up over silence, to report it
    /// ([`Silence`]), and to drop the segment if it is enough. Default: false, as the reference.
    ///
    /// [`Silence`]: crate::transcribe::Silence
    pub hallucination_guard: bool,
    /// Number of likeliest tokens to report at each position of a segment. Default: 0, none.
    pub alternatives: usize,
    /// Number of hypotheses to keep of each window, best first, as far as the search has so many: a text for each beam
    /// or sample, one for the greedy search. Default: 0, none.
    pub n_best: usize,
}

impl Default for TranscribeOptions {
    fn default() -> Self {
        Self {
            task: Task::Transcribe,
            language: None,
            languages: Vec::new(),
            language_detection_segments: 1,
            language_detection_threshold: Some(0.5),
            multilingual: false,
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            best_of: Some(5),
            beam_size: None,
            patience: None,
            length_penalty: None,
            compression_ratio_threshold: Some(2.4),
            logprob_threshold: Some(-1.0),
            no_speech_threshold: Some(0.6),
            condition_on_previous_text: true,
            initial_prompt: None,
            carry_initial_prompt: false,
            prefix: None,
            sample_len: None,
            suppress_tokens: Suppress::default(),
            suppress_blank: true,
            without_timestamps: false,
            max_initial_timestamp: Some(1.0),
            word_timestamps: false,
            prepend_punctuations: "\"'“¿([{-".to_owned(),
            append_punctuations: "\"'.。,，!！?？:：”)]}、".to_owned(),
            hallucination_silence_threshold: None,
            clip_timestamps: vec![0.0],
            seed: 0,
            hotwords: None,
            boost: Vec::new(),
            loop_guard: false,
            hallucination_guard: false,
            alternatives: 0,
            n_best: 0,
        }
    }
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
            .max_initial_timestamp
            .filter(|t| !(t.is_finite() && *t >= 0.0))
        {
            return refuse(
                "max_initial_timestamp",
                format!("{t} is not a time in seconds"),
            );
        }
        if let Some(t) = self.hallucination_silence_threshold.filter(|t| t.is_nan()) {
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
        if self.language_detection_segments == 0 {
            return refuse(
                "language_detection_segments",
                "at least one is needed".to_owned(),
            );
        }
        let unknown = |language: &&Language| tokenizer.language_token(**language).is_none();
        for (name, languages) in [
            ("language", self.language.as_slice()),
            ("languages", &self.languages[..]),
        ] {
            if let Some(language) = languages.iter().find(unknown)
                && tokenizer.is_multilingual()
            {
                let known: Vec<&str> = Language::all()
                    .filter(|language| tokenizer.language_token(*language).is_some())
                    .map(Language::code)
                    .collect();
                let (language, known) = (language.name(), known.join(", "));
                let reason = format!("this model does not know {language}; it knows {known}");
                return refuse(name, reason);
            }
        }
        Ok(())
    }

    /// The options of one window at one temperature, but for its prompt and the phrases to boost, which are the
    /// caller's.
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
            beam_size: self.beam_size,
            patience: self.patience,
            length_penalty: self.length_penalty,
            sample_len: self.sample_len,
            prompt: Vec::new(),
            prefix: self
                .prefix
                .as_deref()
                .map_or_else(Vec::new, |text| tokenizer.encode_prompt(text)),
            suppress_tokens: self.suppress_tokens.clone(),
            suppress_blank: self.suppress_blank,
            without_timestamps: self.without_timestamps,
            max_initial_timestamp: self.max_initial_timestamp,
            seed: self.seed,
            alternatives: self.alternatives,
            boost: Vec::new(),
            loop_guard: self.loop_guard,
        }
    }

    /// Sets what hangs on the temperature: beams are for 0, samples for anything above.
    pub(super) fn set_temperature(&self, decoding: &mut DecodingOptions, temperature: f32) {
        let is_sampled = temperature > 0.0;
        decoding.temperature = temperature;
        decoding.best_of = self.best_of.filter(|_| is_sampled);
        decoding.beam_size = self.beam_size.filter(|_| !is_sampled);
        decoding.patience = self.patience.filter(|_| !is_sampled);
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
