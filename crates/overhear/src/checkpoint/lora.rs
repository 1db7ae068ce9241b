//! LoRA adapters in PEFT's layout: `adapter_config.json`, and `adapter_model.safetensors` (or `.bin`) with two narrow matrices
//! for each weight that they change, whose product is added to the weight as that is read
//! (`peft/tuners/lora/layer.py::Linear.get_delta_weight`); and further tensors that replace those of the base model.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::OUTPUT;
use super::delta::Delta;
use super::names::{huggingface_name, openai_name};
use super::pytorch::PyTorch;
use super::safetensors;
use super::shards::WEIGHTS;
use super::tensor_file::{Tensor, TensorFile};
use crate::excerpt::excerpt;
use crate::json::read_json;
use crate::{Error, Result};

/// File with an adapter's configuration.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Files with an adapter's matrices; the first that is there is read, as by PEFT.
pub(crate) const ADAPTER_WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Options of PEFT (`peft/tuners/lora/config.py`) that change the result in ways not implemented here, unless they are absent,
/// `null`, `false` or empty.
const REFUSED: [&str; 15] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "megatron_config",
    "ensure_weight_tying",
];

/// Fields of `adapter_config.json` that are read.
#[derive(Deserialize)]
struct AdapterConfig {
    base_model_name_or_path: Option<String>,
    revision: Option<String>,
    peft_type: Option<String>,
    #[serde(default = "none")]
    bias: String,
    r: Option<u64>,
    lora_alpha: Option<f64>,
    #[serde(default)]
    use_rslora: bool,
    init_lora_weights: Option<Value>,
    rank_pattern: Option<Map<String, Value>>,
    alpha_pattern: Option<Map<String, Value>>,
    modules_to_save: Option<Vec<String>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

fn none() -> String {
    "none".into()
}

/// Returns whether `folder` has the configuration of an adapter, and no model that it is merged into.
pub(crate) fn is_adapter(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    let is_merged = WEIGHTS
        .iter()
        .any(|name| has(name) || has(&format!("{name}.index.json")));
    folder.join(ADAPTER_CONFIG).is_file() && !is_merged
}

/// Returns the base model of the adapter in `folder`, as it names it: a path, or a name on the Hugging Face hub, with
/// `@revision`; `None` if `folder` is not an adapter.
///
/// # Errors
/// [`Error::Model`] if the configuration cannot be read or names no base.
pub(crate) fn base_of_adapter(folder: &Path) -> Result<Option<String>> {
    if !is_adapter(folder) {
        return Ok(None);
    }
    let config = AdapterConfig::read(folder)?;
    let name = config
        .base_model_name_or_path
        .filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Err(Error::Model {
            path: folder.join(ADAPTER_CONFIG),
            reason: "no base_model_name_or_path, the model that the adapter changes".into(),
        });
    };
    Ok(Some(
        match config.revision.filter(|_| !Path::new(&name).exists()) {
            Some(revision) if !revision.is_empty() => format!("{name}@{revision}"),
            _ => name,
        },
    ))
}

impl AdapterConfig {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(ADAPTER_CONFIG);
        match read_json::<Self>(&path)? {
            Some(config) => Ok(config),
            None => Err(Error::Model {
                path,
                reason: "no such file".into(),
            }),
        }
    }

    /// Checks that merging is no more than adding products of two matrices and replacing tensors.
    fn check(&self) -> std::result::Result<(), String> {
        let merge =
            "load it with PEFT, merge it with merge_and_unload and save that with save_pretrained";
        match self.peft_type.as_deref() {
            Some("LORA") | None => {}
            Some(other) => {
                return Err(format!(
                    "an adapter of type {:?}, not LORA: {merge}",
                    excerpt(other)
                ));
            }
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(values) => !values.is_empty(),
            Value::Object(values) => !values.is_empty(),
            _ => true,
        };
        let set = |name: &&&str| self.others.get(**name).is_some_and(is_set);
        if let Some(name) = REFUSED.iter().find(set) {
            return Err(format!("{name} is not supported: {merge}"));
        }
        if self.bias != "none" {
            return Err(format!(
                "bias is {:?}, not \"none\": {merge}",
                excerpt(&self.bias)
            ));
        }
        // Others change the base model too, when the adapter is created.
        match &self.init_lora_weights {
            Some(Value::String(kind))
                if !["gaussian", "eva", "orthogonal"].contains(&&kind[..]) =>
            {
                Err(format!(
                    "init_lora_weights {:?} is not supported: {merge}",
                    excerpt(kind)
                ))
            }
            _ => Ok(()),
        }
    }

    /// Returns the rank of `module`, and by what the product of its matrices is multiplied.
    fn scaling(&self, module: &str) -> std::result::Result<(u64, f32), String> {
        let rank = match matching(self.rank_pattern.as_ref(), module)? {
            Some(rank) => rank.as_u64(),
            None => self.r,
        };
        let alpha = match matching(self.alpha_pattern.as_ref(), module)? {
            Some(alpha) => alpha.as_f64(),
            None => self.lora_alpha,
        };
        let (Some(rank), Some(alpha)) = (rank, alpha) else {
            return Err(format!("no r or lora_alpha of {}", excerpt(module)));
        };
        if rank == 0 {
            return Err(format!(
                "r of {} is 0: the rank is 1 or more",
                excerpt(module)
            ));
        }
        let divisor = match self.use_rslora {
            true => (rank as f64).sqrt(),
            false => rank as f64,
        };
        Ok((rank, (alpha / divisor) as f32))
    }
}

