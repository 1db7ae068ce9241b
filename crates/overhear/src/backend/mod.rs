//! Interface between Whisper's logic and a device. It consists of whole stages, never of tensor operations.
//!
//! A [`Backend`] holds the weights on one device. A [`State`] holds everything that changes during decoding: encoder
//! output, cross-attention keys and values, self-attention KV cache, scratch memory. All of it is allocated when the
//! state is created, for a given [`Capacity`], so that a step does not allocate. Audio is in *slots*, text in *rows*. A
//! row may attend to any slot, rows may differ in length, and the result of a row never depends on other rows.

mod compute_type;
pub(crate) mod cpu;

use std::ops::{ControlFlow, Range};

pub use compute_type::ComputeType;

use crate::checkpoint::Checkpoint;
use crate::host::Host;
use crate::mel::MelWindow;
use crate::{Error, ModelDimensions, Result, TokenId};

/// Device that a model runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
}

/// Parts of a network to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    All,
    /// All but the encoder, for audio features of another network: [`State::set_audio_features`].
    Decoder,
}

/// Opens `parts` of the network of `checkpoint` on `device`. `dims`: dimensions of the checkpoint, with `n_vocab` without padding.
///
/// # Errors
/// [`Error::Model`] if a tensor is missing or damaged; [`Error::Option`] if the model does not fit the compute type;
/// [`Error::Device`].
pub(crate) fn open(
    device: Device,
    checkpoint: &Checkpoint,
    dims: &ModelDimensions,
    parts: Parts,
    compute_type: ComputeType,
    host: &Host,
) -> Result<Box<dyn Backend>> {
    match device {
        Device::Cpu => cpu::open(checkpoint, dims, parts, compute_type, host),
    }
}

/// Weights on one device, shared by any number of states.
pub(crate) trait Backend: Send + Sync {
    /// Returns the arithmetic in use; never [`ComputeType::Auto`].
    fn compute_type(&self) -> ComputeType;

    /// Returns the memory in bytes that a state needs per seat with `n_rows` rows of text.
    fn bytes_per_seat(&self, n_rows: usize) -> u64;

    /// Allocates a state.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn new_state(&self, capacity: Capacity) -> Result<Box<dyn State>>;
}

/// Capacity of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Number of windows of audio that are encoded at the same time.
    pub(crate) slots: usize,
    /// Number of rows of text.
    pub(crate) rows: usize,
    /// Maximum number of tokens of one [`State::decode`] call, summed over rows.
    pub(crate) tokens: usize,
    /// Maximum number of rows of logits that one [`State::decode`] call returns.
    pub(crate) logits: usize,
}

impl Capacity {
    /// Returns the capacity for `n_seats` windows that are decoded at the same time with `n_rows` rows of text each, by
    /// a decoder of `n_text_ctx` positions. In its first step a window has one row with up to `n_text_ctx` tokens and
    /// two rows of logits (one of them after `<|startoftranscript|>`), while each row of the other windows has one
    /// token, or the only row has up to `n_drafted` more.
    pub(crate) fn of_seats(
        n_seats: usize,
        n_rows: usize,
        n_drafted: usize,
        n_text_ctx: usize,
    ) -> Self {
        let n_tokens = n_rows.max(1 + n_drafted);
        Self {
            slots: n_seats,
            rows: n_seats * n_rows,
            tokens: n_text_ctx.max(n_tokens) + (n_seats - 1) * n_tokens,
            logits: n_seats * n_tokens.max(2),
        }
    }

    /// Returns an error if `wanted` exceeds `capacity`.
    ///
    /// # Errors
    /// [`Error::Capacity`].
    pub(crate) fn check(what: &'static str, wanted: usize, capacity: usize) -> Result<()> {
        match wanted <= capacity {
            true => Ok(()),
            false => Err(Error::Capacity {
                what,
                wanted,
                capacity,
            }),
        }
    }
}

/// Input of one [`State::decode`] call. The caller clears and refills it, so that a step does not allocate.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<BatchRow>,
    /// Tokens of all rows, concatenated.
    pub(crate) tokens: Vec<TokenId>,
    /// Indices in `tokens` of the tokens to return logits for, strictly ascending.
    pub(crate) logits_at: Vec<usize>,
}

