"""Tiny random models and the token ids that they are compared on."""

import json
import pathlib

import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOCAB = 96
SIZES = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
)


def scatter(module, seed):
    """Draws every parameter wide enough that all of them show in the logits."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            noise = torch.randn(p.shape, generator=g)
            if "norm" in name:
                p.copy_(1 + 0.2 * noise)
            else:
                p.copy_(0.25 * noise)


def sequences(seed):
    """Two sequences of different lengths."""
    g = torch.Generator().manual_seed(1000 + seed)
    return [torch.randint(VOCAB, (n,), generator=g) for n in (40, 53)]


@torch.no_grad()
def write_golden(path, model, seed):
    """Stores ids.i (I64) and logits.i (F32 [tokens, vocab]) of each sequence."""
    model.eval()
    out = {}
    for i, ids in enumerate(sequences(seed)):
        logits = model(input_ids=ids[None]).logits[0].float()
        out[f"ids.{i}"], out[f"logits.{i}"] = ids, logits.contiguous()
    save_file(out, path)
    print(f"{path.parent.name:24} largest logit {max(t.abs().max() for n, t in out.items() if n[0] == 'l'):.3f}")


def tidy_json(path, **change):
    """Rewrites a JSON file with sorted keys and lists of names, so that it is the same every run."""
    doc = json.loads(path.read_text()) | change
    if isinstance(doc.get("target_modules"), list):
        doc["target_modules"].sort()
    path.write_text(json.dumps(doc, indent=2, sort_keys=True) + "\n")