/// Returns the value of the pattern that is the end of `module`'s name, or with `^` all of it
/// (`peft/utils/other.py::get_pattern_key`). Other regular expressions are refused, and so are two that match, of which PEFT
/// takes the first.
fn matching<'a>(
    patterns: Option<&'a Map<String, Value>>,
    module: &str,
) -> std::result::Result<Option<&'a Value>, String> {
    let mut found = None;
    for (pattern, value) in patterns.into_iter().flatten() {
        let name = pattern.strip_prefix('^').unwrap_or(pattern);
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_');
        if !name.chars().all(is_plain) {
            return Err(format!(
                "the pattern {:?} is not the name of a module",
                excerpt(pattern)
            ));
        }
        let is_end = || module.strip_suffix(name)?.strip_suffix('.');
        if module == name || (name == pattern && is_end().is_some()) {
            if found.is_some_and(|found| found != value) {
                return Err(format!("two patterns are of {}", excerpt(module)));
            }
            found = Some(value);
        }
    }
    Ok(found)
}

/// An open adapter.
pub(super) struct Adapter {
    file: TensorFile,
    /// What is added to tensors, by openai/whisper's names.
    deltas: BTreeMap<String, Delta>,
    /// Tensors in `file` that replace the base model's, by openai/whisper's names.
    replacements: BTreeMap<String, Tensor>,
    /// Ends of the names of modules that are replaced as a whole.
    modules_to_save: Vec<String>,
}

impl Adapter {
    /// Returns whether it changes the tensor that openai/whisper calls `name`.
    pub(super) fn changes(&self, name: &str) -> bool {
        self.deltas.contains_key(name) || self.replacements.contains_key(name)
    }

    /// Checks that the modules that are replaced as a whole are (`peft/utils/save_and_load.py::set_peft_model_state_dict`). Warns of
    /// those that the base model has not, which have no effect.
    fn check_saved(
        &self,
        tensors: &HashMap<String, (usize, Tensor)>,
        base: &Path,
    ) -> std::result::Result<(), String> {
        for module in &self.modules_to_save {
            // A tied output matrix is no tensor of the base model, but a module.
            let names = tensors.keys().map(String::as_str).chain([OUTPUT]);
            let mut names: Vec<&str> = names
                .filter(|name| is_of_module(&huggingface_name(name), module))
                .collect();
            names.sort_unstable();
            if names.is_empty() {
                tracing::warn!(
                    file = %self.file.path().display(),
                    "modules_to_save names {:?}, which the base model {} has not: it has no effect",
                    excerpt(module),
                    base.display()
                );
            }
            if let Some(name) = names.iter().find(|name| !self.changes(name)) {
                return Err(format!(
                    "no tensor {}, although modules_to_save names {:?}: the adapter is incomplete; save it again with PEFT's \
                     save_pretrained",
                    huggingface_name(name),
                    excerpt(module)
                ));
            }
        }
        Ok(())
    }

