#!/usr/bin/env python3
"""Silero VAD 6.2: its weights as a safetensors file, and what onnxruntime and faster-whisper make of it, for the tests.

usage: silero.py CODE_FOLDER AUDIO_FOLDER OUT_FOLDER     (needs numpy safetensors soundfile onnx onnxruntime;
                                                          without their dependencies: silero-vad faster-whisper)

Writes CODE_FOLDER/silero-6.2.safetensors and .LICENSE, OUT_FOLDER/probabilities.json (of the clips CLIPS) and
OUT_FOLDER/timestamps.json (faster-whisper's get_speech_timestamps on made-up probabilities).

The weights are those of `silero_vad_16k_op15.onnx`. `silero_vad_16k.safetensors` in the same package is another checkpoint.
Convolutions are written as rows for a matrix product, [out, taps, in], the biases of the LSTM as their sum."""
import importlib.util, json, pathlib, shutil, sys, types
import numpy as np
import onnx, onnxruntime, soundfile
from importlib.metadata import distribution
from safetensors.numpy import save_file

FRAME, CONTEXT = 512, 64
CLIPS = ["jfk.flac", "synth-en-05.flac", "real-digits-0.flac"]


def packaged(package, name):
    """The path of a file of an installed package."""
    return next(file.locate() for file in distribution(package).files if file.name == name)


def weights(path):
    """The tensors of the network by our names."""
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    rows = lambda weight: np.ascontiguousarray(weight.transpose(0, 2, 1))
    ours = {"stft.weight": rows(tensors["model.stft.forward_basis_buffer"])}
    for layer in range(4):
        name = f"model.encoder.{layer}.reparam_conv"
        ours[f"conv{layer}.weight"] = rows(tensors[f"{name}.weight"])
        ours[f"conv{layer}.bias"] = tensors[f"{name}.bias"]
    lstm = "model.decoder.rnn"
    ours["lstm.weight_ih"] = tensors[f"{lstm}.weight_ih"]
    ours["lstm.weight_hh"] = tensors[f"{lstm}.weight_hh"]
    ours["lstm.bias"] = tensors[f"{lstm}.bias_ih"] + tensors[f"{lstm}.bias_hh"]
    ours["out.weight"] = tensors["model.decoder.decoder.2.weight"].reshape(128)
    ours["out.bias"] = tensors["model.decoder.decoder.2.bias"]
    return ours


def probabilities(session, samples):
    """One probability a frame, of as many frames as faster-whisper has."""
    samples = np.pad(samples, (0, FRAME - len(samples) % FRAME)).astype(np.float32)
    state, context, found = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32), []
    for frame in samples.reshape(-1, FRAME):
        frame = np.concatenate([context, frame])
        p, state = session.run(None, {"input": frame[None], "state": state, "sr": np.array(16000, np.int64)})
        context = frame[-CONTEXT:]
        found.append(float(p[0, 0]))
    return found


def made_up(rng, n_frames):
    """Probabilities that stay on one side of the thresholds for some frames, and now and then between them."""
    found = []
    while len(found) < n_frames:
        low, high = [(0, 0.34), (0.35, 0.5), (0.5, 1), (0.9, 1), (0, 0.1)][rng.integers(5)]
        found += list(rng.uniform(low, high, rng.integers(1, 2 + rng.choice([3, 12, 80]))))
    return [round(float(p), 3) for p in found[:n_frames]]


OPTIONS = [
    {},
    {"min_silence_duration_ms": 160, "max_speech_duration_s": 4.0},
    {"min_silence_duration_ms": 500, "speech_pad_ms": 30, "min_speech_duration_ms": 250},
    {"threshold": 0.35, "neg_threshold": 0.35, "min_silence_duration_ms": 0, "speech_pad_ms": 0},
    {"threshold": 0.1, "min_silence_duration_ms": 100, "speech_pad_ms": 201},
    {"max_speech_duration_s": 2.5, "min_silence_duration_ms": 2000, "speech_pad_ms": 100},
    {"max_speech_duration_s": 0.5, "speech_pad_ms": 400},
    {"threshold": 0.9, "neg_threshold": 0.2, "min_silence_duration_ms": 300, "max_speech_duration_s": 6.0, "speech_pad_ms": 75},
]


def timestamps():
    """faster-whisper's regions of made-up probabilities."""
    # The module alone: the package needs much more.
    sys.modules["faster_whisper.utils"] = types.SimpleNamespace(get_assets_path=None)
    spec = importlib.util.spec_from_file_location("vad", packaged("faster-whisper", "vad.py"))
    vad = sys.modules["vad"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vad)
    rng, cases = np.random.default_rng(18), []
    for case, n_frames in enumerate([1, 2, 5, 60, 300, 300, 300, 300]):
        p = made_up(rng, n_frames)
        n_samples = FRAME * (n_frames - 1) + (0 if case % 2 else int(rng.integers(FRAME)))
        vad.get_vad_model = lambda: lambda audio: np.array(p, np.float32)
        regions = []
        for options in OPTIONS:
            found = vad.get_speech_timestamps(np.zeros(n_samples, np.float32), vad.VadOptions(**options))
            regions.append([[int(speech["start"]), int(speech["end"])] for speech in found])
        cases.append({"probabilities": p, "n_samples": n_samples, "regions": regions})
    return {"options": OPTIONS, "cases": cases}


def main():
    code, audio, out = map(pathlib.Path, sys.argv[1:])
    model = packaged("silero-vad", "silero_vad_16k_op15.onnx")
    save_file(weights(model), code / "silero-6.2.safetensors")
    shutil.copyfile(packaged("silero-vad", "LICENSE"), code / "silero-6.2.LICENSE")
    out.mkdir(parents=True, exist_ok=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    clips = {name: probabilities(session, soundfile.read(audio / name, dtype="float32")[0]) for name in CLIPS}
    (out / "probabilities.json").write_text(json.dumps({name: [round(p, 6) for p in clip] for name, clip in clips.items()}) + "\n")
    (out / "timestamps.json").write_text(json.dumps(timestamps()) + "\n")


main()
