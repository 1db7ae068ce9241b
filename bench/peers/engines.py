#!/usr/bin/env python3
"""One peer in a process of its own: loads a checkpoint, then measures a round for every line on standard input.

usage: engines.py ENGINE CHECKPOINT CONVERTED THREADS    (started by peers.py)

Every round decodes the same 30 s of audio with the prompt <|sot|><|en|><|transcribe|><|notimestamps|>, everything
but text suppressed, so that exactly 100 tokens are greedily sampled. Each engine is a class with

    load()                what is timed as loading
    log_mel()             samples to features
    encode()              features to what decoding starts from
    decode(n, beams)      that to n tokens; returns how many there were
    window(n, beams)      samples to text; by default the three one after the other

and may leave one out: it is then reported as missing, with the reason.
"""
import json, math, statistics, sys, time
import numpy as np

N_TOKENS, N_FEW, SAMPLE_RATE = 100, 20, 16000
EOT, PROMPT = 50257, [50258, 50259, 50359, 50363]


def audio():
    """The clip of `overhear bench`: gliding tones in syllables, over a little noise."""
    n, seed, noise = 30 * SAMPLE_RATE, 1, np.empty(30 * SAMPLE_RATE)
    for i in range(n):
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        noise[i] = (seed >> 8) / (1 << 23) - 1
    t = np.arange(n) / SAMPLE_RATE
    phase = np.cumsum(2 * math.pi * (160 + 60 * np.sin(1.3 * t)) / SAMPLE_RATE)
    voice = sum(np.sin(phase * k) / k for k in range(1, 9))
    return (0.2 * np.maximum(np.sin(4 * math.pi * t), 0) * voice + 0.005 * noise).astype(np.float32)


class Engine:
    def __init__(self, variant, checkpoint, converted, threads):
        self.variant, self.checkpoint, self.converted, self.threads = variant, checkpoint, converted, threads
        config = json.load(open(f"{checkpoint}/config.json"))
        self.n_vocab, self.n_mels = config["vocab_size"], config["num_mel_bins"]
        self.prompt = PROMPT if self.n_vocab == 51865 else PROMPT[:2] + [50360, 50364]
        self.suppressed = list(range(EOT, self.n_vocab))
        self.audio = audio()

    def window(self, n, beams):
        self.log_mel()
        self.encode()
        return self.decode(n, beams)


class FasterWhisper(Engine):
    def load(self):
        from faster_whisper import WhisperModel
        kind, _, threads = self.variant.partition("+t")
        self.model = WhisperModel(f"{self.converted}/ct2", device="cpu", compute_type=kind,
                                  cpu_threads=int(threads or self.threads), local_files_only=True)

    def log_mel(self):
        self.features = self.model.feature_extractor(self.audio)[:, :3000]

    def encode(self):
        self.encoded = self.model.encode(self.features)
        np.asarray(self.encoded)  # waits for it

    def decode(self, n, beams):
        # CTranslate2 stops at half of max_length new tokens.
        result = self.model.model.generate(self.encoded, [self.prompt], beam_size=beams, max_length=2 * n,
                                           suppress_tokens=self.suppressed, suppress_blank=True)[0]
        self.model.hf_tokenizer.decode(result.sequences_ids[0])
        return len(result.sequences_ids[0])


class OpenVino(Engine):
    def load(self):
        import openvino_genai
        weights, compute = self.variant.split("-")
        self.pipeline = openvino_genai.WhisperPipeline(f"{self.converted}/ov-{weights}", "CPU",
                                                       INFERENCE_PRECISION_HINT=compute,
                                                       INFERENCE_NUM_THREADS=self.threads)
        self.samples = self.audio.tolist()

    def window(self, n, beams):
        config = self.pipeline.get_generation_config()
        config.max_new_tokens, config.num_beams = n, beams
        config.language, config.task, config.return_timestamps = "<|en|>", "transcribe", False
        config.suppress_tokens = self.suppressed
        self.metrics = self.pipeline.generate(self.samples, config).perf_metrics
        return self.metrics.get_num_generated_tokens()

    def log_mel(self):
        self.window(1, 1)
        return self.metrics.get_features_extraction_duration().mean / 1e3

    def encode(self):
        self.window(1, 1)
        return self.metrics.get_encode_inference_duration().mean / 1e3

    def decode(self, n, beams):
        """The pipeline has no call for decoding alone: its own times of the other two stages are taken off."""
        start = time.perf_counter()
        self.n_decoded = self.window(n, beams)
        whole = time.perf_counter() - start
        others = self.metrics.get_features_extraction_duration().mean + self.metrics.get_encode_inference_duration().mean
        self.decode_s = whole - others / 1e3
        return self.n_decoded


