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

use std::ops::Range;

use matrix::AlignmentMatrix;
use silence::SilentAttention;

use crate::Task;
use crate::backend::{AlignmentRequest, State};
use crate::engine::Place;
use crate::{Language, Model, Result, TokenId};

/// Number of spectrogram frames per encoder position.
const FRAMES_PER_POSITION: usize = 2;
/// Number of encoder positions per second.
const POSITIONS_PER_SECOND: f64 = 50.0;

/// What a pass over the text of a window is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The words with their times.
    pub(crate) words: bool,
    /// The attention to silent frames, given one value per frame of audio in the window.
    pub(crate) is_silent: Option<&'a [bool]>,
}

/// What a pass over the text of a window has found; empty where it was not asked for.
#[derive(Debug, Default)]
pub(crate) struct Alignment {
    /// Times are in seconds from the start of the window.
    pub(crate) words: Vec<WordTiming>,
    /// For each text token, the share of its cross-attention (0 to 1, the mean over the alignment heads) that falls on
    /// silent frames.
    pub(crate) silent_attention: Vec<f32>,
}

/// Aligns `text_tokens` with the window that is encoded in the slot of `place` and has `n_frames` frames of audio:
/// `find_alignment`.
///
/// Empty if there is no text, less than one encoder position of audio, or more text than the decoder's context holds
/// (which cannot occur with the usual `sample_len`). Uses the first row of `place`.
///
/// # Errors
/// [`crate::Error::Device`].
pub(crate) fn find_alignment(
    model: &Model,
    (state, place): (&mut dyn State, Place),
    (language, task): (Language, Task),
    text_tokens: &[TokenId],
    n_frames: usize,
    wanted: Wanted<'_>,
) -> Result<Alignment> {
    let Some(input) = AlignmentInput::new(model, language, task, text_tokens, n_frames) else {
        return Ok(Alignment::default());
    };
    let rows = predicting(&input.text);
    let (n_rows, n_keys) = (rows.len(), input.n_keys);
    let mut silent = wanted
        .is_silent
        .map(|is_silent| SilentAttention::new(is_silent, text_tokens.len()));
    let mut matrix = wanted
        .words
        .then(|| AlignmentMatrix::new(rows.clone(), n_keys));
    let request = input.request(model, place);
    let probabilities = state.align(&request, &mut |weights| {
        if let Some(silent) = &mut silent {
            silent.add(&weights[rows.start * n_keys..], n_keys);
        }
        // Changes the weights.
        if let Some(matrix) = &mut matrix {
            matrix.add(weights);
        }
    })?;
    let words = matrix.map(|matrix| {
        let path = dtw::dtw(&matrix.into_cost(), n_rows, n_keys);
        let (tokenizer, times) = (model.tokenizer(), jump_times(&path));
        words::timings(tokenizer, language, text_tokens, &times, &probabilities)
    });
    Ok(Alignment {
        words: words.unwrap_or_default(),
        silent_attention: silent.map(SilentAttention::shares).unwrap_or_default(),
    })
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
