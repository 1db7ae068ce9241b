//! The model: dimensions, files, and the handle that everything is done with.

mod config;
mod dims;
mod elements;
pub mod find;
mod foreign;
mod generation;
mod load;
mod names;
mod safetensors;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use overhear_kernels::{Dtype, ISA_VARIABLE, Isa, Kernels, Packing, Pool};

pub use dims::ModelDimensions;
pub(crate) use generation::GenerationConfig;
pub(crate) use load::{Checkpoint, OUTPUT, Stacked, TOKEN_EMBEDDING};

use crate::align::AlignmentHeads;
use crate::backend::cpu::{CpuBackend, Format, Packer, Weights};
use crate::backend::{Backend, Batch, State};
use crate::decode::detect_language;
use crate::mel::{MelStream, N_FRAMES};
use crate::transcribe::{detect_spoken_language, transcribe};
use crate::{
    Audio, DecodingOptions, DecodingResult, Error, Event, Language, LanguageProbability, LogMel,
    Result, TokenId, Tokenizer, TranscribeOptions, Transcript,
};

/// Which arithmetic the network runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComputeType {
    /// The fastest type whose words are f32's nearly everywhere (PERFORMANCE.md, *What rounding costs*):
    /// [`ComputeType::Bf16`] where the machine computes it natively, else [`ComputeType::F16`], or [`ComputeType::F32`] on
    /// a machine without vectors, where halves are converted slowly.
    #[default]
    Auto,
    /// Single precision: the exact one.
    F32,
    /// All arithmetic in f32; weights, and the keys and values of cross-attention, rounded to IEEE halves where they
    /// are kept, so that half as many bytes are read. What is beyond their range becomes their largest.
    F16,
    /// Products of bfloat16, rounded from whatever the checkpoint holds; sums, normalisation and softmax in f32.
    /// Emulated, slowly, where the machine has no instructions for it.
    Bf16,
    /// The linear layers in bytes: weights quantised at load with a scale per output, activations on the fly with a
    /// scale and a middle per row; convolutions and attention as [`ComputeType::Bf16`].
    Int8,
    /// The decoder's weights in bytes with scales per output and per input, multiplied by activations in f32; the keys and
    /// values of cross-attention as [`ComputeType::F16`], all else as [`ComputeType::F32`].
    Int8Float32,
    /// The same, with the encoder and cross-attention as [`ComputeType::Bf16`]. Other activations of the decoder are f32.
    Int8Bfloat16,
}

impl ComputeType {
    /// Every type, as listed to users.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Int8,
        Self::Int8Float32,
        Self::Int8Bfloat16,
    ];

    /// The name on the command line: `auto`, `f32`, `f16`, `bf16`, `int8`, and CTranslate2's `int8_float32` and
    /// `int8_bfloat16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ComputeType::Auto => "auto",
            ComputeType::F32 => "f32",
            ComputeType::F16 => "f16",
            ComputeType::Bf16 => "bf16",
            ComputeType::Int8 => "int8",
            ComputeType::Int8Float32 => "int8_float32",
            ComputeType::Int8Bfloat16 => "int8_bfloat16",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compute_type| compute_type.name() == name)
    }

    /// The type that is meant on this machine, and how weights are kept for it.
    fn resolve(self, kernels: &Kernels, dims: &ModelDimensions) -> Result<(Self, Format)> {
        // Two bfloat16 are taken at a time, from the rows of convolutions and heads as they lie.
        let is_even = [
            dims.n_mels,
            dims.n_audio_state / dims.n_audio_head,
            dims.n_text_state / dims.n_text_head,
        ]
        .iter()
        .all(|n| n.is_multiple_of(2));
        match self {
            Self::Auto if is_even && kernels.is_native(Packing::Bf16) => {
                Ok((Self::Bf16, Format::BF16))
            }
            Self::Auto if kernels.isa() != Isa::Scalar => Ok((Self::F16, Format::F16)),
            Self::Auto | Self::F32 => Ok((Self::F32, Format::F32)),
            Self::F16 => Ok((self, Format::F16)),
            Self::Int8Float32 => Ok((self, Format::INT8_FLOAT32)),
            Self::Bf16 | Self::Int8 | Self::Int8Bfloat16 if !is_even => Err(Error::Option {
                name: "compute_type",
                reason: format!("{} needs heads and mel bins of even size", self.name()),
            }),
            Self::Bf16 => Ok((self, Format::BF16)),
            Self::Int8 => Ok((self, Format::INT8)),
            Self::Int8Bfloat16 => Ok((self, Format::INT8_BFLOAT16)),
        }
    }
}

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// Arithmetic. Default: [`ComputeType::Auto`].
    pub compute_type: ComputeType,
    /// Threads; 0, the default, takes what the machine and its cgroup quota give.
    pub threads: usize,
}

