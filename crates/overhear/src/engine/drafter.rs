//! Drafters of speculative decoding: where the tokens come from that the model verifies several at a time.

use std::ops::ControlFlow;
use std::time::Instant;

use super::pace::Pace;
use crate::backend::{Batch, Capacity, State};
use crate::decode::{MAX_DRAFT, Next, Window};
use crate::mel::MelWindow;
use crate::{Model, Result};

/// Longest and shortest run of tokens at the end of a text that prompt lookup searches the text for.
const RUNS: [usize; 2] = [3, 2];

/// Drafter of the windows of one state.
pub(crate) struct Drafter {
    source: Source,
    pace: Pace,
}

enum Source {
    /// Prompt lookup: what followed the last tokens where they occurred before
    /// (<https://github.com/apoorvumang/prompt-lookup-decoding>).
    Lookup,
    Model(Box<DraftModel>),
    /// Tokens at random, which are nearly always wrong.
    #[cfg(test)]
    Noise(u32),
}

/// A smaller model with the same vocabulary, and its state: a slot and a row per window.
struct DraftModel {
    /// Whether the model that verifies encodes the audio, as the encoder is the same.
    shares_encoder: bool,
    state: Box<dyn State>,
    capacity: Capacity,
    slots: Vec<Slot>,
    batch: Batch,
    /// Windows of the current call.
    joined: Vec<usize>,
    next: Next,
}

/// Window of a draft model.
struct Slot {
    mel: MelWindow,
    is_encoded: bool,
    /// Number of tokens in the self-attention cache of the row.
    n_cached: usize,
}

impl Drafter {
    /// Returns a drafter that looks tokens up in the texts.
    pub(crate) fn lookup() -> Self {
        Self::new(Source::Lookup)
    }

    /// Returns a drafter that decodes with `model`, for `n_seats` windows at a time.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is not enough memory.
    pub(crate) fn model(model: &Model, n_seats: usize) -> Result<Self> {
        let capacity = Capacity::of_seats(n_seats, 1, 0, model.dims().n_text_ctx);
        let slot = |_| Slot {
            mel: MelWindow::zeros(model.dims().n_mels),
            is_encoded: false,
            n_cached: 0,
        };
        let model = DraftModel {
            shares_encoder: model.shares_encoder(),
            state: model.new_state(capacity)?,
            capacity,
            slots: (0..n_seats).map(slot).collect(),
            batch: Batch::default(),
            joined: Vec::with_capacity(n_seats),
            next: Next::default(),
        };
        Ok(Self::new(Source::Model(Box::new(model))))
    }

    #[cfg(test)]
    pub(crate) fn noise() -> Self {
        Self::new(Source::Noise(1))
    }

    /// Returns the drafter with drafts of `n` tokens, whether they pay or not.
    #[cfg(test)]
    pub(crate) fn with_length(mut self, n: usize) -> Self {
        self.pace.forced = Some(n);
        self
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            pace: Pace::default(),
        }
    }

    /// Sets the window of audio of a slot. It is encoded when a draft is first needed.
    pub(crate) fn set_mel(&mut self, slot: usize, mel: &MelWindow) {
        if let Source::Model(model) = &mut self.source {
            model.truncate(slot, 0);
            let slot = &mut model.slots[slot];
            slot.mel.data.copy_from_slice(&mel.data);
            slot.is_encoded = false;
        }
    }

    /// Forgets all tokens of a slot but the first `n_tokens`, before they differ from the text's.
    pub(crate) fn truncate(&mut self, slot: usize, n_tokens: usize) {
        if let Source::Model(model) = &mut self.source {
            model.truncate(slot, n_tokens);
        }
    }

    /// Drafts tokens for the windows that take drafts, as many as pay. `verifier`: state of the model that verifies.
    ///
    /// # Errors
    /// [`crate::Error::Device`].
    pub(crate) fn draft(
        &mut self,
        verifier: &dyn State,
        windows: &mut [Option<Window>],
    ) -> Result<()> {
        if !windows
            .iter()
            .flatten()
            .any(|window| window.max_draft() > 0)
        {
            return Ok(());
        }
        let n = self.pace.n_draft();
        if n == 0 {
            return Ok(());
        }
        match &mut self.source {
            Source::Lookup => {
                let began = Instant::now();
                each(windows, n, look_up);
                self.pace.drafted(0, began.elapsed() / n as u32);
            }
            Source::Model(model) => model.draft(verifier, windows, n, &mut self.pace)?,
            #[cfg(test)]
            Source::Noise(seed) => each(windows, n, |window, n| {
                for _ in 0..n {
                    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    window.draft(*seed >> 18);
                }
            }),
        }
        Ok(())
    }

    /// Returns what the draft lengths are chosen by.
    pub(crate) fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }
}

