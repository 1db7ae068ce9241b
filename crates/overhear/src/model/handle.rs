//! The handle of an open model.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use overhear_kernels::{ISA_VARIABLE, Kernels, Pool};

use super::draft::Drafts;
use super::find::Places;
use super::{Dtype, Isa};

use crate::align::AlignmentHeads;
use crate::backend::{self, Backend, Capacity, Device, Parts, State};
use crate::checkpoint::{Checkpoint, TextTokens, base_of_adapter};
use crate::engine::Engine;
use crate::excerpt::excerpt;
use crate::host::Host;
use crate::tokenizer::published_tokens;
use crate::transcribe::{LanguageOptions, detect_spoken_language};
use crate::vad::Vad;
use crate::{
    Audio, ComputeType, DecodingOptions, DecodingResult, Error, Event, LanguageProbability, LogMel,
    ModelDimensions, Result, TokenId, Tokenizer, TranscribeOptions, Transcript,
};

/// Options for opening a model.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ModelOptions {
    /// Device that the network runs on.
    pub device: Device,
    /// Arithmetic of the network. Default: [`ComputeType::Auto`].
    pub compute_type: ComputeType,
    /// Number of threads. `None`, the default: the number of processors that the machine and the cgroup quota allow.
    pub threads: Option<NonZeroUsize>,
    /// Folder or file of the base model, if the model is a LoRA adapter. `None`, the default: the one that the adapter names, by
    /// path or in [`Places::from_env`]; nothing is downloaded.
    pub base: Option<PathBuf>,
}

/// An open model. Cheap to clone, and usable from several threads at the same time.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
    /// Speculative decoding.
    draft: Option<Arc<Drafts>>,
}

struct Inner {
    /// Folder or file, and base model of an adapter.
    path: PathBuf,
    base: Option<PathBuf>,
    dims: ModelDimensions,
    dtype: Dtype,
    tokenizer: Tokenizer,
    alignment_heads: AlignmentHeads,
    host: Host,
    device: Device,
    /// Some weights of the encoder.
    encoder_sample: Vec<f32>,
    parts: Parts,
    backend: Box<dyn Backend>,
    /// Voice activity detection, made on first use.
    vad: OnceLock<Vad>,
}

/// Opens the checkpoint at `path`. If it is an adapter, it is merged into `base`, or into the model that it names.
///
/// # Errors
/// [`Error::Model`] if it is damaged, or its base is not on this machine.
pub(crate) fn open_checkpoint(path: &Path, base: Option<&Path>) -> Result<Checkpoint> {
    match (base_of_adapter(path)?, base) {
        (None, _) => Checkpoint::open(path),
        (Some(_), Some(base)) => Checkpoint::open_adapted(path, base),
        (Some(name), None) => Checkpoint::open_adapted(path, &find_base(path, &name)?),
    }
}

/// Returns the base model that the adapter in `folder` calls `name`.
fn find_base(folder: &Path, name: &str) -> Result<PathBuf> {
    let found = Places::from_env(None).find(name.as_ref());
    found.ok_or_else(|| Error::Model {
        path: folder.to_owned(),
        reason: format!(
            "an adapter of the model {:?}, which is not on this machine: download it (`overhear models pull`), or correct \
             base_model_name_or_path in adapter_config.json",
            excerpt(name)
        ),
    })
}

impl Model {
    /// Opens a Hugging Face model folder: `config.json`, `model.safetensors` or `pytorch_model.bin` (or shards), and
    /// `vocab.json` or `tokenizer.json`; or one with a GGUF file instead, or that file; or a CTranslate2 folder of
    /// faster-whisper; or a `.pt` checkpoint of openai/whisper; or a ggml file of whisper.cpp, or a folder with nothing else; or a LoRA adapter of PEFT,
    /// which is merged into its base model as that is read. Quantised weights are widened to f32. Weights keep their element type,
    /// or are rounded or packed for the compute type.
    ///
    /// # Errors
    /// [`Error::Model`] if a file is missing, damaged, or does not fit the others; [`Error::Option`] if `OVERHEAR_ISA`
    /// names an instruction set that this machine lacks, or if the model does not fit the compute type.
    pub fn open(folder: impl AsRef<Path>, options: &ModelOptions) -> Result<Self> {
        let kernels = Kernels::from_env().map_err(|error| Error::Option {
            name: ISA_VARIABLE,
            reason: error.to_string(),
        })?;
        let threads = options
            .threads
            .map_or_else(Pool::default_threads, NonZeroUsize::get);
        let pool = Arc::new(Pool::new(threads));
        let host = Host { kernels, pool };
        let (device, compute_type) = (options.device, options.compute_type);
        let paths = (folder.as_ref(), options.base.as_deref());
        Self::open_on(paths, device, compute_type, host, None)
    }

