//! Word timestamps: `whisper/timing.py`.
//!
//! The decoder is run once more over the window's text (teacher forcing). Some heads of its cross-attention (`heads`),
//! while they predict a token, attend to the frames in which the token is spoken. Their weights, returned by the
//! backend's `align`, are combined to one matrix of tokens by frames (`matrix`, `median`); its cheapest monotone path
//! (`dtw`) gives the time of each token, and so of each word (`words`). The reference's corrections by rule follow in
//! `heuristics`.

mod dtw;
mod heads;
mod heuristics;
mod matrix;
mod median;
mod silence;
mod words;

pub(crate) use heads::AlignmentHeads;
pub(crate) use heuristics::{WordTiming, add_words};
pub(crate) use silence::silent_attention;

use std::ops::Range;

use matrix::AlignmentMatrix;

use crate::Task;
use crate::backend::{AlignmentRequest, State};
use crate::engine::Place;
use crate::{Language, Model, Result, TokenId};

/// Number of spectrogram frames per encoder position.
const FRAMES_PER_POSITION: usize = 2;
/// Number of encoder positions per second.
const POSITIONS_PER_SECOND: f64 = 50.0;

/// Returns the words of `text_tokens` in the window that is encoded in the slot of `place` and has `n_frames` frames of
/// audio: `find_alignment`. Times are in seconds from the start of the window.
///
/// Empty if there is no text, less than one encoder position of audio, or more text than the decoder's context holds
/// (which cannot occur with the usual `sample_len`). Uses the first row of `place`.
///
/// # Errors
/// [`crate::Error::Device`].
pub(crate) fn find_alignment(
    model: &Model,
    (state, place): (&mut dyn State, Place),
    language: Language,
    task: Task,
    text_tokens: &[TokenId],
    n_frames: usize,
) -> Result<Vec<WordTiming>> {
    let Some(input) = AlignmentInput::new(model, language, task, text_tokens, n_frames) else {
        return Ok(Vec::new());
    };
    let rows = predicting(&input.text);
    let n_rows = rows.len();
    let mut matrix = AlignmentMatrix::new(rows, input.n_keys);
    let request = input.request(model, place);
    let probabilities = state.align(&request, &mut |weights| matrix.add(weights))?;
    let path = dtw::dtw(&matrix.into_cost(), n_rows, input.n_keys);
    Ok(words::timings(
        model.tokenizer(),
        language,
        text_tokens,
        &jump_times(&path),
        &probabilities,
    ))
}

/// Input of the decoder's pass over the text.
struct AlignmentInput {
    tokens: Vec<TokenId>,
    /// Range of the text in `tokens`.
    text: Range<usize>,
    /// Number of encoder positions that hold audio.
    n_keys: usize,
}

impl AlignmentInput {
    /// Returns `None` if there is no text, less than one encoder position of audio, or more text than the decoder's
    /// context holds.
    fn new(
        model: &Model,
        language: Language,
        task: Task,
        text_tokens: &[TokenId],
        n_frames: usize,
    ) -> Option<Self> {
        let tokenizer = model.tokenizer();
        let sot_sequence = tokenizer.sot_sequence(language, task);
        let n_keys = (n_frames / FRAMES_PER_POSITION).min(model.dims().n_audio_ctx);
        let first_text = sot_sequence.len() + 1;
        let text = first_text..first_text + text_tokens.len();
        if text_tokens.is_empty() || n_keys == 0 || text.end + 1 > model.dims().n_text_ctx {
            return None;
        }
        let tokens = [
            &sot_sequence[..],
            &[tokenizer.no_timestamps()],
            text_tokens,
            &[tokenizer.eot()],
        ]
        .concat();
        Some(Self {
            tokens,
            text,
            n_keys,
        })
    }

    fn request<'a>(&'a self, model: &'a Model, place: Place) -> AlignmentRequest<'a> {
        AlignmentRequest {
            slot: place.slot,
            row: place.first_row,
            tokens: &self.tokens,
            text: self.text.clone(),
            eot: model.tokenizer().eot(),
            n_keys: self.n_keys,
            heads: model.alignment_heads().heads(),
        }
    }
}

/// Returns the rows that predict the text and its end: each precedes the token that it predicts.
fn predicting(text: &Range<usize>) -> Range<usize> {
    text.start - 1..text.end
}

/// Returns the time in seconds at which the path first reaches each row.
fn jump_times(path: &[(usize, usize)]) -> Vec<f64> {
    let mut times = Vec::new();
    for &(row, column) in path {
        if row == times.len() {
            times.push(column as f64 / POSITIONS_PER_SECOND);
        }
    }
    times
}
