//! What a transcription gives, at its end and on the way.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Silence;
use crate::{AudioWarning, Hypothesis, Language, TokenId};

/// A stretch of speech: `segments` of the reference's result, field by field.
///
/// Serialised as in the JSON output: fields that the reference's result does not have only where they are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Segment {
    /// Position in the transcript, from 0.
    pub id: usize,
    /// First frame (10 ms) of the window it was decoded from.
    pub seek: usize,
    /// Seconds from the start of the file.
    pub start: f64,
    /// Seconds from the start of the file.
    pub end: f64,
    /// What was said; empty if the reference clears it (blank, or no duration).
    pub text: String,
    /// Tokens, timestamps included; empty if cleared.
    pub tokens: Vec<TokenId>,
    /// Temperature at which its window was decoded.
    pub temperature: f32,
    /// Mean log-probability of its window's tokens.
    pub avg_logprob: f64,
    /// Its window's text length over that of its zlib compression.
    pub compression_ratio: f64,
    /// Probability that its window holds no speech.
    pub no_speech_prob: f64,
    /// The language it was decoded in: with `multilingual`. Not in the reference's result.
    pub language: Option<Language>,
    /// Whether a loop was cut out of its window: with `loop_guard`. Not in the reference's result.
    pub loop_cut: Option<bool>,
    /// What speaks for its having been made up over silence: with `hallucination_guard`, unless it had no text. Not in
    /// the reference's result.
    pub silence: Option<Silence>,
    /// When each word was said. `None` unless asked for; but empty if cleared, as in the reference.
    pub words: Option<Vec<Word>>,
    /// Probability of each of `tokens` when it was chosen, for colouring by confidence; not in the reference's
    /// result.
    pub token_probabilities: Vec<f32>,
    /// The likeliest tokens at the position of each of `tokens`, likeliest first; empty unless asked for.
    pub alternatives: Vec<Vec<Alternative>>,
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("seek", &self.seek)?;
        map.serialize_entry("start", &self.start)?;
        map.serialize_entry("end", &self.end)?;
        map.serialize_entry("text", &self.text)?;
        map.serialize_entry("tokens", &self.tokens)?;
        map.serialize_entry("temperature", &self.temperature)?;
        map.serialize_entry("avg_logprob", &self.avg_logprob)?;
        map.serialize_entry("compression_ratio", &self.compression_ratio)?;
        map.serialize_entry("no_speech_prob", &self.no_speech_prob)?;
        if let Some(words) = &self.words {
            map.serialize_entry("words", words)?;
        }
        if let Some(language) = &self.language {
            map.serialize_entry("language", language)?;
        }
        if let Some(loop_cut) = &self.loop_cut {
            map.serialize_entry("loop_cut", loop_cut)?;
        }
        if let Some(silence) = &self.silence {
            map.serialize_entry("silence", silence)?;
        }
        if !self.alternatives.is_empty() {
            map.serialize_entry("token_probabilities", &self.token_probabilities)?;
            map.serialize_entry("alternatives", &self.alternatives)?;
        }
        map.end()
    }
}

/// One of the likeliest tokens at a position of a segment.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Alternative {
    /// The token.
    pub token: TokenId,
    /// Its text; a character may need several tokens.
    pub text: String,
    /// Its probability among the tokens that the rules allow there.
    pub probability: f32,
}

/// The hypotheses of one window.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct WindowHypotheses {
    /// First frame (10 ms) of the window: that of its segments.
    pub seek: usize,
    /// The best, as many as were asked for or found, best first. The first is what the segments say.
    pub hypotheses: Vec<Hypothesis>,
}

/// A word and when it was said: `words` of the reference's segments.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Word {
    /// Its text, with the space before it and the punctuation around it.
    pub word: String,
    /// Seconds from the start of the file.
    pub start: f64,
    /// Seconds from the start of the file.
    pub end: f64,
    /// The mean probability of its tokens, each among all text tokens, given those before it.
    pub probability: f64,
}

/// What was said in a file. The default is the transcript of silence: no text, in English.
///
/// Serialised as in the JSON output, which is described by `schema/transcript.schema.json`: `text`, `segments` and
/// `language` of the reference's result; where there are some, `n_best`; and `truncated` where the audio ended early.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transcript {
    /// All text, without the initial prompt.
    pub text: String,
    /// The segments in order.
    pub segments: Vec<Segment>,
    /// The language spoken.
    pub language: Language,
    /// Length of the audio in seconds.
    pub duration_s: f64,
    /// What was odd about the audio.
    pub warnings: Vec<AudioWarning>,
    /// The best hypotheses of every window that holds speech; empty unless asked for.
    pub n_best: Vec<WindowHypotheses>,
}

impl Serialize for Transcript {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("text", &self.text)?;
        map.serialize_entry("segments", &self.segments)?;
        map.serialize_entry("language", &self.language)?;
        if self.warnings.contains(&AudioWarning::Truncated) {
            map.serialize_entry("truncated", &true)?;
        }
        if !self.n_best.is_empty() {
            map.serialize_entry("n_best", &self.n_best)?;
        }
        map.end()
    }
}

impl Default for Transcript {
    fn default() -> Self {
        Self {
            text: String::new(),
            segments: Vec::new(),
            language: Language::ENGLISH,
            duration_s: 0.0,
            warnings: Vec::new(),
            n_best: Vec::new(),
        }
    }
}

/// What [`crate::Model::transcribe_with`] reports while it works. Returning `ControlFlow::Break` from any
/// event ends the work with [`crate::Error::Canceled`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The language was detected (not sent when it was given).
    LanguageDetected {
        /// The likeliest language.
        language: Language,
        /// How likely it is.
        probability: f32,
    },
    /// The audio is being measured, which comes before anything else: sent for every minute of it. With `multilingual` it
    /// is heard once more before the first window: sent for every piece of it.
    Measuring {
        /// Seconds from the start of the file.
        position_s: f64,
    },
    /// The audio has been measured: sent once, before the first window.
    Duration {
        /// Length of the audio in seconds.
        duration_s: f64,
    },
    /// A token was decoded; the chance to cancel.
    Token,
    /// A layer of the encoder is done; the chance to cancel, too.
    Layer,
    /// A segment is final.
    Segment(&'a Segment),
    /// Everything before this second is done.
    Progress {
        /// Seconds from the start of the file.
        position_s: f64,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Segment {
    /// A segment of a test's fixture, which has some of the fields.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        let float = |json: &serde_json::Value, key: &str| json[key].as_f64().unwrap_or_default();
        let word = |json: &serde_json::Value| Word {
            word: json["word"].as_str().unwrap().to_owned(),
            start: float(json, "start"),
            end: float(json, "end"),
            probability: float(json, "probability"),
        };
        let tokens = json["tokens"].as_array().into_iter().flatten();
        Self {
            seek: json["seek"].as_u64().unwrap_or_default() as usize,
            start: float(json, "start"),
            end: float(json, "end"),
            tokens: tokens.map(|t| t.as_u64().unwrap() as TokenId).collect(),
            compression_ratio: 1.0,
            words: json["words"]
                .as_array()
                .map(|words| words.iter().map(word).collect()),
            ..Self::default()
        }
    }
}
