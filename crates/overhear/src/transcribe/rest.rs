//! Text of the rest of a window that ends in a pause.
//!
//! Where a window ends amid speech, the model leaves the last segment out: its text ends with the start of a segment, and
//! the next window begins there. It often does so, too, where the window's end was chosen in a pause (`batched`), and all
//! of the segment has been heard. There the text is continued in the same window, which saves the encoder a window.

use super::batched::MIN_REST;
use super::segments::begun_at;
use super::{Event, Frames, OnEvent, Transcription, fallback};
use crate::Result;
use crate::decode::{DecodingResult, DecodingTask};

/// Minimum mean log-probability of the tokens of a continuation. Of 129 on base and people's speech, those below were mostly
/// wrong, those above mostly the text of a window that begins there.
const MIN_LOGPROB: f32 = -0.6;
/// Difference in decades between the level that a fifth of the frames before the rest exceed and that of a loud frame.
const LOUD: f32 = 1.5;
/// Minimum number of loud frames of a rest: half a second. In silence the model repeats an earlier segment, which is
/// probable.
const MIN_LOUD: usize = 50;

impl<F: Frames> Transcription<'_, F> {
    /// Continues the text of `result` while a segment begins at least [`MIN_REST`] frames before the end of the encoded
    /// window of `n_frames` frames from `seek` on, as long as the text is probable and the audio not silent. The options
    /// in `self.decoding` must be those that `result` was decoded with, its temperature among them.
    pub(super) fn continue_text(
        &mut self,
        result: &mut DecodingResult,
        (seek, n_frames): (usize, usize),
        on_event: OnEvent<'_>,
    ) -> Result<()> {
        let tokenizer = self.file.model.tokenizer();
        let timestamps = tokenizer.timestamps();
        let mut levels = Vec::new();
        while let Some(begin) = begun_at(&result.tokens, &timestamps)
            && begin + MIN_REST <= n_frames
        {
            if levels.is_empty() {
                levels = self.windows.mel.window(seek, n_frames)?.levels(n_frames);
            }
            if n_loud(&levels, begin) < MIN_LOUD {
                return Ok(());
            }
            let boosts = self.file.boosts.clone();
            let mut task =
                DecodingTask::new(self.file.model, self.language, boosts, &self.decoding)?;
            task.resume(result, tokenizer.eot());
            if !task.has_room() {
                return Ok(());
            }
            let seat = &mut self.windows.seat;
            let longer = seat.decode(task, &mut || on_event(Event::Token))?;
            let has_failed = fallback::needs_fallback(&longer, &self.file.options.thresholds);
            // The cut of a loop may be anywhere.
            if has_failed
                || longer.looped.is_some()
                || !is_probable(&longer.token_logprobs[result.tokens.len()..])
            {
                return Ok(());
            }
            *result = longer;
        }
        Ok(())
    }
}

/// Returns whether a continuation has tokens and their mean log-probability is high enough.
fn is_probable(logprobs: &[f32]) -> bool {
    let mean = logprobs.iter().sum::<f32>() / logprobs.len() as f32;
    mean >= MIN_LOGPROB
}

/// Returns the number of frames from `begin` on that are about as loud as the speech before them; all if there is none.
fn n_loud(levels: &[f32], begin: usize) -> usize {
    let (before, rest) = levels.split_at(begin);
    let mut before = before.to_vec();
    before.sort_by(f32::total_cmp);
    let Some(speech) = before.get(before.len() * 4 / 5) else {
        return rest.len();
    };
    rest.iter().filter(|&&level| level > speech - LOUD).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_without_tokens_is_not_probable() {
        assert!(is_probable(&[-0.1, -1.0]));
        assert!(!is_probable(&[-0.3, -1.0]));
        assert!(!is_probable(&[]));
    }

    #[test]
    fn frames_are_loud_that_are_within_15_db_of_speech() {
        // Speech in a fifth of the time, and silence.
        let mut levels = vec![-6.0; 100];
        levels[10..31].fill(-2.0);
        assert_eq!(n_loud(&levels, 60), 0);
        levels[70..80].fill(-3.4);
        assert_eq!(n_loud(&levels, 60), 10);
        levels[70..80].fill(-3.6);
        assert_eq!(n_loud(&levels, 60), 0);
        assert_eq!(n_loud(&levels, 0), 100, "nothing to compare with");
    }
}
