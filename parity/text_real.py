"""Writes a folder in which the Go test TestRealTokenizers compares ids: for every
tokenizer.json and text named here, what Hugging Face's library makes of every line
and of the text as a whole.

    pip install tokenizers==0.22.2
    python parity/text_real.py OUT --tokenizer NAME=tokenizer.json … --text FILE …
    TARE_REAL_TOKENIZERS=OUT go test ./engine/text -run TestRealTokenizers -v

--train FILE trains two Unigram tokenizers on a text, one of them with byte fallback;
--charsmap FILE gives the second a table that sentencepiece compiled. --random N makes
a text of N lines of random characters. --chat NAME=tokenizer_config.json records what
the chat template makes of conversations. A folder as FILE means the text files under it,
at most --lines lines of them.
"""

import argparse
import array
import json
import pathlib
import random
import shutil
import unicodedata

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers


def lines_of(path, limit):
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    out = []
    for f in files:
        try:
            text = f.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        # Not splitlines: the odd line separators stay inside lines.
        out += [line for line in text.split("\n") if 0 < len(line) < 5000 and "\x00" not in line]
        if len(out) >= limit:
            break
    return out[:limit]


def random_lines(n):
    """Characters that were already in Unicode 3.2, and of the same class as today: the
    libraries' tables differ in age."""
    old = unicodedata.ucd_3_2_0
    known = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and c != 10 and old.category(chr(c)) not in ("Cn", "Co") and c not in (0x166D, 0x1734, 0x1885, 0x1886)]
    plain = [chr(c) for c in range(32, 127)] + list(" \t\r'é \u0301\u200d😀👍🏽中の한")
    rng = random.Random(1)
    return ["".join(rng.choice(plain if rng.random() < 0.6 else known) for _ in range(rng.randint(1, 80))) for _ in range(n)]


def unigram(text, charsmap):
    t = Tokenizer(models.Unigram())
    if charsmap:
        t.normalizer = normalizers.Precompiled(charsmap.read_bytes())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if charsmap else [])
    t.train_from_iterator(text, trainers.UnigramTrainer(vocab_size=4000, special_tokens=special, unk_token="<unk>", show_progress=False))
    doc = json.loads(t.to_str())
    doc["added_tokens"] = [a for a in doc["added_tokens"] if not a["content"].startswith("<0x")]
    if charsmap:
        doc["model"]["byte_fallback"] = True
        doc["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, doc["decoder"]]}
    t = Tokenizer.from_str(json.dumps(doc))
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return t


CONVERSATIONS = [
    [("user", "Hi")],
    [("user", "  What is light?\n")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "It's \"quoted\" <|im_end|> & more \u00e9\U0001f600")],
    [("user", "a"), ("assistant", "<think>\nhm, \nso\n</think>\n\nb"), ("user", "c"), ("assistant", "<think>x</think>d")],
    [("user", "a"), ("user", "b")],
    [("system", "s"), ("user", "<tool_response>1</tool_response>"), ("assistant", "x")],
    [("user", "a"), ("assistant", " b "), ("tool", "t1"), ("tool", "t2"), ("user", "z")],
    [("system", "only")],
    [],
]


def chats(a):
    rendered = {}
    for spec in a.chat:
        name, path = spec.split("=", 1)
        config = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        shutil.copyfile(path, a.out / f"{name}.tokenizer_config.json")
        from transformers.utils.chat_template_utils import _compile_jinja_template

        t = _compile_jinja_template(config["chat_template"])
        tokens = {k: (v["content"] if isinstance(v, dict) else v) for k, v in config.items() if k.endswith("_token") and v and not isinstance(v, bool)}
        rendered[name] = []
        for c in CONVERSATIONS:
            for generate in [False, True]:
                try:
                    rendered[name].append(t.render(messages=[{"role": r, "content": x} for r, x in c], tools=None, documents=None, add_generation_prompt=generate, **tokens))
                except Exception:
                    rendered[name].append(None)
    (a.out / "chat.json").write_text(json.dumps({"conversations": CONVERSATIONS, "rendered": rendered}))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--tokenizer", action="append", default=[])
    p.add_argument("--text", action="append", default=[], type=pathlib.Path)
    p.add_argument("--train", type=pathlib.Path)
    p.add_argument("--charsmap", type=pathlib.Path)
    p.add_argument("--chat", action="append", default=[])
    p.add_argument("--random", type=int, default=0)
    p.add_argument("--lines", type=int, default=4000)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)

    texts = {f"{i}-{path.stem}": lines_of(path, a.lines) for i, path in enumerate(a.text)}
    if a.random:
        texts["random"] = random_lines(a.random)
    for name, lines in texts.items():
        (a.out / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8", newline="")

    names = []
    for spec in a.tokenizer:
        name, path = spec.split("=", 1)
        shutil.copyfile(path, a.out / f"{name}.json")
        names.append(name)
    if a.train:
        lines = a.train.read_text(encoding="utf-8").splitlines()
        for name, charsmap in [("unigram", None)] + ([("unigram-nfkc", a.charsmap)] if a.charsmap else []):
            unigram(lines, charsmap).save(str(a.out / f"{name}.json"))
            names.append(name)

    chats(a)
    rows = []
    for name in names:
        t = Tokenizer.from_file(str(a.out / f"{name}.json"))
        t.no_truncation()
        t.no_padding()
        for text, lines in texts.items():
            ids = array.array("i")
            decoded = []
            for e in t.encode_batch(lines) + [t.encode("\n".join(lines))]:
                ids.append(len(e.ids))
                ids.extend(e.ids)
                decoded.append(t.decode(e.ids, skip_special_tokens=True))
            (a.out / f"{name}.{text}.ids").write_bytes(ids.tobytes())
            (a.out / f"{name}.{text}.decoded.json").write_text(json.dumps(decoded), encoding="utf-8")
            rows.append({"tokenizer": name, "text": text})
        print(name, sum(len(x) for x in texts.values()), "lines", flush=True)
    (a.out / "pairs.json").write_text(json.dumps(rows))


main()
