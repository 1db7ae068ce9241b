//! `overhear info`: a model's properties and how it runs on this machine.

use std::io::{self, Write};

use overhear::model::Dtype;
use overhear::{ComputeType, Model};

use crate::args::ModelArgs;
use crate::failure::{Failure, printable};
use crate::interrupt::Interrupt;
use crate::models;
use crate::options::model_options;

/// Prints one `name: value` line per property.
pub(crate) fn run(args: &ModelArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let options = model_options(args)?;
    let asked = options.compute_type;
    let path = models::find(args, interrupt)?;
    let opened = path.clone();
    let model = interrupt.run(move || opened.open(options))??;
    let dims = model.dims();
    let languages = match model.tokenizer().num_languages() {
        0 => "English only".to_owned(),
        n => n.to_string(),
    };
    let lines = [
        ("model", printable(&path.as_ref().display().to_string())),
        ("mel bins", dims.n_mels.to_string()),
        ("audio context", dims.n_audio_ctx.to_string()),
        ("audio state", dims.n_audio_state.to_string()),
        ("audio heads", dims.n_audio_head.to_string()),
        ("audio layers", dims.n_audio_layer.to_string()),
        ("vocabulary", dims.n_vocab.to_string()),
        ("text context", dims.n_text_ctx.to_string()),
        ("text state", dims.n_text_state.to_string()),
        ("text heads", dims.n_text_head.to_string()),
        ("text layers", dims.n_text_layer.to_string()),
        ("languages", languages),
        ("dtype", model.dtype().to_string()),
        ("compute type", compute_type(asked, &model)),
        ("device", "cpu".to_owned()),
        ("kernels", model.isa().to_string()),
        ("threads", model.threads().to_string()),
    ];
    let text: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::stdout(&error))
}

/// Describes the compute type of `model`, and if `auto` was asked for, why it was chosen.
fn compute_type(asked: ComputeType, model: &Model) -> String {
    let chosen = model.compute_type();
    if asked != ComputeType::Auto {
        return chosen.to_string();
    }
    let of_processor = match chosen {
        ComputeType::Bf16 => Some("the processor has it".to_owned()),
        ComputeType::F16 => Some("no bf16".to_owned()),
        _ => None,
    };
    let reasons = [of_processor, of_quantised(asked, model)];
    let reasons: Vec<_> = reasons.into_iter().flatten().collect();
    match reasons.is_empty() {
        true => format!("{chosen} (auto)"),
        false => format!("{chosen} (auto: {})", reasons.join("; ")),
    }
}

/// Describes what becomes of the quantised weights of `model`, if it has such and `auto` chose the compute type.
pub(crate) fn of_quantised(asked: ComputeType, model: &Model) -> Option<String> {
    let (chosen, dtype) = (model.compute_type(), model.dtype());
    let is_float = matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16);
    match chosen {
        _ if asked != ComputeType::Auto || is_float => None,
        ComputeType::Q5 | ComputeType::Q4 | ComputeType::Int8 => {
            Some(format!("the decoder keeps its weights in {dtype}"))
        }
        _ => Some(format!("weights in {dtype} become {chosen}")),
    }
}
