//! Thresholds for repeating a window at the next temperature, and for silence: `decode_with_fallback` and
//! `no_speech_threshold` in `whisper/transcribe.py`.

use super::Thresholds;
use crate::decode::DecodingResult;

/// Returns whether `result` must be repeated at the next temperature: if it has a repetition loop, is too repetitive or
/// too improbable, and is not silence.
pub(super) fn needs_fallback(result: &DecodingResult, thresholds: &Thresholds) -> bool {
    let is_repetitive = thresholds
        .compression_ratio
        .is_some_and(|most| result.compression_ratio > most);
    let is_unlikely = thresholds
        .logprob
        .is_some_and(|least| result.avg_logprob < least);
    let is_silent = thresholds
        .no_speech
        .is_some_and(|most| result.no_speech_prob > most);
    (result.looped.is_some() || is_repetitive || is_unlikely) && !(is_silent && is_unlikely)
}

/// Returns whether the window is silence: no speech is probable, and the text is not probable enough to outweigh that.
pub(super) fn is_silence(result: &DecodingResult, thresholds: &Thresholds) -> bool {
    let is_silent = thresholds
        .no_speech
        .is_some_and(|most| result.no_speech_prob > most);
    let is_likely = thresholds
        .logprob
        .is_some_and(|least| result.avg_logprob > least);
    is_silent && !is_likely
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Language;

    struct Case {
        compression_ratio: f64,
        avg_logprob: f64,
        no_speech_prob: f64,
        needs_fallback: bool,
        is_silence: bool,
    }

    fn result(case: &Case) -> DecodingResult {
        DecodingResult {
            language: Language::ENGLISH,
            tokens: Vec::new(),
            token_logprobs: Vec::new(),
            alternatives: Vec::new(),
            hypotheses: Vec::new(),
            looped: None,
            text: String::new(),
            avg_logprob: case.avg_logprob,
            no_speech_prob: case.no_speech_prob,
            temperature: 0.0,
            compression_ratio: case.compression_ratio,
        }
    }

    #[test]
    fn thresholds_decide_as_in_openai_whisper() {
        let case =
            |compression_ratio, avg_logprob, no_speech_prob, needs_fallback, is_silence| Case {
                compression_ratio,
                avg_logprob,
                no_speech_prob,
                needs_fallback,
                is_silence,
            };
        let cases = [
            case(1.0, -0.5, 0.1, false, false), // good
            case(2.5, -0.5, 0.1, true, false),  // repetitive
            case(1.0, -1.5, 0.1, true, false),  // unlikely
            case(2.5, -1.5, 0.1, true, false),  // both
            case(1.0, -0.5, 0.7, false, false), // silent, but the text is likely
            case(1.0, -1.5, 0.7, false, true),  // silent
            case(2.5, -0.5, 0.7, true, false),  // repetitive and likely: no silence
            case(2.5, -1.5, 0.7, false, true),  // repetitive, but silent
            case(2.4, -1.0, 0.6, false, false), // on the thresholds: none is passed
            case(1.0, -1.0, 0.7, false, true), // exactly the threshold is not likely enough to keep
        ];
        for (i, c) in cases.iter().enumerate() {
            let thresholds = Thresholds::default();
            assert_eq!(
                needs_fallback(&result(c), &thresholds),
                c.needs_fallback,
                "case {i}"
            );
            assert_eq!(
                is_silence(&result(c), &thresholds),
                c.is_silence,
                "case {i}"
            );
        }
    }

    #[test]
    fn thresholds_that_are_off_decide_nothing() {
        let hopeless = Case {
            compression_ratio: 9.0,
            avg_logprob: -9.0,
            no_speech_prob: 1.0,
            needs_fallback: false,
            is_silence: false,
        };
        let off = Thresholds {
            compression_ratio: None,
            logprob: None,
            no_speech: None,
        };
        assert!(!needs_fallback(&result(&hopeless), &off));
        assert!(!is_silence(&result(&hopeless), &off));
        let only_no_speech = Thresholds {
            no_speech: Some(0.6),
            ..off.clone()
        };
        assert!(is_silence(&result(&hopeless), &only_no_speech));
        let only_logprob = Thresholds {
            logprob: Some(-1.0),
            ..off
        };
        assert!(needs_fallback(&result(&hopeless), &only_logprob));
    }

    #[test]
    fn a_loop_has_failed_unless_it_is_silence() {
        let of = |avg_logprob, no_speech_prob| {
            let case = Case {
                compression_ratio: 1.0,
                avg_logprob,
                no_speech_prob,
                needs_fallback: false,
                is_silence: false,
            };
            let looped = DecodingResult {
                looped: Some(vec![1]),
                ..result(&case)
            };
            needs_fallback(&looped, &Thresholds::default())
        };
        assert!(of(-0.1, 0.1) && of(-0.1, 0.9) && !of(-1.5, 0.9));
    }
}
