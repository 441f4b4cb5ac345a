"""Writes adapters as PEFT saves them, with the logits that it computes.

Under method/adapt/testdata/parity: base, a checkpoint, and one folder an adapter:
adapter_config.json, adapter_model.safetensors, golden.safetensors.
"""

import shutil

import torch
from peft import AdaLoraConfig, BoneConfig, EvaConfig, LoraConfig, MissConfig, RandLoraConfig, VeraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from tiny import ROOT, SIZES, scatter, tidy_json, write_golden

OUT = ROOT / "method/adapt/testdata/parity"
ATTENTION = ["q_proj", "v_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

ADAPTERS = {
    "lora": LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "lora-rslora": LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"),
    "lora-pattern": LoraConfig(r=2, lora_alpha=3, target_modules=r".*layers\.1\.mlp\.(up|down)_proj"),
    "bone": BoneConfig(r=8, target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"),
    "bone-padded": BoneConfig(r=5, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "bat": BoneConfig(r=8, init_weights="bat", target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"),
    "miss": MissConfig(r=8, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "dora": LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"),
    "pissa": LoraConfig(r=4, lora_alpha=8, init_lora_weights="pissa", target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"),
    "lora-ranks": LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION, rank_pattern={r"layers\.0\..*q_proj": 2, "layers.1.self_attn.v_proj": 6}, alpha_pattern={"v_proj": 3}, task_type="CAUSAL_LM"),
    "eva": LoraConfig(r=4, lora_alpha=8, init_lora_weights="eva", eva_config=EvaConfig(rho=1.5), target_modules=ATTENTION, rank_pattern={"model.layers.0.self_attn.q_proj": 6, "model.layers.1.self_attn.v_proj": 2}, alpha_pattern={"model.layers.0.self_attn.q_proj": 12, "model.layers.1.self_attn.v_proj": 4}, task_type="CAUSAL_LM"),
    "adalora": AdaLoraConfig(init_r=4, target_r=2, lora_alpha=8, tinit=2, tfinal=3, total_step=10, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "adalora-whole": AdaLoraConfig(init_r=3, target_r=3, lora_alpha=16, total_step=10, target_modules=MLP, task_type="CAUSAL_LM"),
    "randlora": RandLoraConfig(r=8, randlora_alpha=8, target_modules=r".*layers\.0\..*(q|k|gate|down)_proj", task_type="CAUSAL_LM"),
    "randlora-sparse": RandLoraConfig(r=5, randlora_alpha=5, very_sparse=True, projection_prng_key=3, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "vera": VeraConfig(r=12, projection_prng_key=9, target_modules=ATTENTION + MLP, task_type="CAUSAL_LM"),
}


def trained(model, seed):
    """Gives the adapter's parameters random values, as if it had been trained."""
    g = torch.Generator().manual_seed(2000 + seed)
    with torch.no_grad():
        for _, p in sorted((n, p) for n, p in model.named_parameters() if p.requires_grad):
            p.copy_(0.15 * torch.randn(p.shape, generator=g))


def pruned(model):
    """Prunes AdaLoRA's triplets, one layer of all, as its allocator would."""
    marks = [[True, False, False, True], [False, False, False, False], [True, True, True, True], [False, True, False, True]]
    names = sorted(n for n, _ in model.named_parameters() if "lora_E" in n)
    pattern = {n.removeprefix("base_model.model."): m for n, m in zip(names, marks)}
    model.peft_config["default"].rank_pattern = pattern
    model.base_model.rankallocator.mask_using_rank_pattern(model.base_model.model, pattern)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    base = OUT / "base"
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    scatter(model, 100)
    model.save_pretrained(base)
    (base / "generation_config.json").unlink(missing_ok=True)
    write_golden(base / "golden.safetensors", model, 100)
    for seed, (name, config) in enumerate(ADAPTERS.items(), start=101):
        folder = OUT / name
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        trained(model, seed)
        if name == "adalora":
            pruned(model)
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        tidy_json(folder / "adapter_config.json", base_model_name_or_path="base")
        write_golden(folder / "golden.safetensors", model, seed)


if __name__ == "__main__":
    main()
