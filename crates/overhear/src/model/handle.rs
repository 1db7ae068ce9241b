//! The model: the handle that everything is done with.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use overhear_kernels::{ISA_VARIABLE, Kernels, Pool};

use super::{Dtype, Isa};

use crate::align::AlignmentHeads;
use crate::backend::{self, Backend, Capacity, Device, State};
use crate::checkpoint::Checkpoint;
use crate::engine::Engine;
use crate::host::Host;
use crate::transcribe::{LanguageOptions, detect_spoken_language};
use crate::{
    Audio, ComputeType, DecodingOptions, DecodingResult, Error, Event, LanguageProbability, LogMel,
    ModelDimensions, Result, TokenId, Tokenizer, TranscribeOptions, Transcript,
};

/// Options of opening a model.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ModelOptions {
    /// Device that the network runs on.
    pub device: Device,
    /// Arithmetic. Default: [`ComputeType::Auto`].
    pub compute_type: ComputeType,
    /// Number of threads. `None`, the default: as many as the machine and its cgroup quota give.
    pub threads: Option<NonZeroUsize>,
}

/// An opened model. Cheap to clone, and usable from several threads at once.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    dims: ModelDimensions,
    dtype: Dtype,
    tokenizer: Tokenizer,
    alignment_heads: AlignmentHeads,
    host: Host,
    backend: Box<dyn Backend>,
}

impl Model {
    /// Opens a Hugging Face model folder: `config.json`, `model.safetensors` (or shards), `tokenizer.json` (or
    /// `vocab.json` and `merges.txt`). Weights stay in the dtype they are stored in, or are rounded or packed for the compute type.
    ///
    /// # Errors
    /// [`Error::Model`] if a file is missing, damaged, or does not fit the others; [`Error::Option`] if
    /// `OVERHEAR_ISA` names an instruction set that this machine lacks, or the model does not fit the compute type.
    pub fn open(folder: impl AsRef<Path>, options: &ModelOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let kernels = Kernels::from_env().map_err(|error| Error::Option {
            name: ISA_VARIABLE,
            reason: error.to_string(),
        })?;
        let checkpoint = Checkpoint::open(folder)?;
        let mut dims = *checkpoint.dims();
        let tokenizer = Tokenizer::open_for(folder, dims.n_vocab, Some(dims.n_mels))?;
        dims.n_vocab = tokenizer.n_vocab();
        let alignment_heads = AlignmentHeads::of(folder, &dims)?;
        let threads = options
            .threads
            .map_or_else(Pool::default_threads, NonZeroUsize::get);
        let pool = Arc::new(Pool::new(threads));
        let host = Host { kernels, pool };
        let (device, compute_type) = (options.device, options.compute_type);
        let backend = backend::open(device, &checkpoint, &dims, compute_type, &host)?;
        checkpoint.warn_of_unused();
        let dtype = checkpoint.dtype().into();
        Ok(Self {
            inner: Arc::new(Inner {
                dims,
                dtype,
                tokenizer,
                alignment_heads,
                host,
                backend,
            }),
        })
    }

    /// Transcribes a file of any length: `whisper/transcribe.py::transcribe`.
    ///
    /// # Errors
    /// [`Error::Option`] if an option does not fit the model; [`Error::Audio`] and [`Error::Read`] if the audio
    /// cannot be decoded; [`Error::NotFinite`] if the weights are damaged.
    pub fn transcribe(&self, audio: &Audio, options: &TranscribeOptions) -> Result<Transcript> {
        self.transcribe_with(audio, options, |_| ControlFlow::Continue(()))
    }

