#!/usr/bin/env python3
"""What openai/whisper computes on the clips of a manifest: one JSON per clip, plus tensors for a few.

usage: dump_golden.py MODEL.pt AUDIO_DIR OUT_DIR [--tensors clip,clip] [--only PREFIX,PREFIX] [--quick] [--heads NAME]
needs: requirements.txt (pip); ffmpeg on the PATH.  All in f32 on the CPU.
AUDIO_DIR/manifest.jsonl: {"file", "text", "lang", ...}; MODEL.pt: `hf2openai.py HF_DIR MODEL.pt`.
"""
import argparse, json, os, time
import numpy as np, torch, whisper
from safetensors.numpy import save_file
from whisper.tokenizer import get_tokenizer

ap = argparse.ArgumentParser(); ap.add_argument("model"); ap.add_argument("audio"); ap.add_argument("out"); ap.add_argument("--tensors", default=""); ap.add_argument("--only", default="")
ap.add_argument("--threads", type=int, default=2); ap.add_argument("--quick", action="store_true", help="greedy and transcribe only (with --heads: beams, prompt and fallback too), in compact JSON")
ap.add_argument("--heads", default="", help="the published model whose alignment heads to use (base, tiny.en, ...): a file has none, and whisper then takes the last half of the layers")
A = ap.parse_args(); torch.set_num_threads(A.threads)
m = whisper.load_model(A.model, device="cpu"); os.makedirs(A.out, exist_ok=True)
if A.heads: m.set_alignment_heads(whisper._ALIGNMENT_HEADS[A.heads])
r6 = lambda x: None if x is None else round(float(x), 6)

def decoding(res):
    return dict(tokens=res.tokens, text=res.text, language=res.language, avg_logprob=r6(res.avg_logprob), no_speech_prob=r6(res.no_speech_prob), temperature=res.temperature, compression_ratio=r6(res.compression_ratio))

def transcription(res):
    seg = []
    for s in res["segments"]:
        d = {k: (r6(v) if isinstance(v, float) else v) for k, v in s.items() if k != "words"}
        if "words" in s: d["words"] = [dict(word=w["word"], start=r6(w["start"]), end=r6(w["end"]), probability=r6(w["probability"])) for w in s["words"]]
        seg.append(d)
    return dict(text=res["text"], language=res["language"], segments=seg)

def margins(tokens, mel, prompt):
    """Smallest gap between the best and the second-best logit over a teacher-forced pass: a small one is a near tie."""
    with torch.no_grad():
        l = m.logits(torch.tensor([prompt + tokens]), mel[None] if mel.ndim == 2 else mel)[0]
    t = l[len(prompt) - 1:].topk(2, dim=-1).values
    return float((t[:, 0] - t[:, 1]).min())

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

class Sampled(Exception): pass

class Zero:
    """Temperature 0, to which no other may follow: where it holds, the fallback samples nothing, and its result does not hang on torch's random numbers."""
    def __iter__(self):
        yield 0.0
        raise Sampled

for line in open(f"{A.audio}/manifest.jsonl"):
    j = json.loads(line); name = j["file"].rsplit(".", 1)[0].replace("/", "__")
    if A.only and not name.startswith(tuple(A.only.split(","))): continue
    t0 = time.time(); path = f"{A.audio}/{j['file']}"; audio = whisper.load_audio(path); n = len(audio)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(audio), n_mels=m.dims.n_mels)
    out = dict(file=j["file"], samples=n, reference="openai/whisper c0d2f62 / openai-whisper 20250625, f32")
    with torch.no_grad(): feats = m.embed_audio(mel[None])
    probs = m.detect_language(mel)[1] if m.is_multilingual else {"en": 1.0}; top = sorted(probs.items(), key=lambda x: -x[1])[:5]
    out["language_probs"] = {k: r6(v) for k, v in top}
    lang = (j.get("lang") or "en").split("-")[0]; lang = lang if lang in probs else "en"
    base = dict(fp16=False, language=lang)
    dec = out["decode"] = {}
    def run(key, **kw): dec[key] = dict(options=kw, **decoding(whisper.decode(m, feats[0], whisper.DecodingOptions(**base, **kw))))
    run("greedy"); run("greedy_without_timestamps", without_timestamps=True)
    if A.heads or not A.quick:
        run("beam5", beam_size=5); run("prompt", prompt="The meeting is on Monday.")
        if lang != "en": run("translate", task="translate")
    if not A.quick:
        for b in (1, 2): run(f"beam{b}", beam_size=b)
        run("beam5_without_timestamps", beam_size=5, without_timestamps=True); run("beam2_patience2", beam_size=2, patience=2.0)
        run("beam5_patience2", beam_size=5, patience=2.0); run("beam5_length_penalty_0.6", beam_size=5, length_penalty=0.6); run("beam5_patience2_length_penalty_0.6", beam_size=5, patience=2.0, length_penalty=0.6)
        run("prefix", prefix="The")
    prompt = list(get_tokenizer(m.is_multilingual, num_languages=m.num_languages, language=lang, task="transcribe").sot_sequence_including_notimestamps)
    out["smallest_margin_greedy_without_timestamps"] = margins(dec["greedy_without_timestamps"]["tokens"], feats, prompt)
    tr = out["transcribe"] = {}
    def go(key, **kw): tr[key] = dict(options=kw, **transcription(m.transcribe(audio, fp16=False, **kw)))
    go("default_greedy", temperature=0.0)
    go("words", temperature=0.0, language=lang, word_timestamps=True)
    if A.heads:
        try: go("fallback", temperature=Zero(), beam_size=5, best_of=5)
        except Sampled: pass
        else: tr["fallback"]["options"]["temperature"] = TEMPERATURES
    if not A.quick:
        go("beam5", temperature=0.0, language=lang, beam_size=5)
        go("unconditioned", temperature=0.0, language=lang, condition_on_previous_text=False)
        go("initial_prompt", temperature=0.0, language=lang, initial_prompt="Peter and Maria are in the garden.")
        if n > 16000 * 30:
            go("carry_initial_prompt", temperature=0.0, language=lang, initial_prompt="Peter and Maria are in the garden.", carry_initial_prompt=True)
            go("hallucination_silence_threshold", temperature=0.0, language=lang, word_timestamps=True, hallucination_silence_threshold=2.0)
        if n > 16000 * 20: go("clip", temperature=0.0, language=lang, clip_timestamps="2,9.5,12")
    json.dump(out, open(f"{A.out}/{name}.json", "w"), ensure_ascii=False, indent=None if A.quick else 1)
    if name in A.tensors.split(","):
        toks = prompt + dec["greedy_without_timestamps"]["tokens"]
        with torch.no_grad(): logits = m.decoder(torch.tensor([toks]), feats)[0]
        save_file({"mel": mel.numpy(), "audio_features": feats[0].numpy(), "tokens": np.array(toks, dtype=np.int64), "logits": logits.numpy()}, f"{A.out}/{name}.safetensors")
        full = whisper.log_mel_spectrogram(audio, n_mels=m.dims.n_mels, padding=480000).numpy()
        save_file({"mel_whole_file_padded": full[:, : min(full.shape[1], 6000)]}, f"{A.out}/{name}.mel.safetensors")
    print(name, f"{n/16000:.1f}s", f"{time.time()-t0:.1f}s", dec["greedy"]["text"][:60], flush=True)
