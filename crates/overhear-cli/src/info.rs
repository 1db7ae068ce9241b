//! `overhear info`: a model's properties and how it runs on this machine.

use std::io::{self, Write};

use crate::args::ModelArgs;
use crate::failure::{Failure, printable};
use crate::interrupt::Interrupt;
use crate::models;
use crate::options::model_options;

/// Prints one `name: value` line per property.
pub(crate) fn run(args: &ModelArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let options = model_options(args)?;
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
        ("compute type", model.compute_type().to_string()),
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
