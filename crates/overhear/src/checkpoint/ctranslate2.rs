//! Reader of CTranslate2 models, as faster-whisper has them: `model.bin`, a sequence of named variables
//! (`CTranslate2/src/models/model.cc::Model::load`, `python/ctranslate2/specs/whisper_spec.py`).
//!
//! Query, key and value of self-attention are one variable there, and key and value of cross-attention are: their rows
//! become tensors of their own. Integers are divided by scales, which are variables too
//! (`python/ctranslate2/specs/model_spec.py::LayerSpec._quantize`).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use super::config::check;
use super::elements::Stored;
use super::fields::{Fields, Parsed};
use super::tensor_file::{MAX_RANK, MAX_TENSORS, Tensor, TensorFile, is_plausible, read_exact_at};
use super::{ModelDimensions, OUTPUT, TOKEN_EMBEDDING};
use crate::excerpt::excerpt;
use crate::file::LFS_REASON;
use crate::{Error, Result};

/// Versions of the format that state the type of each variable and list aliases.
const VERSIONS: std::ops::RangeInclusive<u64> = 4..=6;
/// Types of variables (`include/ctranslate2/types.h::DataType`), by number.
const TYPES: [&str; 6] = ["F32", "I8", "I16", "I32", "F16", "BF16"];
/// Scale of int16 weights without one, of old converters (`src/ops/quantize.cc::Quantize::global_int16_scale`).
const INT16_SCALE: f32 = 1000.0;
/// Number of the activation GELU (`include/ctranslate2/ops/activation.h::ActivationType`).
const GELU: u64 = 3;

/// An open CTranslate2 model.
pub(super) struct CTranslate2 {
    pub(super) dims: ModelDimensions,
    pub(super) has_own_output: bool,
    pub(super) file: TensorFile,
}

/// Returns whether `folder` has the files of a CTranslate2 model.
pub(super) fn is_ctranslate2(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    has("model.bin") && (has("vocabulary.json") || has("vocabulary.txt"))
}

/// Variables of a model, by name.
#[derive(Default)]
struct Variables {
    /// Variables of several numbers.
    arrays: BTreeMap<String, Variable>,
    /// Variables of one number.
    numbers: HashMap<String, u64>,
    /// Further names of arrays, each with the name that the array has.
    aliases: Vec<(String, String)>,
}

struct Variable {
    shape: Vec<u64>,
    dtype: &'static str,
    /// First byte and end.
    offsets: (u64, u64),
}

impl CTranslate2 {
    /// Reads the descriptions of the variables in `model.bin` of `folder`.
    ///
    /// # Errors
    /// [`Error::Model`] if the file is cut or damaged.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("model.bin");
        let bad = |reason: String| Error::Model {
            path: path.clone(),
            reason,
        };
        let (mut fields, file) = Fields::open(&path).map_err(bad)?;
        let variables = fields.variables().map_err(bad)?;
        let tensors = variables.tensors(&file).map_err(bad)?;
        let dims = dims(&tensors, &variables.numbers).map_err(bad)?;
        Ok(Self {
            dims,
            has_own_output: tensors.iter().any(|tensor| tensor.name == OUTPUT),
            file: TensorFile::new(&path, file, 0, tensors),
        })
    }
}

impl Fields {
    fn variables(&mut self) -> Parsed<Variables> {
        let version = self.number::<4>()?;
        if version == u64::from(u32::from_le_bytes(*b"vers")) {
            return Err(LFS_REASON.to_owned());
        }
        if !VERSIONS.contains(&version) {
            return Err(format!(
                "version {version} of CTranslate2's format is not known"
            ));
        }
        let spec = self.name()?;
        if spec != "WhisperSpec" {
            return Err(format!("a model of {}, not of WhisperSpec", excerpt(&spec)));
        }
        self.number::<4>()?;
        let n_variables = self.number::<4>()?;
        if n_variables > MAX_TENSORS as u64 {
            return Err(format!("{n_variables} variables"));
        }
        let mut variables = Variables::default();
        for _ in 0..n_variables {
            self.variable(&mut variables)?;
        }
        for _ in 0..self.number::<4>()?.min(MAX_TENSORS as u64) {
            variables.aliases.push((self.name()?, self.name()?));
        }
        match self.is_at_end() {
            true => Ok(variables),
            false => Err(format!("bytes after {} belong to nothing", self.position())),
        }
    }

