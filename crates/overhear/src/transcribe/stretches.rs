//! Stretches of a recording in one language each, which `multilingual` transcribes one by one.
//!
//! The recording is cut at its quietest places (`pieces`), in two ways. Each piece is encoded alone for language
//! detection, and the parts between all cuts get the most probable sequence of languages (`sequence`). This is an
//! additional pass before the first window, which takes one run of the encoder per piece.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::language::retain_allowed;
use super::sequence::most_probable_sequence;
use super::windows::Windows;
use super::{OnEvent, TranscribeOptions, pieces, send};
use crate::backend::State;
use crate::decode::{LanguageEvidence, language_evidence};
use crate::mel::{FRAMES_PER_SECOND, MelStream};
use crate::{Event, Language, Model, Result};

/// Range of frames that is transcribed in one language.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Stretch {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) language: Language,
}

/// Returns the stretches of the `clips`: one per clip, in `language`, or with `multilingual` as many as are detected.
pub(super) fn stretches(
    model: &Model,
    options: &TranscribeOptions,
    windows: &mut Windows<MelStream>,
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
    if !options.languages.multilingual || !model.is_multilingual() {
        return Ok(stretches);
    }
    let mut detector = PieceDetector {
        model,
        options,
        windows,
        languages: Vec::new(),
    };
    let (mut parts, mut evidence) = (Vec::new(), Vec::new());
    for clip in &stretches {
        let cuts = pieces::CUTS
            .iter()
            .map(|lengths| detector.cut(clip, lengths, on_event))
            .collect::<Result<Vec<_>>>()?;
        for (start, end, log_likelihoods) in overlay(&cuts) {
            parts.push(Stretch {
                start,
                end,
                ..*clip
            });
            evidence.push(log_likelihoods);
        }
    }
    let languages = detector.languages;
    let known = options.language;
    let known = known.and_then(|known| languages.iter().position(|&other| other == known));
    for (part, place) in parts
        .iter_mut()
        .zip(most_probable_sequence(&evidence, known))
    {
        part.language = languages[place];
    }
    Ok(merged(parts))
}

/// Piece of a clip, encoded alone: range of frames, and log-likelihood of each language.
struct Piece {
    start: usize,
    end: usize,
    log_likelihoods: Vec<f64>,
}

/// Language detection in pieces of a recording.
struct PieceDetector<'a> {
    model: &'a Model,
    options: &'a TranscribeOptions,
    windows: &'a mut Windows<MelStream>,
    /// Languages that the log-likelihoods belong to, the same for every piece.
    languages: Vec<Language>,
}

impl PieceDetector<'_> {
    /// Cuts a clip into pieces of these lengths, and detects the languages of each.
    fn cut(
        &mut self,
        clip: &Stretch,
        lengths: &Range<usize>,
        on_event: OnEvent<'_>,
    ) -> Result<Vec<Piece>> {
        let mut cut = Vec::new();
        let mut start = clip.start;
        while start < clip.end {
            let end = start + self.piece_length(start, clip.end, lengths)?;
            let log_likelihoods = self.log_likelihoods(start, end, on_event)?;
            cut.push(Piece {
                start,
                end,
                log_likelihoods,
            });
            let position_s = end as f64 / FRAMES_PER_SECOND;
            send(on_event, Event::Measuring { position_s })?;
            start = end;
        }
        Ok(cut)
    }

    /// Returns the log-likelihood of each language in the frames from `start` to `end`.
    fn log_likelihoods(
        &mut self,
        start: usize,
        end: usize,
        on_event: OnEvent<'_>,
    ) -> Result<Vec<f64>> {
        self.windows.encode_alone(start, end - start, on_event)?;
        let (kernels, tokenizer) = (self.model.kernels(), self.model.tokenizer());
        let detect =
            |state: &mut dyn State, place| language_evidence(kernels, state, tokenizer, place);
        let mut evidence = self.windows.seat.alone(detect)?;
        retain_allowed(&mut evidence.languages, &self.options.languages);
        self.languages = evidence
            .languages
            .iter()
            .map(|found| found.language)
            .collect();
        Ok(log_likelihoods(&evidence))
    }

    /// Returns the number of frames of the piece that begins at frame `start` of a clip that ends at `end`.
    fn piece_length(&mut self, start: usize, end: usize, lengths: &Range<usize>) -> Result<usize> {
        let n_ahead = pieces::n_ahead(lengths).min(end - start);
        let mut levels = self.windows.mel.levels(start, n_ahead)?;
        // A file may have become shorter since its first pass.
        levels.resize(n_ahead, f32::NEG_INFINITY);
        Ok(pieces::end(&levels, lengths))
    }
}

