"""Opens what Tare wrote in transformers and PEFT and compares logits.

    check_export.py DIR

DIR holds base (a checkpoint) and any number of other folders, checkpoints or
adapters of base, each with logits.safetensors: ids.i and the logits.i that Tare
computed. Exits with status 1 when a difference exceeds 1e-4 of the largest logit.
"""

import json
import pathlib
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

TOLERANCE = 1e-4


def open_checkpoint(folder):
    """Returns the model and a line for each tensor that transformers did not expect or find."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, [f"{kind}: {keys}" for kind, keys in info.items() if keys]


def open_paca(base):
    """PEFT has no PaCA: the columns replace those of the base."""

    def put(folder):
        model, odd = open_checkpoint(base)
        tensors = load_file(folder / "adapter_model.safetensors")
        for name, index in tensors.items():
            if name.endswith(".paca_indices"):
                layer = name.removesuffix(".paca_indices")
                weight = model.get_parameter(layer.removeprefix("base_model.model.") + ".weight")
                weight.data[:, index] = tensors[layer + ".paca_w"]
        return model, odd

    return put


def open_core(base):
    """PEFT has neither LoRA-XS nor LoRA-SB: the product s B R A is added to the base."""

    def put(folder):
        model, odd = open_checkpoint(base)
        config = json.loads((folder / "adapter_config.json").read_text())
        scale = config.get("lora_alpha", config["r"]) / config["r"]
        tensors = load_file(folder / "adapter_model.safetensors")
        for name, r in tensors.items():
            if name.endswith(".lora_R.weight"):
                layer = name.removesuffix(".lora_R.weight")
                weight = model.get_parameter(layer.removeprefix("base_model.model.") + ".weight")
                weight.data += scale * tensors[layer + ".lora_B.weight"] @ r @ tensors[layer + ".lora_A.weight"]
        return model, odd

    return put


BY_HAND = {"PACA": open_paca, "LORA_XS": open_core, "LORA_SB": open_core}


def open_adapter(base):
    def put(folder):
        model, odd = open_checkpoint(base)
        model = PeftModel.from_pretrained(model, folder)
        stored = set(load_file(folder / "adapter_model.safetensors"))
        wanted = {n.replace(".default", "") for n, _ in model.named_parameters() if ".default" in n}
        wanted = {n.replace("lora_magnitude_vector.weight", "lora_magnitude_vector") for n in wanted}  # as PEFT saves it
        wanted |= {f"base_model.{n}" for n in ("randlora_A", "randlora_B", "vera_A", "vera_B") if hasattr(model.base_model, n)}
        wanted = {n for n in wanted if not n.endswith(".ranknum")}  # AdaLoRA's, which PEFT does not save
        if stored != wanted:
            odd.append(f"names differ: {sorted(stored ^ wanted)[:4]}")
        return model, odd

    return put


@torch.no_grad()
def difference(model, golden):
    """Returns the largest difference of logits over the largest logit."""
    model.eval()
    diff = size = 0.0
    for i in range(sum(n.startswith("ids.") for n in golden)):
        got = model(input_ids=golden[f"ids.{i}"][None].long()).logits[0]
        want = golden[f"logits.{i}"].view_as(got)
        diff, size = max(diff, (got - want).abs().max().item()), max(size, got.abs().max().item())
    return diff / size


def check(folder, base):
    """Returns what opened the folder, the difference, and what was odd about it."""
    kind, opener = "transformers", open_checkpoint
    if (folder / "adapter_config.json").exists():
        method = json.loads((folder / "adapter_config.json").read_text())["peft_type"]
        kind, opener = "peft " + method, open_adapter(base)
        if method in BY_HAND:
            kind, opener = "by hand " + method, BY_HAND[method](base)
    model, odd = opener(folder)
    return kind, difference(model, load_file(folder / "logits.safetensors")), odd


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1])
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")  # PEFT's, that Bone will be MiSS
    folders = sorted(p.parent for p in root.rglob("logits.safetensors"))
    if not folders:
        sys.exit(f"check_export: {root} has no folder with logits.safetensors")
    failed = 0
    for folder in folders:
        try:
            kind, diff, odd = check(folder, root / "base")
        except Exception as e:  # a folder that does not open is a row of the table
            kind, diff, odd = "-", float("inf"), [f"{type(e).__name__}: {e}"]
        ok = diff <= TOLERANCE and not odd
        failed += not ok
        print(f"{str(folder.relative_to(root)):28} {kind:14} {diff:9.2e}  {'ok' if ok else 'FAILED ' + '; '.join(odd)}")
    print(f"{len(folders) - failed} of {len(folders)} agree within {TOLERANCE:g}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
