//! The seam between Whisper's logic and a device: whole stages, never tensor operations.
//!
//! A [`Backend`] is the weights on one device; a [`State`] is everything that changes while decoding: encoder
//! output, cross-attention keys and values, self-attention cache, scratch. All of it is allocated when the
//! state is made, so a step allocates nothing. Audio sits in *slots*, text in *rows*; any row may attend to any
//! slot, rows have lengths of their own, and a row's result never depends on the others.

pub(crate) mod cpu;

use std::ops::Range;

use crate::{LogMel, TokenId};

/// Weights resident on one device; shared by any number of states.
pub(crate) trait Backend: Send + Sync {
    /// Allocates all that `n_slots` windows of audio and `n_rows` rows of text will need.
    fn new_state(&self, n_slots: usize, n_rows: usize) -> Box<dyn State>;
}

/// The tokens of one [`State::decode`] call. Kept and refilled by the caller, so that a step allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<BatchRow>,
    /// The tokens of all rows, one row after the other.
    pub(crate) tokens: Vec<TokenId>,
    /// Which of `tokens` to return logits for, by index, ascending, none twice.
    pub(crate) logits_at: Vec<usize>,
}

/// What one row of text is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRow {
    /// The row of text.
    pub(crate) row: usize,
    /// The slot of audio it listens to.
    pub(crate) slot: usize,
    /// Tokens to append to it.
    pub(crate) n_tokens: usize,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.tokens.clear();
        self.logits_at.clear();
    }

    /// Gives `tokens` to `row`; logits are wanted after those in `logits_at`, by index into `tokens`.
    pub(crate) fn push(
        &mut self,
        row: usize,
        slot: usize,
        tokens: &[TokenId],
        logits_at: &[usize],
    ) {
        let first = self.tokens.len();
        self.rows.push(BatchRow {
            row,
            slot,
            n_tokens: tokens.len(),
        });
        self.tokens.extend_from_slice(tokens);
        self.logits_at.extend(logits_at.iter().map(|at| first + at));
    }
}

/// What [`State::align`] is asked: text that is known, and which heads of cross-attention to show.
#[derive(Debug)]
pub(crate) struct AlignmentRequest<'a> {
    /// The slot of audio the text was decoded from.
    pub(crate) slot: usize,
    /// Start-of-transcript sequence, no-timestamps, text, end of text.
    pub(crate) tokens: &'a [TokenId],
    /// Where the text is among them; not at the start.
    pub(crate) text: Range<usize>,
    /// End of text: text tokens are below.
    pub(crate) eot: TokenId,
    /// Encoder positions that hold audio, at least one.
    pub(crate) n_keys: usize,
    /// Layer and head, ascending.
    pub(crate) heads: &'a [(usize, usize)],
}

/// Called with one head's cross-attention weights, `[n_tokens, n_keys]`, softmaxed over the keys; they are the
/// caller's to change until it returns.
pub(crate) type OnHead<'a> = &'a mut dyn FnMut(&mut [f32]);

/// The mutable part of inference.
pub(crate) trait State: Send {
    /// Runs the encoder over one window `[n_mels, 3000]` and computes the slot's cross-attention keys and
    /// values of every layer.
    fn encode(&mut self, slot: usize, mel: &LogMel);

    /// Appends each row's tokens and returns the logits asked for, `[n, n_vocab]`, in the batch's order.
    /// They are the caller's to change until the next call.
    ///
    /// # Panics
    /// If a row would grow beyond `n_text_ctx` positions, or the call is larger than the state was made for:
    /// `n_text_ctx` tokens and the logits of one token per row and one more; or if `logits_at` does not ascend, or
    /// names a token that is not there.
    fn decode(&mut self, batch: &Batch) -> &mut [f32];

    /// Runs text that is already known past a window that is already encoded: `on_head` is called for each of
    /// the request's heads in order. Returns the probability of each text token among the text tokens, given
    /// those before it. Row 0 is used for it, and left empty.
    ///
    /// # Panics
    /// If there are more tokens than `n_text_ctx`.
    fn align(&mut self, request: &AlignmentRequest<'_>, on_head: OnHead<'_>) -> Vec<f32>;

    /// Row `i` goes on from what row `source[i]` holds, all at once; rows from `source.len()` on stay as they are.
    /// `whisper/decoding.py::PyTorchInference.rearrange_kv_cache`.
    fn rearrange(&mut self, source: &[usize]);

    /// Forgets what `row` holds beyond its first `n_tokens` tokens.
    fn truncate(&mut self, row: usize, n_tokens: usize);

    /// Encoder output of the last window encoded, `[n_audio_ctx, n_audio_state]`.
    fn audio_features(&self) -> &[f32];
}
