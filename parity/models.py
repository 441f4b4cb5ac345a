"""Writes checkpoints as transformers saves them, with what it computes of them.

One folder a configuration under engine/model/testdata/parity: config.json,
model.safetensors, golden.safetensors (inputs, logits, loss, greedy continuation) and
gradients.safetensors (the loss's, by every parameter).
"""

import shutil

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DeiTConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    ViTConfig,
)

from tiny import ROOT, SIZES, VOCAB, scatter, sequences

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

WITHOUT_KV = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
OPT = dict(WITHOUT_KV | dict(max_position_embeddings=96), ffn_dim=48)
del OPT["intermediate_size"]
ENCODER = WITHOUT_KV | dict(max_position_embeddings=64, type_vocab_size=2, pad_token_id=0)
IMAGES = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=12,
    patch_size=4,
    num_channels=3,
    num_labels=5,
)
GPT2 = dict(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=96, bos_token_id=1, eos_token_id=2)

# New ones go to the end: a model's place is its seed.
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
    "mistral-window": (MistralConfig(**SIZES, sliding_window=9), F32),
    "qwen2-window": (Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1), F32),
    "qwen3": (Qwen3Config(**SIZES, head_dim=12, tie_word_embeddings=True), F32),
    "phi": (PhiConfig(**SIZES, partial_rotary_factor=0.5), F32),
    "phi-head-norms": (PhiConfig(**WITHOUT_KV, partial_rotary_factor=0.25, qk_layernorm=True), F32),
    "gemma3": (
        Gemma3TextConfig(
            **SIZES | dict(num_hidden_layers=3, num_key_value_heads=1, pad_token_id=0),
            head_dim=12,
            query_pre_attn_scalar=20,
            sliding_window=7,
            sliding_window_pattern=2,
            rope_theta=1e6,
            rope_local_base_freq=100.0,
        ),
        F32,
    ),
    "gpt2": (GPT2Config(**GPT2), F32),
    "gpt2-scaled-bf16": (
        GPT2Config(**GPT2, n_inner=40, activation_function="gelu", scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False),
        BF16,
    ),
    "opt": (OPTConfig(**OPT), F32),
    "opt-norm-after": (OPTConfig(**OPT, word_embed_proj_dim=20, do_layer_norm_before=False), F32),
}

MASKED = {
    "bert": BertConfig(**ENCODER),
    "roberta": RobertaConfig(**ENCODER | dict(pad_token_id=1, bos_token_id=0)),
}

CLASSIFIERS = {
    "bert-classes": BertConfig(**ENCODER, num_labels=3, hidden_act="gelu_new"),
    "roberta-classes": RobertaConfig(**ENCODER | dict(pad_token_id=1, bos_token_id=0)),
}

IMAGE_CLASSIFIERS = {
    "vit": ViTConfig(**IMAGES),
    "deit": DeiTConfig(**IMAGES | dict(num_labels=2), qkv_bias=False, architectures=["DeiTForImageClassification"]),
}


def write_checkpoint(auto, config, dtype, name, seed):
    """Saves a model with drawn weights and returns what is read back, in f32, with its folder."""
    folder = ROOT / "engine/model/testdata/parity" / name
    shutil.rmtree(folder, ignore_errors=True)
    model = auto.from_config(config)
    scatter(model, seed)
    model.to(dtype).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # What is computed is computed of the file, and by the plain form of attention: GPT-2's
    # other one leaves its scaling by layer out.
    return auto.from_pretrained(folder, dtype=F32, attn_implementation="eager").eval(), folder


def write_golden(folder, model, golden, loss):
    """Stores the golden tensors, the loss and its gradients."""
    loss.backward()
    golden = {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in golden.items()}
    save_file(golden | {"loss": loss.detach().reshape(1)}, folder / "golden.safetensors")
    grads = {n: p.grad.contiguous() for n, p in model.named_parameters() if p.grad is not None}
    save_file(grads, folder / "gradients.safetensors")
    top = max(t.abs().max() for n, t in golden.items() if n.startswith("logits"))
    print(f"{folder.name:24} largest logit {top:.3f}, loss {loss:.4f}, {len(grads)} gradients")


