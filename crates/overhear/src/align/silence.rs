//! Share of each token's cross-attention that falls on silent frames.

use super::{AlignmentInput, predicting};
use crate::Task;
use crate::backend::State;
use crate::engine::Place;
use crate::{Language, Model, Result, TokenId};

/// Returns, for each text token, the share of its cross-attention (0 to 1, the mean over the alignment heads) that
/// falls on silent frames of the window encoded in the slot of `place`. `is_silent`: one value per frame of audio in the
/// window.
///
/// `None` in the cases in which [`super::find_alignment`] returns no words: no text, too little audio, or too much
/// text. Uses the first row of `place`.
///
/// # Errors
/// [`crate::Error::Device`].
pub(crate) fn silent_attention(
    model: &Model,
    (state, place): (&mut dyn State, Place),
    language: Language,
    task: Task,
    text_tokens: &[TokenId],
    is_silent: &[bool],
) -> Result<Option<Vec<f32>>> {
    let Some(input) = AlignmentInput::new(model, language, task, text_tokens, is_silent.len())
    else {
        return Ok(None);
    };
    // An encoder position is silent only if all of its frames are.
    let is_silent: Vec<bool> = is_silent
        .chunks(super::FRAMES_PER_POSITION)
        .map(|frames| frames.iter().all(|&is_silent| is_silent))
        .collect();
    let mut shares = vec![0.0; text_tokens.len()];
    let n_keys = input.n_keys;
    let request = input.request(model, place);
    let first = predicting(&request.text).start;
    state.align(&request, &mut |weights| {
        let rows = weights.chunks_exact(n_keys).skip(first);
        for (share, row) in shares.iter_mut().zip(rows) {
            let silent = row
                .iter()
                .zip(&is_silent)
                .filter(|(_, is_silent)| **is_silent);
            *share += silent.map(|(weight, _)| weight).sum::<f32>();
        }
    })?;
    let n_heads = model.alignment_heads().heads().len() as f32;
    shares.iter_mut().for_each(|share| *share /= n_heads);
    Ok(Some(shares))
}
