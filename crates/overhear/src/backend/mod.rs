//! The seam between Whisper's logic and a device: whole stages, never tensor operations.
//!
//! A [`Backend`] is the weights on one device; a [`State`] is everything that changes while decoding: encoder
//! output, cross-attention keys and values, self-attention KV cache, scratch memory. All of it is allocated when the
//! state is made, for a given [`Capacity`], so a step allocates nothing. Audio sits in *slots*, text in *rows*; any row
//! may attend to any slot, rows have lengths of their own, and a row's result never depends on the others.

mod compute_type;
pub(crate) mod cpu;

use std::ops::{ControlFlow, Range};

pub use compute_type::ComputeType;

use crate::checkpoint::Checkpoint;
use crate::host::Host;
use crate::mel::MelWindow;
use crate::{Error, ModelDimensions, Result, TokenId};

/// Devices that a model can run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
}

/// Opens the network of `checkpoint` on `device`. `dims`: those of the checkpoint, its vocabulary without padding.
///
/// # Errors
/// [`Error::Model`] if a tensor is missing or damaged; [`Error::Option`] if the model does not fit the compute type;
/// [`Error::Device`].
pub(crate) fn open(
    device: Device,
    checkpoint: &Checkpoint,
    dims: &ModelDimensions,
    compute_type: ComputeType,
    host: &Host,
) -> Result<Box<dyn Backend>> {
    match device {
        Device::Cpu => cpu::open(checkpoint, dims, compute_type, host),
    }
}

/// Weights resident on one device; shared by any number of states.
pub(crate) trait Backend: Send + Sync {
    /// The arithmetic in use; never [`ComputeType::Auto`].
    fn compute_type(&self) -> ComputeType;

    /// Bytes of a state for each window decoded together, `n_rows` rows of text each.
    fn bytes_per_seat(&self, n_rows: usize) -> u64;

    /// Allocates a state of this capacity.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn new_state(&self, capacity: Capacity) -> Result<Box<dyn State>>;
}

/// Sizes that a state is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Windows of audio that are held encoded.
    pub(crate) slots: usize,
    /// Rows of text.
    pub(crate) rows: usize,
    /// Tokens of one [`State::decode`] call, all rows together.
    pub(crate) tokens: usize,
    /// Tokens of one [`State::decode`] call whose logits are returned.
    pub(crate) logits: usize,
}

impl Capacity {
    /// Capacity for `n_seats` windows decoded together, `n_rows` rows of text each, by a decoder of `n_text_ctx`
    /// positions. A window begins with one row and two logits, that of start-of-transcript among them, and with as many
    /// tokens as there are positions at most, beside one token for every row of the others.
    pub(crate) fn of_seats(n_seats: usize, n_rows: usize, n_text_ctx: usize) -> Self {
        Self {
            slots: n_seats,
            rows: n_seats * n_rows,
            tokens: n_text_ctx.max(n_rows) + (n_seats - 1) * n_rows,
            logits: n_seats * n_rows.max(2),
        }
    }

    /// Fails if a call exceeds the capacity.
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

/// Tokens of one [`State::decode`] call. Kept and refilled by the caller, so that a step allocates nothing.
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
    /// The row that the pass uses, and leaves empty.
    pub(crate) row: usize,
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

/// Asked between layers whether the work goes on.
pub(crate) type GoesOn<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// The mutable part of inference.
pub(crate) trait State: Send {
    /// Runs the encoder over windows, each given with the slot it is for, and computes the slots' cross-attention keys
    /// and values of every layer. `goes_on` is asked between layers, and may end the work; a slot is undefined then.
    ///
    /// # Errors
    /// [`Error::Capacity`] if a slot does not exist; [`Error::Canceled`]; [`Error::Device`].
    ///
    /// # Panics
    /// If a window has another number of mel bins than the model.
    fn encode(&mut self, windows: &[(usize, &MelWindow)], goes_on: GoesOn<'_>) -> Result<()>;

    /// Appends each row's tokens and returns the logits asked for, `[n, n_vocab]`, in the batch's order.
    /// They are the caller's to change until the next call.
    ///
    /// # Errors
    /// [`Error::Capacity`] if the call is larger than the state was made for, a row or slot does not exist, or a row
    /// would grow beyond `n_text_ctx` positions; [`Error::Device`].
    ///
    /// # Panics
    /// If `logits_at` does not ascend, or names a token that is not there.
    fn decode(&mut self, batch: &Batch) -> Result<&mut [f32]>;

    /// Runs text that is already known past a window that is already encoded: `on_head` is called for each of
    /// the request's heads in order. Returns the probability of each text token among the text tokens, given
    /// those before it.
    ///
    /// # Errors
    /// [`Error::Capacity`] if there are more tokens than `n_text_ctx`, or the row or slot does not exist;
    /// [`Error::Device`].
    fn align(&mut self, request: &AlignmentRequest<'_>, on_head: OnHead<'_>) -> Result<Vec<f32>>;

    /// Row `i` goes on from what row `source[i]` holds, all at once; rows from `source.len()` on stay as they are.
    /// `whisper/decoding.py::PyTorchInference.rearrange_kv_cache`.
    fn rearrange(&mut self, source: &[usize]);

    /// Forgets what `row` holds beyond its first `n_tokens` tokens.
    fn truncate(&mut self, row: usize, n_tokens: usize);

    /// Encoder output of the window in `slot`, `[n_audio_ctx, n_audio_state]`.
    fn audio_features(&self, slot: usize) -> &[f32];
}
