//! Which language is spoken: `whisper/decoding.py::detect_language`.

use super::LanguageProbability;
use crate::backend::{Batch, State};
use crate::{Error, Language, Result, Tokenizer};

/// The probabilities of all languages the model knows, in the order of their tokens, for the window in `slot`.
/// Uses row 0 and leaves it empty.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn detect_language(
    state: &mut dyn State,
    tokenizer: &Tokenizer,
    slot: usize,
) -> Result<Vec<LanguageProbability>> {
    Ok(hear(state, tokenizer, slot)?.languages)
}

/// What is heard of a window before a word of it is decoded.
pub(crate) struct Heard {
    /// The probabilities of all languages the model knows, in the order of their tokens.
    pub(crate) languages: Vec<LanguageProbability>,
    /// The probability that nobody speaks.
    pub(crate) no_speech_prob: f64,
}

/// [`detect_language`], and whether anybody speaks.
///
/// # Errors
/// [`Error::NotFinite`].
pub(crate) fn hear(state: &mut dyn State, tokenizer: &Tokenizer, slot: usize) -> Result<Heard> {
    let mut batch = Batch::default();
    batch.push(0, slot, &[tokenizer.sot()], &[0]);
    state.truncate(0, 0);
    let logits = state.decode(&batch);
    let known = Language::all()
        .filter_map(|language| Some((language, tokenizer.language_token(language)?)));
    let known: Vec<(Language, f32)> = known
        .map(|(language, token)| (language, logits[token as usize]))
        .collect();
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = |logit: f32| f64::from(logit - highest).exp();
    let no_speech = exp(logits[tokenizer.no_speech() as usize]);
    let no_speech_prob = no_speech / logits.iter().copied().map(exp).sum::<f64>();
    state.truncate(0, 0);
    if !known.iter().all(|(_, logit)| *logit < f32::INFINITY) {
        let what = "the logits for the language".into();
        return Err(Error::NotFinite { what });
    }

    let max = known
        .iter()
        .map(|(_, logit)| *logit)
        .fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = known.iter().map(|(_, logit)| (logit - max).exp()).sum();
    let probability = |(language, logit): (Language, f32)| LanguageProbability {
        language,
        probability: (logit - max).exp() / sum,
    };
    Ok(Heard {
        languages: known.into_iter().map(probability).collect(),
        no_speech_prob,
    })
}

/// The likeliest of `languages`, the first of equals.
///
/// # Panics
/// If there are none: a multilingual model has languages.
pub(crate) fn likeliest(languages: &[LanguageProbability]) -> LanguageProbability {
    let likeliest = languages.iter().reduce(|best, other| {
        if other.probability > best.probability {
            other
        } else {
            best
        }
    });
    *likeliest.expect("a multilingual model has languages")
}