    /// Transcribes as [`Model::transcribe`] and reports to `on_event`: segments as they become final, progress, and a
    /// chance to cancel at every token.
    ///
    /// # Errors
    /// As [`Model::transcribe`], and [`Error::Canceled`] when `on_event` breaks.
    pub fn transcribe_with(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
        on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Transcript> {
        let engine = Engine::new(self, 1, options.n_rows())?;
        engine.transcribe_with(audio, options, on_event)
    }

    /// Languages that may be spoken, likeliest first, at least one. The first is the one that [`Model::transcribe`]
    /// would detect.
    ///
    /// `options` say how many windows of 30 seconds are asked (the first one by default), when one of them is sure, and
    /// which languages are allowed. Probabilities are those of the window that decides: the first that is sure, or else
    /// the one in which the language of the majority is likeliest. An English-only model answers English.
    ///
    /// # Errors
    /// [`Error::Option`] if an option does not fit the model; [`Error::Audio`] and [`Error::Read`] if the audio cannot be
    /// decoded; [`Error::NotFinite`]; [`Error::Device`].
    pub fn detect_language(
        &self,
        audio: &Audio,
        options: &LanguageOptions,
    ) -> Result<Vec<LanguageProbability>> {
        detect_spoken_language(self, audio, options)
    }

    /// Decodes one window of 3000 frames: `whisper/decoding.py::decode`.
    ///
    /// # Errors
    /// [`Error::Option`] if an option does not fit the model, or `mel` is not `[n_mels, 3000]`; [`Error::NotFinite`];
    /// [`Error::Device`].
    pub fn decode(&self, mel: &LogMel, options: &DecodingOptions) -> Result<DecodingResult> {
        options.verify()?;
        let mut session = self.session(options.n_group())?;
        session.encode(mel)?;
        session.decode(options)
    }

    /// The encoder's output for one window, `[n_audio_ctx, n_audio_state]`: `whisper/model.py::embed_audio`.
    ///
    /// # Errors
    /// [`Error::Option`] if `mel` is not `[n_mels, 3000]`; [`Error::Device`].
    pub fn embed_audio(&self, mel: &LogMel) -> Result<Vec<f32>> {
        let mut session = self.session(1)?;
        session.encode(mel)?;
        Ok(session.audio_features().to_vec())
    }

    /// The decoder's logits after each of `tokens`, `[tokens.len(), n_vocab]`, for one window:
    /// `whisper/model.py::logits`.
    ///
    /// # Errors
    /// [`Error::Option`] if `mel` is not `[n_mels, 3000]`; [`Error::Capacity`] if there are more tokens than the decoder
    /// has positions; [`Error::Device`].
    pub fn logits(&self, mel: &LogMel, tokens: &[TokenId]) -> Result<Vec<f32>> {
        let mut session = self.session(1)?;
        session.encode(mel)?;
        let mut logits = Vec::with_capacity(tokens.len() * self.dims().n_vocab);
        for &token in tokens {
            logits.extend_from_slice(session.step(&[token])?);
        }
        Ok(logits)
    }

    /// The numbers that describe the model.
    #[must_use]
    pub fn dims(&self) -> &ModelDimensions {
        &self.inner.dims
    }

    /// Whether the model knows languages and tasks (`Whisper.is_multilingual`), or English only.
    #[must_use]
    pub fn is_multilingual(&self) -> bool {
        self.inner.tokenizer.is_multilingual()
    }

    /// The model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// Element type that the checkpoint stores the weights in.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.inner.dtype
    }

    /// Arithmetic in use; never [`ComputeType::Auto`].
    #[must_use]
    pub fn compute_type(&self) -> ComputeType {
        self.inner.backend.compute_type()
    }

    /// Instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.inner.host.kernels.isa().into()
    }

    /// The threads in use.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.host.pool.n_threads()
    }

    /// The heads of cross-attention that word timestamps come from.
    pub(crate) fn alignment_heads(&self) -> &AlignmentHeads {
        &self.inner.alignment_heads
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.inner.host.kernels
    }

    pub(crate) fn bytes_per_seat(&self, n_rows: usize) -> u64 {
        self.inner.backend.bytes_per_seat(n_rows)
    }

    pub(crate) fn new_state(&self, capacity: Capacity) -> Result<Box<dyn State>> {
        self.inner.backend.new_state(capacity)
    }
}
