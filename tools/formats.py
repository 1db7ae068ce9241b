"""A checkpoint in every format, as the public converters write it, read by overhear; and what overhear converts it to, read by
transformers and whisper.cpp.  usage: formats.py OVERHEAR CHECKPOINT WHISPER_CPP CLIP...

CHECKPOINT is a Hugging Face folder in f16, WHISPER_CPP the source of whisper.cpp with its program `quantize` in it, and the clips
are English at 16 kHz. Prints a table: on how many clips the tokens are the reference's, and the text is the checkpoint's.

The reference has the same numbers in another format: the checkpoint itself where a format holds its numbers, else an f32 model
that the rounded ones are widened to by other code, for an adapter what PEFT merges it to. What overhear writes is compared
with the peer's own conversion, by the same peer. Exit 1 if tokens differ anywhere, or if a model cannot be read."""
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import soundfile
import torch
import widen
from safetensors.torch import load_file
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizerFast

TOOLS = Path(__file__).resolve().parent
OVERHEAR, (CHECKPOINT, WHISPER_CPP), CLIPS = sys.argv[1], map(Path, sys.argv[2:4]), sys.argv[4:]
GREEDY = ["--language", "en", "--compute_type", "f32", "--beam_size", "None", "--temperature_increment_on_fallback", "None"]
OTHER_FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")
BLOCKS = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
SUPER_BLOCKS = ("q6_k", "q5_k", "q4_k", "q3_k", "q2_k")  # rows of whole 256
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])


# Readers: model to tokens and text of each clip.


def overhear(model):
    with tempfile.TemporaryDirectory() as out:
        run(OVERHEAR, "--model", model, *GREEDY, "--output_format", "json", "--output_dir", out, *CLIPS)
        found = [json.loads((Path(out) / f"{Path(clip).stem}.json").read_text()) for clip in CLIPS]
    return [([segment["tokens"] for segment in one["segments"]], one["text"]) for one in found]


def transformers(model):
    whisper = WhisperForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    tokenizer, extract = WhisperTokenizerFast.from_pretrained(model), WhisperFeatureExtractor.from_pretrained(model)
    english = {"language": "en", "task": "transcribe"} if whisper.generation_config.is_multilingual else {}
    found = []
    for clip in CLIPS:
        mel = extract(samples(clip), sampling_rate=16000, return_tensors="pt").input_features
        tokens = whisper.generate(mel, return_timestamps=True, do_sample=False, num_beams=1, **english)[0]
        found.append((tokens.tolist(), tokenizer.decode(tokens, skip_special_tokens=True)))
    return found


def whisper_cpp(model):
    """The binding has no tokens: times and texts of the segments instead."""
    from pywhispercpp.model import Model

    whisper = Model(str(model), params_sampling_strategy=0, language="en", print_progress=False, redirect_whispercpp_logs_to=None)
    found = []
    for clip in CLIPS:
        segments = whisper.transcribe(samples(clip), temperature_inc=0.0)
        found.append(([(s.t0, s.t1, s.text) for s in segments], "".join(s.text for s in segments)))
    return found


def samples(clip):
    return soundfile.read(clip, dtype="float32")[0]


# Writers: folder to model in it.


def checkpoint(_):
    return CHECKPOINT


def by_transformers(folder, dtype, shard="5GB"):
    load(DTYPES[dtype]).save_pretrained(folder, max_shard_size=shard)
    return with_other_files(folder)


def by_torch(folder):
    """As transformers wrote it before safetensors."""
    torch.save(load(torch.float16).state_dict(), folder / "pytorch_model.bin")
    return with_other_files(folder)


def by_hf2bin(folder):
    run(sys.executable, TOOLS / "hf2bin.py", CHECKPOINT, folder, 3)
    return folder


def load(dtype):
    return WhisperForConditionalGeneration.from_pretrained(CHECKPOINT, dtype=dtype)


def with_other_files(folder):
    for name in OTHER_FILES:
        shutil.copy(CHECKPOINT / name, folder)
    return folder


def adapter(folder):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc1"], init_lora_weights="gaussian")
    model = get_peft_model(load(torch.float32), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    return folder


def merged_adapter(folder):
    from peft import PeftModel

    (folder / "adapter").mkdir()
    PeftModel.from_pretrained(load(torch.float32), adapter(folder / "adapter")).merge_and_unload().save_pretrained(folder)
    shutil.rmtree(folder / "adapter")
    return with_other_files(folder)


def by_hf2openai(folder):
    """As openai publishes: its own loader must accept it."""
    import whisper

    file = folder / f"{CHECKPOINT.name}.pt"
    run(sys.executable, TOOLS / "hf2openai.py", CHECKPOINT, file)
    whisper.load_model(str(file), device="cpu")
    return file


def by_openai(folder):
    """What openai/whisper has made of it, in f32."""
    import whisper

    model = whisper.load_model(str(by_hf2openai(folder)), device="cpu")
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, folder / "saved.pt")
    return folder / "saved.pt"


def by_ctranslate2(folder, quantization):
    from ctranslate2.converters import TransformersConverter

    files = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(CHECKPOINT), copy_files=files).convert(str(folder), quantization=quantization, force=True)
    return folder


def by_whisper_cpp(folder, kind):
    import whisper

    convert = [sys.executable, WHISPER_CPP / "models/convert-pt-to-ggml.py", by_hf2openai(folder), Path(whisper.__file__).parents[1]]
    run(*convert, folder, *(["f32"] if kind == "f32" else []))
    if kind in ("f32", "f16"):
        return next(folder.glob("ggml-model*.bin")).rename(ggml_file(folder))
    run(WHISPER_CPP / "quantize", folder / "ggml-model.bin", ggml_file(folder), kind)
    return ggml_file(folder)


