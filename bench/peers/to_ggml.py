"""openai/whisper .pt checkpoint to the ggml files of whisper.cpp.  usage: to_ggml.py IN.pt HF_DIR OUT.bin f16|q8_0

The layout is that of whisper.cpp's models/convert-pt-to-ggml.py and examples/quantize: matrices in the type asked
for, everything else in f32 but the convolutions, which are f16.
"""
import json, os, struct, sys
import numpy as np

F32, F16, Q8_0 = 0, 1, 8
FILE_TYPES = {"f16": 1, "q8_0": 7 + 1000 * 2}  # with the version of the quantised layouts


def q8_0(x):
    """Blocks of 32: an f16 scale and 32 int8."""
    blocks = x.astype(np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    quantised = np.round(blocks / np.where(scale == 0, 1, scale)).astype(np.int8)
    out = np.empty(len(blocks), dtype=[("scale", "<f2"), ("q", "i1", 32)])
    out["scale"], out["q"] = scale[:, 0].astype(np.float16), quantised
    return out


def main():
    import torch, whisper
    source, folder, target, kind = sys.argv[1:]
    checkpoint = torch.load(source, weights_only=True)
    dims, tensors = checkpoint["dims"], checkpoint["model_state_dict"]
    assets = os.path.join(os.path.dirname(whisper.__file__), "assets")
    filters = np.load(f"{assets}/mel_filters.npz")[f"mel_{dims['n_mels']}"].astype("<f4")
    # Bytes of the tokens, in the alphabet of printable stand-ins that GPT-2's vocabulary is written in.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in = {chr(b): b for b in printable}
    stand_in.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)})
    if os.path.exists(f"{folder}/vocab.json"):
        vocabulary = json.load(open(f"{folder}/vocab.json"))
    else:
        vocabulary = json.load(open(f"{folder}/tokenizer.json"))["model"]["vocab"]
    vocabulary = sorted(vocabulary.items(), key=lambda item: item[1])
    words = [bytes(stand_in[c] for c in word) for word, _ in vocabulary if all(c in stand_in for c in word)]

    names = ("n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer "
             "n_text_ctx n_text_state n_text_head n_text_layer n_mels").split()
    with open(target + ".partial", "wb") as out:
        out.write(struct.pack("<12i", 0x67676D6C, *(dims[name] for name in names), FILE_TYPES[kind]))
        out.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        out.write(struct.pack("<i", len(words)))
        for word in words:
            out.write(struct.pack("<i", len(word)) + word)
        for name, tensor in tensors.items():
            x = tensor.float().numpy()
            if name.endswith(("conv1.bias", "conv2.bias")):
                x = x.reshape(-1, 1)
            if x.ndim < 2 or name.endswith(("positional_embedding", "conv1.bias", "conv2.bias")):
                code, data = F32, x.astype("<f4")
            elif kind == "q8_0" and x.ndim == 2:
                code, data = Q8_0, q8_0(x)
            else:
                code, data = F16, x.astype("<f2")
            out.write(struct.pack("<3i", x.ndim, len(name), code) + struct.pack(f"<{x.ndim}i", *x.shape[::-1]))
            out.write(name.encode() + data.tobytes())
    os.rename(target + ".partial", target)


if __name__ == "__main__":
    main()