    /// Reads a variable's name, shape and type. Adds what it holds.
    fn variable(&mut self, variables: &mut Variables) -> Parsed<()> {
        let name = self.name()?;
        let rank = self.number::<1>()? as usize;
        if rank > MAX_RANK {
            return Err(format!("{} has {rank} dimensions", excerpt(&name)));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.number::<4>()?);
        }
        let kind = self.number::<1>()? as usize;
        let dtype = TYPES.get(kind).copied().unwrap_or("unknown");
        let n_bytes = self.number::<4>()?;
        if rank == 0 && n_bytes <= 2 {
            let number = match n_bytes {
                1 => self.number::<1>()?,
                _ => self.number::<2>()?,
            };
            variables.numbers.insert(name, number);
            return Ok(());
        }
        let first = self.position();
        self.skip(n_bytes)
            .map_err(|reason| format!("{reason} for {}", excerpt(&name)))?;
        let variable = Variable {
            shape,
            dtype,
            offsets: (first, self.position()),
        };
        match variables.arrays.insert(name.clone(), variable) {
            None => Ok(()),
            Some(_) => Err(format!("two variables are called {}", excerpt(&name))),
        }
    }

    /// Reads a string: its length with the zero at its end, then its bytes.
    fn name(&mut self) -> Parsed<String> {
        let at = self.position();
        let n = self.number::<2>()? as usize;
        let mut bytes = self.bytes(n)?;
        bytes.pop();
        let name = String::from_utf8(bytes)
            .ok()
            .filter(|name| is_plausible(name));
        name.ok_or_else(|| format!("no name at byte {at}"))
    }
}

impl Variables {
    /// Returns the tensors that the variables consist of. `file` has the scales.
    fn tensors(&self, file: &File) -> Parsed<Vec<Tensor>> {
        let mut tensors = Vec::new();
        for (name, variable) in &self.arrays {
            self.add(name, (name, variable), file, &mut tensors)?;
        }
        for (alias, name) in &self.aliases {
            // An output matrix that is the token embedding is not a tensor of its own. Others are biases or norms of the same
            // numbers: integers with equal scales too do not occur.
            if alias != "decoder/projection/weight"
                && let Some(variable) = self.arrays.get(name)
                && Stored::integers(variable.dtype).is_none()
            {
                self.add(alias, (name, variable), file, &mut tensors)?;
            }
        }
        Ok(tensors)
    }

    /// Adds the tensors that a variable called `alias` consists of.
    fn add(
        &self,
        alias: &str,
        (name, variable): (&str, &Variable),
        file: &File,
        tensors: &mut Vec<Tensor>,
    ) -> Parsed<()> {
        let parts = parts(alias);
        if parts.is_empty() {
            return Ok(());
        }
        let Variable {
            shape,
            dtype,
            offsets: (first, end),
        } = variable;
        let n_elements = shape.iter().try_fold(1_u64, |n, &size| n.checked_mul(size));
        let stored = Stored::named(dtype).or_else(|| Stored::integers(dtype));
        let stored = stored.ok_or_else(|| format!("{} is of type {dtype}", excerpt(name)))?;
        if n_elements.and_then(|n| stored.n_bytes(n)) != Some(end - first) {
            return Err(format!(
                "{} is {dtype} {shape:?} in {} bytes",
                excerpt(name),
                end - first
            ));
        }
        let n_parts = parts.len() as u64;
        if shape.is_empty() || !shape[0].is_multiple_of(n_parts) {
            return Err(format!(
                "{} is {shape:?}, not {n_parts} matrices",
                excerpt(name)
            ));
        }
        let reciprocals = match stored {
            Stored::Integers(_) => self.reciprocals(name, variable, file)?,
            _ => Vec::new(),
        };
        let (n_rows, len) = (shape[0] / n_parts, (end - first) / n_parts);
        let part_shape = [&[n_rows], &shape[1..]].concat();
        for (i, part) in (0..).zip(parts) {
            // A key projection has no bias: it is zeros here.
            if part.ends_with(".key.bias") {
                continue;
            }
            let own = match reciprocals.len() {
                0 | 1 => &reciprocals[..],
                _ => &reciprocals[(i * n_rows) as usize..((i + 1) * n_rows) as usize],
            };
            let offsets = (first + i * len, first + (i + 1) * len);
            tensors.push(Tensor {
                reciprocals: own.into(),
                ..Tensor::new(part, (*dtype).to_owned(), part_shape.clone(), offsets)
            });
        }
        Ok(())
    }

    /// Reads the scales of integers, one for each row or one of all, and returns their reciprocals, which CTranslate2 multiplies
    /// with (`src/ops/dequantize_cpu.cc`).
    fn reciprocals(&self, name: &str, weights: &Variable, file: &File) -> Parsed<Vec<f32>> {
        let scale_name = format!("{name}_scale");
        let Some(variable) = self.arrays.get(&scale_name) else {
            return match weights.dtype {
                "I16" => Ok(vec![1.0 / INT16_SCALE]),
                dtype => Err(format!("{} is {dtype} without scales", excerpt(name))),
            };
        };
        let (first, end) = variable.offsets;
        let n_scales = match weights.dtype {
            "I16" => 1,
            _ => weights.shape[0],
        };
        if variable.dtype != "F32" || Some(end - first) != n_scales.checked_mul(4) {
            return Err(format!(
                "{} is {} in {} bytes, not {n_scales} of F32",
                excerpt(&scale_name),
                variable.dtype,
                end - first
            ));
        }
        let mut scales = vec![0.0_f32; n_scales as usize];
        read_exact_at(file, bytemuck::cast_slice_mut(&mut scales), first)
            .map_err(|error| format!("cannot read {}: {error}", excerpt(&scale_name)))?;
        Ok(scales.into_iter().map(f32::recip).collect())
    }
}

