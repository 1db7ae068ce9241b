"""A LoRA adapter by PEFT, and rows of the weights that PEFT merges it to.  usage: lora.py MODEL_FOLDER OUT_FOLDER

PEFT adds products in f32 to weights in f32: nano's are widened when it is loaded. Needs peft and transformers."""
import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import WhisperForConditionalGeneration

base, out = sys.argv[1], Path(sys.argv[2])
MODULES = ["model.decoder.layers.0.encoder_attn.q_proj", "model.encoder.layers.1.fc1"]


def load():
    return WhisperForConditionalGeneration.from_pretrained(base, dtype=torch.float32)


torch.manual_seed(0)
config = LoraConfig(r=2, lora_alpha=3, use_rslora=True, target_modules=MODULES, modules_to_save=["decoder.layer_norm"],
                    rank_pattern={"fc1": 1}, alpha_pattern={"q_proj": 5})
model = get_peft_model(load(), config)
for name, parameter in model.named_parameters():
    if "lora_" in name:
        torch.nn.init.normal_(parameter, std=0.1)
    elif "modules_to_save" in name:
        parameter.data += 0.01 * torch.randn_like(parameter)
model.save_pretrained(out)
path = out / "adapter_config.json"
path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "nano"}, indent=1) + "\n")
(out / "README.md").unlink(missing_ok=True)
merged = PeftModel.from_pretrained(load(), out).merge_and_unload().state_dict()
rows = {f"{module}.weight": merged[f"{module}.weight"][-2:].clone() for module in MODULES}
rows["model.decoder.layer_norm.weight"] = merged["model.decoder.layer_norm.weight"].clone()
save_file(rows, out / "merged.safetensors")
