#!/usr/bin/env python3
"""overhear beside the other Whisper engines: same weights, same audio, same forced tokens, in turn. See README.md."""
import argparse, contextlib, csv, fcntl, json, os, platform, statistics, subprocess, sys, time
from pathlib import Path

import bars

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
ENGINES = ["faster-whisper int8", "faster-whisper int8+t1", "faster-whisper float32", "openvino-genai int8-bf16",
           "openvino-genai fp16-bf16", "whisper.cpp q8_0", "whisper.cpp f16", "transformers bf16", "openai-whisper f32"]
COLUMNS = [("log_mel_s", "log-mel ms", 1e3, 1), ("encoder_s", "encoder ms", 1e3, 0), ("token_s", "ms/token", 1e3, 2),
           ("window_s", "window s", 1, 3), ("beam5_s", "beam 5 window s", 1, 3), ("load_s", "load s", 1, 2),
           ("peak_mb", "peak MB", 1, 0), ("disturbed", "other CPU", 100, 0), ("n_rounds", "rounds", 1, 0)]
# What keeps the engines to an instruction set; whisper.cpp is built for one, and its wheel, in `wheel`, for AVX2.
LIMITS = {"avx2": {"OVERHEAR_ISA": "avx2", "CT2_FORCE_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                   "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}}
# What a figure of `overhear bench` is called here.
FIGURES = {"log-mel": "log_mel_s", "encoder": "encoder_s", "token": "token_s", "window": "window_s",
           "window, 5 beams": "beam5_s", "load": "load_s"}


def setup(a):
    """Makes the virtual environment. What does not install is left out and reported in every table."""
    python = a.work / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", a.work / "venv"], check=True)
    failed = {}
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            source = ["--no-binary", "pywhispercpp"] if line.startswith("pywhispercpp") else []
            run = subprocess.run([python, "-m", "pip", "install", "--quiet", *source, line], capture_output=True, text=True)
            if run.returncode:
                failed[line] = (run.stderr.strip().splitlines() or ["pip failed"])[-1]
                print(f"{line}: {failed[line]}", file=sys.stderr)
            if source:
                subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--only-binary", ":all:",
                                "--target", a.work / "wheel", line], check=True)
    (a.work / "failed.json").write_text(json.dumps(failed))


