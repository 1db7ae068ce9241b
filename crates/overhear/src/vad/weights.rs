//! Weights of Silero VAD, part of the library: `tools/silero.py` writes them, licence in `silero-6.2.LICENSE`.

use std::collections::HashMap;

use serde::Deserialize;

/// File of tensors in safetensors' format: length of the header in 8 bytes, header in JSON, data.
static FILE: &[u8] = include_bytes!("silero-6.2.safetensors");

/// Tensors of the file by name.
pub(super) struct Weights {
    tensors: HashMap<String, Tensor>,
    data: &'static [u8],
}

#[derive(Deserialize)]
struct Tensor {
    data_offsets: (usize, usize),
}

impl Weights {
    /// Reads the header. The file never changes, so it is not checked as a user's would be.
    pub(super) fn open() -> Self {
        let (length, rest) = FILE.split_first_chunk().expect("8 bytes of length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Self {
            tensors: serde_json::from_slice(header).expect("a valid header"),
            data,
        }
    }

    /// Returns the `len` elements of the tensor `name`.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub(super) fn tensor(&self, name: &str, len: usize) -> Vec<f32> {
        let (start, end) = self.tensors[name].data_offsets;
        let (elements, _) = self.data[start..end].as_chunks();
        assert_eq!(elements.len(), len, "{name}");
        elements.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}