/// Returns the parts of a clip between all ends of pieces of its `cuts`, each with the mean over the cuts of the
/// log-likelihoods there: a part gets the share of a piece's log-likelihoods that its length is of the piece's length.
fn overlay(cuts: &[Vec<Piece>]) -> Vec<(usize, usize, Vec<f64>)> {
    let mut ends: Vec<usize> = cuts.iter().flatten().map(|piece| piece.end).collect();
    ends.sort_unstable();
    ends.dedup();
    let first = cuts.iter().flatten().map(|piece| piece.start).min();
    let starts = first.into_iter().chain(ends.iter().copied());
    let part = |(start, &end): (usize, &usize)| {
        let mut mean = Vec::new();
        for piece in cuts.iter().flatten() {
            if piece.start <= start && end <= piece.end {
                let share = (end - start) as f64 / (piece.end - piece.start) as f64;
                mean.resize(piece.log_likelihoods.len(), 0.0);
                for (mean, log_likelihoods) in mean.iter_mut().zip(&piece.log_likelihoods) {
                    *mean += share * log_likelihoods / cuts.len() as f64;
                }
            }
        }
        (start, end, mean)
    };
    starts.zip(&ends).map(part).collect()
}

/// Returns the log-likelihood of each language, scaled by the probability that the piece has speech.
fn log_likelihoods(evidence: &LanguageEvidence) -> Vec<f64> {
    let weight = 1.0 - evidence.no_speech_prob;
    let probabilities = evidence.languages.iter().map(|found| found.probability);
    probabilities
        .map(|probability| weight * f64::from(probability.max(f32::MIN_POSITIVE)).ln())
        .collect()
}

/// Joins adjacent pieces in the same language.
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
    fn adjacent_pieces_in_one_language_are_joined() {
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
    fn the_evidence_of_pieces_is_distributed_over_the_parts_of_two_cuts() {
        let piece = |start, end, log_likelihoods: f64| Piece {
            start,
            end,
            log_likelihoods: vec![log_likelihoods, 2.0 * log_likelihoods],
        };
        let cuts = [
            vec![piece(100, 300, -8.0), piece(300, 400, -2.0)],
            vec![piece(100, 200, -4.0), piece(200, 400, -6.0)],
        ];
        let parts = [
            (100, 200, vec![-4.0, -8.0]),
            (200, 300, vec![-3.5, -7.0]),
            (300, 400, vec![-2.5, -5.0]),
        ];
        assert_eq!(overlay(&cuts), parts);
        let same = [vec![piece(0, 50, -1.0)], vec![piece(0, 50, -3.0)]];
        assert_eq!(overlay(&same), [(0, 50, vec![-2.0, -4.0])]);
        assert_eq!(overlay(&[vec![], vec![]]), []);
    }

    #[test]
    fn silence_is_no_evidence_and_zero_probability_gives_finite_evidence() {
        let probability = |code, probability| LanguageProbability {
            language: language(code),
            probability,
        };
        let mut evidence = LanguageEvidence {
            languages: vec![probability("de", 0.0), probability("en", 1.0)],
            no_speech_prob: 0.5,
        };
        let weights = log_likelihoods(&evidence);
        assert!(
            weights[0] < -40.0 && weights[0].is_finite() && weights[1] == 0.0,
            "{weights:?}"
        );
        evidence.no_speech_prob = 1.0;
        assert_eq!(log_likelihoods(&evidence), [0.0, 0.0]);
    }
}