    /// Adds to and replaces tensors of the model `base`. Returns the file of those that replace others, which becomes the model's
    /// file of index `file`.
    ///
    /// # Errors
    /// [`Error::Model`] if the model has no such tensor, or of another shape.
    pub(super) fn add_to(
        self,
        tensors: &mut HashMap<String, (usize, Tensor)>,
        file: usize,
        base: &Path,
    ) -> Result<TensorFile> {
        let bad = |reason: String| Error::Model {
            path: self.file.path().to_owned(),
            reason,
        };
        let missing = |name: &str| {
            bad(format!(
                "changes {}, which the base model {} has not",
                excerpt(name),
                base.display()
            ))
        };
        self.check_saved(tensors, base).map_err(bad)?;
        for (name, tensor) in self.replacements {
            let old = tensors.get_mut(&name).ok_or_else(|| missing(&name))?;
            if old.1.shape != tensor.shape {
                return Err(bad(format!(
                    "tensor {} is {:?}, that of the base model {:?}",
                    excerpt(&tensor.name),
                    tensor.shape,
                    old.1.shape
                )));
            }
            *old = (file, tensor);
        }
        for (name, delta) in self.deltas {
            let (_, tensor) = tensors.get_mut(&name).ok_or_else(|| missing(&name))?;
            if !delta.fits(tensor) {
                return Err(bad(format!(
                    "the adapter of {} does not fit the base model's, {:?}",
                    excerpt(&name),
                    tensor.shape
                )));
            }
            tensor.delta = Some(Arc::new(delta));
        }
        Ok(self.file)
    }

    /// Reads configuration and matrices of the adapter in `folder`, but no tensors that replace others.
    ///
    /// # Errors
    /// [`Error::Model`] if a file is missing or damaged, or the adapter is of a kind that is not supported.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let config = AdapterConfig::read(folder)?;
        let bad_config = |reason: String| Error::Model {
            path: folder.join(ADAPTER_CONFIG),
            reason,
        };
        config.check().map_err(bad_config)?;
        let paths = ADAPTER_WEIGHTS.map(|name| folder.join(name));
        let file = match paths.each_ref().map(|path| path.exists()) {
            [true, _] => safetensors::open(&paths[0])?,
            [_, true] => PyTorch::open(&paths[1])?.file,
            _ => {
                return Err(bad_config(format!(
                    "no {} beside it: load the adapter with PEFT and save it with save_pretrained",
                    ADAPTER_WEIGHTS.join(" or ")
                )));
            }
        };
        let path = file.path().to_owned();
        let bad = |reason: String| Error::Model {
            path: path.clone(),
            reason,
        };
        if file.tensors().is_empty() {
            return Err(bad("has no tensors: the adapter changes nothing".into()));
        }
        // Both matrices of each module.
        let mut pairs: BTreeMap<String, [Option<&Tensor>; 2]> = BTreeMap::new();
        let mut replacements = BTreeMap::new();
        for tensor in file.tensors() {
            let name = tensor
                .name
                .strip_prefix("base_model.model.")
                .unwrap_or(&tensor.name);
            match matrix(name) {
                Some((module, i)) => pairs.entry(module.to_owned()).or_default()[i] = Some(tensor),
                None if name.contains("lora_") => {
                    return Err(bad(format!(
                        "tensor {} is of an unknown kind of adapter",
                        excerpt(name)
                    )));
                }
                None => {
                    let name = name
                        .replace(".base_layer", "")
                        .replace(".modules_to_save", "");
                    replacements.insert(openai_name(&name), tensor.clone());
                }
            }
        }
        let mut deltas = BTreeMap::new();
        for (module, pair) in pairs {
            let [Some(a), Some(b)] = pair else {
                return Err(bad(format!("{} has one matrix, not two", excerpt(&module))));
            };
            let (rank, scaling) = config.scaling(&module).map_err(bad_config)?;
            let delta = Delta::read(&file, a, b, rank, scaling)?;
            deltas.insert(openai_name(&format!("{module}.weight")), delta);
        }
        Ok(Self {
            deltas,
            replacements,
            modules_to_save: config.modules_to_save.unwrap_or_default(),
            file,
        })
    }
}

/// Returns whether the tensor that Hugging Face calls `name` is of a module whose name ends with `end`, or of one below it
/// (`peft/utils/other.py::_set_trainable`).
fn is_of_module(name: &str, end: &str) -> bool {
    name.match_indices('.')
        .any(|(at, _)| name[..at].ends_with(end))
}

/// Returns the module of a matrix called `name`, and which it is: `a` or `b`.
fn matrix(name: &str) -> Option<(&str, usize)> {
    [
        (".lora_A.weight", 0),
        (".lora_B.weight", 1),
        (".lora_embedding_A", 0),
        (".lora_embedding_B", 1),
    ]
    .into_iter()
    .find_map(|(suffix, i)| Some((name.strip_suffix(suffix)?, i)))
}
