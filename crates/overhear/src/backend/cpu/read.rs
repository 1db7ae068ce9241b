//! Weights of a checkpoint, converted to their format as they are read; what is always multiplied together is stored
//! together.

use super::decoder::{CrossAttention, Decoder, DecoderBlock};
use super::encoder::{CrossKeyValue, Encoder, EncoderBlock};
use super::layers::{LayerNorm, Linear, Mlp, SelfAttention};
use super::weight::{EncoderWeight, Weight};
use crate::Result;
use crate::checkpoint::{Checkpoint, ModelDimensions, OUTPUT, Stacked, TOKEN_EMBEDDING};
use crate::host::Host;

const POSITIONS: &str = "encoder.positional_embedding";

/// Reader of layers `W` from tensors named as in `whisper/model.py`.
pub(super) struct Reader<'a, W: Weight> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) dims: &'a ModelDimensions,
    pub(super) host: &'a Host,
    pub(super) format: W::Format,
}

impl<W: EncoderWeight> Reader<'_, W> {
    /// # Errors
    /// [`crate::Error::Model`] if a tensor is missing or has another shape.
    pub(super) fn encoder(&self) -> Result<Encoder<W>> {
        let dims = self.dims;
        let (n_ctx, n_state) = (dims.n_audio_ctx, dims.n_audio_state);
        Ok(Encoder {
            conv1: self.convolution("encoder.conv1", n_state, dims.n_mels)?,
            conv2: self.convolution("encoder.conv2", n_state, n_state)?,
            positional_embedding: match self.checkpoint.has(POSITIONS) {
                true => self.checkpoint.vector(POSITIONS, n_ctx * n_state)?,
                false => sinusoids(n_ctx, n_state),
            },
            blocks: (0..dims.n_audio_layer)
                .map(|layer| self.encoder_block(&format!("encoder.blocks.{layer}")))
                .collect::<Result<_>>()?,
            ln_post: self.layer_norm("encoder.ln_post", n_state)?,
        })
    }

    /// # Errors
    /// [`crate::Error::Model`] if a tensor is missing or has another shape.
    pub(super) fn cross_key_value(&self) -> Result<CrossKeyValue<W>> {
        let (n_audio, n_text) = (self.dims.n_audio_state, self.dims.n_text_state);
        let of_layer = |layer: usize| {
            let part = |part| format!("decoder.blocks.{layer}.cross_attn.{part}");
            self.linear(&[part("key"), part("value")], n_text, n_audio)
        };
        let layers = (0..self.dims.n_text_layer).map(of_layer);
        Ok(CrossKeyValue(layers.collect::<Result<_>>()?))
    }

    fn encoder_block(&self, name: &str) -> Result<EncoderBlock<W>> {
        let n_state = self.dims.n_audio_state;
        Ok(EncoderBlock {
            attn: self.self_attention(name, n_state)?,
            mlp: self.mlp(name, n_state)?,
        })
    }

    fn convolution(&self, name: &str, n_out: usize, n_in: usize) -> Result<Linear<W>> {
        let weight = format!("{name}.weight");
        let matrix = self.checkpoint.convolution(&weight, n_out, n_in, 3)?;
        let format = W::convolution_format(self.format);
        Ok(Linear {
            weight: W::convert(self.host, &matrix, format),
            bias: self.checkpoint.vector(&format!("{name}.bias"), n_out)?,
        })
    }
}

impl<W: Weight> Reader<'_, W> {
    /// # Errors
    /// [`crate::Error::Model`] if a tensor is missing or has another shape.
    pub(super) fn decoder(&self) -> Result<Decoder<W>> {
        let dims = self.dims;
        let (n_ctx, n_state) = (dims.n_text_ctx, dims.n_text_state);
        let by_token = |name| {
            let rows = self.checkpoint.first_rows(name, dims.n_vocab, n_state)?;
            self.weight(&rows)
        };
        Ok(Decoder {
            token_embedding: by_token(TOKEN_EMBEDDING)?,
            output: match self.checkpoint.has_own_output() {
                true => Some(by_token(OUTPUT)?),
                false => None,
            },
            positional_embedding: self
                .checkpoint
                .vector("decoder.positional_embedding", n_ctx * n_state)?,
            blocks: (0..dims.n_text_layer)
                .map(|layer| self.decoder_block(&format!("decoder.blocks.{layer}")))
                .collect::<Result<_>>()?,
            ln: self.layer_norm("decoder.ln", n_state)?,
        })
    }

    fn decoder_block(&self, name: &str) -> Result<DecoderBlock<W>> {
        let n_state = self.dims.n_text_state;
        let part = |part| [format!("{name}.cross_attn.{part}")];
        Ok(DecoderBlock {
            attn: self.self_attention(name, n_state)?,
            cross_attn: CrossAttention {
                norm: self.layer_norm(&format!("{name}.cross_attn_ln"), n_state)?,
                query: self.linear(&part("query"), n_state, n_state)?,
                out: self.linear(&part("out"), n_state, n_state)?,
            },
            mlp: self.mlp(name, n_state)?,
        })
    }

    fn self_attention(&self, block: &str, n_state: usize) -> Result<SelfAttention<W>> {
        let part = |part| format!("{block}.attn.{part}");
        let query_key_value = ["query", "key", "value"].map(part);
        Ok(SelfAttention {
            norm: self.layer_norm(&format!("{block}.attn_ln"), n_state)?,
            query_key_value: self.linear(&query_key_value, n_state, n_state)?,
            out: self.linear(&[part("out")], n_state, n_state)?,
        })
    }

    fn mlp(&self, block: &str, n_state: usize) -> Result<Mlp<W>> {
        Ok(Mlp {
            norm: self.layer_norm(&format!("{block}.mlp_ln"), n_state)?,
            up: self.linear(&[format!("{block}.mlp.0")], 4 * n_state, n_state)?,
            down: self.linear(&[format!("{block}.mlp.2")], n_state, 4 * n_state)?,
        })
    }

    /// Layers of `[n_out, n_in]` each, stacked into one. A key projection has no bias.
    fn linear(&self, names: &[String], n_out: usize, n_in: usize) -> Result<Linear<W>> {
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
            weight: self.weight(&self.checkpoint.rows(&weights, n_out, n_in)?)?,
            bias,
        })
    }

    /// Rows of one dtype are converted while they are read; of several dtypes, as one f32 matrix.
    fn weight(&self, rows: &Stacked<'_>) -> Result<W> {
        match rows.dtype() {
            Some(dtype) => W::read(self.host, rows, dtype, self.format),
            None => Ok(W::convert(self.host, &rows.widened()?, self.format)),
        }
    }

    fn layer_norm(&self, name: &str, n_state: usize) -> Result<LayerNorm> {
        Ok(LayerNorm {
            gamma: self.checkpoint.vector(&format!("{name}.weight"), n_state)?,
            beta: self.checkpoint.vector(&format!("{name}.bias"), n_state)?,
        })
    }
}

/// The encoder's positional embedding `[length, channels]`, which some checkpoints leave out:
/// `whisper/model.py::sinusoids`.
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