    /// Opens a model folder or file, with its `base` if it is an adapter, to be run on `device` with the kernels and threads
    /// of `host`: without the encoder if it is that of `verifier`.
    fn open_on(
        (path, base): (&Path, Option<&Path>),
        device: Device,
        compute_type: ComputeType,
        host: Host,
        verifier: Option<&Self>,
    ) -> Result<Self> {
        let checkpoint = open_checkpoint(path, base)?;
        let folder = checkpoint.folder();
        let mut dims = *checkpoint.dims();
        let tokenizer = open_tokenizer(folder, &checkpoint)?;
        dims.n_vocab = tokenizer.n_vocab();
        let alignment_heads = AlignmentHeads::of(folder, &dims)?;
        let sample = |name| checkpoint.vector(name, dims.n_audio_state);
        let names = [
            "encoder.conv1.bias",
            "encoder.ln_post.weight",
            "encoder.ln_post.bias",
        ];
        let encoder_sample = names
            .map(sample)
            .into_iter()
            .collect::<Result<Vec<_>>>()?
            .concat();
        let is_verifiers = |verifier: &Self| {
            let of_verifier = &verifier.inner;
            let shape = |dims: &ModelDimensions| (dims.n_audio_layer, dims.n_audio_ctx);
            shape(&of_verifier.dims) == shape(&dims) && of_verifier.encoder_sample == encoder_sample
        };
        let parts = match verifier.is_some_and(is_verifiers) {
            true => Parts::Decoder,
            false => Parts::All,
        };
        let backend = backend::open(device, &checkpoint, &dims, parts, compute_type, &host)?;
        if parts == Parts::All {
            checkpoint.warn_of_unused();
        }
        let dtype = Dtype::in_files(checkpoint.dtype());
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                base: base.map(Path::to_owned),
                dims,
                dtype,
                tokenizer,
                alignment_heads,
                host,
                device,
                encoder_sample,
                parts,
                backend,
                vad: OnceLock::new(),
            }),
            draft: None,
        })
    }

    pub(super) fn drafted_by(self, draft: Drafts) -> Self {
        Self {
            draft: Some(Arc::new(draft)),
            ..self
        }
    }

    /// Opens the model at `path` to draft for this one, without an encoder if it is the same; `None`: this model itself.
    pub(crate) fn open_draft(
        &self,
        path: Option<&Path>,
        compute_type: ComputeType,
    ) -> Result<Self> {
        let inner = &self.inner;
        let paths = match path {
            Some(path) => (path, None),
            None => (inner.path.as_path(), inner.base.as_deref()),
        };
        let host = inner.host.clone();
        Self::open_on(paths, inner.device, compute_type, host, Some(self))
    }

    /// Returns whether this model, which drafts for another, uses the encoder of that.
    pub(crate) fn shares_encoder(&self) -> bool {
        self.inner.parts == Parts::Decoder
    }

    pub(crate) fn draft(&self) -> Option<&Drafts> {
        self.draft.as_deref()
    }

    /// Transcribes a file of any length: `whisper/transcribe.py::transcribe`.
    ///
    /// # Errors
    /// [`Error::Option`] if an option does not fit the model; [`Error::Audio`] and [`Error::Read`] if the audio
    /// cannot be decoded; [`Error::NotFinite`] if the weights are damaged.
    pub fn transcribe(&self, audio: &Audio, options: &TranscribeOptions) -> Result<Transcript> {
        self.transcribe_with(audio, options, |_| ControlFlow::Continue(()))
    }

    /// Transcribes as [`Model::transcribe`], and calls `on_event` with each segment when it is final, with the
    /// progress, and at every token, so that the caller can cancel.
    ///
    /// # Errors
    /// As [`Model::transcribe`], and [`Error::Canceled`] if `on_event` breaks.
    pub fn transcribe_with(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
        on_event: impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Transcript> {
        let engine = Engine::new(self, 1, options.n_rows())?;
        engine.transcribe_with(audio, options, on_event)
    }

    /// Returns the languages that may be spoken with their probabilities, most probable first, at least one. The first
    /// is the language that [`Model::transcribe`] would detect.
    ///
    /// `options` set the number of 30-second windows to examine (by default the first one only), the probability from
    /// which a window decides alone, and the allowed languages. The returned probabilities are those of the deciding
    /// window: the first one above the threshold, or else the one with the highest probability of the language that
    /// most windows have. For an English-only model the result is English.
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

    /// Returns the audio features, the encoder's output for one window, `[n_audio_ctx, n_audio_state]`:
    /// `whisper/model.py::embed_audio`.
    ///
    /// # Errors
    /// [`Error::Option`] if `mel` is not `[n_mels, 3000]`; [`Error::Device`].
    pub fn embed_audio(&self, mel: &LogMel) -> Result<Vec<f32>> {
        let mut session = self.session(1)?;
        session.encode(mel)?;
        Ok(session.audio_features().to_vec())
    }

    /// Returns the decoder's logits after each of `tokens` for one window, `[tokens.len(), n_vocab]`:
    /// `whisper/model.py::logits`.
    ///
    /// # Errors
    /// [`Error::Option`] if `mel` is not `[n_mels, 3000]`; [`Error::Capacity`] if there are more tokens than the
    /// decoder's context holds; [`Error::Device`].
    pub fn logits(&self, mel: &LogMel, tokens: &[TokenId]) -> Result<Vec<f32>> {
        let mut session = self.session(1)?;
        session.encode(mel)?;
        let mut logits = Vec::with_capacity(tokens.len() * self.dims().n_vocab);
        for &token in tokens {
            logits.extend_from_slice(session.step(&[token])?);
        }
        Ok(logits)
    }

    /// Returns the dimensions of the model.
    #[must_use]
    pub fn dims(&self) -> &ModelDimensions {
        &self.inner.dims
    }

    /// Returns whether the model has language and task tokens (`Whisper.is_multilingual`); if not, it is English-only.
    #[must_use]
    pub fn is_multilingual(&self) -> bool {
        self.inner.tokenizer.is_multilingual()
    }

    /// Returns the model's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// Returns the element type of the weights in the checkpoint.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.inner.dtype
    }

    /// Returns the arithmetic in use; never [`ComputeType::Auto`].
    #[must_use]
    pub fn compute_type(&self) -> ComputeType {
        self.inner.backend.compute_type()
    }

    /// Returns the instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.inner.host.kernels.isa().into()
    }

    /// Returns the number of threads in use.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.host.pool.n_threads()
    }

    /// Returns the cross-attention heads that word timestamps are computed from.
    pub(crate) fn alignment_heads(&self) -> &AlignmentHeads {
        &self.inner.alignment_heads
    }

    pub(crate) fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Returns the detector of speech, with this model's kernels and threads.
    pub(crate) fn vad(&self) -> &Vad {
        self.inner.vad.get_or_init(|| Vad::with_host(self.host()))
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

/// Opens the tokenizer of the checkpoint at `path`.
///
/// # Errors
/// [`Error::Model`] if there is none, or if it does not fit the checkpoint.
pub(crate) fn open_tokenizer(path: &Path, checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let dims = checkpoint.dims();
    match checkpoint.text_tokens() {
        TextTokens::InFolder => Tokenizer::open_for(path, dims.n_vocab, Some(dims.n_mels)),
        TextTokens::Listed(tokens) => Tokenizer::of_tokens(path, tokens, dims.n_vocab, dims.n_mels),
        TextTokens::Published => {
            let tokens = published_tokens(dims.n_vocab);
            Tokenizer::of_tokens(path, &tokens, dims.n_vocab, dims.n_mels)
        }
    }
}
