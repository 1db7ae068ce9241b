//! Results of a transcription, and the events during it.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Progress, Silence};
use crate::{AudioWarning, Hypothesis, Language, TokenId};

/// A segment of speech: `segments` of openai/whisper's result, with the same fields.
///
/// Serialised as in the JSON output: fields that openai/whisper does not have are present only if requested.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Segment {
    /// Position in the transcript, from 0.
    pub id: usize,
    /// First frame (10 ms) of the window it was decoded from.
    pub seek: usize,
    /// Start in seconds from the beginning of the file.
    pub start: f64,
    /// End in seconds from the beginning of the file.
    pub end: f64,
    /// Text; empty if cleared, as openai/whisper does with blank segments and those without duration.
    pub text: String,
    /// Tokens, timestamps included; empty if the segment is cleared.
    pub tokens: Vec<TokenId>,
    /// Temperature at which the window was decoded.
    pub temperature: f32,
    /// Mean log-probability of the window's tokens.
    pub avg_logprob: f64,
    /// Compression ratio of the window's text: its bytes divided by the bytes of its zlib compression.
    pub compression_ratio: f64,
    /// Probability that the window holds no speech.
    pub no_speech_prob: f64,
    /// Language of the segment; with `multilingual` only. Not in openai/whisper's result.
    pub language: Option<Language>,
    /// Whether a repetition loop was cut out of the window's text; with `loop_guard` only. Not in openai/whisper's
    /// result.
    pub loop_cut: Option<bool>,
    /// Evidence that the segment is a hallucination over silence; with `hallucination_guard` only, and unless the
    /// segment had no text. Not in openai/whisper's result.
    pub silence: Option<Silence>,
    /// Words with their times. `None` unless requested; as in openai/whisper, empty if the segment is cleared.
    pub words: Option<Vec<Word>>,
    /// Probability of each of `tokens` when it was sampled, for colouring by confidence. Not in openai/whisper's
    /// result.
    pub token_probabilities: Vec<f32>,
    /// Most probable tokens at the position of each of `tokens`, best first; empty unless requested.
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

/// One of the most probable tokens at a position of a segment.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[non_exhaustive]
pub struct Alternative {
    /// The token.
    pub token: TokenId,
    /// Text of the token; a character may consist of several tokens.
    pub text: String,
    /// Probability of the token among those that the logit filters allow at the position.
    pub probability: f32,
}

/// Hypotheses of one window.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct WindowHypotheses {
    /// First frame (10 ms) of the window, the same as of its segments.
    pub seek: usize,
    /// Hypotheses, best first, up to the requested number. The first is the text of the segments.
    pub hypotheses: Vec<Hypothesis>,
}

/// A word with its times: `words` of openai/whisper's segments.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
#[non_exhaustive]
pub struct Word {
    /// Text of the word, with the space before it and the punctuation around it.
    pub word: String,
    /// Start in seconds from the beginning of the file.
    pub start: f64,
    /// End in seconds from the beginning of the file.
    pub end: f64,
    /// Mean probability of the word's tokens, each among all text tokens and given the previous ones.
    pub probability: f64,
}

/// Transcript of a file. The default is that of silence: no text, in English.
///
/// Serialised as in the JSON output, described by `schema/transcript.schema.json`: `text`, `segments` and `language` of
/// openai/whisper's result; `n_best` unless empty; and `truncated` if the audio ended early.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transcript {
    /// Text of all segments, without the initial prompt.
    pub text: String,
    /// Segments, in order.
    pub segments: Vec<Segment>,
    /// Language of the speech.
    pub language: Language,
    /// Length of the audio in seconds.
    pub duration_s: f64,
    /// Irregularities of the audio.
    pub warnings: Vec<AudioWarning>,
    /// Best hypotheses of each window that has speech; empty unless requested.
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

/// Event reported by [`crate::Model::transcribe_with`]. If the event function returns `ControlFlow::Break`, the
/// transcription ends with [`crate::Error::Canceled`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The language was detected; not sent if it is given in the options.
    LanguageDetected {
        /// Most probable language.
        language: Language,
        /// Probability of the language.
        probability: f32,
    },
    /// Progress before the first window: sent for each minute of the first pass over the audio (with `vad` of each of the
    /// first two), and with `multilingual` for each piece of the pass that detects languages.
    Measuring {
        /// Position in seconds from the beginning of the file.
        position_s: f64,
    },
    /// The duration is known: sent once, after the first pass over the audio.
    Duration {
        /// Length of the audio in seconds.
        duration_s: f64,
    },
    /// A token was decoded. Sent so that the caller can cancel.
    Token,
    /// A layer of the encoder was computed. Sent so that the caller can cancel.
    Layer,
    /// A segment is final.
    Segment(&'a Segment),
    /// A later transcription can go on from here ([`Engine::resume`](crate::Engine::resume)): what was done since the last such
    /// event. Sent before the first window and after each.
    Resumable(&'a Progress),
    /// All audio before this position has been transcribed.
    Progress {
        /// Position in seconds from the beginning of the file.
        position_s: f64,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Segment {
    /// Returns a segment of a test's fixture, which contains some of the fields.
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
