//! Reader of whisper.cpp's ggml files: header, vocabulary and tensors in one file
//! (`whisper.cpp/models/convert-pt-to-ggml.py`, `src/whisper.cpp::whisper_model_load`).
//!
//! A file is a sequence of little-endian fields without alignment: dimensions, mel filters, the bytes of each text token,
//! and until the end of the file tensors with a header each. Tensors have openai/whisper's names. Nothing is allocated for
//! a size that the file does not have.

use std::path::Path;

use super::ModelDimensions;
use super::config::check;
use super::elements::Stored;
use super::fields::{Fields, Parsed, start_of};
use super::tensor_file::{MAX_RANK, MAX_TENSORS, Tensor, TensorFile, is_plausible};
use crate::excerpt::excerpt;
use crate::{Error, Result};

/// First bytes of a file: `0x67676d6c`, little-endian.
const MAGIC: &[u8; 4] = b"lmgg";
/// Maximum number of bytes of a token.
const MAX_TOKEN_BYTES: usize = 1 << 16;

/// Types of tensors (`ggml.h::ggml_type`), by number.
const TYPES: [(u32, &str); 19] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (28, "F64"),
    (30, "BF16"),
];

/// An open ggml file.
pub(super) struct Ggml {
    pub(super) dims: ModelDimensions,
    /// Bytes of the text tokens, in the order of their ids.
    pub(super) vocabulary: Vec<Vec<u8>>,
    pub(super) file: TensorFile,
}

/// Returns whether the file at `path` begins as a ggml file.
pub(super) fn is_ggml(path: &Path) -> bool {
    start_of(path) == Some(*MAGIC)
}

impl Ggml {
    /// Reads header, vocabulary and tensor headers.
    ///
    /// # Errors
    /// [`Error::Model`] if the file is cut or damaged, or a tensor is of a type that is not supported.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Model {
            path: path.to_owned(),
            reason,
        };
        let (mut fields, file) = Fields::open(path).map_err(bad)?;
        let (dims, vocabulary, tensors) = fields.ggml().map_err(bad)?;
        Ok(Self {
            dims,
            vocabulary,
            file: TensorFile::new(path, file, 0, tensors),
        })
    }
}

impl Fields {
    /// Reads header, vocabulary and tensor headers.
    fn ggml(&mut self) -> Parsed<(ModelDimensions, Vec<Vec<u8>>, Vec<Tensor>)> {
        if self.bytes(MAGIC.len())? != MAGIC {
            return Err("not a ggml file".to_owned());
        }
        let dims = self.dims()?;
        let filters = [self.size()?, self.size()?];
        let n_filters = filters[0].checked_mul(filters[1]);
        // The filters are those of openai/whisper, which the spectrogram has.
        self.skip(
            n_filters
                .and_then(|n| n.checked_mul(4))
                .unwrap_or(usize::MAX) as u64,
        )?;
        let n_tokens = self.size()?;
        let mut vocabulary = Vec::new();
        for id in 0..n_tokens {
            let n = self.size()?;
            if n > MAX_TOKEN_BYTES {
                return Err(format!("token {id} has {n} bytes"));
            }
            vocabulary.push(self.bytes(n)?);
        }
        let mut tensors = Vec::new();
        while !self.is_at_end() {
            if tensors.len() == MAX_TENSORS {
                return Err(format!("more than {MAX_TENSORS} tensors"));
            }
            let tensor = self.tensor()?;
            check_layer(&tensor.name, &dims)?;
            tensors.push(tensor);
        }
        Ok((dims, vocabulary, tensors))
    }

    /// Reads the dimensions, and skips the type of most tensors.
    fn dims(&mut self) -> Parsed<ModelDimensions> {
        let dims = ModelDimensions {
            n_vocab: self.size()?,
            n_audio_ctx: self.size()?,
            n_audio_state: self.size()?,
            n_audio_head: self.size()?,
            n_audio_layer: self.size()?,
            n_text_ctx: self.size()?,
            n_text_state: self.size()?,
            n_text_head: self.size()?,
            n_text_layer: self.size()?,
            n_mels: self.size()?,
        };
        self.size()?;
        check(&dims)?;
        Ok(dims)
    }

    fn tensor(&mut self) -> Parsed<Tensor> {
        let (rank, n_name, kind) = (self.size()?, self.size()?, self.size()?);
        if rank > MAX_RANK {
            return Err(format!(
                "a tensor of {rank} dimensions at byte {}",
                self.position()
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.size()? as u64);
        }
        // The innermost dimension comes first.
        shape.reverse();
        let name = String::from_utf8(self.bytes(n_name.min(MAX_TOKEN_BYTES))?);
        let name = name.ok().filter(|name| is_plausible(name));
        let name =
            name.ok_or_else(|| format!("a tensor's name before byte {}", self.position()))?;
        let dtype = name_of_type(kind);
        let n_bytes = Stored::bytes_of_rows(&dtype, &shape);
        let n_bytes = n_bytes.ok_or_else(|| unsupported(&name, &dtype, &shape))?;
        let first = self.position();
        self.skip(n_bytes)
            .map_err(|reason| format!("{reason} for tensor {}", excerpt(&name)))?;
        Ok(Tensor::new(name, dtype, shape, (first, self.position())))
    }
}

/// Checks that a tensor is of a layer that the header counts: a model without its last layers gives a text, but not its own.
fn check_layer(name: &str, dims: &ModelDimensions) -> Parsed<()> {
    let Some((side, rest)) = name.split_once(".blocks.") else {
        return Ok(());
    };
    let n_layer = match side {
        "encoder" => dims.n_audio_layer,
        _ => dims.n_text_layer,
    };
    let layer = rest.split('.').next().and_then(|layer| layer.parse().ok());
    match layer.is_some_and(|layer: usize| layer >= n_layer) {
        true => Err(format!(
            "tensor {} is of a layer beyond the {n_layer} that the header counts",
            excerpt(name)
        )),
        false => Ok(()),
    }
}

/// Returns the name of the type of this number, also in GGUF files.
pub(super) fn name_of_type(kind: usize) -> String {
    let dtype = TYPES.iter().find(|(number, _)| *number as usize == kind);
    dtype.map_or_else(|| format!("type {kind}"), |(_, dtype)| (*dtype).to_owned())
}

/// Returns why a tensor cannot be read.
pub(super) fn unsupported(name: &str, dtype: &str, shape: &[u64]) -> String {
    format!(
        "tensor {} is {} {shape:?}: supported are F32, F16, BF16, and in rows of whole blocks of 32 Q8_0, Q5_0, Q5_1, Q4_0 and \
         Q4_1, of 256 Q2_K, Q3_K, Q4_K, Q5_K and Q6_K",
        excerpt(name),
        excerpt(dtype)
    )
}