/// Input of one row of text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRow {
    /// Index of the row.
    pub(crate) row: usize,
    /// Slot of audio that the row attends to.
    pub(crate) slot: usize,
    /// Index in the batch of the first of the row's tokens.
    pub(crate) first: usize,
    /// Number of tokens to append.
    pub(crate) n_tokens: usize,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.tokens.clear();
        self.logits_at.clear();
    }

    /// Adds `tokens` to `row`. `logits_at`: indices in `tokens` of the tokens to return logits for.
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
            first,
            n_tokens: tokens.len(),
        });
        self.tokens.extend_from_slice(tokens);
        self.logits_at.extend(logits_at.iter().map(|at| first + at));
    }

    /// Adds to `row` the tokens of `parts`, concatenated, from the one at `from` on, with the logits after the last.
    pub(crate) fn push_rest(
        &mut self,
        row: usize,
        slot: usize,
        parts: [&[TokenId]; 2],
        from: usize,
    ) {
        let first = self.tokens.len();
        let rest = parts.into_iter().flatten().skip(from);
        self.tokens.extend(rest);
        self.rows.push(BatchRow {
            row,
            slot,
            first,
            n_tokens: self.tokens.len() - first,
        });
        self.logits_at.push(self.tokens.len() - 1);
    }
}

/// Input of [`State::align`]: a known text, and the cross-attention heads to return.
#[derive(Debug)]
pub(crate) struct AlignmentRequest<'a> {
    /// Slot of the audio from which the text was decoded.
    pub(crate) slot: usize,
    /// Row that the pass uses and leaves empty.
    pub(crate) row: usize,
    /// Start-of-transcript sequence, `<|notimestamps|>`, text, `<|endoftext|>`.
    pub(crate) tokens: &'a [TokenId],
    /// Range of the text in `tokens`; does not start at 0.
    pub(crate) text: Range<usize>,
    /// End-of-text token; text tokens are below.
    pub(crate) eot: TokenId,
    /// Number of encoder positions that hold audio, at least one.
    pub(crate) n_keys: usize,
    /// Layer and head of each cross-attention head, ascending.
    pub(crate) heads: &'a [(usize, usize)],
}

/// Function that is called with the cross-attention weights of one head, `[n_tokens, n_keys]`, softmaxed over the keys.
/// It may overwrite them.
pub(crate) type OnHead<'a> = &'a mut dyn FnMut(&mut [f32]);

/// Function that is called between layers, and returns whether to continue.
pub(crate) type GoesOn<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// Mutable state of inference.
pub(crate) trait State: Send {
    /// Runs the encoder over windows, each paired with its slot, and computes the slots' cross-attention keys and
    /// values of every layer. `goes_on` is called between layers and may end the work; the slots are undefined then.
    ///
    /// # Errors
    /// [`Error::Capacity`] if a slot does not exist; [`Error::Canceled`]; [`Error::Device`].
    ///
    /// # Panics
    /// If a window does not have the model's number of mel bins.
    fn encode(&mut self, windows: &[(usize, &MelWindow)], goes_on: GoesOn<'_>) -> Result<()>;

    /// Sets the encoder output of `slot`, which another state computed with the same encoder, `[n_audio_ctx,
    /// n_audio_state]`, and computes the slot's cross-attention keys and values of every layer.
    ///
    /// # Errors
    /// [`Error::Capacity`] if the slot does not exist; [`Error::Device`].
    fn set_audio_features(&mut self, slot: usize, features: &[f32]) -> Result<()>;

    /// Appends each row's tokens and returns the requested logits, `[n, n_vocab]`, in the order of the batch. The
    /// caller may overwrite them until the next call.
    ///
    /// # Errors
    /// [`Error::Capacity`] if the call exceeds the state's capacity, a row or slot does not exist, or a row would
    /// exceed `n_text_ctx` positions; [`Error::Device`].
    ///
    /// # Panics
    /// If `logits_at` is not ascending, or contains an index beyond the tokens.
    fn decode(&mut self, batch: &Batch) -> Result<&mut [f32]>;

    /// Runs the decoder over a known text (teacher forcing) in an encoded window. Calls `on_head` for each head of the
    /// request, in order. Returns the probability of each text token among all text tokens, given the previous ones.
    ///
    /// # Errors
    /// [`Error::Capacity`] if there are more tokens than `n_text_ctx`, or the row or slot does not exist;
    /// [`Error::Device`].
    fn align(&mut self, request: &AlignmentRequest<'_>, on_head: OnHead<'_>) -> Result<Vec<f32>>;

    /// Replaces row `i` by a copy of row `source[i]`, for all `i` at once. Rows from `source.len()` on are unchanged:
    /// `whisper/decoding.py::PyTorchInference.rearrange_kv_cache`.
    fn rearrange(&mut self, source: &[usize]);

    /// Removes all but the first `n_tokens` tokens of `row`.
    fn truncate(&mut self, row: usize, n_tokens: usize);

    /// Returns the encoder output of the window in `slot`, `[n_audio_ctx, n_audio_state]`.
    fn audio_features(&self, slot: usize) -> &[f32];
}
