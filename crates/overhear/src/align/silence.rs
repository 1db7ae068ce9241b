//! Share of each token's cross-attention that falls on silent frames.

use super::{Shown, predicting};
use crate::backend::State;
use crate::decode::Task;
use crate::{Language, Model, TokenId};

/// Returns, for each text token, the share of its cross-attention (0 to 1, the mean over the alignment heads) that
/// falls on silent frames of the window encoded in slot 0 of `state`. `is_silent`: one value per frame of audio in the
/// window.
///
/// `None` in the cases in which [`super::find_alignment`] returns no words: no text, too little audio, or too much
/// text.
pub(crate) fn silent_attention(
    model: &Model,
    state: &mut dyn State,
    language: Language,
    task: Task,
    text_tokens: &[TokenId],
    is_silent: &[bool],
) -> Option<Vec<f32>> {
    let shown = Shown::new(model, language, task, text_tokens, is_silent.len())?;
    // An encoder position is silent only if all of its frames are.
    let is_silent: Vec<bool> = is_silent
        .chunks(super::FRAMES_PER_POSITION)
        .map(|frames| frames.iter().all(|&is_silent| is_silent))
        .collect();
    let mut shares = vec![0.0; text_tokens.len()];
    let n_keys = shown.n_keys;
    let request = shown.request(model);
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
    });
    let n_heads = model.alignment_heads().heads().len() as f32;
    shares.iter_mut().for_each(|share| *share /= n_heads);
    Some(shares)
}
