"""Writes what mergekit makes of tiny llama checkpoints: a safetensors file beside each
recipe of method/merge/testdata/parity, the checkpoints themselves under models, and in
random.json how often its random masks keep an entry.

    pip install -r parity/requirements-merge.txt
    PYTHONHASHSEED=0 python3 parity/merge.py

With names of recipes it writes those only and leaves the checkpoints.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all models are folders

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from mergekit.sparsify import bernoulli, della_magprune
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent / "method/merge/testdata/parity"
HIDDEN, INNER, LAYERS = 8, 12, 3
WORDS = ["<unk>", "<s>", "</s>", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]


def weights(generator, vocabulary, layers=LAYERS):
    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.2

    t = {"model.embed_tokens.weight": draw(vocabulary, HIDDEN)}
    for i in range(layers):
        p = f"model.layers.{i}."
        for name, shape in {"q_proj": (8, 8), "k_proj": (4, 8), "v_proj": (4, 8), "o_proj": (8, 8)}.items():
            t[p + f"self_attn.{name}.weight"] = draw(*shape)
        for name, shape in {"gate_proj": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN), "down_proj": (HIDDEN, INNER)}.items():
            t[p + f"mlp.{name}.weight"] = draw(*shape)
        t[p + "input_layernorm.weight"] = 1 + draw(HIDDEN)
        t[p + "post_attention_layernorm.weight"] = 1 + draw(HIDDEN)
    t["model.norm.weight"] = 1 + draw(HIDDEN)
    t["lm_head.weight"] = draw(vocabulary, HIDDEN)
    return t


def tuned(base, generator, share):
    """The base with a share of its entries changed."""
    result = {}
    for name, w in base.items():
        change = torch.randn(w.shape, generator=generator) * 0.1
        result[name] = w + change * (torch.rand(w.shape, generator=generator) < share)
    return result


def save(name, tensors, words, dtype=torch.float32):
    folder = ROOT / "models" / name
    folder.mkdir(parents=True)
    save_file({k: v.to(dtype).contiguous() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    layers = sum(k.endswith("input_layernorm.weight") for k in tensors)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
              "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": layers, "vocab_size": len(words),
              "tie_word_embeddings": False, "torch_dtype": str(dtype).removeprefix("torch."), "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    special = [w for w in words if w.startswith("<")]
    added = [{"id": words.index(w), "content": w, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for w in special]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                 "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
                 "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(words)}, "unk_token": "<unk>"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}) + "\n")


def save_lora(name, generator):
    folder = ROOT / "models" / name
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "r": 2, "lora_alpha": 3, "lora_dropout": 0.0, "bias": "none",
              "fan_in_fan_out": False, "target_modules": ["q_proj", "down_proj"], "alpha_pattern": {"down_proj": 5}, "rank_pattern": {}, "use_rslora": True}
    tensors = {}
    for i in range(LAYERS):
        for module, (out, inner) in {"self_attn.q_proj": (8, 8), "mlp.down_proj": (HIDDEN, INNER)}.items():
            p = f"base_model.model.model.layers.{i}.{module}."
            tensors[p + "lora_A.weight"] = torch.randn(2, inner, generator=generator) * 0.3
            tensors[p + "lora_B.weight"] = torch.randn(out, 2, generator=generator) * 0.3
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def models():
    shutil.rmtree(ROOT / "models", ignore_errors=True)
    g = torch.Generator().manual_seed(7)
    base = weights(g, len(WORDS))
    save("base", base, WORDS)
    for name, share in {"a": 1.0, "b": 0.7, "c": 0.4}.items():
        save(name, tuned(base, g, share), WORDS)
    save("half", tuned(base, g, 1.0), WORDS, torch.bfloat16)
    save("far", weights(g, len(WORDS), layers=4), WORDS)
    # Other vocabularies: one word more and one special token more, in another order.
    save("chat", weights(g, len(WORDS) + 2), WORDS[:5] + ["<end>"] + WORDS[5:] + ["zebra"])
    save("short", weights(g, len(WORDS) - 3), WORDS[:-4] + ["yak"])
    save_lora("adapter", g)


def merge(path):
    text = path.read_text()
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as cache:
        run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), out,
                  MergeOptions(quiet=True, lora_merge_cache=cache, copy_tokenizer=False, write_model_card=False))
        result = load_file(pathlib.Path(out) / "model.safetensors") if os.path.exists(f"{out}/model.safetensors") else {}
        for shard in sorted(pathlib.Path(out).glob("model-*.safetensors")):
            result |= load_file(shard)
        notes = {"num_hidden_layers": str(json.load(open(f"{out}/config.json"))["num_hidden_layers"])}
        if os.path.exists(f"{out}/tokenizer.json"):
            tokenizer = json.load(open(f"{out}/tokenizer.json"))
            vocabulary = dict(tokenizer["model"]["vocab"]) | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
            notes["vocabulary"] = json.dumps(vocabulary)
    save_file({k: v.contiguous() for k, v in result.items()}, path.with_suffix(".safetensors"), notes)


def random_masks():
    """How often an entry of two rows is kept in 4,000 draws."""
    torch.manual_seed(1)
    rows = torch.tensor([[1.0, -5, 3, -2, 4], [0.5, 0.1, -0.4, 0.2, -0.3]])
    draws = 4000
    kept = {"dare": torch.zeros(2, 5), "della": torch.zeros(2, 5)}
    for _ in range(draws):
        kept["dare"] += bernoulli(rows, 0.3) != 0
        kept["della"] += della_magprune(rows, 0.5, 0.3) != 0
    record = {"rows": rows.tolist(), "draws": draws, **{k: v.int().tolist() for k, v in kept.items()}}
    (ROOT / "random.json").write_text(json.dumps(record) + "\n")


def main():
    if not sys.argv[1:]:
        models()
        random_masks()
    os.chdir(ROOT)  # recipes name models from their own folder
    for path in [ROOT / f"{name}.yaml" for name in sys.argv[1:]] or sorted(ROOT.glob("*.yaml")):
        merge(path)
        print(path.name)


if __name__ == "__main__":
    main()