/// Calls `draft` with each window that takes drafts, and with the number of tokens to draft.
fn each(windows: &mut [Option<Window>], n: usize, mut draft: impl FnMut(&mut Window, usize)) {
    for window in windows.iter_mut().flatten() {
        let n = window.begin_draft().min(n);
        if n > 0 {
            draft(window, n);
        }
    }
}

/// Drafts up to `n` tokens that followed the last tokens of the text where these occurred before in prompt or text.
fn look_up(window: &mut Window, n: usize) {
    let (initial, text) = window.drafted_row();
    let len = initial.len() + text.len();
    let token = |i: usize| match i < initial.len() {
        true => initial[i],
        false => text[i - initial.len()],
    };
    let follower = RUNS.iter().find_map(|&n_run| {
        let before = 0..len.checked_sub(n_run)?;
        let is_run = |&at: &usize| (0..n_run).all(|i| token(at + i) == token(len - n_run + i));
        before.rev().find(is_run).map(|at| at + n_run)
    });
    let mut drafted = [0; MAX_DRAFT];
    let n = follower.map_or(0, |at| n.min(len - at));
    for (i, drafted) in drafted[..n].iter_mut().enumerate() {
        *drafted = token(follower.unwrap_or(0) + i);
    }
    for &token in &drafted[..n] {
        if !window.draft(token) {
            break;
        }
    }
}

impl DraftModel {
    fn truncate(&mut self, slot: usize, n_tokens: usize) {
        let n_cached = &mut self.slots[slot].n_cached;
        if n_tokens < *n_cached {
            *n_cached = n_tokens;
            self.state.truncate(slot, n_tokens);
        }
    }

    /// Drafts up to `n` tokens for each window, one decoder call for a token of every window.
    fn draft(
        &mut self,
        verifier: &dyn State,
        windows: &mut [Option<Window>],
        n: usize,
        pace: &mut Pace,
    ) -> Result<()> {
        self.joined.clear();
        for (i, window) in windows.iter_mut().enumerate() {
            if let Some(window) = window
                && window.begin_draft() > 0
            {
                self.joined.push(i);
            }
        }
        for at in 0..n {
            let began = Instant::now();
            let mut n_first = 0;
            self.batch.clear();
            // A window whose tokens do not fit beside the others' is left out.
            let (slots, batch, capacity) = (&mut self.slots, &mut self.batch, &self.capacity);
            let mut encoded = Ok(());
            self.joined.retain(|&i| {
                let Some(window) = &windows[i] else {
                    return false;
                };
                let slot = window.slot();
                let (initial, text) = window.drafted_row();
                let n_cached = slots[slot].n_cached;
                let n_tokens = initial.len() + text.len() - n_cached;
                if at >= window.max_draft() || batch.tokens.len() + n_tokens > capacity.tokens {
                    return false;
                }
                if !slots[slot].is_encoded && encoded.is_ok() {
                    let goes_on = &mut || ControlFlow::Continue(());
                    encoded = match self.shares_encoder {
                        true => self
                            .state
                            .set_audio_features(slot, verifier.audio_features(slot)),
                        false => self.state.encode(&[(slot, &slots[slot].mel)], goes_on),
                    };
                    slots[slot].is_encoded = true;
                }
                n_first += usize::from(n_cached == 0 || n_tokens > MAX_DRAFT);
                batch.push_rest(slot, slot, [initial, text], n_cached);
                slots[slot].n_cached += n_tokens;
                true
            });
            encoded?;
            if self.joined.is_empty() {
                return Ok(());
            }
            let logits = self.state.decode(&self.batch)?;
            let mut logits = logits.chunks_exact_mut(logits.len() / self.joined.len());
            let next = &mut self.next;
            self.joined.retain(|&i| {
                let (window, logits) = (windows[i].as_mut(), logits.next());
                window
                    .zip(logits)
                    .is_some_and(|(window, logits)| window.draft_by(logits, next))
            });
            pace.drafted(n_first, began.elapsed());
        }
        Ok(())
    }
}
