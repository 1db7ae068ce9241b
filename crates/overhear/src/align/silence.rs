//! How much of the attention of each token falls on frames that hold no speech.

use super::{Shown, predicting};
use crate::backend::State;
use crate::decode::Task;
use crate::engine::Place;
use crate::{Language, Model, Result, TokenId};

/// The share, 0 to 1, of each text token's cross-attention that falls on silent frames, the mean over the alignment
/// heads, in the window that is encoded in the slot of `place`. `is_silent`: of each of the window's frames of audio.
/// Uses the first row of `place`.
///
/// `None` where [`super::find_alignment`] finds nothing: there is no text, or too little audio, or too much text.
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
    let Some(shown) = Shown::new(model, language, task, text_tokens, is_silent.len()) else {
        return Ok(None);
    };
    // A position is heard as speech if any of its frames is.
    let is_silent: Vec<bool> = is_silent
        .chunks(super::FRAMES_PER_POSITION)
        .map(|frames| frames.iter().all(|&is_silent| is_silent))
        .collect();
    let mut shares = vec![0.0; text_tokens.len()];
    let n_keys = shown.n_keys;
    let request = shown.request(model, place);
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