class OpenaiWhisper(Engine):
    def load(self):
        import torch, whisper
        torch.set_num_threads(self.threads)
        self.whisper = whisper
        self.model = whisper.load_model(f"{self.converted}/openai.pt", device="cpu")

    def log_mel(self):
        self.mel = self.whisper.log_mel_spectrogram(self.audio, self.n_mels)

    def encode(self):
        import torch
        with torch.no_grad():
            self.features = self.model.embed_audio(self.mel[None])

    def decode(self, n, beams):
        options = self.whisper.DecodingOptions(
            language="en", sample_len=n, without_timestamps=True, fp16=False, beam_size=beams if beams > 1 else None,
            suppress_tokens=self.suppressed)
        return len(self.whisper.decode(self.model, self.features, options)[0].tokens)


class Transformers(Engine):
    def load(self):
        import torch, transformers
        self.torch = torch
        torch.set_num_threads(self.threads)
        transformers.logging.set_verbosity_error()
        dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[self.variant]
        self.model = transformers.WhisperForConditionalGeneration.from_pretrained(self.checkpoint, dtype=dtype).eval()
        self.extractor = transformers.WhisperFeatureExtractor.from_pretrained(self.checkpoint)
        self.tokenizer = transformers.WhisperTokenizerFast.from_pretrained(self.checkpoint)
        config = self.model.generation_config
        config.suppress_tokens, config.begin_suppress_tokens, config.max_length = self.suppressed, None, None
        config.forced_decoder_ids = None

    def log_mel(self):
        features = self.extractor(self.audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        self.features = features.to(self.model.dtype)

    def encode(self):
        with self.torch.no_grad():
            self.encoded = self.model.model.encoder(self.features)

    def decode(self, n, beams):
        with self.torch.no_grad():
            tokens = self.model.generate(
                encoder_outputs=self.encoded, decoder_input_ids=self.torch.tensor([self.prompt]), language="en",
                task="transcribe", return_timestamps=False, max_new_tokens=n, num_beams=beams, do_sample=False)
        self.tokenizer.decode(tokens[0])
        return tokens.shape[1] - (len(self.prompt) if tokens[0, 0] == self.prompt[0] else 0)


class WhisperCpp(Engine):
    """Its stage functions, without the sampling between tokens: a token is whatever comes next in a list."""

    def load(self):
        import _pywhispercpp
        self.cpp = _pywhispercpp
        self.context = self.cpp.whisper_init_from_file_with_params(
            f"{self.converted}/ggml-{self.variant}.bin", self.cpp.whisper_context_default_params())

    def log_mel(self):
        assert self.cpp.whisper_pcm_to_mel(self.context, self.audio, len(self.audio), self.threads) == 0

    def encode(self):
        assert self.cpp.whisper_encode(self.context, 0, self.threads) == 0

    def decode(self, n, beams):
        if beams > 1:
            raise NotImplementedError("its beam search cannot be forced to a number of tokens")
        # The binding takes one token a call, so the prompt is three steps longer than it need be.
        tokens = self.prompt + list(range(1000, 1000 + n - 1))
        for position, token in enumerate(tokens):
            assert self.cpp.whisper_decode(self.context, token, 1, position, self.threads) == 0
        return n


ENGINES = {"faster-whisper": FasterWhisper, "openvino-genai": OpenVino, "openai-whisper": OpenaiWhisper,
           "transformers": Transformers, "whisper.cpp": WhisperCpp}


def timed(work, *args):
    start = time.perf_counter()
    own = work(*args)
    return (time.perf_counter() - start, own)


def peak_mb():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def measure(engine, with_beams):
    """One round: seconds of every column."""
    def decode(n):
        seconds, found = timed(engine.decode, n, 1)
        assert found == n, f"{found} tokens instead of {n}"
        return getattr(engine, "decode_s", seconds)

    row = {}
    for name, stage, n in (("log_mel_s", engine.log_mel, 3), ("encoder_s", engine.encode, 1)):
        times = [timed(stage) for _ in range(n)]
        # A pipeline reports the stage's time itself.
        row[name] = statistics.median(seconds if own is None else own for seconds, own in times)
    row["token_s"] = (decode(N_TOKENS) - decode(N_FEW)) / (N_TOKENS - N_FEW)
    seconds, found = timed(engine.window, N_TOKENS, 1)
    assert found == N_TOKENS, f"{found} tokens instead of {N_TOKENS}"
    row["window_s"], row["peak_mb"] = seconds, peak_mb()
    if with_beams:
        try:
            engine.window(N_FEW, 5)  # warms up
            row["beam5_s"], _ = timed(engine.window, N_TOKENS, 5)
        except NotImplementedError as error:
            row["missing"] = {"beam5_s": str(error)}
    return row


def main():
    name, checkpoint, converted, threads = sys.argv[1:]
    kind, _, variant = name.partition(" ")
    out, sys.stdout = sys.stdout, sys.stderr
    engine = ENGINES[kind](variant, checkpoint, converted, int(threads))
    load_s, _ = timed(engine.load)
    engine.window(N_FEW, 1)
    print(json.dumps({"load_s": load_s}), file=out, flush=True)
    for line in sys.stdin:
        try:
            row = measure(engine, json.loads(line)["beams"])
        except Exception as error:  # reported, not hidden: the table says why a row is empty
            row = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(row), file=out, flush=True)


if __name__ == "__main__":
    main()
