//! Writers of tiny model folders for tests.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// A tensor to write: name, dtype in the notation of safetensors, shape, values.
#[derive(Clone)]
pub(crate) struct TestTensor<'a>(
    pub(crate) &'a str,
    pub(crate) &'a str,
    pub(crate) &'a [usize],
    pub(crate) Vec<f32>,
);

/// Returns a safetensors file of `tensors`, in this order.
pub(crate) fn safetensors(tensors: &[TestTensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    for TestTensor(name, dtype, shape, values) in tensors {
        let start = data.len();
        for &value in values {
            match *dtype {
                "F16" => data.extend(half::f16::from_f32(value).to_le_bytes()),
                "BF16" => data.extend(half::bf16::from_f32(value).to_le_bytes()),
                "F32" => data.extend(value.to_le_bytes()),
                "I64" => data.extend((value as i64).to_le_bytes()),
                other => panic!("dtype {other} is not supported by this writer"),
            }
        }
        header.insert(
            (*name).into(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    file(&Value::Object(header).to_string(), &data)
}

/// Returns a safetensors file with this header and data, valid or not.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// Returns the configuration of a small Whisper model: d_model 4, 2 heads, 1 layer.
pub(crate) fn config() -> Value {
    json!({
        "model_type": "whisper", "num_mel_bins": 80, "vocab_size": 51865, "d_model": 4,
        "encoder_layers": 1, "encoder_attention_heads": 2, "decoder_layers": 1, "decoder_attention_heads": 2,
        "max_source_positions": 1500, "max_target_positions": 448
    })
}

/// Writes `config.json` and `model.safetensors` into `folder`.
pub(crate) fn write(folder: &Path, config: &Value, safetensors: &[u8]) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("model.safetensors"), safetensors).unwrap();
}
