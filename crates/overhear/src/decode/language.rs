//! Language detection: `whisper/decoding.py::detect_language`.

use overhear_kernels::Kernels;

use super::LanguageProbability;
use crate::backend::{Batch, State};
use crate::engine::Place;
use crate::{Error, Language, Result, Tokenizer};

/// Returns the probability of each language that the model has, in the order of their tokens, for the window in the
/// slot of `place`. Uses the first row of `place` and leaves it empty.
///
/// # Errors
/// [`Error::NotFinite`], [`Error::Device`].
pub(crate) fn detect_language(
    state: &mut dyn State,
    tokenizer: &Tokenizer,
    place: Place,
) -> Result<Vec<LanguageProbability>> {
    let languages = probabilities(logits_at_sot(state, tokenizer, place)?, tokenizer);
    state.truncate(place.first_row, 0);
    languages
}

/// Probabilities of the languages and of no speech in a window.
pub(crate) struct LanguageEvidence {
    /// Probabilities of the languages, as [`detect_language`] returns them.
    pub(crate) languages: Vec<LanguageProbability>,
    /// Probability that the window holds no speech.
    pub(crate) no_speech_prob: f64,
}

/// Returns the languages as [`detect_language`] does, and the probability of no speech, from one step of the decoder.
///
/// # Errors
/// As [`detect_language`].
pub(crate) fn language_evidence(
    kernels: &Kernels,
    state: &mut dyn State,
    tokenizer: &Tokenizer,
    place: Place,
) -> Result<LanguageEvidence> {
    let logits = logits_at_sot(state, tokenizer, place)?;
    let no_speech = logits[tokenizer.no_speech() as usize] - kernels.log_sum_exp(logits);
    let languages = probabilities(logits, tokenizer);
    state.truncate(place.first_row, 0);
    Ok(LanguageEvidence {
        languages: languages?,
        no_speech_prob: f64::from(no_speech.exp()),
    })
}

/// Returns the logits after `<|startoftranscript|>` alone, `[n_vocab]`, decoded in the first row of `place`.
fn logits_at_sot<'a>(
    state: &'a mut dyn State,
    tokenizer: &Tokenizer,
    place: Place,
) -> Result<&'a [f32]> {
    let mut batch = Batch::default();
    batch.push(place.first_row, place.slot, &[tokenizer.sot()], &[0]);
    state.truncate(place.first_row, 0);
    Ok(state.decode(&batch)?)
}

/// Returns the softmax over the language tokens of `logits`, `[n_vocab]`.
fn probabilities(logits: &[f32], tokenizer: &Tokenizer) -> Result<Vec<LanguageProbability>> {
    let known = Language::all()
        .filter_map(|language| Some((language, tokenizer.language_token(language)?)));
    let known: Vec<(Language, f32)> = known
        .map(|(language, token)| (language, logits[token as usize]))
        .collect();
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
    Ok(known.into_iter().map(probability).collect())
}

/// Returns the most probable of `languages`; of equal ones, the first.
///
/// # Panics
/// If `languages` is empty, which it is only for English-only models.
pub(crate) fn most_probable(languages: &[LanguageProbability]) -> LanguageProbability {
    let most_probable = languages.iter().reduce(|best, other| {
        if other.probability > best.probability {
            other
        } else {
            best
        }
    });
    *most_probable.expect("a multilingual model has language tokens")
}
