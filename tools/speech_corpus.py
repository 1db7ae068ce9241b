#!/usr/bin/env python3
"""A corpus of people's speech under other conditions, from a few clips whose words are known: more than 10,000 words in English.

usage: speech_corpus.py AUDIO_FOLDER OUT_FOLDER
needs: numpy, soundfile (pip).
AUDIO_FOLDER has a manifest.jsonl; its clips `real-*` and `jfk` of up to 20 s are taken, brought to one level. Most files join the
English clips in another order each time, up to 28 s: a window of Whisper's. OUT_FOLDER gets FLAC files of 16 kHz and a manifest.jsonl
as `overhear eval` reads it, each line with its `set`:

    clean   the clips as they are            noise   white, pink and other people's, 20, 10 and 5 dB below
    speed   at 0.85 to 1.2 of their speed    room    with an echo that takes 0.2 to 0.9 s to fall by 60 dB
    level   with peaks of -30 to 0 dBFS      joined  all clips, pauses of 0.5 to 8 s between them

Clips in other languages are files of their own. Everything random comes from the names of the files: the same samples each time.
"""
import json, os, sys, zlib
import numpy as np
import soundfile

RATE = 16_000
LONGEST_CLIP_S = 20
WINDOW_S = 28
# Clips of single digits are written in numerals, as Whisper does: normalised, the words would become one long number.
DIGITS = {word: str(digit) for digit, word in enumerate("zero one two three four five six seven eight nine".split())}
# Root mean square of every clip to begin with (-26 dBFS), and the peak beyond which it is turned down.
LEVEL, PEAK = 0.05, 0.9
SPEEDS = [0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2]
PEAKS_DBFS = [-30, -24, -18, -12, -6, 0]
NOISES = ["white", "pink", "babble"]
SNRS_DB = [20, 10, 5]
ROOMS_S = [0.2, 0.4, 0.6, 0.9]
VOICES_OF_BABBLE = 6
# How often all English clips are said under each condition, each time in another order.
ROUNDS, ROUNDS_JOINED = 2, 8


def main(audio, out):
    os.makedirs(out, exist_ok=True)
    clips = read(audio)
    english = [clip for clip in clips if clip["lang"] == "en"]
    others = [clip for clip in clips if clip["lang"] != "en"]
    with open(f"{out}/manifest.jsonl", "w", encoding="utf-8") as manifest:
        def write(kind, name, samples, said):
            file = f"{kind}-{name}.flac"
            samples = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
            soundfile.write(f"{out}/{file}", samples, RATE, subtype="PCM_16")
            line = {"file": file, "set": kind, "duration_s": round(len(samples) / RATE, 3),
                    "text": " ".join(clip["text"] for clip in said), "lang": said[0]["lang"]}
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")

        for clip in clips:
            write("clean", clip["name"], clip["samples"], [clip])
        for kind, condition, change in conditions(english):
            for number in range(ROUNDS):
                random = seeded(f"{kind} {condition} {number}")
                for part, said in enumerate(windows(english, random)):
                    samples = change(join(said, 0.3, 1.0, random), said, random)
                    write(kind, f"{condition}-{number}{chr(ord('a') + part)}", samples, said)
            if kind != "level":
                for clip in others:
                    random = seeded(f"{kind} {condition} {clip['name']}")
                    write(kind, f"{condition}-{clip['name']}", change(clip["samples"], [clip], random), [clip])
        for number in range(ROUNDS_JOINED):
            random = seeded(f"joined {number}")
            said = [english[i] for i in random.permutation(len(english))]
            write("joined", str(number), join(said, 0.5, 8.0, random), said)


def read(folder):
    """The clips of people, at one level."""
    clips = []
    for line in open(f"{folder}/manifest.jsonl", encoding="utf-8"):
        entry = json.loads(line)
        name = entry["file"].removesuffix(".flac")
        if name != "jfk" and not name.startswith("real-"):
            continue
        samples, rate = soundfile.read(f"{folder}/{entry['file']}")
        if len(samples) > LONGEST_CLIP_S * rate:
            continue
        assert rate == RATE and samples.ndim == 1, entry["file"]
        words = entry["text"].split()
        text = " ".join(DIGITS[word] for word in words) if DIGITS.keys() >= set(words) else entry["text"]
        # zh-TW is Chinese.
        clips.append({"name": name, "lang": entry["lang"].split("-")[0], "text": text, "samples": levelled(samples)})
    return clips


