"""Models in types that round, widened to f32 by the rules of their formats, in files that do not round. Used by formats.py."""
import struct

import gguf
import ml_dtypes
import numpy as np
import published
import torch
from gguf.quants import dequantize
from safetensors.numpy import save_file

published.DTYPES[5] = ml_dtypes.bfloat16
DIMS = "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer n_text_ctx n_text_state n_text_head n_text_layer n_mels"


def ctranslate2(source, folder):
    """The weights of a CTranslate2 folder, integers divided by their scales, as model.safetensors."""
    widened, scales = {}, {}
    for name, values in published.variables((source / "model.bin").read_bytes()).items():
        (scales if name.endswith("_scale") else widened)[name] = values.astype(np.float32)
    for name, scale in scales.items():
        weight = widened[name.removesuffix("_scale")]
        weight *= (1 / scale).reshape(-1, *[1] * (weight.ndim - 1))
    save_file(published.tensors(widened), folder / "model.safetensors")


def gguf_file(source, folder):
    """The weights of a GGUF file, as model.safetensors."""
    widened = {}
    for tensor in gguf.GGUFReader(source / "model.gguf").tensors:
        elements = dequantize(tensor.data, tensor.tensor_type)
        widened[tensor.name] = np.ascontiguousarray(elements.reshape(tensor.shape[::-1]), np.float32)
    save_file(widened, folder / "model.safetensors")


def ggml(source, file):
    """The weights of a ggml file, as a file of openai/whisper's."""
    data, at = source.read_bytes(), 4

    def take(n):
        nonlocal at
        at += n
        return data[at - n : at]

    def numbers(n):
        return struct.unpack(f"<{n}i", take(4 * n))

    dims = dict(zip(DIMS.split(), numbers(11)))  # the last is the type of most tensors
    n_mels, n_bins = numbers(2)
    take(4 * n_mels * n_bins)
    for _ in range(*numbers(1)):
        take(*numbers(1))
    state = {}
    while at < len(data):
        n_dims, n_name, kind = numbers(3)
        shape, name = numbers(n_dims)[::-1], take(n_name).decode()
        n_elements, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.frombuffer(take(int(np.prod(shape)) // n_elements * n_bytes), np.uint8).reshape(-1, n_bytes)
        widened = torch.from_numpy(dequantize(blocks, gguf.GGMLQuantizationType(kind)).astype(np.float32))
        # The biases of convolutions are columns.
        state[name] = widened.reshape(shape[:1] if name.endswith("bias") else shape)
    torch.save({"dims": dims, "model_state_dict": state}, file)
