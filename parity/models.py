"""Writes checkpoints as transformers saves them, with the logits that it computes.

One folder a configuration under engine/model/testdata/parity: config.json,
model.safetensors, golden.safetensors.
"""

import shutil

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from tiny import ROOT, SIZES, scatter, write_golden

F32, BF16 = torch.float32, torch.bfloat16

# Wavelengths of head_dim 8 and theta 10000 are 6, 63, 628 and 6283 positions: with
# 128 original positions the first is kept, the second blended, the others stretched.
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=128,
)

MODELS = {
    "llama": (LlamaConfig(**SIZES), F32),
    "llama-tied-llama3": (LlamaConfig(**SIZES, tie_word_embeddings=True, rope_scaling=LLAMA3), F32),
    "llama-biases-linear": (
        LlamaConfig(
            **SIZES,
            attention_bias=True,
            mlp_bias=True,
            rms_norm_eps=1e-5,
            rope_scaling=dict(rope_type="linear", factor=4.0),
        ),
        F32,
    ),
    "mistral-head-dim": (MistralConfig(**SIZES, head_dim=12, sliding_window=None), F32),
    "qwen2": (Qwen2Config(**SIZES, rope_theta=1e6), F32),
    "smollm2-bf16": (LlamaConfig(**SIZES, tie_word_embeddings=True, rope_theta=100000.0, rms_norm_eps=1e-5), BF16),
}


def main():
    for seed, (name, (config, dtype)) in enumerate(MODELS.items()):
        folder = ROOT / "engine/model/testdata/parity" / name
        shutil.rmtree(folder, ignore_errors=True)
        model = AutoModelForCausalLM.from_config(config)
        scatter(model, seed)
        model.to(dtype).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        # The logits are those of the file, computed in f32.
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=F32)
        write_golden(folder / "golden.safetensors", model, seed)


if __name__ == "__main__":
    main()
