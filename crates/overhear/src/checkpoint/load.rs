//! Checkpoints: configuration, and tensors by openai/whisper's names, of a Hugging Face folder, a ggml or GGUF file, a
//! CTranslate2 folder or a checkpoint of openai/whisper, with an adapter or without.
//!
//! Weights are packed into the model's panels while they are read, some rows at a time, so that peak memory is that of
//! the weights.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytemuck::Pod;
use overhear_kernels::{Dtype, Matrix, MatrixData};

use super::ModelDimensions;
use super::config::Config;
use super::ctranslate2::{CTranslate2, is_ctranslate2};
use super::elements::{Found, Stored, read_all, read_widened};
use super::folder::ggml_in;
use super::ggml::{Ggml, is_ggml};
use super::gguf::{self, is_gguf};
use super::lora::Adapter;
use super::names::openai_name;
use super::pytorch::{PyTorch, is_pytorch};
use super::shards::open_files;
use super::stacked::Stacked;
use super::tensor_file::{Tensor, TensorFile};
use crate::excerpt::excerpt;
use crate::{Error, Result};

#[cfg(not(target_endian = "little"))]
compile_error!("checkpoints are little-endian and are read without byte swapping");

/// Name of the matrix of token embeddings, `[n_vocab, n_state]`.
pub(crate) const TOKEN_EMBEDDING: &str = "decoder.token_embedding.weight";
/// Name of the output matrix, if it differs from the token embedding: Hugging Face's, as openai/whisper has none.
pub(crate) const OUTPUT: &str = "proj_out.weight";

/// An open checkpoint. Tensors have openai/whisper's names (`decoder.blocks.0.attn.query.weight`), whatever the names
/// in the file.
pub(crate) struct Checkpoint {
    /// File named in errors about missing tensors.
    path: PathBuf,
    /// Folder with the other files of the model, or a ggml file, which needs none.
    folder: PathBuf,
    dims: ModelDimensions,
    /// Name of the type of most weights.
    dtype: &'static str,
    has_own_output: bool,
    files: Vec<TensorFile>,
    /// Index of the file, and the tensor in it, by openai/whisper's name.
    pub(super) tensors: HashMap<String, (usize, Tensor)>,
    text_tokens: TextTokens,
    /// Names of the tensors that were read.
    used: RefCell<HashSet<String>>,
}

/// Where the text tokens of a checkpoint are.
pub(crate) enum TextTokens {
    /// In files of the folder.
    InFolder,
    /// In the file with the weights: their bytes, in the order of their ids.
    Listed(Vec<Vec<u8>>),
    /// Nowhere, as they are those of openai/whisper.
    Published,
}

