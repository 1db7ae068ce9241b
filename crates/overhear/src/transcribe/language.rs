//! Which language a file is in: the one that its first windows are heard in.
//!
//! The reference asks the first 30 seconds. What goes further is faster-whisper's, by name and meaning
//! (`faster_whisper/transcribe.py::detect_language`), but for the allowed languages.

use std::ops::ControlFlow;

use super::{OnEvent, TranscribeOptions, Windows, send};
use crate::backend::State;
use crate::decode::{detect_language, likeliest};
use crate::engine::Engine;
use crate::mel::N_FRAMES;
use crate::{Audio, Event, Language, LanguageProbability, Model, Result};

/// The language that a transcription of `audio` would detect: [`Model::detect_language_with`].
pub(crate) fn detect_spoken_language(
    model: &Model,
    audio: &Audio,
    options: &TranscribeOptions,
) -> Result<LanguageProbability> {
    options.validate(model.tokenizer())?;
    if !model.is_multilingual() {
        return Ok(LanguageProbability {
            language: Language::ENGLISH,
            probability: 1.0,
        });
    }
    let seat = Engine::new(model, 1, 1)?.seat();
    let mut windows = Windows::open(model, audio, seat, &mut |_| Ok(()))?;
    let on_event: OnEvent<'_> = &mut |_| ControlFlow::Continue(());
    detect_in_file(model, options, &mut windows, on_event)
}

/// The language given, or the one detected in the first windows.
pub(super) fn choose_language(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows,
    on_event: OnEvent<'_>,
) -> Result<Language> {
    if !model.is_multilingual() {
        return Ok(Language::ENGLISH);
    }
    if let Some(language) = options.language {
        return Ok(language);
    }
    let LanguageProbability {
        language,
        probability,
    } = detect_in_file(model, options, windows, on_event)?;
    send(
        on_event,
        Event::LanguageDetected {
            language,
            probability,
        },
    )?;
    Ok(language)
}

/// The language of the first window that is sure, or else of the majority.
fn detect_in_file(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows,
    on_event: OnEvent<'_>,
) -> Result<LanguageProbability> {
    let n_windows = windows.mel.content_frames().div_ceil(N_FRAMES);
    let mut heard = Vec::new();
    for window in 0..n_windows.clamp(1, options.language_detection_segments) {
        windows.encode(window * N_FRAMES, N_FRAMES, on_event)?;
        let found = detect(model, options, windows)?;
        heard.push(found);
        if is_sure(found, options) {
            return Ok(found);
        }
    }
    Ok(majority(&heard))
}

/// The likeliest of the allowed languages in the encoded window, its probability that among them.
fn detect(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows,
) -> Result<LanguageProbability> {
    let detect = |state: &mut dyn State, place| detect_language(state, model.tokenizer(), place);
    let mut languages = windows.seat.alone(detect)?;
    retain_allowed(&mut languages, options);
    if !options.languages.is_empty() {
        let sum: f32 = languages.iter().map(|found| found.probability).sum();
        for found in &mut languages {
            found.probability /= sum.max(f32::MIN_POSITIVE);
        }
    }
    Ok(likeliest(&languages))
}

/// Leaves those of `languages` that detection may choose from.
pub(super) fn retain_allowed(
    languages: &mut Vec<LanguageProbability>,
    options: &TranscribeOptions,
) {
    if !options.languages.is_empty() {
        languages.retain(|found| options.languages.contains(&found.language));
    }
}

fn is_sure(found: LanguageProbability, options: &TranscribeOptions) -> bool {
    let threshold = options.language_detection_threshold;
    threshold.is_some_and(|least| f64::from(found.probability) > least)
}

/// The language heard in the most windows, the first of equals, with its highest probability.
///
/// # Panics
/// If there are no windows.
fn majority(heard: &[LanguageProbability]) -> LanguageProbability {
    let of = |language| heard.iter().filter(move |other| other.language == language);
    let most = heard.iter().reduce(|most, other| {
        if of(other.language).count() > of(most.language).count() {
            other
        } else {
            most
        }
    });
    let language = most.expect("there is always a first window").language;
    let probability = of(language)
        .map(|found| found.probability)
        .fold(0.0, f32::max);
    LanguageProbability {
        language,
        probability,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(code: &str, probability: f32) -> LanguageProbability {
        LanguageProbability {
            language: code.parse().unwrap(),
            probability,
        }
    }

    #[test]
    fn the_majority_has_its_highest_probability_and_the_first_of_equals_wins() {
        let heard = [
            found("de", 0.4),
            found("en", 0.3),
            found("en", 0.45),
            found("de", 0.2),
        ];
        assert_eq!(majority(&heard), found("de", 0.4));
        assert_eq!(majority(&heard[..3]), found("en", 0.45));
        assert_eq!(majority(&heard[1..2]), found("en", 0.3));
    }
}
