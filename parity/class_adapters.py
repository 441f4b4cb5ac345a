"""Writes adapters of classifiers as PEFT saves them, the head beside them, with the
scores that it computes.

Under method/adapt/testdata/parity-classes: one folder for each classifier of
engine/model/testdata/parity: adapter_config.json, adapter_model.safetensors,
golden.safetensors.
"""

import shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from adapters import trained
from tiny import ROOT, tidy_json

OUT = ROOT / "method/adapt/testdata/parity-classes"
BASES = ROOT / "engine/model/testdata/parity"


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for seed, name in enumerate(["bert-classes", "roberta-classes"], start=201):
        model = AutoModelForSequenceClassification.from_pretrained(BASES / name)
        # "dense" is also the name of a layer of RoBERTa's head, which PEFT leaves out.
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value", "dense"], task_type="SEQ_CLS")
        model = get_peft_model(model, config).eval()
        trained(model, seed)
        folder = OUT / name
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        tidy_json(folder / "adapter_config.json", base_model_name_or_path=name)
        ids = torch.randint(3, 90, (17,), generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            scores = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits
        save_file({"ids": ids, "scores": scores.contiguous()}, folder / "golden.safetensors")


if __name__ == "__main__":
    main()