impl Checkpoint {
    /// Reads configuration and tensor headers of a Hugging Face or CTranslate2 folder, or of a ggml or GGUF file or one of
    /// openai/whisper, but no weights.
    ///
    /// # Errors
    /// [`Error::Model`] with the file's path, as in all methods.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = &ggml_in(path)?;
        if is_ggml(path) {
            let ggml = Ggml::open(path)?;
            let tokens = TextTokens::Listed(ggml.vocabulary);
            return Self::of_file(path, ggml.file, ggml.dims, false, tokens);
        }
        if is_pytorch(path) {
            let PyTorch { dims, file } = PyTorch::open(path)?;
            let dims = dims.ok_or_else(|| {
                bad(
                    &file,
                    "weights without dimensions: pass the folder that they are in, which must hold config.json too"
                        .into(),
                )
            })?;
            return Self::of_file(path, file, dims, false, TextTokens::Published);
        }
        if is_gguf(path) {
            let folder = path.parent().unwrap_or(Path::new(""));
            let files = vec![gguf::open(path)?];
            if !folder.join("config.json").exists() {
                return Err(bad(
                    &files[0],
                    "a GGUF file needs the model's config.json and tokenizer.json in its folder"
                        .into(),
                ));
            }
            let config = Config::read(folder)?;
            return Self::of_folder(folder, &config, path.to_owned(), files);
        }
        if is_ctranslate2(path) && !path.join("model.safetensors").exists() {
            let model = CTranslate2::open(path)?;
            return Self::of_file(
                path,
                model.file,
                model.dims,
                model.has_own_output,
                TextTokens::InFolder,
            );
        }
        let config = Config::read(path)?;
        let (file, files) = open_files(path)?;
        Self::of_folder(path, &config, file, files)
    }

    /// Opens the model `base` with the adapter in `folder`, which is merged into it tensor by tensor as they are read.
    ///
    /// # Errors
    /// [`Error::Model`] if the adapter changes a tensor that the base model has not, or has in another shape.
    pub(crate) fn open_adapted(folder: &Path, base: &Path) -> Result<Self> {
        let adapter = Adapter::open(folder)?;
        let mut checkpoint = Self::open(base)?;
        // A tied matrix that is changed is another than the other from then on.
        if !checkpoint.has_own_output
            && (adapter.changes(TOKEN_EMBEDDING) || adapter.changes(OUTPUT))
            && let Some(embedding) = checkpoint.tensors.get(TOKEN_EMBEDDING).cloned()
        {
            checkpoint.tensors.insert(OUTPUT.into(), embedding);
            checkpoint.has_own_output = true;
        }
        let file = adapter.add_to(&mut checkpoint.tensors, checkpoint.files.len(), base)?;
        checkpoint.files.push(file);
        Ok(checkpoint)
    }

    fn of_file(
        folder: &Path,
        file: TensorFile,
        dims: ModelDimensions,
        has_own_output: bool,
        text_tokens: TextTokens,
    ) -> Result<Self> {
        let path = file.path().to_owned();
        let files = vec![file];
        let tensors = index_by_name(&files)?;
        let dtype = commonest_dtype(&tensors, &path)?;
        Ok(Self {
            path,
            folder: folder.to_owned(),
            dims,
            dtype,
            has_own_output,
            files,
            tensors,
            text_tokens,
            used: RefCell::default(),
        })
    }

    /// `path`: the file of the weights, or the list of their files.
    fn of_folder(
        folder: &Path,
        config: &Config,
        path: PathBuf,
        files: Vec<TensorFile>,
    ) -> Result<Self> {
        let mut tensors = index_by_name(&files)?;
        let dtype = commonest_dtype(&tensors, &path)?;
        // A tied matrix may be stored under either name.
        if !tensors.contains_key(TOKEN_EMBEDDING)
            && !config.has_own_output()
            && let Some(tensor) = tensors.remove(OUTPUT)
        {
            tensors.insert(TOKEN_EMBEDDING.into(), tensor);
        }
        let shape = |name: &str| Some(&tensors.get(name)?.1.shape[..]);
        let dims = config.dims(&shape)?;
        let has_own_output = config.has_own_output() && tensors.contains_key(OUTPUT);
        if config.has_own_output() && !has_own_output {
            tracing::warn!(
                file = %path.display(),
                "no proj_out.weight, although tie_word_embeddings is false: the token embedding is used instead"
            );
        }
        Ok(Self {
            path,
            folder: folder.to_owned(),
            dims,
            dtype,
            has_own_output,
            files,
            tensors,
            text_tokens: TextTokens::InFolder,
            used: RefCell::default(),
        })
    }

    /// Returns the folder with the tokenizer and the generation configuration, or the file of a model that is one file.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where the text tokens are.
    pub(crate) fn text_tokens(&self) -> &TextTokens {
        &self.text_tokens
    }

    /// Returns whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns whether the output matrix differs from the token embedding.
    pub(crate) fn has_own_output(&self) -> bool {
        self.has_own_output
    }

    /// Warns of tensors that were never read, since the model may depend on them.
    pub(crate) fn warn_of_unused(&self) {
        let used = self.used.borrow();
        let unused = self.tensors.iter().filter(|(name, _)| {
            // A tied output matrix is a copy of the token embedding, so it is not unknown.
            !used.contains(*name) && *name != OUTPUT
        });
        let mut names: Vec<&str> = unused.map(|(_, (_, tensor))| &tensor.name[..]).collect();
        names.sort_unstable();
        let Some(first) = names.first() else { return };
        let others = match names.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let is_lora = names.iter().any(|name| name.contains("lora_"));
        let advice = match is_lora {
            true => {
                ": a LoRA adapter that is not merged has no effect; merge it with PEFT's merge_and_unload"
            }
            false => "",
        };
        tracing::warn!(
            file = %self.path.display(),
            "unknown tensors are ignored: {}{others}{advice}",
            excerpt(first)
        );
    }

    pub(crate) fn dims(&self) -> &ModelDimensions {
        &self.dims
    }

    /// Returns the name of the type of most weights in the file: `F16`, `Q8_0`, `I8`, ...
    pub(crate) fn dtype(&self) -> &'static str {
        self.dtype
    }

    /// Returns the name of the type in the file of all matrices of the decoder; `None` if they have several, or if an adapter
    /// changes one.
    pub(crate) fn decoder_dtype(&self) -> Option<&'static str> {
        let is_own_output = |name: &str| name == OUTPUT && self.has_own_output;
        let matrices = self.tensors.iter().filter(|(name, (_, tensor))| {
            (name.starts_with("decoder.") || is_own_output(name))
                && tensor.shape.len() == 2
                && *name != "decoder.positional_embedding"
        });
        let mut types = matrices.map(|(_, (_, tensor))| match tensor.delta {
            Some(_) => None,
            None => Stored::of(tensor).map(Stored::name),
        });
        let first = types.next().flatten()?;
        types.all(|dtype| dtype == Some(first)).then_some(first)
    }

    /// Reads the matrices `names`, each `[n_rows, n_cols]`, stacked into one `[names.len() * n_rows, n_cols]`, for
    /// tests. Matrices of different dtypes are widened to f32.
    #[cfg(test)]
    pub(crate) fn matrix(&self, names: &[&str], n_rows: usize, n_cols: usize) -> Result<Matrix> {
        let rows = self.rows(names, n_rows, n_cols)?;
        let data = match rows.dtype {
            Some(Dtype::F32) => MatrixData::F32(read_all(&rows.found)?),
            Some(Dtype::F16) => MatrixData::F16(read_all(&rows.found)?),
            Some(Dtype::Bf16) => MatrixData::Bf16(read_all(&rows.found)?),
            None => return rows.widened(),
        };
        Ok(Matrix::new(names.len() * n_rows, n_cols, data))
    }

    /// Returns the first `n_rows` rows of a matrix of `n_cols` columns, for reading in parts.
    pub(crate) fn first_rows(
        &self,
        name: &str,
        n_rows: usize,
        n_cols: usize,
    ) -> Result<Stacked<'_>> {
        let found = self.find(name)?;
        let [rows, cols] = found.1.shape[..] else {
            return Err(misshapen(found, &[n_rows, n_cols]));
        };
        if rows < n_rows as u64 || cols != n_cols as u64 {
            return Err(misshapen(found, &[n_rows, n_cols]));
        }
        Ok(Stacked {
            dtype: Some(found.2.kept()),
            found: vec![found],
            n_rows,
            n_cols,
        })
    }

    /// Returns the matrices `names`, each `[n_rows, n_cols]`, stacked, for reading in parts.
    pub(crate) fn rows(&self, names: &[&str], n_rows: usize, n_cols: usize) -> Result<Stacked<'_>> {
        let found = names
            .iter()
            .map(|name| self.find_shaped(name, &[n_rows, n_cols]))
            .collect::<Result<Vec<_>>>()?;
        let mut dtypes = found.iter().map(|(_, _, stored)| stored.kept());
        let first = dtypes.next();
        Ok(Stacked {
            dtype: first.filter(|&first| dtypes.all(|dtype| dtype == first)),
            found,
            n_rows,
            n_cols,
        })
    }

    /// Returns the weights of a 1-d convolution, `[n_out, n_in, n_tap]`, as `n_out` rows for reading in parts.
    pub(crate) fn filters(
        &self,
        name: &str,
        n_out: usize,
        n_in: usize,
        n_tap: usize,
    ) -> Result<Stacked<'_>> {
        let found = self.find_shaped(name, &[n_out, n_in, n_tap])?;
        Ok(Stacked {
            dtype: Some(found.2.kept()),
            found: vec![found],
            n_rows: n_out,
            n_cols: n_in * n_tap,
        })
    }

    /// Reads the weights of a 1-d convolution, `[n_out, n_in, n_tap]`, as a matrix `[n_out, n_tap * n_in]`, tap-major,
    /// so that a row of activations is `n_tap` consecutive frames of a time-major buffer.
    pub(crate) fn convolution(
        &self,
        name: &str,
        n_out: usize,
        n_in: usize,
        n_tap: usize,
    ) -> Result<Matrix> {
        let found = [self.find_shaped(name, &[n_out, n_in, n_tap])?];
        let data = match found[0].2.kept() {
            Dtype::F32 => MatrixData::F32(tap_major(read_all(&found)?, n_in, n_tap)),
            Dtype::F16 => MatrixData::F16(tap_major(read_all(&found)?, n_in, n_tap)),
            Dtype::Bf16 => MatrixData::Bf16(tap_major(read_all(&found)?, n_in, n_tap)),
        };
        Ok(Matrix::new(n_out, n_tap * n_in, data))
    }

    /// Reads a vector `[len]`, widened to f32; or a matrix of `len` elements, row-major (positional embeddings).
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let (file, tensor, stored) = self.find(name)?;
        if tensor.n_elements() != len as u64 || !matches!(tensor.shape.len(), 1 | 2) {
            return Err(bad(
                file,
                format!(
                    "tensor {} is {:?}, not {len} elements",
                    tensor.name, tensor.shape
                ),
            ));
        }
        read_widened(&[(file, tensor, stored)])
    }

    fn find(&self, name: &str) -> Result<Found<'_>> {
        let Some((file, tensor)) = self.tensors.get(name) else {
            let adapted = self
                .tensors
                .values()
                .any(|(_, t)| t.name.contains(".base_layer."));
            let advice = match adapted {
                true => ", but a LoRA adapter around it: merge that with PEFT's merge_and_unload",
                false => "",
            };
            return Err(Error::Model {
                path: self.path.clone(),
                reason: format!("no tensor {name}{advice}"),
            });
        };
        self.used.borrow_mut().insert(name.to_owned());
        let file = &self.files[*file];
        match Stored::of(tensor) {
            Some(stored) => Ok((file, tensor, stored)),
            None => Err(bad(
                file,
                format!(
                    "tensor {} is {}, not F16, BF16, F32 or F64",
                    excerpt(&tensor.name),
                    excerpt(&tensor.dtype)
                ),
            )),
        }
    }

    fn find_shaped(&self, name: &str, shape: &[usize]) -> Result<Found<'_>> {
        let found = self.find(name)?;
        if found
            .1
            .shape
            .iter()
            .copied()
            .eq(shape.iter().map(|&n| n as u64))
        {
            return Ok(found);
        }
        Err(misshapen(found, shape))
    }
}