def write_causal(folder, model, seed):
    golden, total, count = {}, 0.0, 0
    for i, ids in enumerate(sequences(seed)):
        if model.config.pad_token_id is not None:  # torch gives its embedding no gradient
            ids = torch.where(ids == model.config.pad_token_id, 5, ids)
        logits = model(input_ids=ids[None]).logits[0].float()
        golden[f"ids.{i}"], golden[f"logits.{i}"] = ids, logits
        total = total + F.cross_entropy(logits[:-1], ids[1:], reduction="sum")
        count += len(ids) - 1
    model.generation_config.eos_token_id = None
    prompt = golden["ids.0"][:9]
    out = model.generate(prompt[None], attention_mask=torch.ones(1, 9, dtype=int), max_new_tokens=20, do_sample=False, pad_token_id=0)
    golden["prompt"], golden["generated"] = prompt, out[0, 9:]
    write_golden(folder, model, golden, total / count)


def texts(seed, config):
    """Two sequences with segments and no padding tokens, which are 0 or 1."""
    g = torch.Generator().manual_seed(2000 + seed)
    for ids in sequences(seed):
        ids = torch.where(ids <= 1, 5, ids)
        types = torch.randint(config.type_vocab_size, (len(ids),), generator=g)
        yield ids, types


def write_masked(folder, model, seed):
    g = torch.Generator().manual_seed(3000 + seed)
    golden, total, count = {}, 0.0, 0
    for i, (ids, types) in enumerate(texts(seed, model.config)):
        logits = model(input_ids=ids[None], token_type_ids=types[None]).logits[0]
        targets = torch.where(torch.rand(len(ids), generator=g) < 0.3, torch.randint(VOCAB, ids.shape, generator=g), -1)
        golden |= {f"ids.{i}": ids, f"types.{i}": types, f"logits.{i}": logits, f"targets.{i}": targets}
        total = total + F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
        count += int((targets >= 0).sum())
    write_golden(folder, model, golden, total / count)


def write_classes(folder, model, seed):
    golden, total = {}, 0.0
    for i, (ids, types) in enumerate(texts(seed, model.config)):
        logits = model(input_ids=ids[None], token_type_ids=types[None]).logits[0]
        golden |= {f"ids.{i}": ids, f"types.{i}": types, f"logits.{i}": logits, f"labels.{i}": torch.tensor([1 - i])}
        total = total + F.cross_entropy(logits[None], golden[f"labels.{i}"])
    write_golden(folder, model, golden, total / 2)


def write_images(folder, model, seed):
    g = torch.Generator().manual_seed(4000 + seed)
    pixels, labels = torch.randn(3, 3, 12, 12, generator=g), torch.tensor([1, 0, 1])
    logits = model(pixel_values=pixels).logits
    write_golden(folder, model, dict(pixels=pixels, labels=labels, logits=logits), F.cross_entropy(logits, labels))


def main():
    for seed, (name, (config, dtype)) in enumerate(MODELS.items()):
        model, folder = write_checkpoint(AutoModelForCausalLM, config, dtype, name, seed)
        write_causal(folder, model, seed)
    for kinds, auto, write, first in (
        (MASKED, AutoModelForMaskedLM, write_masked, 100),
        (CLASSIFIERS, AutoModelForSequenceClassification, write_classes, 200),
        (IMAGE_CLASSIFIERS, AutoModelForImageClassification, write_images, 300),
    ):
        for seed, (name, config) in enumerate(kinds.items(), first):
            model, folder = write_checkpoint(auto, config, F32, name, seed)
            write(folder, model, seed)


if __name__ == "__main__":
    main()
