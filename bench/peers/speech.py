#!/usr/bin/env python3
"""overhear beside the other Whisper engines on people's speech: whole files, published weights, real text, in turn.

usage: speech.py join CLIPS_FOLDER SECONDS OUT.wav        joins the English clips of CLIPS_FOLDER/manifest.jsonl
       speech.py convert CHECKPOINT OUT_FOLDER            the checkpoint for every peer (CHECKPOINT/ct2: CTranslate2's)
       speech.py run --models FOLDER... --converted FOLDER... --audio FILE... [--rounds N] [--modes greedy,default]
       speech.py chart RUN.json MODEL AUDIO MODE OUT.svg

Every engine transcribes the file in a process of its own, with its own loop over windows, and all take turns. The modes are
`greedy` (temperature 0, timestamps, no fallback, no previous text as a prompt, which OpenVINO GenAI never gives) and `default` (beams
5, best of 5, temperatures 0 to 1: openai/whisper's command line; OpenVINO GenAI has no fallback). `+batched` and `+batch8` decode 8
pieces of the file at a time. Seconds are those of the transcription; overhear's include starting the program and loading the model,
the peers' do not. The word error rate is that of openai/whisper's English normaliser. An engine that takes longer than `--slow-s`
takes part in the first `--slow-rounds` rounds only; the table tells how many runs a median has.
"""
import argparse, json, os, random, statistics, subprocess, sys, time
from pathlib import Path

import bars
import numpy as np
from peers import to_ggml

HERE = Path(__file__).resolve().parent
OVERHEAR = HERE.parent.parent / "target/release/overhear"
ENGINES = ["faster-whisper int8", "faster-whisper int8+batch8", "openvino-genai int8", "whisper.cpp q8_0", "openai-whisper f32"]
NO_PROMPT = {"temperature": 0.0, "condition_on_previous_text": False}  # `greedy`
TEMPERATURES = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
RATE = 16000


def load(path):
    import soundfile
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE and samples.ndim == 1, f"{path}: {rate} Hz, {samples.shape}"
    return samples