fn misshapen((file, tensor, _): Found<'_>, shape: &[usize]) -> Error {
    let name = excerpt(&tensor.name);
    bad(
        file,
        format!("tensor {name} is {:?}, not {shape:?}", tensor.shape),
    )
}

fn bad(file: &TensorFile, reason: String) -> Error {
    Error::Model {
        path: file.path().to_owned(),
        reason,
    }
}

fn index_by_name(files: &[TensorFile]) -> Result<HashMap<String, (usize, Tensor)>> {
    let mut tensors = HashMap::new();
    for (i, file) in files.iter().enumerate() {
        for tensor in file.tensors() {
            if let Some((_, other)) = tensors.insert(openai_name(&tensor.name), (i, tensor.clone()))
            {
                return Err(bad(
                    file,
                    format!(
                        "tensors {} and {} have the same meaning",
                        excerpt(&other.name),
                        excerpt(&tensor.name)
                    ),
                ));
            }
        }
    }
    Ok(tensors)
}

/// Returns the name of the type of most weights.
///
/// # Errors
/// [`Error::Model`] with `path` if no tensor has weights.
fn commonest_dtype(
    tensors: &HashMap<String, (usize, Tensor)>,
    path: &Path,
) -> Result<&'static str> {
    let mut counts = BTreeMap::new();
    for (_, tensor) in tensors.values() {
        if let Some(stored) = Stored::of(tensor) {
            *counts.entry(stored.name()).or_insert(0) += tensor.n_elements();
        }
    }
    let most = counts.into_iter().max_by_key(|&(_, n)| n);
    let Some((dtype, _)) = most.filter(|&(_, n)| n > 0) else {
        return Err(Error::Model {
            path: path.to_owned(),
            reason: "no tensor of F16, BF16, F32 or F64".into(),
        });
    };
    if !matches!(dtype, "F32" | "F16" | "BF16") {
        tracing::info!(file = %path.display(), "weights in {dtype} become f32 as they are read");
    }
    Ok(dtype)
}

/// Transposes `[n_in, n_tap]` of each output to `[n_tap, n_in]`, in place.
fn tap_major<T: Pod>(mut elements: Vec<T>, n_in: usize, n_tap: usize) -> Vec<T> {
    let mut row = vec![T::zeroed(); n_in * n_tap];
    for filter in elements.chunks_exact_mut(n_in * n_tap) {
        row.copy_from_slice(filter);
        for (i, &weight) in row.iter().enumerate() {
            filter[i % n_tap * n_in + i / n_tap] = weight;
        }
    }
    elements
}