/// Returns openai/whisper's names of the tensors that variable `name` consists of, none if it is not a weight.
fn parts(name: &str) -> Vec<String> {
    let Some((side, rest)) = name.split_once('/') else {
        return Vec::new();
    };
    let one = |name: String| vec![name];
    let norm = if side == "encoder" { "ln_post" } else { "ln" };
    match rest {
        "embeddings/weight" => return one(TOKEN_EMBEDDING.to_owned()),
        "projection/weight" => return one(OUTPUT.to_owned()),
        "position_encodings/encodings" => return one(format!("{side}.positional_embedding")),
        "layer_norm/gamma" => return one(format!("{side}.{norm}.weight")),
        "layer_norm/beta" => return one(format!("{side}.{norm}.bias")),
        "conv1/weight" | "conv1/bias" | "conv2/weight" | "conv2/bias" => {
            return one(format!("{side}.{}", rest.replace('/', ".")));
        }
        _ => {}
    }
    let layer = rest
        .strip_prefix("layer_")
        .and_then(|rest| rest.split_once('/'));
    let Some((layer, (module, kind))) =
        layer.and_then(|(layer, rest)| Some((layer, rest.rsplit_once('/')?)))
    else {
        return Vec::new();
    };
    let (modules, kind): (&[&str], _) = match (module, kind) {
        ("self_attention/layer_norm", "gamma") => (&["attn_ln"], "weight"),
        ("self_attention/layer_norm", "beta") => (&["attn_ln"], "bias"),
        ("attention/layer_norm", "gamma") => (&["cross_attn_ln"], "weight"),
        ("attention/layer_norm", "beta") => (&["cross_attn_ln"], "bias"),
        ("ffn/layer_norm", "gamma") => (&["mlp_ln"], "weight"),
        ("ffn/layer_norm", "beta") => (&["mlp_ln"], "bias"),
        (_, "weight" | "bias") => match module {
            "self_attention/linear_0" => (&["attn.query", "attn.key", "attn.value"], kind),
            "self_attention/linear_1" => (&["attn.out"], kind),
            "attention/linear_0" => (&["cross_attn.query"], kind),
            "attention/linear_1" => (&["cross_attn.key", "cross_attn.value"], kind),
            "attention/linear_2" => (&["cross_attn.out"], kind),
            "ffn/linear_0" => (&["mlp.0"], kind),
            "ffn/linear_1" => (&["mlp.2"], kind),
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let name = |module: &&str| format!("{side}.blocks.{layer}.{module}.{kind}");
    modules.iter().map(name).collect()
}

/// Derives the dimensions from the shapes of tensors and the numbers of heads.
fn dims(tensors: &[Tensor], numbers: &HashMap<String, u64>) -> Parsed<ModelDimensions> {
    let shape = |name: &str| {
        tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .map(|t| &t.shape)
    };
    let size = |name: &str, axis: usize| -> Parsed<usize> {
        let size = shape(name).and_then(|shape| usize::try_from(*shape.get(axis)?).ok());
        size.ok_or_else(|| format!("no tensor {name}"))
    };
    let number = |name: &str| -> Parsed<usize> {
        let number = numbers
            .get(name)
            .and_then(|&number| usize::try_from(number).ok());
        number.ok_or_else(|| format!("no {name}"))
    };
    let n_layer = |side: &str| {
        let layer = |i: &usize| shape(&format!("{side}.blocks.{i}.attn_ln.weight")).is_some();
        (0..).take_while(layer).count()
    };
    for side in ["encoder", "decoder"] {
        let activation = numbers.get(&format!("{side}/activation"));
        if activation.is_some_and(|&activation| activation != GELU) {
            return Err(format!("the activation of the {side} is not GELU"));
        }
        if numbers.get(&format!("{side}/pre_norm")) == Some(&0) {
            return Err(format!(
                "the {side} normalises after its layers, not before"
            ));
        }
    }
    let dims = ModelDimensions {
        n_mels: size("encoder.conv1.weight", 1)?,
        n_audio_ctx: size("encoder.positional_embedding", 0)?,
        n_audio_state: size("encoder.conv1.weight", 0)?,
        n_audio_head: number("encoder/num_heads")?,
        n_audio_layer: n_layer("encoder"),
        n_vocab: size(TOKEN_EMBEDDING, 0)?,
        n_text_ctx: size("decoder.positional_embedding", 0)?,
        n_text_state: size(TOKEN_EMBEDDING, 1)?,
        n_text_head: number("decoder/num_heads")?,
        n_text_layer: n_layer("decoder"),
    };
    check(&dims)?;
    Ok(dims)
}