def seeded(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def levelled(samples):
    """At the common level, or below it where peaks would not fit."""
    return samples * min(LEVEL / np.sqrt(np.mean(samples**2)), PEAK / np.abs(samples).max())


def windows(clips, random):
    """All clips in a random order, as many together as fit into a window."""
    window, seconds = [], 0.0
    for i in random.permutation(len(clips)):
        length = len(clips[i]["samples"]) / RATE / min(SPEEDS) + 1
        if window and seconds + length > WINDOW_S:
            yield window
            window, seconds = [], 0.0
        window.append(clips[i])
        seconds += length
    yield window


def join(clips, shortest_s, longest_s, random):
    """The clips with pauses of random lengths before, between and after them."""
    pause = lambda: np.zeros(int(random.uniform(shortest_s, longest_s) * RATE))
    parts = [pause()]
    for clip in clips:
        parts += [clip["samples"], pause()]
    return np.concatenate(parts)


def conditions(english):
    """(set, condition, function of the samples, the clips in them and a generator)."""
    for speed in SPEEDS:
        yield "speed", f"{speed:.2f}", lambda samples, said, random, speed=speed: faster(samples, speed)
    for peak in PEAKS_DBFS:
        yield "level", f"{-peak}dB", lambda samples, said, random, peak=peak: samples * 10 ** (peak / 20) / np.abs(samples).max()
    for noise in NOISES:
        for snr in SNRS_DB:
            def change(samples, said, random, noise=noise, snr=snr):
                others = [clip["samples"] for clip in english if clip not in said] or [clip["samples"] for clip in english]
                made = {"white": white, "pink": pink, "babble": lambda n, random: babble(n, others, random)}[noise]
                return over(samples, made(len(samples), random), snr)
            yield "noise", f"{noise}-{snr}dB", change
    for room in ROOMS_S:
        yield "room", f"{room:.1f}s", lambda samples, said, random, room=room: echoed(samples, room, random)


def faster(samples, speed):
    """At `speed`, pitch and all: a spectrum cut or extended, which is resampling without a filter's edge."""
    padded = np.concatenate([samples, np.zeros(RATE // 2)])
    return np.fft.irfft(np.fft.rfft(padded), round(len(padded) / speed)) / speed


def white(n_samples, random):
    return random.standard_normal(n_samples)


def pink(n_samples, random):
    """Noise whose power falls by 3 dB an octave, from 20 Hz on."""
    spectrum = np.fft.rfft(random.standard_normal(n_samples))
    hertz = np.fft.rfftfreq(n_samples, 1 / RATE)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20)), n_samples)


def babble(n_samples, voices, random):
    """Several of `voices` at once, each from a random place on, again and again."""
    chosen = random.integers(len(voices), size=VOICES_OF_BABBLE)
    return sum(np.resize(np.roll(voices[i], random.integers(len(voices[i]))), n_samples) for i in chosen)


def over(samples, noise, snr_db):
    """The samples with noise that is `snr_db` below them, where they are not pauses."""
    power = np.mean(samples[samples != 0] ** 2)
    mixed = samples + noise * np.sqrt(power / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return mixed * min(1, PEAK / np.abs(mixed).max())


def echoed(samples, seconds, random):
    """In a room: an echo of noise that falls by 60 dB in `seconds`, as strong in all as the voice itself."""
    n_samples = int(seconds * RATE)
    echo = random.standard_normal(n_samples) * 10 ** (-3 * np.arange(n_samples) / n_samples)
    echo[0] = 0
    echo /= np.sqrt(np.sum(echo**2))
    echo[0] = 1
    length = len(samples) + n_samples
    return levelled(np.fft.irfft(np.fft.rfft(samples, length) * np.fft.rfft(echo, length), length))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
