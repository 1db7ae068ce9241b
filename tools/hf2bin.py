"""Hugging Face Whisper folder -> the same with pytorch_model.bin.  usage: hf2bin.py HF_DIR OUT_DIR [N_SHARDS]"""
import json
import shutil
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file

source, target = Path(sys.argv[1]), Path(sys.argv[2])
n_shards = int(sys.argv[3]) if len(sys.argv) > 3 else 1
state = OrderedDict(load_file(source / "model.safetensors"))
# As a model's state has it: the output matrix shares its storage.
state["proj_out.weight"] = state["model.decoder.embed_tokens.weight"]
target.mkdir(parents=True, exist_ok=True)
for path in source.iterdir():
    if path.is_file() and path.suffix != ".safetensors":
        shutil.copy(path, target)
if n_shards == 1:
    torch.save(state, target / "pytorch_model.bin")
    sys.exit()
names, shards = list(state), {}
for shard in range(n_shards):
    name = f"pytorch_model-{shard + 1:05}-of-{n_shards:05}.bin"
    part = names[len(names) * shard // n_shards : len(names) * (shard + 1) // n_shards]
    torch.save(OrderedDict((tensor, state[tensor]) for tensor in part), target / name)
    shards |= dict.fromkeys(part, name)
(target / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
