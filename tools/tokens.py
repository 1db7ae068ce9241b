"""Text tokens of openai/whisper -> *.tokens of the library, see tokenizer/published.rs.  usage: tokens.py OUT_DIR"""
import base64
import importlib.resources
import sys
import zlib
from pathlib import Path

for name in ("gpt2", "multilingual"):
    text = (importlib.resources.files("whisper") / f"assets/{name}.tiktoken").read_text()
    lines = [line.split(" ") for line in text.splitlines() if line]
    assert [int(rank) for _, rank in lines] == list(range(len(lines))), "ranks are the ids"
    tokens = [base64.b64decode(token) for token, _ in lines]
    lengths = bytes(len(token) for token in tokens)
    (Path(sys.argv[1]) / f"{name}.tokens").write_bytes(zlib.compress(lengths + b"".join(tokens), 9))
