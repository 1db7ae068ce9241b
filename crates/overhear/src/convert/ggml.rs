//! Writer of ggml files as whisper.cpp reads them (`whisper.cpp/models/convert-pt-to-ggml.py`, `examples/quantize`).

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use super::tensors::{Kind, Part, Source};
use super::{ElementType, cannot_write, inexpressible, parent};
use crate::align::AlignmentHeads;
use crate::mel::{N_BINS, filterbank};
use crate::{Error, Result, temporary};

/// First bytes of a file: `0x67676d6c`, little-endian.
const MAGIC: &[u8; 4] = b"lmgg";
/// Sizes of the vocabularies that whisper.cpp derives special tokens from: English-only, multilingual, and large-v3.
const VOCABULARIES: [usize; 3] = [51864, 51865, 51866];
/// Version of the block formats, times its factor (`ggml.h`: `GGML_QNT_VERSION`, `GGML_QNT_VERSION_FACTOR`).
const BLOCKS_VERSION: usize = 2 * 1000;

/// Returns the numbers of a type as that of a tensor (`ggml_type`) and of most tensors of a file (`ggml_ftype`).
fn numbers(element: ElementType) -> (usize, usize) {
    match element {
        ElementType::F32 => (0, 0),
        ElementType::F16 => (1, 1),
        ElementType::Bf16 => (30, 24),
        ElementType::Q4_0 => (2, BLOCKS_VERSION + 2),
        ElementType::Q4_1 => (3, BLOCKS_VERSION + 3),
        ElementType::Q5_0 => (6, BLOCKS_VERSION + 8),
        ElementType::Q5_1 => (7, BLOCKS_VERSION + 9),
        ElementType::Q8_0 => (8, BLOCKS_VERSION + 7),
    }
}

/// Returns the type of a tensor in a file whose matrices have type `element`.
fn element_of(part: &Part, element: ElementType) -> ElementType {
    match part.kind {
        Kind::Matrix => element,
        Kind::Filters if element != ElementType::F32 => ElementType::F16,
        Kind::Filters | Kind::Positions | Kind::Vector => ElementType::F32,
    }
}

/// Writes the model to the file `out`.
pub(super) fn write(
    source: &Source,
    out: &Path,
    element: Option<ElementType>,
    on_tensor: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<()> {
    let element = element.unwrap_or(ElementType::F16);
    let n_vocab = source.tokenizer.n_vocab();
    let n_state = source.checkpoint.dims().n_text_state;
    if source.checkpoint.has_own_output() {
        let reason = "its output matrix differs from the token embedding, which whisper.cpp does not support";
        return Err(inexpressible(&source.path, reason));
    }
    if !VOCABULARIES.contains(&n_vocab) {
        let reason = format!("whisper.cpp has no vocabulary of {n_vocab} tokens");
        return Err(inexpressible(&source.path, reason));
    }
    if element.is_block() && !n_state.is_multiple_of(32) {
        let reason = format!("rows of {n_state} are no whole blocks of {element}");
        return Err(inexpressible(&source.path, reason));
    }
    let dims = source.checkpoint.dims();
    let heads = AlignmentHeads::of(&source.path, dims)?;
    let failed = |error| cannot_write(out, error);
    let mut file = temporary::file(parent(out)).map_err(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 16, file.as_file_mut());
    writer
        .write_all(&head(source, n_vocab, element))
        .map_err(failed)?;
    for part in source.parts(n_vocab) {
        if on_tensor().is_break() {
            return Err(Error::Canceled);
        }
        let element = element_of(&part, element);
        writer
            .write_all(&tensor_head(&part, element))
            .map_err(failed)?;
        source.encode(&part, element, &mut |bytes| {
            writer.write_all(bytes).map_err(failed)
        })?;
    }
    writer.flush().map_err(failed)?;
    drop(writer);
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(out)
        .map_err(|error| failed(error.error))?;
    if element == ElementType::F32 {
        tracing::warn!(
            file = %out.display(),
            "whisper.cpp aborts where it runs a ggml file in f32 on a CPU; one in f16 (--dtype f16) runs everywhere"
        );
    }
    heads.warn_if_lost_in(out, dims);
    source.checkpoint.warn_of_unused();
    Ok(())
}

fn put(number: usize, bytes: &mut Vec<u8>) {
    bytes.extend((number as i32).to_le_bytes());
}

/// Returns dimensions, mel filters and the text tokens.
fn head(source: &Source, n_vocab: usize, element: ElementType) -> Vec<u8> {
    let dims = source.checkpoint.dims();
    let mut bytes = MAGIC.to_vec();
    for number in [
        n_vocab,
        dims.n_audio_ctx,
        dims.n_audio_state,
        dims.n_audio_head,
        dims.n_audio_layer,
        dims.n_text_ctx,
        dims.n_text_state,
        dims.n_text_head,
        dims.n_text_layer,
        dims.n_mels,
        numbers(element).1,
        dims.n_mels,
        N_BINS,
    ] {
        put(number, &mut bytes);
    }
    for weight in filterbank(dims.n_mels) {
        bytes.extend(weight.to_le_bytes());
    }
    let n_text = source.tokenizer.eot();
    put(n_text as usize, &mut bytes);
    for token in (0..n_text).filter_map(|id| source.tokenizer.text_token(id)) {
        put(token.len(), &mut bytes);
        bytes.extend(token);
    }
    bytes
}

/// Returns rank, length of the name, type, shape with the innermost dimension first, and name.
fn tensor_head(part: &Part, element: ElementType) -> Vec<u8> {
    let mut shape = part.shape.clone();
    // The biases of convolutions are columns.
    if part.kind == Kind::Vector && part.name.starts_with("encoder.conv") {
        shape.push(1);
    }
    let mut bytes = Vec::new();
    for number in [shape.len(), part.name.len(), numbers(element).0] {
        put(number, &mut bytes);
    }
    for size in shape.into_iter().rev() {
        put(size, &mut bytes);
    }
    bytes.extend(part.name.as_bytes());
    bytes
}