/// An opened model. Cheap to clone, and usable from several threads at once.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    dims: ModelDimensions,
    dtype: Dtype,
    compute_type: ComputeType,
    tokenizer: Tokenizer,
    alignment_heads: AlignmentHeads,
    kernels: Kernels,
    pool: Arc<Pool>,
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
        let (compute_type, format) = options.compute_type.resolve(&kernels, &dims)?;
        let threads = if options.threads == 0 {
            Pool::default_threads()
        } else {
            options.threads
        };
        let pool = Arc::new(Pool::new(threads));
        let packer = Packer {
            kernels: &kernels,
            pool: &pool,
            format,
        };
        let weights = Weights::read(&checkpoint, &dims, packer)?;
        checkpoint.warn_of_unused();
        let backend = CpuBackend::new(dims, weights, kernels, Arc::clone(&pool));
        let dtype = checkpoint.dtype();
        Ok(Self {
            inner: Arc::new(Inner {
                dims,
                dtype,
                compute_type,
                tokenizer,
                alignment_heads,
                kernels,
                pool,
                backend: Box::new(backend),
            }),
        })
    }

    /// Transcribes a file of any length: `whisper/transcribe.py::transcribe`.
    ///
    /// # Errors
    /// [`Error::Option`] if an option does not fit the model; [`Error::Audio`] and [`Error::Read`] if the audio
    /// cannot be decoded; [`Error::NotFinite`] if the weights are damaged.
    pub fn transcribe(&self, audio: &Audio, options: &TranscribeOptions) -> Result<Transcript> {
        self.transcribe_with(audio, options, &mut |_| ControlFlow::Continue(()))
    }

    /// The same, reporting to `on_event` on the way: segments as they become final, progress, and a chance to
    /// cancel at every token.
    ///
    /// # Errors
    /// As [`Model::transcribe`], and [`Error::Canceled`] when `on_event` breaks.
    pub fn transcribe_with(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Transcript> {
        transcribe(self, audio, options, on_event)
    }

    /// The languages that may be spoken in the first 30 seconds, likeliest first. An English-only model
    /// answers English.
    ///
    /// # Errors
    /// [`Error::Audio`] and [`Error::Read`] if the audio cannot be decoded.
    pub fn detect_language(&self, audio: &Audio) -> Result<Vec<LanguageProbability>> {
        if !self.is_multilingual() {
            return Ok(vec![LanguageProbability {
                language: Language::ENGLISH,
                probability: 1.0,
            }]);
        }
        let mut mel = MelStream::open(audio, self.dims().n_mels, &mut |_| Ok(()))?;
        let mut state = self.new_state(1, 1);
        state.encode(0, &mel.window(0, N_FRAMES)?);
        let mut languages = detect_language(&mut *state, self.tokenizer(), 0)?;
        languages.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Ok(languages)
    }

    /// The language that [`Model::transcribe`] would detect with these options: in the first windows, among
    /// `languages`. An English-only model answers English.
    ///
    /// # Errors
    /// As [`Model::transcribe`].
    pub fn detect_language_with(
        &self,
        audio: &Audio,
        options: &TranscribeOptions,
    ) -> Result<LanguageProbability> {
        detect_spoken_language(self, audio, options)
    }

    /// Decodes one window of 3000 frames: `whisper/decoding.py::decode`.
    ///
    /// # Errors
    /// [`Error::Option`] if an option does not fit the model.
    ///
    /// # Panics
    /// If `mel` is not `[n_mels, 3000]`.
    pub fn decode(&self, mel: &LogMel, options: &DecodingOptions) -> Result<DecodingResult> {
        options.verify()?;
        let mut session = self.session(options.n_group());
        session.encode(mel);
        session.decode(options)
    }

    /// The encoder's output for one window, `[n_audio_ctx, n_audio_state]`: `whisper/model.py::embed_audio`.
    ///
    /// # Panics
    /// If `mel` is not `[n_mels, 3000]`.
    #[must_use]
    pub fn embed_audio(&self, mel: &LogMel) -> Vec<f32> {
        let mut state = self.new_state(1, 1);
        state.encode(0, mel);
        state.audio_features().to_vec()
    }

    /// The decoder's logits after each of `tokens`, `[tokens.len(), n_vocab]`, for one window:
    /// `whisper/model.py::logits`.
    ///
    /// # Panics
    /// If `mel` is not `[n_mels, 3000]`, or there are more tokens than the decoder has positions.
    #[must_use]
    pub fn logits(&self, mel: &LogMel, tokens: &[TokenId]) -> Vec<f32> {
        let mut state = self.new_state(1, 1);
        state.encode(0, mel);
        let mut batch = Batch::default();
        let mut logits = Vec::with_capacity(tokens.len() * self.dims().n_vocab);
        for &token in tokens {
            batch.clear();
            batch.push(0, 0, &[token], &[0]);
            logits.extend_from_slice(state.decode(&batch));
        }
        logits
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

    /// The dtype the checkpoint stores the weights in: `f16`, `bf16` or `f32`.
    #[must_use]
    pub fn dtype(&self) -> &'static str {
        self.inner.dtype.name()
    }

    /// The arithmetic in use, by [`ComputeType::name`]; never `auto`.
    #[must_use]
    pub fn compute_type(&self) -> &'static str {
        self.inner.compute_type.name()
    }

    /// The instruction set in use: `avx2`, `avx512`, ...
    #[must_use]
    pub fn isa(&self) -> &'static str {
        self.inner.kernels.isa().name()
    }

    /// The threads in use.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner.pool.n_threads()
    }

    /// The heads of cross-attention that word timestamps come from.
    pub(crate) fn alignment_heads(&self) -> &AlignmentHeads {
        &self.inner.alignment_heads
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.inner.kernels
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn new_state(&self, n_slots: usize, n_rows: usize) -> Box<dyn State> {
        self.inner.backend.new_state(n_slots, n_rows)
    }
}
