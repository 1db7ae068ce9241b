//! The weights, in the checkpoint's dtype, in f16, or packed, as the compute type wants them, with what is always used
//! together stored together.

use overhear_kernels::{
    Dtype, Kernels, Matrix, PackedMatrix, Packing, Pool, Storage, StoredMatrix,
};

use super::packed::PackedLinear;
use crate::Result;
use crate::model::{Checkpoint, ModelDimensions, OUTPUT, Stacked, TOKEN_EMBEDDING};

const POSITIONS: &str = "encoder.positional_embedding";

/// `y = x * weight^T + bias`.
pub(super) struct Linear {
    pub(super) weight: Weight,
    pub(super) bias: Vec<f32>,
}

/// A matrix `[n_out, n_in]`.
pub(super) enum Weight {
    /// As in the checkpoint, exact; in f16; or in bytes, multiplied by f32.
    Stored(StoredMatrix),
    /// Rounded to bfloat16 or quantised.
    Packed(PackedMatrix),
}

impl Weight {
    /// Writes row `row` to `to`: the embedding lookup.
    pub(super) fn copy_row(&self, row: usize, to: &mut [f32]) {
        match self {
            Weight::Stored(weight) => weight.copy_row(row, to),
            Weight::Packed(weight) => weight.copy_row(row, to),
        }
    }
}

impl Linear {
    /// The weight, and the bias.
    pub(super) fn parts(&self) -> (&Weight, Option<&[f32]>) {
        (&self.weight, Some(&self.bias))
    }

    /// The packed weight, and the bias.
    ///
    /// # Panics
    /// If the weight is not packed: a network is packed as a whole.
    pub(super) fn packed(&self) -> PackedLinear<'_> {
        match &self.weight {
            Weight::Packed(weight) => (weight, &self.bias),
            Weight::Stored(_) => unreachable!("a network is packed as a whole"),
        }
    }
}

/// What a compute type means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Weights of the encoder, and those that make keys and values of its output.
    pub(super) encoder: WeightFormat,
    /// All others of the decoder.
    pub(super) decoder: WeightFormat,
    pub(super) cross: CrossFormat,
}

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WeightFormat {
    /// As in the checkpoint.
    Exact,
    /// In f16, widened to f32 as they are multiplied.
    F16,
    /// In bytes, likewise.
    Int8,
    /// Packed, multiplied by activations that are packed alike.
    Packed(Packing),
}

/// How the keys and values of cross-attention are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CrossFormat {
    F32,
    F16,
    /// Packed bfloat16.
    Bf16,
    Int8,
}

impl Format {
    pub(crate) const F32: Self = Self {
        encoder: WeightFormat::Exact,
        decoder: WeightFormat::Exact,
        cross: CrossFormat::F32,
    };
    pub(crate) const F16: Self = Self {
        encoder: WeightFormat::F16,
        decoder: WeightFormat::F16,
        cross: CrossFormat::F16,
    };
    pub(crate) const BF16: Self = Self {
        encoder: WeightFormat::Packed(Packing::Bf16),
        decoder: WeightFormat::Packed(Packing::Bf16),
        cross: CrossFormat::Bf16,
    };
    pub(crate) const INT8: Self = Self {
        encoder: WeightFormat::Packed(Packing::Int8),
        decoder: WeightFormat::Packed(Packing::Int8),
        cross: CrossFormat::Int8,
    };
    pub(crate) const INT8_FLOAT32: Self = Self {
        encoder: WeightFormat::Exact,
        decoder: WeightFormat::Int8,
        cross: CrossFormat::F16,
    };
    pub(crate) const INT8_BFLOAT16: Self = Self {
        decoder: WeightFormat::Int8,
        ..Self::BF16
    };

    /// How the encoder's activations are packed, if they are.
    pub(super) fn encoder_packing(self) -> Option<Packing> {
        self.encoder.packing()
    }