def join(folder, seconds, out):
    """The English clips of people in shuffled order, again and again, half a second apart, and their text beside them."""
    import soundfile
    rows = [json.loads(line) for line in open(f"{folder}/manifest.jsonl")]
    rows = [row for row in rows if row["file"].startswith(("real-", "jfk")) and row.get("lang", "en").startswith("en")]
    rows = [row for row in rows if not row["file"].startswith(("real-long", "real-pauses", "real-digits"))]
    draw, parts, text, n, order = random.Random(1), [], [], 0, []
    while n < seconds * RATE:
        if not order:
            order = draw.sample(rows, len(rows))
        row = order.pop()
        parts += [load(f"{folder}/{row['file']}"), np.zeros(RATE // 2, np.float32)]
        n += len(parts[-2]) + len(parts[-1])
        text.append(row["text"])
    soundfile.write(out, np.concatenate(parts), RATE, subtype="PCM_16")
    Path(out).with_suffix(".txt").write_text(" ".join(text) + "\n")
    print(f"{out}: {n / RATE:.0f} s, {sum(len(t.split()) for t in text)} words, {len(rows)} clips")


def convert(checkpoint, out, overhear=OVERHEAR):
    checkpoint, out, tool = Path(checkpoint).resolve(), Path(out), Path(sys.executable).parent
    out.mkdir(parents=True, exist_ok=True)
    steps = [("ct2", ["ln", "-s", checkpoint / "ct2", out / "ct2"]),
             ("openai.pt", [sys.executable, HERE.parent.parent / "tools/hf2openai.py", checkpoint, out / "openai.pt"]),
             ("ov-int8", [tool / "optimum-cli", "export", "openvino", "--model", checkpoint, "--task",
                          "automatic-speech-recognition-with-past", "--weight-format", "int8", out / "ov-int8"]),
             *((f"ggml-{kind}.bin", to_ggml(overhear, checkpoint, out, kind)) for kind in ("q8_0", "q5_0", "q4_0"))]
    for name, command in steps:
        if not (out / name).exists():
            run = subprocess.run(command, capture_output=True, text=True)
            print(f"{name}: {'done' if run.returncode == 0 else (run.stderr.strip().splitlines() or ['failed'])[-1]}")


class FasterWhisper:
    def __init__(self, variant, converted, threads):
        from faster_whisper import BatchedInferencePipeline, WhisperModel
        kind, _, batch = variant.partition("+batch")
        self.model = WhisperModel(f"{converted}/ct2", device="cpu", compute_type=kind, cpu_threads=threads, local_files_only=True)
        self.batch = {"batch_size": int(batch)} if batch else {}
        if batch:
            self.model = BatchedInferencePipeline(self.model)

    def transcribe(self, samples, mode):
        options = dict(beam_size=5, best_of=5, temperature=TEMPERATURES)
        options = dict(beam_size=1, **NO_PROMPT) if mode == "greedy" else options
        segments, _ = self.model.transcribe(samples, language="en", **options, **self.batch)
        return "".join(segment.text for segment in segments)


class OpenVino:
    def __init__(self, variant, converted, threads):
        import openvino_genai
        self.pipeline = openvino_genai.WhisperPipeline(f"{converted}/ov-{variant}", "CPU", INFERENCE_NUM_THREADS=threads)

    def transcribe(self, samples, mode):
        config = self.pipeline.get_generation_config()
        config.return_timestamps, config.num_beams = True, 1 if mode == "greedy" else 5
        if config.is_multilingual:
            config.language, config.task = "<|en|>", "transcribe"
        return str(self.pipeline.generate(samples.tolist(), config))


class OpenaiWhisper:
    def __init__(self, variant, converted, threads):
        import torch, whisper
        torch.set_num_threads(threads)
        self.model = whisper.load_model(f"{converted}/openai.pt", device="cpu")

    def transcribe(self, samples, mode):
        options = NO_PROMPT if mode == "greedy" else dict(beam_size=5, best_of=5, temperature=tuple(TEMPERATURES))
        return self.model.transcribe(samples, language="en", fp16=False, **options)["text"]


class WhisperCpp:
    def __init__(self, variant, converted, threads):
        from pywhispercpp.model import Model
        make = lambda strategy: Model(f"{converted}/ggml-{variant}.bin", params_sampling_strategy=strategy, n_threads=threads,
                                      language="en", print_progress=False, redirect_whispercpp_logs_to=None)
        self.models = {"greedy": make(0), "default": make(1)}

    def transcribe(self, samples, mode):
        options = dict(temperature_inc=0.0, n_max_text_ctx=0) if mode == "greedy" else dict(beam_search={"beam_size": 5, "patience": -1.0})
        return " ".join(segment.text for segment in self.models[mode].transcribe(samples, **options))


KINDS = {"faster-whisper": FasterWhisper, "openvino-genai": OpenVino, "openai-whisper": OpenaiWhisper, "whisper.cpp": WhisperCpp}


def serve(name, converted, threads):
    """A peer in a process of its own: {"audio", "mode"} in, {"seconds", "text"} out, a line each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints itself is no answer
    kind, _, variant = name.partition(" ")
    engine = KINDS[kind](variant, converted, int(threads))
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        samples = load(request["audio"])
        start = time.perf_counter()
        try:
            text = engine.transcribe(samples, request["mode"])
            answer = {"seconds": time.perf_counter() - start, "text": text}
        except Exception as error:  # told in the table
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=out, flush=True)


class Peer:
    def __init__(self, a, name, converted):
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(a.threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
            environment.pop(variable, None)
        self.process = subprocess.Popen([sys.executable, __file__, "serve", name, converted, str(a.threads)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        self.error = None if self.process.stdout.readline() else "did not load"

    def transcribe(self, audio, mode):
        self.process.stdin.write(json.dumps({"audio": str(audio), "mode": mode}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline() or '{"error": "ended"}')

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Overhear:
    def __init__(self, a, kind, model):
        self.name, self.error = f"overhear {kind}", None
        compute_type, _, batched = kind.partition("+")
        self.command = [a.overhear, "transcribe", "--model", model, "--compute_type", compute_type, "--threads", str(a.threads),
                        "--language", "en", "--output_format", "txt", "--output_dir", "-", *([f"--{batched}"] if batched else [])]

    def transcribe(self, audio, mode):
        options = ["--beam_size", "None", "--best_of", "None", "--temperature", "0", "--temperature_increment_on_fallback", "None",
                   "--condition_on_previous_text", "False"] if mode == "greedy" else []
        start = time.perf_counter()
        run = subprocess.run([*self.command, *options, audio], capture_output=True, text=True)
        if run.returncode:
            return {"error": (run.stderr.strip().splitlines() or ["failed"])[-1][:300]}
        return {"seconds": time.perf_counter() - start, "text": run.stdout}

    def close(self):
        pass


def word_error_rate(text, reference):
    from rapidfuzz.distance import Levenshtein
    from whisper.normalizers import EnglishTextNormalizer
    normalise = EnglishTextNormalizer()
    found, expected = normalise(text).split(), normalise(reference).split()
    return Levenshtein.distance(found, expected) / len(expected)


def run(a):
    out = Path(a.out)
    rows = []
    for model, converted in zip(a.models, a.converted, strict=True):
        engines = [Overhear(a, kind, model) for kind in a.compute_types] + [Peer(a, name, converted) for name in a.engines]
        for audio in a.audio:
            reference, length = Path(audio).with_suffix(".txt").read_text(), len(load(audio)) / RATE
            for mode in a.modes:
                times, texts = {}, {}
                for i in range(a.rounds):
                    for engine in engines:
                        if i >= a.slow_rounds and times.get(engine.name, [0])[0] > a.slow_s:
                            continue
                        answer = {"error": engine.error} if engine.error else engine.transcribe(audio, mode)
                        engine.error = answer.get("error")
                        if not engine.error:
                            times.setdefault(engine.name, []).append(answer["seconds"])
                            texts[engine.name] = answer["text"]
                        print(f"{Path(model).name} {Path(audio).name} {mode} round {i + 1} {engine.name}: "
                              f"{answer.get('seconds', engine.error)}", file=sys.stderr, flush=True)
                for engine in engines:
                    row = dict(model=Path(model).name, audio=Path(audio).name, audio_s=round(length, 1), mode=mode, engine=engine.name)
                    if engine.name in times:
                        row.update(seconds=[round(t, 3) for t in times[engine.name]], median_s=statistics.median(times[engine.name]),
                                   wer=word_error_rate(texts[engine.name], reference))
                        row["speed"] = length / row["median_s"]
                    else:
                        row["error"] = engine.error
                    rows.append(row)
                out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
                out.with_suffix(".md").write_text(table(rows))
        for engine in engines:
            engine.close()
    print(table(rows))


def table(rows):
    """A line an engine, a column a model, file and mode: times real time, the word error rate, and the number of runs."""
    columns = list(dict.fromkeys((row["model"], row["audio"], row["mode"]) for row in rows))
    lines = ["| engine | " + " | ".join(f"{model}, {audio}, {mode}" for model, audio, mode in columns) + " |",
             "|---|" + "--:|" * len(columns)]
    for engine in dict.fromkeys(row["engine"] for row in rows):
        cells = []
        for column in columns:
            found = [r for r in rows if r["engine"] == engine and (r["model"], r["audio"], r["mode"]) == column]
            row = found[0] if found else {}
            n_runs = f" ({len(row['seconds'])})" if "speed" in row else ""
            cells.append(f"{row['speed']:.1f} x, {100 * row['wer']:.1f} %{n_runs}" if "speed" in row else row.get("error", "–"))
        lines.append(f"| {engine} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def chart(rows, model, audio, mode):
    """Bars of how many times faster than real time each engine was, the fastest first."""
    rows = [row for row in rows if (row["model"], row["audio"], row["mode"]) == (model, audio, mode) and "speed" in row]
    rows.sort(key=lambda row: -row["speed"])
    bar = lambda row: (row["engine"], row["speed"], f"{row['speed']:.0f} x, {100 * row['wer']:.1f} % of words wrong")
    title = f"{rows[0]['audio_s'] / 60:.0f} minutes of speech: times faster than real time, more is better"
    return bars.svg(title, [(f"{model}, {mode}", [bar(row) for row in rows])], width=760)


def main():
    if sys.argv[1] == "serve":
        return serve(*sys.argv[2:])
    if sys.argv[1] == "join":
        return join(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    if sys.argv[1] == "convert":
        return convert(*sys.argv[2:])
    if sys.argv[1] == "chart":
        rows, (model, audio, mode, out) = json.loads(Path(sys.argv[2]).read_text()), sys.argv[3:]
        Path(out).write_text(chart(rows, model, audio, mode))
        return
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--converted", nargs="+", required=True)
    parser.add_argument("--audio", nargs="+", required=True)
    parser.add_argument("--modes", type=words, default=["greedy", "default"])
    parser.add_argument("--engines", type=words, default=ENGINES)
    parser.add_argument("--compute-types", type=words, default=["int8", "int8+batched", "auto", "auto+batched", "f32"])
    parser.add_argument("--overhear", default=str(OVERHEAR))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-s", type=float, default=60.0)
    parser.add_argument("--slow-rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", default="speech")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