def convert(a, size):
    """The checkpoint for the peers that take part; what is there already is kept."""
    source, out = (a.checkpoints / size).resolve(), a.work / size
    out.mkdir(parents=True, exist_ok=True)
    tool = a.work / "venv/bin"
    for engine in a.engines:
        kind, _, variant = engine.partition(" ")
        weights = variant.partition("-")[0]
        name, command = {
            "faster-whisper": ("ct2", [tool / "ct2-transformers-converter", "--model", source, "--output_dir", out / "ct2",
                                       "--copy_files", "tokenizer.json", "preprocessor_config.json", "--quantization", "float16"]),
            "openai-whisper": ("openai.pt", [tool / "python", REPOSITORY / "tools/hf2openai.py", source, out / "openai.pt"]),
            "openvino-genai": (f"ov-{weights}", [tool / "optimum-cli", "export", "openvino", "--model", source, "--task",
                                                 "automatic-speech-recognition-with-past", "--weight-format", weights,
                                                 out / f"ov-{weights}"]),
            "whisper.cpp": (f"ggml-{variant}.bin", to_ggml(a.overhear, source, out, variant)),
        }.get(kind, (None, None))
        if name and not (out / name).exists():
            with locked(a):
                run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                print(f"{size} {name}: {(run.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)


def to_ggml(overhear, source, out, kind):
    """Command that writes whisper.cpp's file: quantised as ggml's reference does."""
    return [overhear, "models", "convert", source, out / f"ggml-{kind}.bin", "--to", "ggml", "--dtype", kind]


@contextlib.contextmanager
def locked(a):
    """Holds the lock that other heavy jobs of this machine hold, if there is one."""
    with open(a.lock, "w") if a.lock else contextlib.nullcontext() as file:
        if file:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def busy(pid=None):
    """Seconds of CPU: of a process and the children it waited for, or of the whole machine."""
    ticks = os.sysconf("SC_CLK_TCK")
    if pid is None:
        fields = list(map(int, open("/proc/stat").readline().split()[1:9]))
        return (sum(fields) - fields[3] - fields[4]) / ticks
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / ticks


class Peer:
    """An engine that waits in its process for the next round."""

    def __init__(self, a, name, size):
        self.name, self.rows, self.error, self.load_s = name, [], None, None
        packages = a.work / "wheel" if a.isa else next((a.work / "venv/lib").glob("python*")) / "site-packages"
        environment = {**os.environ, "OMP_NUM_THREADS": str(a.threads), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
                       "PYTHONPATH": str(packages), "LD_LIBRARY_PATH": str(packages), **LIMITS.get(a.isa, {})}
        command = [a.work / "venv/bin/python", HERE / "engines.py", name, a.checkpoints / size, a.work / size,
                   str(a.threads)]
        log = open(a.work / f"log-{size}-{name.replace(' ', '-')}.txt", "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                        env=environment)
        ready = self.process.stdout.readline()
        if ready:
            self.load_s = json.loads(ready)["load_s"]
        else:
            log.seek(0)
            self.error = (log.read().strip().splitlines() or ["ended without a word"])[-1][:300]

    def round(self, beams):
        before, own, start = busy(), busy(self.process.pid), time.time()
        self.process.stdin.write(json.dumps({"beams": beams}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.error = f"ended with code {self.process.wait()}"
            return
        row = json.loads(answer)
        others = (busy() - before) - (busy(self.process.pid) - own)
        self.add(row, others / (time.time() - start))

    def add(self, row, disturbed):
        if "error" in row:
            self.error = row["error"]
        else:
            self.rows.append({"load_s": self.load_s, **row, "disturbed": max(0, disturbed) / os.cpu_count()})

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()


class Overhear(Peer):
    """Runs `overhear bench` once a round."""

    def __init__(self, a, kind, size):
        self.name, self.rows, self.error, self.load_s, self.limits = f"overhear {kind}", [], None, None, []
        self.command = [a.overhear, "bench", "--json", "--repeats", "1", "--model", a.checkpoints / size,
                        "--compute_type", kind, "--threads", str(a.threads)]
        self.environment = {**os.environ, **LIMITS.get(a.isa, {})}

    def round(self, beams):
        before, times, start = busy(), os.times(), time.time()
        run = subprocess.run(self.command, capture_output=True, text=True, env=self.environment)
        seconds = time.time() - start
        after = os.times()
        own = after.children_user + after.children_system - times.children_user - times.children_system
        others = busy() - before - own
        if run.returncode:
            self.error = (run.stderr.strip().splitlines() or ["failed"])[-1][:300]
            return
        report = json.loads(run.stdout)
        figures = {figure["name"]: figure for figure in report["figures"]}
        row = {FIGURES[name]: figure["median_ms"] / 1e3 for name, figure in figures.items() if name in FIGURES}
        row["peak_mb"] = report["peak_memory_mb"]
        row["shares"] = {name: figures[name]["share"] for name in ("encoder", "token")}
        self.limits.append(report["limits"])
        self.add(row, others / seconds)

    def close(self):
        pass


def measure(a, size):
    """Rounds of all engines in turn, a few engines at a time so that memory holds them; overhear is in each group."""
    rows = {}
    for first in range(0, max(1, len(a.engines)), a.group):
        group = [Overhear(a, kind, size) for kind in a.compute_types]
        with locked(a):
            group += [Peer(a, name, size) for name in a.engines[first:first + a.group]]
        for i in range(a.repeats):
            if i and time.time() - a.start > a.seconds:
                break
            for engine in group:
                if engine.error is None:
                    with locked(a):
                        quiet_round(a, engine)
                print(f"{size} round {i + 1} {engine.name}: {engine.error or engine.rows[-1]}", file=sys.stderr)
        for engine in group:
            engine.close()
            row = rows.setdefault(engine.name, {"engine": engine.name, "size": size, "rounds": []})
            row["rounds"] += engine.rows
            if engine.error:
                row["error"] = engine.error
            if isinstance(engine, Overhear):
                row["limits"] = row.get("limits", []) + engine.limits
    return [summary(row) for row in rows.values()]


def quiet_round(a, engine):
    """A round; again if other processes disturbed it, and then the least disturbed one counts."""
    n_before = len(engine.rows)
    for _ in range(1 + a.retries):
        time.sleep(0.3)  # the threads of the one before have gone to sleep
        engine.round(a.beams)
        if engine.error or engine.rows[-1]["disturbed"] < 0.05:
            break
    engine.rows[n_before:] = sorted(engine.rows[n_before:], key=lambda row: row["disturbed"])[:1]


def summary(row):
    for column, *_ in COLUMNS:
        values = [r[column] for r in row["rounds"] if r.get(column) is not None]
        if values:
            row[column] = statistics.median(values)
    row["n_rounds"] = len(row["rounds"])
    row["missing"] = next((r["missing"] for r in row["rounds"] if "missing" in r), {})
    return row


def machine():
    """A name for the class of machine, from what matters here, and its description."""
    info = open("/proc/cpuinfo").read()
    field = lambda name: next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith(name)), "")
    flags = set(field("flags").split())
    units = [name for name, flag in [("amx", "amx_tile"), ("avx512bf16", "avx512_bf16"), ("avx512", "avx512f"),
                                     ("avx2", "avx2")] if flag in flags] or [platform.machine()]
    vendor = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(field("vendor_id"), "cpu")
    return f"{vendor}{field('cpu family')}-{units[0]}", f"{field('model name')}, family {field('cpu family')} model " \
        f"{field('model')}, {os.cpu_count()} processors, best unit {units[0]}"


def run(a):
    for size in a.sizes:
        convert(a, size)
    git = lambda *words: subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, text=True).stdout.strip()
    name, description = machine()
    if a.isa:
        name, description = f"{name}-only-{a.isa}", f"{description}, all engines kept to {a.isa}"
    rows = [row for size in a.sizes for row in measure(a, size)]
    failed = json.loads((a.work / "failed.json").read_text()) if (a.work / "failed.json").exists() else {}
    # The last commit that changed the program, whatever was written about it since.
    code = ("--", "crates", "Cargo.lock")
    commit = git("log", "-1", "--format=%h", "--abbrev=10", *code) + ("-dirty" if git("status", "--porcelain", *code) else "")
    result = {"machine": description, "commit": commit, "date": time.strftime("%Y-%m-%d"), "threads": a.threads,
              "not_installed": failed, "rows": rows}
    a.out.mkdir(parents=True, exist_ok=True)
    stem = a.out / f"peers-{name}-{commit}"
    if stem.with_suffix(".json").exists():  # a piece of the same table
        old = json.loads(stem.with_suffix(".json").read_text())
        new = {(row["size"], row["engine"]) for row in rows}
        result["rows"] = [row for row in old["rows"] if (row["size"], row["engine"]) not in new] + rows
    write(result, stem)


def write(result, stem):
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    with open(stem.with_suffix(".csv"), "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["size", "engine", *(name for name, *_ in COLUMNS), "error"])
        for row in result["rows"]:
            table.writerow([row["size"], row["engine"], *(row.get(name, "") for name, *_ in COLUMNS), row.get("error", "")])
    stem.with_suffix(".md").write_text(markdown(result))
    stem.with_suffix(".svg").write_text(plot(result))
    print(stem.with_suffix(".md"))


def by_size(result):
    sizes = list(dict.fromkeys(row["size"] for row in result["rows"]))
    return [(size, sorted((row for row in result["rows"] if row["size"] == size),
                          key=lambda row: row.get("window_s", 1e9))) for size in sizes]


def markdown(result):
    lines = ["# Peers, side by side", "", f"{result['machine']}; {result['threads']} threads; commit {result['commit']}, "
             f"{result['date']}. Medians of the rounds in which the engines took turns, on the same "
             "inflated checkpoint, 30 s of audio, exactly 100 forced tokens; `bench/peers/README.md` says how. *other "
             "CPU*: share of the machine that other processes took meanwhile, in percent: far above 0 the row is "
             "worth little. overhear's encoder includes the cross-attention keys and values, the others' do not, but "
             "for whisper.cpp's. whisper.cpp's token and window leave out sampling.", ""]
    if statistics.median(row.get("disturbed", 0) for row in result["rows"]) > 0.1:
        lines += ["**The machine was not quiet: take ratios of neighbouring rows for a hint, and no time for itself.**", ""]
    for size, rows in by_size(result):
        lines += [f"## {size}", "", "| engine | " + " | ".join(title for _, title, *_ in COLUMNS) + " |",
                  "|---|" + "--:|" * len(COLUMNS)]
        for row in rows:
            cells = ["–" if row.get(name) is None else f"{row[name] * factor:.{digits}f}" for name, _, factor, digits in COLUMNS]
            lines.append(f"| {row['engine']} | " + " | ".join(cells) + " |")
        lines += [""] + [f"- {row['engine']}: {row['error']}" for row in rows if row.get("error")]
        lines += [f"- {row['engine']}, {column}: {why}" for row in rows for column, why in row["missing"].items()]
        lines += [f"- {row['engine']}: encoder at {shares['encoder']:.0%} of the arithmetic, token at {shares['token']:.0%} "
                  "of the bandwidth that the same rounds measured." for row in rows if (shares := median_shares(row))]
        lines.append("")
    lines += [f"- Not installed: {name}: {why}" for name, why in result["not_installed"].items()]
    return "\n".join(lines).rstrip() + "\n"


def median_shares(row):
    shares = [r["shares"] for r in row["rounds"] if "shares" in r]
    return shares and {name: statistics.median(s[name] for s in shares) for name in ("encoder", "token")}


def plot(result):
    """Seconds per window, a group of bars per size."""
    bar = lambda row: (row["engine"], row["window_s"], f"{row['window_s']:.3f} s")
    groups = [(size, [bar(row) for row in rows if "window_s" in row]) for size, rows in by_size(result)]
    title = f"One 30 s window, 100 tokens, {result['threads']} threads, commit {result['commit']}: seconds, less is better"
    return bars.svg(title, [group for group in groups if group[1]])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["setup", "run"])
    parser.add_argument("--work", type=Path, default=REPOSITORY / "target/peers", help="environment and converted models")
    parser.add_argument("--checkpoints", type=Path, default=REPOSITORY / "target/inflated", help="what `just inflate` made")
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=["tiny", "small"])
    parser.add_argument("--engines", type=lambda text: [e for e in text.split(",") if e], default=ENGINES)
    parser.add_argument("--compute-types", type=lambda text: text.split(","), default=["f32", "bf16", "int8"])
    parser.add_argument("--overhear", default=REPOSITORY / "target/release/overhear")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--isa", choices=LIMITS, help="keep all engines to this instruction set")
    parser.add_argument("--retries", type=int, default=0, help="of rounds that others disturbed by over 5 %%")
    parser.add_argument("--group", type=int, default=4, help="peers in memory at a time")
    parser.add_argument("--no-beams", dest="beams", action="store_false", help="leave beam search out")
    parser.add_argument("--lock", help="a file to lock during each measurement")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no round after so long; the first counts")
    a = parser.parse_args()
    a.start = time.time()
    setup(a) if a.command == "setup" else run(a)


if __name__ == "__main__":
    main()
