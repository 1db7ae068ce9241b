//! Language of a file, detected in its first windows.
//!
//! openai/whisper uses the first 30 seconds only. The further options have names and meaning of faster-whisper
//! (`faster_whisper/transcribe.py::detect_language`), except the allowed languages.

use std::ops::ControlFlow;

use super::windows::Windows;
use super::{LanguageOptions, OnEvent, TranscribeOptions, send};
use crate::backend::State;
use crate::decode::detect_language;
use crate::engine::Engine;
use crate::mel::{MelStream, N_FRAMES};
use crate::{Audio, Event, Language, LanguageProbability, Model, Result};

/// Returns the languages that a transcription of `audio` would detect: [`Model::detect_language`].
pub(crate) fn detect_spoken_language(
    model: &Model,
    audio: &Audio,
    options: &LanguageOptions,
) -> Result<Vec<LanguageProbability>> {
    options.validate(model.tokenizer())?;
    if !model.is_multilingual() {
        return Ok(vec![LanguageProbability {
            language: Language::ENGLISH,
            probability: 1.0,
        }]);
    }
    let seat = Engine::new(model, 1, 1)?.seat();
    let mut windows = Windows::open(model, audio, seat, &mut |_| Ok(()))?;
    let on_event: OnEvent<'_> = &mut |_| ControlFlow::Continue(());
    detect_in_file(model, options, &mut windows, on_event)
}

/// Returns the language in `options`, or the detected one with its probability.
pub(super) fn choose_language(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows<MelStream>,
    on_event: OnEvent<'_>,
) -> Result<(Language, Option<f32>)> {
    if !model.is_multilingual() {
        return Ok((Language::ENGLISH, None));
    }
    if let Some(language) = options.language {
        return Ok((language, None));
    }
    let LanguageProbability {
        language,
        probability,
    } = detect_in_file(model, &options.languages, windows, on_event)?[0];
    send(
        on_event,
        Event::LanguageDetected {
            language,
            probability,
        },
    )?;
    Ok((language, Some(probability)))
}

/// Returns the languages, most probable first, of the first window above the threshold, or else of the [`majority`].
fn detect_in_file(
    model: &Model,
    options: &LanguageOptions,
    windows: &mut Windows<MelStream>,
    on_event: OnEvent<'_>,
) -> Result<Vec<LanguageProbability>> {
    let n_windows = windows.mel.content_frames().div_ceil(N_FRAMES);
    let mut heard = Vec::new();
    for window in 0..n_windows.clamp(1, options.detection_segments) {
        windows.encode(window * N_FRAMES, N_FRAMES, on_event)?;
        let found = detect(model, options, windows)?;
        if is_sure(found[0], options) {
            return Ok(found);
        }
        heard.push(found);
    }
    Ok(majority(heard))
}

/// Returns the allowed languages of the encoded window, most probable first, with probabilities that sum to 1.
fn detect(
    model: &Model,
    options: &LanguageOptions,
    windows: &mut Windows<MelStream>,
) -> Result<Vec<LanguageProbability>> {
    let detect = |state: &mut dyn State, place| detect_language(state, model.tokenizer(), place);
    let mut languages = windows.seat.alone(detect)?;
    retain_allowed(&mut languages, options);
    if !options.allowed.is_empty() {
        let sum: f32 = languages.iter().map(|found| found.probability).sum();
        for found in &mut languages {
            found.probability /= sum.max(f32::MIN_POSITIVE);
        }
    }
    // Stable, so that the order of equal probabilities is that of the tokens.
    languages.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    Ok(languages)
}

/// Removes languages that are not allowed.
pub(super) fn retain_allowed(languages: &mut Vec<LanguageProbability>, options: &LanguageOptions) {
    if !options.allowed.is_empty() {
        languages.retain(|found| options.allowed.contains(&found.language));
    }
}

fn is_sure(found: LanguageProbability, options: &LanguageOptions) -> bool {
    let threshold = options.detection_threshold;
    threshold.is_some_and(|least| f64::from(found.probability) > least)
}

/// Returns the languages of the deciding window: of those whose most probable language is the most frequent one (of
/// equally frequent ones, the first), the window with its highest probability.
///
/// `heard`: languages of each window, most probable first.
///
/// # Panics
/// If `heard` is empty.
fn majority(mut heard: Vec<Vec<LanguageProbability>>) -> Vec<LanguageProbability> {
    let of = |language| {
        let firsts = heard.iter().map(|window| window[0]).enumerate();
        firsts.filter(move |(_, first)| first.language == language)
    };
    let most = heard.iter().map(|window| window[0]).reduce(|most, other| {
        if of(other.language).count() > of(most.language).count() {
            other
        } else {
            most
        }
    });
    let language = most.expect("there is always a first window").language;
    let most_probable = of(language).reduce(|best, other| {
        if other.1.probability > best.1.probability {
            other
        } else {
            best
        }
    });
    let (window, _) = most_probable.expect("the language is that of a window");
    heard.swap_remove(window)
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
    fn the_majority_returns_its_most_probable_window_and_the_first_of_equals() {
        let heard = [
            vec![found("de", 0.4), found("en", 0.35)],
            vec![found("en", 0.3), found("fr", 0.2)],
            vec![found("en", 0.45), found("de", 0.1)],
            vec![found("de", 0.2), found("nl", 0.1)],
        ];
        assert_eq!(majority(heard.to_vec()), heard[0]);
        assert_eq!(majority(heard[..3].to_vec()), heard[2]);
        assert_eq!(majority(heard[1..2].to_vec()), heard[1]);
    }
}