    /// How the decoder's activations are packed, if any are: those of cross-attention at least.
    pub(super) fn decoder_packing(self) -> Option<Packing> {
        let of_cross = (self.cross == CrossFormat::Bf16).then_some(Packing::Bf16);
        self.decoder.packing().or(of_cross)
    }
}

impl WeightFormat {
    /// What weights of `dtype` are stored as, or how they are packed.
    fn keep(self, dtype: Dtype) -> std::result::Result<Storage, Packing> {
        match self {
            WeightFormat::Exact => Ok(Storage::Float(dtype)),
            WeightFormat::F16 => Ok(Storage::Float(Dtype::F16)),
            WeightFormat::Int8 => Ok(Storage::Int8),
            WeightFormat::Packed(packing) => Err(packing),
        }
    }

    fn packing(self) -> Option<Packing> {
        self.keep(Dtype::F32).err()
    }
}

/// What brings the weights into their format as they are read.
#[derive(Clone, Copy)]
pub(crate) struct Packer<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) pool: &'a Pool,
    pub(crate) format: Format,
}

pub(super) struct LayerNorm {
    pub(super) gamma: Vec<f32>,
    pub(super) beta: Vec<f32>,
}

/// Self-attention with its layer norm: query, key and value in one product.
pub(super) struct SelfAttention {
    pub(super) norm: LayerNorm,
    /// `[3 * n_state, n_state]`; the key has no bias in Whisper: zeros.
    pub(super) query_key_value: Linear,
    pub(super) out: Linear,
}

/// Cross-attention with its layer norm. Keys and values are made once per window, the query once per token.
pub(super) struct CrossAttention {
    pub(super) norm: LayerNorm,
    pub(super) query: Linear,
    /// `[2 * n_text_state, n_audio_state]`.
    pub(super) key_value: Linear,
    pub(super) out: Linear,
}

/// The two-layer perceptron with its layer norm.
pub(super) struct Mlp {
    pub(super) norm: LayerNorm,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

pub(super) struct EncoderBlock {
    pub(super) attn: SelfAttention,
    pub(super) mlp: Mlp,
}

pub(super) struct DecoderBlock {
    pub(super) attn: SelfAttention,
    pub(super) cross_attn: CrossAttention,
    pub(super) mlp: Mlp,
}

pub(super) struct Encoder {
    /// `[n_state, 3 * n_mels]`.
    pub(super) conv1: Linear,
    /// `[n_state, 3 * n_state]`.
    pub(super) conv2: Linear,
    /// `[n_audio_ctx, n_state]`.
    pub(super) positional_embedding: Vec<f32>,
    pub(super) blocks: Vec<EncoderBlock>,
    pub(super) ln_post: LayerNorm,
}

pub(super) struct Decoder {
    /// `[n_vocab, n_state]`.
    pub(super) token_embedding: Weight,
    /// `[n_vocab, n_state]`: the output projection, if it is not the embedding again.
    output: Option<Weight>,
    /// `[n_text_ctx, n_state]`.
    pub(super) positional_embedding: Vec<f32>,
    pub(super) blocks: Vec<DecoderBlock>,
    pub(super) ln: LayerNorm,
}

impl Decoder {
    /// What states are multiplied with to get logits, `[n_vocab, n_state]`.
    pub(super) fn projection(&self) -> &Weight {
        self.output.as_ref().unwrap_or(&self.token_embedding)
    }
}

/// Every tensor of a Whisper model.
pub(crate) struct Weights {
    pub(super) format: Format,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
}

impl Weights {
    /// Reads all tensors of `dims` from `checkpoint`, one after the other, each brought into its format as soon as it is read.
    ///
    /// # Errors
    /// [`crate::Error::Model`] if a tensor is missing or has another shape.
    pub(crate) fn read(
        checkpoint: &Checkpoint,
        dims: &ModelDimensions,
        packer: Packer<'_>,
    ) -> Result<Self> {
        let reader = |format| Reader {
            checkpoint,
            packer,
            format,
        };
        Ok(Self {
            format: packer.format,
            encoder: reader(packer.format.encoder).encoder(dims)?,
            decoder: reader(packer.format.decoder).decoder(dims)?,
        })
    }
}

/// Puts the layers together from tensors named as in `whisper/model.py`.
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    packer: Packer<'a>,
    /// What weights are brought into.
    format: WeightFormat,
}

