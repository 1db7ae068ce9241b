//! The stretches of a recording that are in one language each: what `multilingual` transcribes one by one.
//!
//! The recording is cut where it is quietest (`pieces`), each piece is encoded alone and asked for its language, and the
//! pieces are heard together (`sequence`). That is a pass over the recording before the first window; it takes an
//! encoder's window for every piece.

use super::language::retain_allowed;
use super::sequence::likeliest_sequence;
use super::{OnEvent, TranscribeOptions, Windows, pieces, send};
use crate::backend::State;
use crate::decode::{Heard, hear};
use crate::mel::FRAMES_PER_SECOND;
use crate::{Event, Language, Model, Result};

/// Frames that are transcribed in one language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) language: Language,
}

/// The stretches of the `clips`: of each a single one in `language`, or with `multilingual` as many as are heard.
pub(super) fn stretches(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows,
    language: Language,
    clips: &[(usize, usize)],
    on_event: OnEvent<'_>,
) -> Result<Vec<Stretch>> {
    let whole = |&(start, end): &(usize, usize)| Stretch {
        start,
        end,
        language,
    };
    let stretches: Vec<Stretch> = clips.iter().map(whole).collect();
    if !options.multilingual || !model.is_multilingual() {
        return Ok(stretches);
    }
    let (mut pieces, mut evidence, mut languages) = (Vec::new(), Vec::new(), Vec::new());
    for &clip in &stretches {
        let mut start = clip.start;
        while start < clip.end {
            let end = start + piece_length(windows, start, clip.end)?;
            windows.encode_alone(start, end - start, on_event)?;
            let hear = |state: &mut dyn State, place| {
                hear(model.kernels(), state, model.tokenizer(), place)
            };
            let mut heard = windows.seat.alone(hear)?;
            retain_allowed(&mut heard.languages, options);
            evidence.push(weigh(&heard));
            languages = heard.languages;
            pieces.push(Stretch { start, end, ..clip });
            let position_s = end as f64 / FRAMES_PER_SECOND;
            send(on_event, Event::Measuring { position_s })?;
            start = end;
        }
    }
    let known = options.language;
    let known = known.and_then(|known| languages.iter().position(|other| other.language == known));
    for (piece, place) in pieces.iter_mut().zip(likeliest_sequence(&evidence, known)) {
        piece.language = languages[place].language;
    }
    Ok(merged(pieces))
}

/// Frames of the piece that begins at frame `start` of a clip that ends at `end`.
fn piece_length(windows: &mut Windows, start: usize, end: usize) -> Result<usize> {
    let n_ahead = pieces::N_AHEAD.min(end - start);
    let mut levels = windows.mel.levels(start, n_ahead)?;
    // A file may have become shorter since its first pass.
    levels.resize(n_ahead, f32::NEG_INFINITY);
    Ok(pieces::end(&levels))
}

/// The log-likelihood of each language, of which a piece says the less the likelier it is that nobody speaks in it.
fn weigh(heard: &Heard) -> Vec<f64> {
    let weight = 1.0 - heard.no_speech_prob;
    let probabilities = heard.languages.iter().map(|found| found.probability);
    probabilities
        .map(|probability| weight * f64::from(probability.max(f32::MIN_POSITIVE)).ln())
        .collect()
}

/// `pieces`, one for all that follow each other in one language.
fn merged(mut pieces: Vec<Stretch>) -> Vec<Stretch> {
    pieces.dedup_by(|next, stretch| {
        let goes_on = next.start == stretch.end && next.language == stretch.language;
        if goes_on {
            stretch.end = next.end;
        }
        goes_on
    });
    pieces
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::LanguageProbability;

    fn language(code: &str) -> Language {
        code.parse().unwrap()
    }

    #[test]
    fn pieces_of_one_language_are_one_span_unless_a_clip_ends_between_them() {
        let stretch = |start, end, code| Stretch {
            start,
            end,
            language: language(code),
        };
        let pieces = vec![
            stretch(0, 300, "en"),
            stretch(300, 500, "en"),
            stretch(500, 700, "de"),
            stretch(700, 800, "en"),
            stretch(900, 1000, "en"),
        ];
        let stretches = [
            stretch(0, 500, "en"),
            stretch(500, 700, "de"),
            stretch(700, 800, "en"),
            stretch(900, 1000, "en"),
        ];
        assert_eq!(merged(pieces), stretches);
    }

    #[test]
    fn silence_says_nothing_and_a_language_that_is_impossible_is_not_infinitely_so() {
        let probability = |code, probability| LanguageProbability {
            language: language(code),
            probability,
        };
        let mut heard = Heard {
            languages: vec![probability("de", 0.0), probability("en", 1.0)],
            no_speech_prob: 0.5,
        };
        let weights = weigh(&heard);
        assert!(
            weights[0] < -40.0 && weights[0].is_finite() && weights[1] == 0.0,
            "{weights:?}"
        );
        heard.no_speech_prob = 1.0;
        assert_eq!(weigh(&heard), [0.0, 0.0]);
    }
}