def ggml_file(folder):
    """Alignment heads, and sizes in whisper.cpp's messages, go by the name."""
    return folder / f"ggml-{CHECKPOINT.name}.bin"


def by_gguf(folder, kind):
    """As candle has it: Hugging Face's names, matrices quantised."""
    import gguf

    writer = gguf.GGUFWriter(folder / "model.gguf", "whisper")
    for name, tensor in load_file(CHECKPOINT / "model.safetensors").items():
        is_matrix = tensor.ndim == 2 and "embed_positions" not in name
        stored = gguf.GGMLQuantizationType[kind.upper() if is_matrix else "F32"]
        data = gguf.quants.quantize(tensor.float().numpy(), stored)
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return with_other_files(folder)


def by_overhear(folder, to, dtype):
    out = ggml_file(folder) if to == "ggml" else folder / CHECKPOINT.name
    run(OVERHEAR, "models", "convert", CHECKPOINT, out, "--to", to, "--dtype", dtype)
    return out


# Writers of references.


def transformers_widened(folder):
    load(torch.bfloat16).float().save_pretrained(folder)
    return with_other_files(folder)


def ctranslate2_widened(folder, quantization):
    (folder / "narrow").mkdir()
    widen.ctranslate2(by_ctranslate2(folder / "narrow", quantization), folder)
    return with_other_files(folder)


def gguf_widened(folder, kind):
    (folder / "narrow").mkdir()
    widen.gguf_file(by_gguf(folder / "narrow", kind), folder)
    return with_other_files(folder)


def ggml_widened(folder, kind):
    widen.ggml(by_whisper_cpp(folder, kind), folder / "widened.pt")
    return folder / "widened.pt"


def rows():
    """Name, reader, writer, and the reference's writer."""
    n_state = json.loads((CHECKPOINT / "config.json").read_text())["d_model"]
    super_blocks = SUPER_BLOCKS if n_state % 256 == 0 else ()

    yield "transformers, safetensors f32", overhear, partial(by_transformers, dtype="f32"), checkpoint
    yield "transformers, safetensors f16", overhear, partial(by_transformers, dtype="f16"), checkpoint
    yield "transformers, safetensors f16 in shards", overhear, partial(by_transformers, dtype="f16", shard="20MB"), checkpoint
    yield "transformers, safetensors bf16", overhear, partial(by_transformers, dtype="bf16"), transformers_widened
    yield "torch, pytorch_model.bin f16", overhear, by_torch, checkpoint
    yield "torch, pytorch_model.bin f16 in shards", overhear, by_hf2bin, checkpoint
    yield "PEFT, adapter", overhear, adapter, merged_adapter
    yield "torch, .pt f16 of openai/whisper", overhear, by_hf2openai, checkpoint
    yield "openai/whisper, .pt f32", overhear, by_openai, checkpoint
    for kind in ("float32", "float16"):
        yield f"CTranslate2, {kind}", overhear, partial(by_ctranslate2, quantization=kind), checkpoint
    for kind in ("bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"):
        written, reference = (partial(write, quantization=kind) for write in (by_ctranslate2, ctranslate2_widened))
        yield f"CTranslate2, {kind}", overhear, written, reference
    for kind in ("f32", "f16"):
        yield f"whisper.cpp, ggml {kind}", overhear, partial(by_whisper_cpp, kind=kind), checkpoint
    for kind in (*BLOCKS, *super_blocks):
        yield f"whisper.cpp, ggml {kind}", overhear, partial(by_whisper_cpp, kind=kind), partial(ggml_widened, kind=kind)
    for kind in ("f32", "f16"):
        yield f"gguf, GGUF {kind}", overhear, partial(by_gguf, kind=kind), checkpoint
    for kind in ("bf16", *BLOCKS):
        yield f"gguf, GGUF {kind}", overhear, partial(by_gguf, kind=kind), partial(gguf_widened, kind=kind)
    for dtype in DTYPES:
        written = partial(by_overhear, to="safetensors", dtype=dtype)
        yield f"overhear, safetensors {dtype}, by transformers", transformers, written, partial(by_transformers, dtype=dtype)
    # A file in f32 ends whisper.cpp's process, its own converter's too: convolutions on a CPU take f16 filters alone.
    for kind in ("f16", *BLOCKS):
        written = partial(by_overhear, to="ggml", dtype=kind)
        yield f"overhear, ggml {kind}, by whisper.cpp", whisper_cpp, written, partial(by_whisper_cpp, kind=kind)


def read(reader, write):
    with tempfile.TemporaryDirectory() as folder:
        return reader(write(Path(folder)))


@functools.cache
def of_checkpoint(reader):
    """What whisper.cpp cannot read is converted."""
    return read(reader, partial(by_whisper_cpp, kind="f16") if reader is whisper_cpp else checkpoint)


def main():
    n_wrong, n_clips = 0, len(CLIPS)
    print(f"| {CHECKPOINT.name} as written by, format | tokens | text |\n|---|--:|--:|", flush=True)
    for name, reader, write, reference in rows():
        try:
            found, expected = (read(reader, w) if w is not checkpoint else of_checkpoint(reader) for w in (write, reference))
        except Exception as error:  # the other formats are read all the same
            n_wrong += 1
            print(f"| {name} | {type(error).__name__}: {error} | |", flush=True)
            continue
        n_tokens = sum(a[0] == b[0] for a, b in zip(found, expected, strict=True))
        n_texts = sum(a[1] == b[1] for a, b in zip(found, of_checkpoint(reader), strict=True))
        n_wrong += n_tokens < n_clips
        print(f"| {name} | {n_tokens}/{n_clips} | {n_texts}/{n_clips} |", flush=True)
    sys.exit(bool(n_wrong))


main()