impl Reader<'_> {
    fn encoder(&self, dims: &ModelDimensions) -> Result<Encoder> {
        let n_state = dims.n_audio_state;
        let n_positions = dims.n_audio_ctx * n_state;
        Ok(Encoder {
            conv1: self.convolution("encoder.conv1", n_state, dims.n_mels)?,
            conv2: self.convolution("encoder.conv2", n_state, n_state)?,
            positional_embedding: match self.checkpoint.has(POSITIONS) {
                true => self.checkpoint.vector(POSITIONS, n_positions)?,
                false => sinusoids(dims.n_audio_ctx, n_state),
            },
            blocks: (0..dims.n_audio_layer)
                .map(|layer| self.encoder_block(&format!("encoder.blocks.{layer}"), n_state))
                .collect::<Result<_>>()?,
            ln_post: self.layer_norm("encoder.ln_post", n_state)?,
        })
    }

    fn decoder(&self, dims: &ModelDimensions) -> Result<Decoder> {
        let n_state = dims.n_text_state;
        let n_positions = dims.n_text_ctx * n_state;
        let by_token = |name| {
            let rows = self.checkpoint.first_rows(name, dims.n_vocab, n_state)?;
            self.weight_of(&rows)
        };
        Ok(Decoder {
            token_embedding: by_token(TOKEN_EMBEDDING)?,
            output: match self.checkpoint.has_own_output() {
                true => Some(by_token(OUTPUT)?),
                false => None,
            },
            positional_embedding: self
                .checkpoint
                .vector("decoder.positional_embedding", n_positions)?,
            blocks: (0..dims.n_text_layer)
                .map(|layer| self.decoder_block(&format!("decoder.blocks.{layer}"), dims))
                .collect::<Result<_>>()?,
            ln: self.layer_norm("decoder.ln", n_state)?,
        })
    }

    fn encoder_block(&self, name: &str, n_state: usize) -> Result<EncoderBlock> {
        Ok(EncoderBlock {
            attn: self.self_attention(name, n_state)?,
            mlp: self.mlp(name, n_state)?,
        })
    }

    fn decoder_block(&self, name: &str, dims: &ModelDimensions) -> Result<DecoderBlock> {
        let n_state = dims.n_text_state;
        let part = |part: &str| format!("{name}.cross_attn.{part}");
        let of_window = Self {
            format: self.packer.format.encoder,
            ..*self
        };
        Ok(DecoderBlock {
            attn: self.self_attention(name, n_state)?,
            cross_attn: CrossAttention {
                norm: self.layer_norm(&format!("{name}.cross_attn_ln"), n_state)?,
                query: self.linear(&[part("query")], n_state, n_state)?,
                key_value: of_window.linear(
                    &[part("key"), part("value")],
                    n_state,
                    dims.n_audio_state,
                )?,
                out: self.linear(&[part("out")], n_state, n_state)?,
            },
            mlp: self.mlp(name, n_state)?,
        })
    }

    fn self_attention(&self, block: &str, n_state: usize) -> Result<SelfAttention> {
        let part = |part: &str| format!("{block}.attn.{part}");
        Ok(SelfAttention {
            norm: self.layer_norm(&format!("{block}.attn_ln"), n_state)?,
            query_key_value: self.linear(
                &[part("query"), part("key"), part("value")],
                n_state,
                n_state,
            )?,
            out: self.linear(&[part("out")], n_state, n_state)?,
        })
    }

    fn mlp(&self, block: &str, n_state: usize) -> Result<Mlp> {
        Ok(Mlp {
            norm: self.layer_norm(&format!("{block}.mlp_ln"), n_state)?,
            up: self.linear(&[format!("{block}.mlp.0")], 4 * n_state, n_state)?,
            down: self.linear(&[format!("{block}.mlp.2")], n_state, 4 * n_state)?,
        })
    }

    /// Layers of `[n_out, n_in]` each, stacked into one. A key projection has no bias.
    fn linear(&self, names: &[String], n_out: usize, n_in: usize) -> Result<Linear> {
        let weights: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
        let weights: Vec<&str> = weights.iter().map(String::as_str).collect();
        let mut bias = Vec::with_capacity(names.len() * n_out);
        for name in names {
            if name.ends_with(".key") {
                bias.resize(bias.len() + n_out, 0.0);
            } else {
                bias.extend(self.checkpoint.vector(&format!("{name}.bias"), n_out)?);
            }
        }
        Ok(Linear {
            weight: self.weight(&weights, n_out, n_in)?,
            bias,
        })
    }

    /// The matrices `names`, each `[n_out, n_in]`, stacked.
    fn weight(&self, names: &[&str], n_out: usize, n_in: usize) -> Result<Weight> {
        self.weight_of(&self.checkpoint.rows(names, n_out, n_in)?)
    }

    fn weight_of(&self, rows: &Stacked<'_>) -> Result<Weight> {
        let Packer { kernels, pool, .. } = self.packer;
        let Some(dtype) = rows.dtype() else {
            return Ok(self.bring(&rows.widened()?, self.format));
        };
        let (shape, read) = (rows.shape(), |first: usize, to: &mut [u8]| {
            rows.read(first, to)
        });
        match self.format.keep(dtype) {
            Ok(kept) => kernels
                .store_weights_from(pool, shape, dtype, kept, read)
                .map(Weight::Stored),
            Err(packing) => kernels
                .pack_weights_from(pool, shape, dtype, packing, read)
                .map(Weight::Packed),
        }
    }

    /// Packed as bfloat16 if the weights are packed: rows that overlap cannot have a scale each.
    fn convolution(&self, name: &str, n_out: usize, n_in: usize) -> Result<Linear> {
        let weight = format!("{name}.weight");
        let matrix = self.checkpoint.convolution(&weight, n_out, n_in, 3)?;
        let format = match self.format {
            WeightFormat::Packed(_) => WeightFormat::Packed(Packing::Bf16),
            format => format,
        };
        Ok(Linear {
            weight: self.bring(&matrix, format),
            bias: self.checkpoint.vector(&format!("{name}.bias"), n_out)?,
        })
    }

    /// Brings `matrix` into `format`.
    fn bring(&self, matrix: &Matrix, format: WeightFormat) -> Weight {
        let Packer { kernels, pool, .. } = self.packer;
        match format.keep(matrix.dtype()) {
            Ok(kept) => Weight::Stored(kernels.store_weights(pool, matrix, kept)),
            Err(packing) => Weight::Packed(kernels.pack_weights(pool, matrix, packing)),
        }
    }

    fn layer_norm(&self, name: &str, n_state: usize) -> Result<LayerNorm> {
        Ok(LayerNorm {
            gamma: self.checkpoint.vector(&format!("{name}.weight"), n_state)?,
            beta: self.checkpoint.vector(&format!("{name}.bias"), n_state)?,
        })
    }
}

/// The encoder's positions `[length, channels]`, which some checkpoints leave out: `whisper/model.py::sinusoids`.
fn sinusoids(length: usize, channels: usize) -> Vec<f32> {
    let n = channels / 2;
    let increment = 10_000f64.ln() / (n.max(2) - 1) as f64;
    let row = |time: usize| {
        let angle = move |i: usize| time as f64 * (-increment * i as f64).exp();
        let sines = (0..n).map(move |i| angle(i).sin() as f32);
        sines.chain((0..channels - n).map(move |i| angle(i).cos() as f32))
    };
    (0..length).flat_map(row).collect()
}
